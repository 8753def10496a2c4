//! `fewstep train-teacher`: trains the guided teacher.

use super::training::{MAX_IMAGES, RunOptions, TrainingArgs};
use crate::data::{self, Split};
use crate::distill::half_file;
use crate::nn::{AdamWOptions, Arch, Checkpoint, Engine, Kind, Params, UNet};
use crate::train::{Phase, RunDir, Schedule, Teacher};
use anyhow::{Result, ensure};
use candle_core::DType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

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
    #[command(flatten)]
    #[serde(flatten)]
    training: TrainingArgs,
}

pub fn run(args: Args) -> Result<()> {
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
    let mut arch = Arch::for_pictures(data.height, data.width, data.channels, data.classes());
    t.reshape(&mut arch)?;
    let run = RunDir::open(&t.out, &RunOptions::new(&args, &device, &data, None)?, t.resume)?;
    let out = run.path("teacher.safetensors");
    if out.exists() {
        eprintln!("{} is already trained", out.display());
        return save_half(&Checkpoint::open(&out, &device)?, &out);
    }
    let net = UNet { params: Params::frozen(UNet::init(&arch, t.seed, &device)?), arch };
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

/// Writes the checkpoint in f16 beside its f32 file, for shipping: half the size.
fn save_half(checkpoint: &Checkpoint, file: &Path) -> Result<()> {
    let half = half_file(file);
    checkpoint.save(&half, DType::F16)?;
    println!("{}", half.display());
    Ok(())
}
