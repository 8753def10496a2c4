//! `fewstep distill`: a guided teacher becomes a student of few steps (Meng et al. 2023).
//!
//! Stage 1 gives one network with the strength w as an input. Stage 2 halves its steps, round by round; each round's
//! student starts as its teacher and then is the teacher of the next.

use super::common::{DeviceArg, use_threads};
use super::train_teacher::reshape;
use crate::data::{self, Split};
use crate::nn::{AdamWOptions, Arch, Checkpoint, Kind, Params, Precision, Stage, UNet};
use crate::train::{Guidance, Halving, Objective, Phase, RunDir, Schedule};
use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Distil a teacher into few-step students with the guidance strength as an input
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Teacher checkpoint
    #[arg(long)]
    #[serde(skip)]
    teacher: PathBuf,
    /// Data set: IDX folder, folder of PNG folders, or .npz
    #[arg(long)]
    #[serde(skip)]
    data: PathBuf,
    /// Run folder to make
    #[arg(long)]
    #[serde(skip)]
    out: PathBuf,
    /// Go on with the run in --out
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Students to keep: step counts, powers of two
    #[arg(long, value_delimiter = ',', default_value = "8,4,2,1")]
    steps: Vec<usize>,
    /// Steps of the first student; rounds halve from there
    #[arg(long, default_value_t = 32)]
    first: usize,
    /// Pictures for stage 1
    #[arg(long, default_value_t = 400_000)]
    guided_images: u64,
    /// Pictures for each round
    #[arg(long, default_value_t = 200_000)]
    images: u64,
    /// How many times as many pictures the rounds to 4 steps and fewer get
    #[arg(long, default_value_t = 2)]
    last_factor: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceArg,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 5e-4)]
    lr: f64,
    /// Channels of the student's first level (the teacher's if not given)
    #[arg(long)]
    width: Option<usize>,
    /// The student's residual blocks: before going down, at the lowest level, after coming up
    #[arg(long, value_delimiter = ',', num_args = 3, value_name = "E,M,D")]
    blocks: Option<Vec<usize>>,
    /// The student's attention heads, 0 for none
    #[arg(long)]
    heads: Option<usize>,
    /// Matrix arithmetic on the CPU
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    #[serde(skip)]
    threads: usize,
}

/// The rounds' step counts: from `first` down to the fewest asked for.
fn rounds(first: usize, steps: &[usize]) -> Result<Vec<usize>> {
    ensure!(!steps.is_empty(), "--steps: give at least one step count");
    for s in steps {
        ensure!(s.is_power_of_two() && *s <= 1024, "--steps {s}: give powers of two up to 1024");
    }
    let (most, fewest) = (*steps.iter().max().unwrap_or(&1), *steps.iter().min().unwrap_or(&1));
    ensure!(first.is_power_of_two() && first <= 1024, "--first {first}: give a power of two up to 1024");
    let first = first.max(most);
    Ok(std::iter::successors(Some(first), |n| Some(n / 2)).take_while(|n| *n >= fewest).collect())
}

pub fn run(args: Args) -> Result<()> {
    let rounds = rounds(args.first, &args.steps)?;
    ensure!(args.batch >= 1 && args.batch <= 65536, "--batch {}: give a number from 1 to 65536", args.batch);
    ensure!(args.images >= 1 && args.guided_images >= 1, "--images and --guided-images must be at least 1");
    ensure!(args.lr > 0.0 && args.lr < 1.0, "--lr {}: give a rate between 0 and 1", args.lr);
    ensure!((1..=100).contains(&args.last_factor), "--last-factor {}: give a number from 1 to 100", args.last_factor);
    use_threads(args.threads)?;
    let device = args.device.open(args.precision)?;
    let teacher = Checkpoint::open(&args.teacher, &device)?;
    if teacher.kind != Kind::Teacher {
        bail!("{} is a {}; --teacher takes what train-teacher wrote", args.teacher.display(), teacher.kind.describe());
    }
    let data = data::open(&args.data, Split::Train)?;
    let (a, d) = (&teacher.net.arch, &data);
    ensure!(
        (a.height, a.width, a.channels, a.classes) == (d.height, d.width, d.channels, d.classes()),
        "the teacher draws {}x{}x{} pictures of {} classes, {} holds {}x{}x{} of {}",
        a.height, a.width, a.channels, a.classes, args.data.display(), d.height, d.width, d.channels, d.classes()
    );
    let run = RunDir::open(&args.out, &args, args.resume)?;
    let distiller = Distiller { args: &args, data: &data, device: &device, run: &run, teacher: &teacher };
    let mut net = distiller.guided()?;
    for steps in rounds {
        net = distiller.round(net, steps)?;
        if args.steps.contains(&steps) {
            println!("{}", run.path(&format!("student-{steps}.safetensors")).display());
        }
    }
    Ok(())
}

