//! `fewstep distill`: a guided teacher becomes students of few steps.

use super::training::{MAX_IMAGES, RunOptions, TrainingArgs};
use crate::data::{self, Split};
use crate::distill::{Plan, distill};
use crate::nn::{Checkpoint, Kind};
use crate::train::RunDir;
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use std::path::PathBuf;

/// Distil a teacher into few-step students with the guidance strength as an input
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Teacher checkpoint
    #[arg(long)]
    #[serde(skip)]
    teacher: PathBuf,
    /// Students to keep: step counts, powers of two
    #[arg(long, value_delimiter = ',', default_value = "8,4,2,1")]
    steps: Vec<usize>,
    /// Steps of the first student; rounds halve from there
    #[arg(long, default_value_t = 16)]
    first: usize,
    /// Pictures for stage 1
    #[arg(long, default_value_t = 400_000)]
    guided_images: u64,
    /// Pictures for each round of more than 4 steps, rounded up to whole batches
    #[arg(long, default_value_t = 200_000)]
    images: u64,
    /// How many times as many pictures the rounds to 4 steps and fewer get
    #[arg(long, default_value_t = 2)]
    last_factor: u64,
    /// Largest learning rate
    #[arg(long, default_value_t = 5e-4)]
    lr: f64,
    #[command(flatten)]
    #[serde(flatten)]
    training: TrainingArgs,
}

pub fn run(args: Args) -> Result<()> {
    let t = &args.training;
    for (name, n) in [("--images", args.images), ("--guided-images", args.guided_images)] {
        ensure!((1..=MAX_IMAGES).contains(&n), "{name} {n}: give a number from 1 to {MAX_IMAGES}");
    }
    ensure!(args.lr > 0.0 && args.lr < 1.0, "--lr {}: give a rate between 0 and 1", args.lr);
    ensure!((1..=100).contains(&args.last_factor), "--last-factor {}: give a number from 1 to 100", args.last_factor);
    let device = t.open()?;
    let teacher = Checkpoint::open(&args.teacher, &device)?;
    if teacher.kind != Kind::Teacher {
        bail!("{} is a {}; --teacher takes what train-teacher wrote", args.teacher.display(), teacher.kind.describe());
    }
    let mut arch = teacher.net.arch.clone();
    t.reshape(&mut arch)?;
    let plan = Plan {
        arch,
        keep: args.steps.clone(),
        first: args.first,
        guided_pictures: args.guided_images,
        round_pictures: args.images,
        last_factor: args.last_factor,
        batch: t.batch,
        lr: args.lr,
        seed: t.seed,
    };
    plan.rounds()?;
    let data = data::open(&t.data, Split::Train)?;
    let (a, d) = (&teacher.net.arch, &data);
    ensure!(
        (a.height, a.width, a.channels, a.classes) == (d.height, d.width, d.channels, d.classes()),
        "the teacher draws {}x{}x{} pictures of {} classes, {} holds {}x{}x{} of {}",
        a.height,
        a.width,
        a.channels,
        a.classes,
        t.data.display(),
        d.height,
        d.width,
        d.channels,
        d.classes()
    );
    let run = RunDir::open(&t.out, &RunOptions::new(&args, &device, &data, Some(&args.teacher))?, t.resume)?;
    for student in distill(&teacher, &data, &device, &run, &plan)? {
        println!("{}", student.display());
    }
    Ok(())
}
