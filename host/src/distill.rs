//! Distillation of a guided teacher into few-step students (Meng et al. 2023).
//!
//! Stage 1 gives one network with the strength w as an input. Stage 2 halves its steps, round by round; each round's
//! student starts as its teacher and then is the teacher of the next.

use crate::data::Dataset;
use crate::nn::{AdamWOptions, Arch, Checkpoint, Kind, Params, Stage, UNet};
use crate::train::{Guidance, Halving, Objective, Phase, RunDir, Schedule};
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most steps of a student.
pub const MAX_STEPS: usize = 1024;

/// How to distil.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Shape of the student.
    pub arch: Arch,
    /// Students to keep: step counts, powers of two.
    pub keep: Vec<usize>,
    /// Steps of the first student; rounds halve from there.
    pub first: usize,
    /// Pictures for stage 1.
    pub guided_pictures: u64,
    /// Pictures for each round.
    pub round_pictures: u64,
    /// How many times as many the rounds to 4 steps and fewer get.
    pub last_factor: u64,
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
    pub seed: u64,
}

impl Plan {
    /// The rounds' step counts: from `first` (or the most that is kept) down to the fewest.
    ///
    /// # Errors
    /// When a count is no power of two.
    pub fn rounds(&self) -> Result<Vec<usize>> {
        ensure!(!self.keep.is_empty(), "--steps: give at least one step count");
        for s in self.keep.iter().chain([&self.first]) {
            ensure!(
                s.is_power_of_two() && *s <= MAX_STEPS,
                "--steps and --first take powers of two up to {MAX_STEPS}, not {s}"
            );
        }
        let most = self.keep.iter().copied().max().unwrap_or(1).max(self.first);
        let fewest = self.keep.iter().copied().min().unwrap_or(1);
        Ok(std::iter::successors(Some(most), |n| Some(n / 2)).take_while(|n| *n >= fewest).collect())
    }
}

/// Where a checkpoint's f16 form lies: half the size, for shipping.
pub fn half_file(file: &Path) -> PathBuf {
    file.with_extension("f16.safetensors")
}

/// Distils `teacher` in a run folder, from where the folder stands; returns the checkpoints of the kept students,
/// most steps first.
pub fn distill(
    teacher: &Checkpoint,
    data: &Dataset,
    device: &Device,
    run: &RunDir,
    plan: &Plan,
) -> Result<Vec<PathBuf>> {
    let rounds = plan.rounds()?;
    let distiller = Distiller { plan, data, device, run, teacher };
    let mut net = distiller.guided()?;
    let mut kept = Vec::new();
    for steps in rounds {
        net = distiller.round(net, steps)?;
        if plan.keep.contains(&steps) {
            let file = run.path(&format!("student-{steps}.safetensors"));
            Checkpoint::open(&file, device)?.save(&half_file(&file), DType::F16)?;
            kept.push(file);
        }
    }
    Ok(kept)
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
    plan: &'a Plan,
    data: &'a Dataset,
    device: &'a Device,
    run: &'a RunDir,
    teacher: &'a Checkpoint,
}

impl Distiller<'_> {
    /// Stage 1.
    fn guided(&self) -> Result<UNet> {
        let net = UNet { arch: self.plan.arch.clone(), params: Params::frozen(self.start()?) };
        let objective = Guidance { teacher: self.teacher.net.clone() };
        // A student of another shape has more to learn, at a higher rate.
        let lr = if net.arch == self.teacher.net.arch { self.plan.lr } else { self.plan.lr * 3.0 };
        self.phase(net, Kind::Guided, "guided", &objective, self.plan.guided_pictures, lr, 0.999)
    }

    /// The student's first parameters: the teacher's wherever the shapes agree, with zero weights for w.
    fn start(&self) -> Result<Tensors> {
        let arch = self.plan.arch.clone();
        let fresh = UNet { params: Params::frozen(UNet::init(&arch, self.plan.seed, self.device)?), arch };
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
        let factor = if steps <= 4 { self.plan.last_factor } else { 1 };
        let objective = Halving { teacher: teacher.clone(), steps };
        let name = format!("student-{steps}");
        // No moving average: the rate falls to 0 within the round (Salimans & Ho).
        self.phase(
            teacher,
            Kind::Student(steps),
            &name,
            &objective,
            self.plan.round_pictures * factor,
            self.plan.lr,
            0.0,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn phase(
        &self,
        net: UNet,
        kind: Kind,
        name: &str,
        objective: &dyn Objective,
        pictures: u64,
        lr: f64,
        ema: f64,
    ) -> Result<UNet> {
        let path = self.run.path(&format!("{name}.safetensors"));
        if path.exists() {
            return Ok(Checkpoint::open(&path, self.device)?.net);
        }
        let constant = if matches!(kind, Kind::Guided) { 0.4 } else { 0.0 };
        let phase = Phase {
            name,
            net,
            schedule: Schedule { pictures, batch: self.plan.batch, lr, constant },
            optimizer: AdamWOptions { ema, ..AdamWOptions::default() },
            seed: self.plan.seed,
            data: self.data,
            device: self.device,
            run: self.run,
        };
        let net = phase.run(objective)?;
        let mut provenance = self.teacher.provenance.clone();
        provenance.insert("distilled".into(), format!("{name}, {pictures} pictures, seed {}", self.plan.seed));
        Checkpoint { kind, net: net.clone(), class_names: self.teacher.class_names.clone(), provenance }
            .save(&path, DType::F32)?;
        Ok(net)
    }
}
