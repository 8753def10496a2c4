//! `fewstep trial`: what a student's pictures give a classifier that has few real ones.

use super::edit::check_own_data;
use super::painting::Drawing;
use super::training::MAX_IMAGES;
use crate::apps::trial::{self, Arm, Sets, Trial, Variants};
use crate::data::{self, Split};
use crate::evaluate::Scores;
use crate::features::{FeatureArch, Training};
use crate::nn::{Engine, Precision};
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use fewstep_core::format::crc::crc32c;
use std::path::PathBuf;
use std::time::Instant;

const MAX_REPEATS: u64 = 100;
const MAX_POOL: usize = 1_000_000;
/// A small batch makes up for few pictures of training.
const BATCH: usize = 64;

/// Train classifiers on few real pictures: alone, with classical augmentation, with the student's pictures, with both
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Data set: real pictures come from its training split, the test split is what classifiers are tested on
    #[arg(long)]
    data: PathBuf,
    /// Real pictures a class
    #[arg(long, value_delimiter = ',', default_value = "20,100,500")]
    real: Vec<usize>,
    /// Repeats, each with other real pictures and other noise
    #[arg(long, default_value_t = 5)]
    repeats: u64,
    /// Pictures of a set with augmentation, repeats of real ones counted
    #[arg(long, default_value_t = 10_000)]
    pool: usize,
    /// Guidance strengths, in turn
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2", allow_negative_numbers = true)]
    guidance: Vec<f32>,
    /// Pictures that each classifier is trained on, repeats counted
    #[arg(long, default_value_t = 20_000)]
    images: u64,
    /// Classical augmentation turns, scales and moves, but does not mirror
    #[arg(long)]
    no_mirror: bool,
    #[command(flatten)]
    drawing: Drawing,
    /// Matrix arithmetic of the trainings
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// Folder of the report; classifiers that are done are kept there, and a killed trial goes on
    #[arg(long)]
    out: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!(
        (1..=MAX_REPEATS).contains(&args.repeats),
        "--repeats {}: give a number from 1 to {MAX_REPEATS}",
        args.repeats
    );
    ensure!((2..=MAX_POOL).contains(&args.pool), "--pool {}: give a number from 2 to {MAX_POOL}", args.pool);
    ensure!((1..=MAX_IMAGES).contains(&args.images), "--images {}: give a number from 1 to {MAX_IMAGES}", args.images);
    ensure!(!args.guidance.is_empty(), "--guidance: give at least one strength");
    ensure!(
        !args.real.is_empty() && args.real.is_sorted_by(|a, b| a < b) && args.real[0] > 0,
        "--real: give numbers of pictures a class, smallest first"
    );
    let image = StudentImage::open(&args.file)?;
    let painter = args.drawing.painter(&image)?;
    for w in &args.guidance {
        painter.check(0, *w)?;
    }
    let (real, test) = (data::open(&args.data, Split::Train)?, data::open(&args.data, Split::Test)?);
    for split in [&real, &test] {
        check_own_data(&painter, split, &args.data)?;
    }
    let arch = FeatureArch::for_data(&real)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    let arithmetic = Engine::select(args.precision)?.name();

    let variants = Variants::usual(!args.no_mirror);
    let sets = Sets {
        real: &real,
        painter: &painter,
        first: args.drawing.request(&painter, 0, 0, args.guidance[0]),
        strengths: args.guidance.clone(),
        pool: args.pool,
        variants,
    };
    // Whoever augments does so before: the trainer itself moves nothing.
    let training =
        Training { batch: BATCH, shift: 0, ..Training::for_height(real.height, args.images, args.drawing.seed) };
    let scores =
        Scores { folder: args.out.join("classifiers"), arch, training, precision: args.precision, test: &test };
    let total = args.real.len() * Arm::ALL.len() * args.repeats as usize;
    let began = Instant::now();
    let cells = trial::run(&sets, &scores, &args.real, args.repeats, args.drawing.seed, |done, next| {
        let left = began.elapsed().as_secs_f64() / done.max(1) as f64 * (total - done) as f64;
        let left = if done > 0 { format!("  {:.0} min left", left / 60.0) } else { String::new() };
        eprintln!("trial  {done}/{total} classifiers{left}  {next}");
    })?;
    let report = Trial {
        student: args.file.display().to_string(),
        student_crc32c: format!("{:08x}", crc32c(image.bytes())),
        data: args.data.display().to_string(),
        test_pictures: test.len(),
        guidance: args.guidance,
        pool: args.pool,
        images: args.images,
        seed: args.drawing.seed,
        arithmetic: arithmetic.into(),
        variants,
        cells,
    };
    report.write(&args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
        report.verdict().iter().for_each(|sentence| println!("{sentence}"));
        println!("{}", args.out.join("trial.html").display());
    }
    Ok(())
}
