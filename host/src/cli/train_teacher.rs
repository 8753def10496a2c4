//! `fewstep train-teacher`: trains the guided teacher.

use super::training::{MAX_IMAGES, RunOptions, TrainingArgs};
use crate::data::{self, Split};
use crate::distill::{half_file, take_parameters};
use crate::files;
use crate::nn::{AdamWOptions, Arch, Checkpoint, Engine, Kind, MAX_CHECKPOINT_BYTES, Params, UNet};
use crate::train::{Phase, RunDir, Schedule, Teacher};
use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::limits::MAX_PATCH;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Train a class-conditional teacher with classifier-free guidance
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Pictures to train on, repeats counted, rounded up to whole batches
    #[arg(long, default_value_t = 2_000_000)]
    images: u64,
    /// Largest learning rate
    #[arg(long, default_value_t = 1.5e-3)]
    lr: f64,
    /// Decay of the moving average of the weights
    #[arg(long, default_value_t = 0.9995)]
    ema: f64,
    /// Share of pictures trained without their class
    #[arg(long, default_value_t = 0.1)]
    class_dropout: f32,
    /// Side of the squares of pixels that become channels: space-to-depth [default: 2, and 4 from 64 pixels a side on]
    #[arg(long, value_name = "SIDE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<usize>,
    /// Learn to enlarge pictures of half the size of --data's to its size, in place of drawing them
    #[arg(long, conflicts_with = "patch")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enlarge: bool,
    /// A teacher of another run, of other pictures perhaps: parameters of the same shape start as its
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    start: Option<PathBuf>,
    /// CRC-32C of the file that --start names.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    start_crc32c: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    training: TrainingArgs,
}

pub fn run(mut args: Args) -> Result<()> {
    if let Some(file) = &args.start {
        args.start_crc32c = Some(format!("{:08x}", crc32c(&files::read_file(file, MAX_CHECKPOINT_BYTES)?)));
    }
    let t = &args.training;
    ensure!((1..=MAX_IMAGES).contains(&args.images), "--images {}: give a number from 1 to {MAX_IMAGES}", args.images);
    ensure!(args.lr > 0.0 && args.lr < 1.0, "--lr {}: give a rate between 0 and 1", args.lr);
    ensure!((0.0..1.0).contains(&args.ema), "--ema {}: give a decay from 0 to below 1", args.ema);
    ensure!(
        (0.0..=1.0).contains(&args.class_dropout),
        "--class-dropout {}: give a share from 0 to 1",
        args.class_dropout
    );
    let device = t.open()?;
    let data = data::open(&t.data, Split::Train)?;
    let mut arch = if args.enlarge {
        Arch::for_enlarging(data.height / 2, data.width / 2, data.channels, data.classes())
    } else {
        Arch::for_pictures(data.height, data.width, data.channels, data.classes())
    };
    ensure!(
        arch.data_shape() == (data.height, data.width, data.channels),
        "--enlarge: pictures of {}x{} have no half; their sides must be even",
        data.height,
        data.width
    );
    if let Some(patch) = args.patch {
        ensure!((1..=usize::from(MAX_PATCH)).contains(&patch), "--patch {patch}: give a number from 1 to {MAX_PATCH}");
        arch.patch = patch;
    }
    t.reshape(&mut arch)?;
    let start = args.start.as_deref().map(|file| open_start(file, &device)).transpose()?;
    let run = RunDir::open(&t.out, &RunOptions::new(&args, &device, &data, None)?, t.resume)?;
    let out = run.path("teacher.safetensors");
    if out.exists() {
        eprintln!("{} is already trained", out.display());
        return save_half(&Checkpoint::open(&out, &device)?, &out);
    }
    let mut tensors = UNet::init(&arch, t.seed, &device)?;
    if let Some(start) = &start {
        take_parameters(&arch, &mut tensors, &start.net)?;
    }
    let net = UNet { params: Params::frozen(tensors), arch };
    eprintln!(
        "teacher of {} parameters on {} pictures, {}",
        net.params.count(),
        data.len(),
        if device.is_cpu() { Engine::current().name() } else { "GPU" }
    );
    let schedule = Schedule { pictures: args.images, batch: t.batch, lr: args.lr, constant: 0.4 };
    let optimizer = AdamWOptions { ema: args.ema, ..AdamWOptions::default() };
    let objective = Teacher { classes: net.arch.classes, dropout: args.class_dropout };
    let phase = Phase {
        name: "teacher",
        net,
        kind: Kind::Teacher,
        auxiliary: None,
        schedule,
        optimizer,
        seed: t.seed,
        data: &data,
        device: &device,
        run: &run,
    };
    let net = phase.run(&objective)?;
    let provenance = BTreeMap::from([
        ("command".to_string(), "fewstep train-teacher".to_string()),
        ("pictures".into(), args.images.to_string()),
        ("seed".into(), t.seed.to_string()),
        ("fewstep".into(), env!("CARGO_PKG_VERSION").into()),
    ]);
    let teacher = Checkpoint { kind: Kind::Teacher, net, class_names: data.class_names, provenance };
    teacher.save(&out, DType::F32)?;
    println!("{}", out.display());
    save_half(&teacher, &out)?;
    run.report();
    println!("{}", run.path("report.html").display());
    Ok(())
}

/// The teacher that --start names.
fn open_start(file: &Path, device: &Device) -> Result<Checkpoint> {
    let start = Checkpoint::open(file, device)?;
    ensure!(
        start.kind == Kind::Teacher,
        "--start {}: a {}; give what train-teacher wrote",
        file.display(),
        start.kind.describe()
    );
    Ok(start)
}

/// Writes the checkpoint in f16 beside its f32 file, for shipping: half the size.
fn save_half(checkpoint: &Checkpoint, file: &Path) -> Result<()> {
    let half = half_file(file);
    checkpoint.save(&half, DType::F16)?;
    println!("{}", half.display());
    Ok(())
}
