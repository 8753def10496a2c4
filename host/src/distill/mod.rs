//! Distillation of a guided teacher into few-step students (Meng et al. 2023).
//!
//! Stage 1 gives one network with the strength w as an input. Stage 2 halves its steps, round by round; each round's
//! student starts as its teacher and then is the teacher of the next.

mod rounds;
mod teacher;

pub use rounds::{
    Finish, FinishBy, Finishing, Learn, MAX_STEPS, Method, Round, Rounding, SegmentOptions, SegmentRound, Target,
    default_fine, halving_rounds, segment_rounds,
};

pub use teacher::TeacherNetwork;

use crate::data::Dataset;
use crate::diffusion::Denoise;
use crate::features::{Extractor, MATCHED};
use crate::matching::{Matched, View};
use crate::nn::{AdamWOptions, Arch, Checkpoint, Kind, Params, Stage, UNet};
use crate::quant::{Finetune, prepare};
use crate::train::{
    Angles, Guidance, Halving, Jump, Moments, Objective, Phase, RunDir, Schedule, Segments, Strengths, Trajectories,
    WayOptions, Ways, Widened,
};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use fewstep_core::Direction;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Steps (DDIM) of the teacher's pictures that [`FinishBy::Matched`] compares with.
const WANTED_STEPS: usize = 64;

/// How to distil.
pub struct Plan {
    /// Shape of the student.
    pub arch: Arch,
    /// Towards noise the students are encoders.
    pub direction: Direction,
    /// A network of stage 1 in place of training one.
    pub guided: Option<UNet>,
    /// A student or encoder that the first round starts from, in place of stage 1's network.
    pub start: Option<Checkpoint>,
    /// Pictures for stage 1.
    pub guided_pictures: u64,
    /// Largest learning rate of stage 1.
    pub lr: f64,
    /// Strengths are drawn as 4 u^power, in stage 1 and by segments.
    pub power: f64,
    /// The rounds after it.
    pub rounds: Vec<Round>,
    /// What follows every kept student's round.
    pub finish: Option<Finish>,
    /// In whose features [`FinishBy::Matched`] compares.
    pub classifiers: Vec<Extractor>,
    /// Strengths above 0 at which it compares with the teacher's own pictures; without guidance it does with the data set.
    pub matched_strengths: Vec<f32>,
    /// What follows that.
    pub roundings: Vec<Rounding>,
    pub batch: usize,
    pub seed: u64,
}

/// Where a checkpoint's f16 form lies: half the size, for shipping.
pub fn half_file(file: &Path) -> PathBuf {
    file.with_extension("f16.safetensors")
}

