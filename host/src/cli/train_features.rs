//! `fewstep train-features`: trains the classifier whose features `evaluate` compares pictures in.

use super::common::use_threads;
use super::training::MAX_IMAGES;
use crate::data::{self, Split};
use crate::features::{Extractor, FeatureArch, Training, accuracy, train};
use crate::files;
use crate::nn::{Engine, Precision};
use anyhow::{Result, bail, ensure};
use serde_json::json;
use std::path::PathBuf;

/// Training pictures that the features' size is measured on.
const SCALED_ON: usize = 10_000;

/// Train and freeze the classifier that `evaluate` takes its features from
#[derive(clap::Args)]
pub struct Args {
    /// Data set with a training and a test split: IDX folder, folder of PNG folders, or folder with .npz files
    #[arg(long)]
    data: PathBuf,
    /// File to write (.safetensors); FILE.state beside it lets a killed run go on
    #[arg(long)]
    out: PathBuf,
    /// Pictures to train on, repeats counted
    #[arg(long, default_value_t = 800_000)]
    images: u64,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 2e-3)]
    lr: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Matrix arithmetic of the training
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!((1..=MAX_IMAGES).contains(&args.images), "--images {}: give a number from 1 to {MAX_IMAGES}", args.images);
    ensure!((1..=65536).contains(&args.batch), "--batch {}: give a number from 1 to 65536", args.batch);
    ensure!(args.lr > 0.0 && args.lr < 1.0, "--lr {}: give a rate between 0 and 1", args.lr);
    files::check_output(&args.out)?;
    use_threads(args.threads)?;
    Engine::select(args.precision)?;
    let (data, test) = (data::open(&args.data, Split::Train)?, data::open(&args.data, Split::Test)?);
    if (data.height, data.width, data.channels) != (test.height, test.width, test.channels) {
        bail!("{}: training and test pictures differ in size; use one set", args.data.display());
    }
    ensure!(
        data.classes() >= test.classes(),
        "{}: the test split has {} classes, the training split {}; use one set",
        args.data.display(),
        test.classes(),
        data.classes()
    );
    let arch = FeatureArch::for_data(&data)?;
    let training =
        Training { batch: args.batch, lr: args.lr, ..Training::for_height(data.height, args.images, args.seed) };
    let mut state = args.out.as_os_str().to_owned();
    state.push(".state");
    let net = train(&data, &arch, &training, Some(state.as_ref()))?;
    let arithmetic = Engine::current().name();
    // Evaluations extract in f32 too, whatever the CPU has.
    Engine::select(Precision::F32)?;
    let scaled_on = &data.pictures[..data.len().min(SCALED_ON) * data.picture_bytes()];
    let mut extractor = Extractor::freeze(&net, scaled_on, data.class_names.clone())?;
    let accuracy = accuracy(&extractor.net, &test)?;
    let provenance = [
        ("command", "fewstep train-features".to_string()),
        ("pictures", args.images.to_string()),
        ("seed", args.seed.to_string()),
        ("arithmetic", arithmetic.into()),
        ("test accuracy", format!("{accuracy:.4}")),
        ("fewstep", env!("CARGO_PKG_VERSION").into()),
    ];
    extractor.provenance = provenance.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    extractor.save(&args.out)?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "out": args.out, "sha256": extractor.hash(), "features": arch.features,
                "multiplications": arch.multiplications(), "test_accuracy": accuracy, "test_pictures": test.len(),
                "options": training,
            }))?
        );
    } else {
        println!(
            "{}\n{} features, accuracy {:.2} % on {} test pictures\nsha256 {}",
            args.out.display(),
            arch.features,
            100.0 * accuracy,
            test.len(),
            extractor.hash()
        );
    }
    Ok(())
}