type Tensors = BTreeMap<String, Tensor>;

/// The film rows of a student: the teacher's for every block that both have at the same width, else its own.
fn film_rows(student: &Arch, own: &Tensor, teacher: &Arch, from: &Tensor) -> candle_core::Result<Tensor> {
    let place = |arch: &Arch, stage: &Stage| match stage {
        Stage::Block { name, level, film } => Some((name.clone(), (*film, 2 * arch.widths[*level]))),
        _ => None,
    };
    let theirs: BTreeMap<_, _> = teacher.stages().iter().filter_map(|s| place(teacher, s)).collect();
    let same_rows = own.dims()[1..] == from.dims()[1..];
    let stages = student.stages();
    let rows = stages.iter().filter_map(|s| place(student, s)).map(|(name, (at, len))| {
        match theirs.get(&name).filter(|t| same_rows && t.1 == len) {
            Some((theirs, _)) => from.narrow(0, *theirs, len),
            None => own.narrow(0, at, len),
        }
    });
    Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)
}

struct Distiller<'a> {
    args: &'a Args,
    data: &'a data::Dataset,
    device: &'a Device,
    run: &'a RunDir,
    teacher: &'a Checkpoint,
}

impl Distiller<'_> {
    /// Stage 1.
    fn guided(&self) -> Result<UNet> {
        let net = UNet { arch: self.teacher.net.arch.clone(), params: Params::frozen(self.start()?) };
        let objective = Guidance { teacher: self.teacher.net.clone() };
        // A student of another shape starts anew and has more to learn at a higher rate.
        let same = self.args.width.is_none() && self.args.blocks.is_none() && self.args.heads.is_none();
        let lr = if same { self.args.lr } else { self.args.lr * 3.0 };
        let arch = self.arch()?;
        self.phase(UNet { arch, ..net }, Kind::Guided, "guided", &objective, self.args.guided_images, lr, 0.999)
    }

    /// The student's shape.
    fn arch(&self) -> Result<Arch> {
        let mut arch = self.teacher.net.arch.clone();
        reshape(&mut arch, self.args.width, self.args.blocks.as_deref(), self.args.heads)?;
        Ok(arch)
    }

    /// The student's first parameters: the teacher's wherever the shapes agree, with zero weights for w.
    fn start(&self) -> Result<Tensors> {
        let arch = self.arch()?;
        let fresh = UNet { params: Params::frozen(UNet::init(&arch, self.args.seed, self.device)?), arch };
        let mut tensors = fresh.add_guidance_input()?;
        let teacher = &self.teacher.net;
        for (name, t) in &mut tensors {
            if let Some(from) = teacher.params.tensors().get(name).filter(|from| from.dims() == t.dims()) {
                *t = from.clone();
            }
        }
        for name in ["embed.film.weight", "embed.film.bias"] {
            let rows = film_rows(&fresh.arch, &tensors[name], &teacher.arch, teacher.params.get(name)?)?;
            tensors.insert(name.into(), rows);
        }
        Ok(tensors)
    }

    /// One round of stage 2.
    fn round(&self, teacher: UNet, steps: usize) -> Result<UNet> {
        let factor = if steps <= 4 { self.args.last_factor } else { 1 };
        let objective = Halving { teacher: teacher.clone(), steps };
        let name = format!("student-{steps}");
        // No moving average: the rate falls to 0 within the round (Salimans & Ho).
        self.phase(teacher, Kind::Student(steps), &name, &objective, self.args.images * factor, self.args.lr, 0.0)
    }

    #[allow(clippy::too_many_arguments)]
    fn phase(&self, net: UNet, kind: Kind, name: &str, objective: &dyn Objective, pictures: u64, lr: f64, ema: f64) -> Result<UNet> {
        let path = self.run.path(&format!("{name}.safetensors"));
        if path.exists() {
            return Ok(Checkpoint::open(&path, self.device)?.net);
        }
        let constant = if matches!(kind, Kind::Guided) { 0.4 } else { 0.0 };
        let phase = Phase {
            name,
            net,
            schedule: Schedule { pictures, batch: self.args.batch, lr, constant },
            optimizer: AdamWOptions { ema, ..AdamWOptions::default() },
            seed: self.args.seed,
            data: self.data,
            device: self.device,
            run: self.run,
        };
        let net = phase.run(objective)?;
        let mut provenance = self.teacher.provenance.clone();
        provenance.insert("distilled".into(), format!("{name}, {pictures} pictures, seed {}", self.args.seed));
        Checkpoint { kind, net: net.clone(), class_names: self.teacher.class_names.clone(), provenance }.save(&path, DType::F32)?;
        Ok(net)
    }
}