/// Distils `teacher` in a run folder, from where the folder stands; returns the checkpoints of the kept students,
/// most steps first.
pub fn distill(
    teacher: &TeacherNetwork,
    data: &Dataset,
    device: &Device,
    run: &RunDir,
    plan: &Plan,
) -> Result<Vec<PathBuf>> {
    let distiller = Distiller { plan, data, device, run, teacher };
    let asks_guided = |r: &Round| matches!(r.learn, Learn::Segments(s) if s.target == Some(Target::Guided));
    let by_moments = plan.finish.is_some_and(|f| matches!(f.by, FinishBy::Moments { .. }));
    let guided = match &plan.guided {
        Some(net) => Some(net.clone()),
        None if plan.start.is_none() || by_moments || plan.rounds.iter().any(asks_guided) => Some(distiller.guided()?),
        None => None,
    };
    let mut net = plan.start.as_ref().map(|s| s.net.clone()).or_else(|| guided.clone()).context("a first network")?;
    let mut kept = Vec::new();
    for round in &plan.rounds {
        net = distiller.round(guided.as_ref(), net, round)?;
        if !round.keep {
            continue;
        }
        let mut name = distiller.name(round.steps);
        let mut kept_net = net.clone();
        if let Some(finish) = &plan.finish {
            // The next round starts from the student as it was: it has learnt the ways, not only their ends.
            kept_net = distiller.finish(guided.as_ref(), &net, round.steps, finish)?;
            name += "-finished";
        }
        let file = run.path(&format!("{name}.safetensors"));
        Checkpoint::open(&file, device)?.save(&half_file(&file), DType::F16)?;
        if plan.roundings.is_empty() {
            kept.push(file);
        }
        for rounding in &plan.roundings {
            let name = format!("{name}-{}", rounding.weights.name());
            distiller.rounding(&kept_net, round.steps, &name, rounding)?;
            // No f16 form: the integers are those of the f32 weights.
            kept.push(run.path(&format!("{name}.safetensors")));
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

/// Gives a network of shape `arch` the parameters of `from` wherever their shapes agree.
pub fn take_parameters(arch: &Arch, tensors: &mut Tensors, from: &UNet) -> candle_core::Result<()> {
    for (name, t) in tensors.iter_mut() {
        if let Some(theirs) = from.params.tensors().get(name).filter(|theirs| theirs.dims() == t.dims()) {
            *t = theirs.clone();
        }
    }
    for name in ["embed.film.weight", "embed.film.bias"] {
        let rows = film_rows(arch, &tensors[name], &from.arch, from.params.get(name)?)?;
        tensors.insert(name.into(), rows);
    }
    Ok(())
}

struct Distiller<'a> {
    plan: &'a Plan,
    data: &'a Dataset,
    device: &'a Device,
    run: &'a RunDir,
    teacher: &'a TeacherNetwork,
}

impl Distiller<'_> {
    /// Stage 1.
    fn guided(&self) -> Result<UNet> {
        let net = UNet { arch: self.plan.arch.clone(), params: Params::frozen(self.start()?) };
        let objective = Guidance { teacher: self.teacher.denoiser(), power: self.plan.power };
        // A student of another shape has more to learn, at a higher rate.
        let same = self.teacher.net().is_some_and(|teacher| teacher.arch == net.arch);
        let lr = if same { self.plan.lr } else { self.plan.lr * 3.0 };
        self.phase(Stint {
            name: "guided",
            net,
            auxiliary: None,
            kind: Kind::Guided,
            objective: &objective,
            pictures: self.plan.guided_pictures,
            lr,
            constant: 0.4,
            ema: 0.999,
            matched: false,
        })
    }

    /// The student's first parameters: the teacher's wherever the shapes agree, with zero weights for w; seeded ones
    /// where the teacher has another architecture.
    fn start(&self) -> Result<Tensors> {
        let arch = self.plan.arch.clone();
        let fresh = UNet { params: Params::frozen(UNet::init(&arch, self.plan.seed, self.device)?), arch };
        let mut tensors = fresh.add_guidance_input()?;
        if let Some(teacher) = self.teacher.net() {
            take_parameters(&fresh.arch, &mut tensors, teacher)?;
        }
        Ok(tensors)
    }

    /// What a network of these steps is.
    fn kind(&self, steps: usize) -> Kind {
        match self.plan.direction {
            Direction::ToPicture => Kind::Student(steps),
            Direction::ToNoise => Kind::Encoder(steps),
        }
    }

    /// Its name: of its phase and of its files.
    fn name(&self, steps: usize) -> String {
        match self.plan.direction {
            Direction::ToPicture => format!("student-{steps}"),
            Direction::ToNoise => format!("encoder-{steps}"),
        }
    }

    /// One round of stage 2: from the last network `net` a student of fewer steps.
    fn round(&self, guided: Option<&UNet>, net: UNet, round: &Round) -> Result<UNet> {
        let steps = round.steps;
        let (objective, ema): (Box<dyn Objective>, f64) = match round.learn {
            // No moving average: the rate falls to 0 within the round (Salimans & Ho).
            Learn::Halving => (Box::new(Halving { teacher: net.clone(), steps, direction: self.plan.direction }), 0.0),
            Learn::Segments(s) => {
                let teacher: Arc<dyn Denoise> = match s.target {
                    None => Arc::new(net.clone()),
                    Some(Target::Guided) => Arc::new(guided.context("a network of stage 1")?.clone()),
                    Some(Target::Teacher) => self.teacher.denoiser(),
                };
                let objective = Segments {
                    teacher,
                    jump: if s.average_jumps { Jump::Average } else { Jump::Student },
                    segments: steps,
                    fine: s.fine,
                    direction: self.plan.direction,
                    angles: Angles::All,
                    weight: s.weight,
                    power: self.plan.power,
                };
                (Box::new(objective), s.ema)
            }
        };
        if matches!(round.learn, Learn::Segments(_)) && round.pictures == 0 {
            // The student that the run starts from is this one already.
            self.save(&net, self.kind(steps), &self.name(steps), "as it was given", false)?;
            return Ok(net);
        }
        self.phase(Stint {
            name: &self.name(steps),
            net,
            auxiliary: None,
            kind: self.kind(steps),
            objective: &*objective,
            pictures: round.pictures,
            lr: round.lr,
            constant: 0.0,
            ema,
            matched: false,
        })
    }

    /// The finishing stage of a student.
    fn finish(&self, guided: Option<&UNet>, student: &UNet, steps: usize, o: &Finish) -> Result<UNet> {
        let name = format!("student-{steps}-finished");
        // What it learnt from, trajectories or features, need not be there where the student is.
        if let Some(net) = self.trained(&name)? {
            return Ok(net);
        }
        let mut auxiliary = None;
        let widened = |widen| Widened { start: student.clone(), steps, widen, power: self.plan.power };
        let objective: Box<dyn Objective> = match o.by {
            FinishBy::Moments { target, anchor, auxiliary_updates } => {
                let guided = guided.context("a network of stage 1")?;
                auxiliary = Some(guided.clone());
                Box::new(Moments {
                    teacher: match target {
                        Target::Guided => Arc::new(guided.clone()),
                        Target::Teacher => self.teacher.denoiser(),
                    },
                    start: student.clone(),
                    anchor,
                    segments: steps,
                    power: self.plan.power,
                    auxiliary_updates,
                })
            }
            FinishBy::Widened { widen } => Box::new(widened(widen)),
            FinishBy::Matched { widen, trajectories } => {
                let strengths = [&[0.0], &self.plan.matched_strengths[..]].concat();
                Box::new(Matched::new(
                    self.views(trajectories)?,
                    strengths,
                    steps,
                    Box::new(widened(widen)),
                    self.plan.seed,
                ))
            }
            FinishBy::Trajectories { count, own } => Box::new(Trajectories { ways: self.ways(count)?, steps, own }),
        };
        self.phase(Stint {
            name: &name,
            net: student.clone(),
            auxiliary,
            kind: Kind::Student(steps),
            objective: &*objective,
            pictures: o.pictures,
            lr: o.lr,
            constant: 0.0,
            ema: o.ema,
            matched: self.matches(),
        })
    }

    /// How each classifier sees the data set, and `count` pictures of the teacher's with each strength.
    fn views(&self, count: usize) -> Result<Vec<View>> {
        let strengths = self.plan.matched_strengths.iter();
        let drawn = strengths.map(|w| self.teachers_pictures(*w, count)).collect::<Result<Vec<_>>>()?;
        let goals: Vec<&Dataset> = [self.data].into_iter().chain(&drawn).collect();
        let classifiers = self.plan.classifiers.iter();
        classifiers.map(|c| View::new(&c.net, &goals, &self.plan.arch, self.device)).collect()
    }

    /// What the guided teacher draws with a strength, drawn once.
    fn teachers_pictures(&self, w: f32, count: usize) -> Result<Dataset> {
        let options =
            WayOptions { count, places: 1, fine: WANTED_STEPS, strengths: Strengths::One(w), seed: self.plan.seed };
        let ways = self.open_ways(&format!("teacher-w{w}"), options)?;
        Ok(ways.pictures(&self.plan.arch, self.teacher.class_names()))
    }

    /// The teacher's trajectories, with places for every kept student.
    fn ways(&self, count: usize) -> Result<Ways> {
        let places = self.plan.rounds.iter().filter(|r| r.keep).map(|r| r.steps).max().unwrap_or(1);
        let strengths = Strengths::Power(self.plan.power);
        let options = WayOptions { count, places, fine: default_fine(places), strengths, seed: self.plan.seed };
        self.open_ways("trajectories", options)
    }

    fn open_ways(&self, folder: &str, options: WayOptions) -> Result<Ways> {
        Ways::open(&self.run.path(folder), &self.plan.arch, &*self.teacher.denoiser(), options, self.device)
    }

    /// Fine-tuning through the rounding.
    fn rounding(&self, student: &UNet, steps: usize, name: &str, o: &Rounding) -> Result<UNet> {
        if let Some(net) = self.trained(name)? {
            return Ok(net);
        }
        self.phase(Stint {
            name,
            net: prepare(student, steps, o.weights, |_, _| ())?,
            auxiliary: None,
            kind: Kind::Student(steps),
            objective: &Finetune::new(student.clone(), steps, o.weights),
            pictures: o.pictures,
            lr: o.lr,
            constant: 0.0,
            ema: o.ema,
            matched: self.matches(),
        })
    }

    /// The network of a phase that ended before.
    fn trained(&self, name: &str) -> Result<Option<UNet>> {
        let path = self.run.path(&format!("{name}.safetensors"));
        if !path.exists() {
            return Ok(None);
        }
        let unread = || format!("{}: the run cannot go on from it; delete it to train it again", path.display());
        Ok(Some(Checkpoint::open(&path, self.device).with_context(unread)?.net))
    }

    /// Trains what is not trained yet.
    fn phase(&self, s: Stint) -> Result<UNet> {
        if let Some(net) = self.trained(s.name)? {
            return Ok(net);
        }
        let phase = Phase {
            name: s.name,
            net: s.net,
            kind: s.kind,
            auxiliary: s.auxiliary,
            schedule: Schedule { pictures: s.pictures, batch: self.plan.batch, lr: s.lr, constant: s.constant },
            optimizer: AdamWOptions { ema: s.ema, ..AdamWOptions::default() },
            seed: self.plan.seed,
            data: self.data,
            device: self.device,
            run: self.run,
        };
        let net = phase.run(s.objective)?;
        self.save(&net, s.kind, s.name, &format!("{} pictures, seed {}", s.pictures, self.plan.seed), s.matched)?;
        Ok(net)
    }

    /// Whether students are finished in the features of classifiers.
    fn matches(&self) -> bool {
        self.plan.finish.is_some_and(|f| matches!(f.by, FinishBy::Matched { .. }))
    }

    /// Writes a checkpoint; `matched` says whether this run matched it, as another may have what it started from.
    fn save(&self, net: &UNet, kind: Kind, name: &str, how: &str, matched: bool) -> Result<()> {
        let mut provenance = self.teacher.provenance().clone();
        provenance.insert("distilled".into(), format!("{name}, {how}"));
        let before = self.plan.start.as_ref().and_then(|s| s.provenance.get(MATCHED));
        let now = self.plan.classifiers.iter().filter(|_| matched).map(Extractor::short_hash);
        let all: BTreeSet<&str> = before.iter().flat_map(|b| b.split(", ")).chain(now).collect();
        if !all.is_empty() {
            provenance.insert(MATCHED.into(), all.into_iter().collect::<Vec<_>>().join(", "));
        }
        Checkpoint { kind, net: net.clone(), class_names: self.teacher.class_names().to_vec(), provenance }
            .save(&self.run.path(&format!("{name}.safetensors")), DType::F32)
    }
}

/// A phase of a distillation.
struct Stint<'a> {
    name: &'a str,
    net: UNet,
    auxiliary: Option<UNet>,
    kind: Kind,
    objective: &'a dyn Objective,
    pictures: u64,
    lr: f64,
    /// Share of the phase before the rate falls.
    constant: f64,
    /// Decay of the moving average, 0 for none.
    ema: f64,
    /// Whether what it starts from or its objective is of the classifiers' features.
    matched: bool,
}
