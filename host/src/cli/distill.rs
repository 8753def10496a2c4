//! `fewstep distill`: a guided teacher becomes students of few steps.

use super::training::{MAX_IMAGES, RunOptions, TrainingArgs};
use crate::data::{self, Split};
use crate::distill::{
    Finish, FinishBy, Finishing, Method, Plan, Rounding, SegmentOptions, Target, TeacherNetwork, distill,
    halving_rounds, segment_rounds,
};
use crate::features::Extractor;
use crate::files;
use crate::matching;
use crate::nn::{Arch, Checkpoint, Kind, MAX_CHECKPOINT_BYTES, MAX_GUIDANCE};
use crate::quant::WeightForm;
use crate::train::RunDir;
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use fewstep_core::Direction;
use fewstep_core::format::crc::crc32c;
use serde::Serialize;
use std::path::PathBuf;

/// All of them are held in memory.
const MAX_TRAJECTORIES: usize = 1 << 20;

/// Distil a teacher into few-step students with the guidance strength as an input
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Teacher checkpoint
    #[arg(long)]
    #[serde(skip)]
    teacher: PathBuf,
    /// How students get fewer steps
    #[arg(long, value_enum, default_value = "pd")]
    method: Method,
    /// Distil encoders, from pictures to their noise, in place of students: what restyle takes
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encoder: bool,
    /// Students to keep: step counts; powers of two for pd
    #[arg(long, value_delimiter = ',', default_value = "8,4,2,1")]
    steps: Vec<usize>,
    /// A network of stage 1 from another run (guided.safetensors), in place of training one
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    guided: Option<PathBuf>,
    /// cd, mcd: a student of another run (or an encoder, with --encoder), from which the first one here starts
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    start: Option<PathBuf>,
    /// CRC-32C of the files that --guided and --start name.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_crc32c: Option<String>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    start_crc32c: Option<String>,
    /// Pictures for stage 1 [default: 400000]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_images: Option<u64>,
    /// Pictures for each student, rounded up to whole batches: one number, or one for each student, most steps first
    #[arg(long, value_delimiter = ',', default_value = "200000")]
    images: Vec<u64>,
    /// pd: steps of the first student; rounds halve from there [default: 16]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<usize>,
    /// pd: how many times as many pictures the rounds to 4 steps and fewer get [default: 2]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_factor: Option<u64>,
    /// Largest learning rate
    #[arg(long, default_value_t = 5e-4)]
    lr: f64,
    /// tract, cd, mcd: largest learning rate after stage 1 [default: 0.8 times --lr]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    student_lr: Option<f64>,
    /// tract, cd, mcd: teacher steps for each of a student's: one number, or one for each student [default: 8; 16 for
    /// students of 2 steps and 1]
    #[arg(long, value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_steps: Option<Vec<usize>>,
    /// tract, cd, mcd: who takes the teacher's steps [default: guided]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    /// tract, cd, mcd: decay of the student's moving average, which jumps and is kept [default: 0.999]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ema: Option<f64>,
    /// tract, cd, mcd: strengths are drawn as 4 u^P, u uniform, in stage 1 too: above 1 more of the low ones [default: 1]
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_power: Option<f64>,
    /// What follows each student's training [default: nothing]
    #[arg(long, value_enum, value_name = "METHOD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<Finishing>,
    #[command(flatten)]
    #[serde(flatten)]
    finishing: FinishingArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: TrainingArgs,
}

/// What follows a student's training, and its settings.
#[derive(clap::Args, Serialize)]
struct FinishingArgs {
    /// Pictures for finishing each student, by mm half of them the auxiliary network's [default: 200000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_images: Option<u64>,
    /// Largest learning rate of finishing [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_lr: Option<f64>,
    /// --finish mm: how strongly a finished student holds on to the pictures it drew before [default: 0.1]
    #[arg(long, value_name = "WEIGHT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_anchor: Option<f64>,
    /// --finish traj, --match-guidance: how many trajectories of the teacher are drawn [default: 16384; 4096 for each
    /// strength]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    trajectories: Option<usize>,
    /// --finish wide, match: noise of standard deviation 1 + A w / (1 + w) stands for strength w [default: 0.1; match: 0]
    #[arg(long, value_name = "A")]
    #[serde(skip_serializing_if = "Option::is_none")]
    widen: Option<f64>,
    /// --finish match: classifiers of the data set, made by train-features, in whose features pictures are compared; not
    /// those that evaluate measures with
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    #[serde(skip)]
    features: Option<Vec<PathBuf>>,
    /// --finish match: strengths at which pictures are to be spread as the teacher's own, besides 0, where they are to be
    /// spread as the data set's
    #[arg(long, value_name = "W", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    match_guidance: Option<Vec<f32>>,
    /// The classifiers' hashes.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    features_sha256: Option<Vec<String>>,
    /// --finish traj: share of states that are the student's own, from which it takes back its own error [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    own_states: Option<f64>,
    /// Fine-tune each student through its rounding to int8, with this many pictures [default: none]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    int8_images: Option<u64>,
    /// Largest learning rate of that fine-tuning [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    int8_lr: Option<f64>,
    /// Fine-tune each student through its rounding to weights of four bits, with this many pictures [default: none]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    int4_images: Option<u64>,
    /// Largest learning rate of that fine-tuning [default: 2e-4]
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    int4_lr: Option<f64>,
}

/// Refuses flags (name, given, used, the values that use it) that this value of `choice` has no use for.
fn refuse_unused(choice: &str, flags: &[(&str, bool, bool, &str)]) -> Result<()> {
    for (name, given, used, with) in flags {
        ensure!(!given || *used, "{name} means nothing here; it belongs to {choice} {with}");
    }
    Ok(())
}

impl FinishingArgs {
    /// Refuses settings of what is not asked for, writes down the defaults of what is.
    fn settle(&mut self, finish: Option<Finishing>) -> Result<()> {
        if finish.is_some() {
            self.finish_images.get_or_insert(200_000);
            self.finish_lr.get_or_insert(1e-4);
        }
        match finish {
            Some(Finishing::Mm) => drop(self.finish_anchor.get_or_insert(0.1)),
            Some(Finishing::Traj) => {
                self.trajectories.get_or_insert(16_384);
                self.own_states.get_or_insert(0.5);
            }
            Some(Finishing::Wide) => drop(self.widen.get_or_insert(0.1)),
            Some(Finishing::Match) => {
                self.widen.get_or_insert(0.0);
                if self.match_guidance.is_some() {
                    self.trajectories.get_or_insert(4096);
                }
            }
            None => {}
        }
        let [mm, traj, wide, matched] =
            [Finishing::Mm, Finishing::Traj, Finishing::Wide, Finishing::Match].map(|f| finish == Some(f));
        ensure!(
            !matched || self.features.is_some(),
            "--finish match compares in the features of classifiers: give --features FILE, made by train-features with a \
             seed of its own"
        );
        refuse_unused(
            "--finish",
            &[
                ("--finish-images", self.finish_images.is_some(), finish.is_some(), "mm, traj, wide or match"),
                ("--finish-lr", self.finish_lr.is_some(), finish.is_some(), "mm, traj, wide or match"),
                ("--finish-anchor", self.finish_anchor.is_some(), mm, "mm"),
                (
                    "--trajectories",
                    self.trajectories.is_some(),
                    traj || self.match_guidance.is_some(),
                    "traj or, with --match-guidance, match",
                ),
                ("--widen", self.widen.is_some(), wide || matched, "wide or match"),
                ("--features", self.features.is_some(), matched, "match"),
                ("--match-guidance", self.match_guidance.is_some(), matched, "match"),
                ("--own-states", self.own_states.is_some(), traj, "traj"),
            ],
        )?;
        for (form, images, lr, default) in
            [("int8", &self.int8_images, &mut self.int8_lr, 1e-4), ("int4", &self.int4_images, &mut self.int4_lr, 2e-4)]
        {
            ensure!(
                lr.is_none() || images.is_some(),
                "--{form}-lr means nothing without --{form}-images; give that, too"
            );
            if images.is_some() {
                lr.get_or_insert(default);
            }
        }
        for (name, n) in [
            ("--finish-images", self.finish_images),
            ("--int8-images", self.int8_images),
            ("--int4-images", self.int4_images),
        ] {
            let n = n.unwrap_or(1);
            ensure!((1..=MAX_IMAGES).contains(&n), "{name} {n}: give a number from 1 to {MAX_IMAGES}");
        }
        for (name, lr) in [("--finish-lr", self.finish_lr), ("--int8-lr", self.int8_lr), ("--int4-lr", self.int4_lr)] {
            let lr = lr.unwrap_or(0.5);
            ensure!(lr > 0.0 && lr < 1.0, "{name} {lr}: give a rate between 0 and 1");
        }
        if let Some(a) = self.finish_anchor {
            ensure!((0.0..=1000.0).contains(&a), "--finish-anchor {a}: give a weight from 0 to 1000");
        }
        if let Some(n) = self.trajectories {
            ensure!(
                (1..=MAX_TRAJECTORIES).contains(&n),
                "--trajectories {n}: give a number from 1 to {MAX_TRAJECTORIES}"
            );
        }
        if let Some(a) = self.widen {
            ensure!((0.0..=1.0).contains(&a), "--widen {a}: give a number from 0 to 1");
        }
        for (i, w) in self.match_guidance.iter().flatten().enumerate() {
            ensure!(
                *w > 0.0
                    && f64::from(*w) <= MAX_GUIDANCE
                    && !self.match_guidance.iter().flatten().take(i).any(|v| v == w),
                "--match-guidance {w}: give strengths above 0, at most {MAX_GUIDANCE}, each once"
            );
        }
        if let Some(own) = self.own_states {
            ensure!((0.0..=1.0).contains(&own), "--own-states {own}: give a share from 0 to 1");
        }
        Ok(())
    }
}

impl FinishingArgs {
    /// Opens what --features names, classifiers of the pictures that `arch` draws; notes the hashes.
    fn open_classifiers(&mut self, arch: &Arch) -> Result<Vec<Extractor>> {
        let open = |file: &PathBuf| {
            let found = Extractor::open(file)?;
            matching::check(&found.net.arch, arch).with_context(|| format!("--features {}", file.display()))?;
            Ok(found)
        };
        let found = self.features.iter().flatten().map(open).collect::<Result<Vec<_>>>()?;
        self.features_sha256 = self.features.is_some().then(|| found.iter().map(|f| f.hash().into()).collect());
        Ok(found)
    }
}

impl Args {
    /// Refuses what the method has no use for and writes down the defaults of the rest.
    fn settle(&mut self) -> Result<()> {
        let pd = self.method == Method::Pd;
        let with_start = matches!(self.method, Method::Cd | Method::Mcd);
        refuse_unused(
            "--method",
            &[
                ("--first", self.first.is_some(), pd, "pd, the default"),
                ("--last-factor", self.last_factor.is_some(), pd, "pd, the default"),
                ("--student-lr", self.student_lr.is_some(), !pd, "tract, cd or mcd"),
                ("--segment-steps", self.segment_steps.is_some(), !pd, "tract, cd or mcd"),
                ("--target", self.target.is_some(), !pd, "tract, cd or mcd"),
                ("--ema", self.ema.is_some(), !pd, "tract, cd or mcd"),
                ("--guidance-power", self.guidance_power.is_some(), !pd, "tract, cd or mcd"),
                ("--start", self.start.is_some(), with_start, "cd or mcd"),
            ],
        )?;
        ensure!(
            !self.encoder || self.method != Method::Cd && self.finish.is_none() && self.finishing.int8_images.is_none(),
            "--encoder: encoders are not trained by --method cd, --finish or --int8-images; leave that out"
        );
        self.finishing.settle(self.finish)?;
        if !pd {
            self.target.get_or_insert(Target::Guided);
        }
        if self.guided.is_some() || self.start.is_some() {
            ensure!(
                self.guided_images.is_none(),
                "--guided-images means nothing with --guided or --start: there is no stage 1; leave one of them out"
            );
            ensure!(
                self.guided.is_some() || self.target == Some(Target::Teacher) && self.finish != Some(Finishing::Mm),
                "--start needs --target teacher or, for --target guided and --finish mm, the network of stage 1, too: give --guided FILE"
            );
        } else {
            self.guided_images.get_or_insert(400_000);
        }
        if pd {
            self.first.get_or_insert(16);
            self.last_factor.get_or_insert(2);
            ensure!(
                self.images.len() == 1,
                "--images: --method pd takes one number; --last-factor raises the last rounds'"
            );
        } else {
            self.student_lr.get_or_insert(0.8 * self.lr);
            self.ema.get_or_insert(0.999);
            self.guidance_power.get_or_insert(1.0);
        }
        for (name, n) in
            self.images.iter().map(|n| ("--images", *n)).chain(self.guided_images.map(|n| ("--guided-images", n)))
        {
            ensure!((1..=MAX_IMAGES).contains(&n), "{name} {n}: give a number from 1 to {MAX_IMAGES}");
        }
        for (name, lr) in [("--lr", Some(self.lr)), ("--student-lr", self.student_lr)] {
            let lr = lr.unwrap_or(self.lr);
            ensure!(lr > 0.0 && lr < 1.0, "{name} {lr}: give a rate between 0 and 1");
        }
        if let Some(f) = self.last_factor {
            ensure!((1..=100).contains(&f), "--last-factor {f}: give a number from 1 to 100");
        }
        if let Some(ema) = self.ema {
            ensure!((0.0..1.0).contains(&ema), "--ema {ema}: give a decay from 0 to below 1");
        }
        if let Some(p) = self.guidance_power {
            ensure!((0.1..=10.0).contains(&p), "--guidance-power {p}: give a number from 0.1 to 10");
        }
        Ok(())
    }

    /// The rounds after stage 1. [`Args::settle`] has filled in the defaults.
    fn rounds(&self) -> Result<Vec<crate::distill::Round>> {
        if let (Some(first), Some(factor)) = (self.first, self.last_factor) {
            return halving_rounds(&self.steps, first, self.images[0], factor, self.lr);
        }
        segment_rounds(
            &self.steps,
            &SegmentOptions {
                method: self.method,
                target: self.target.unwrap_or(Target::Guided),
                pictures: &self.images,
                fine: self.segment_steps.as_deref().unwrap_or_default(),
                lr: self.student_lr.unwrap_or(self.lr),
                ema: self.ema.unwrap_or_default(),
            },
        )
    }

    /// What follows every student's round.
    fn finish(&self) -> Option<Finish> {
        let f = &self.finishing;
        let by = |finishing| match finishing {
            Finishing::Mm => FinishBy::Moments {
                target: self.target.unwrap_or(Target::Guided),
                anchor: f.finish_anchor.unwrap_or_default(),
                auxiliary_updates: 1,
            },
            Finishing::Match => FinishBy::Matched {
                widen: f.widen.unwrap_or_default(),
                trajectories: f.trajectories.unwrap_or_default(),
            },
            Finishing::Wide => FinishBy::Widened { widen: f.widen.unwrap_or_default() },
            Finishing::Traj => FinishBy::Trajectories {
                count: f.trajectories.unwrap_or_default(),
                own: f.own_states.unwrap_or_default(),
            },
        };
        self.finish.map(|finishing| Finish {
            pictures: f.finish_images.unwrap_or_default(),
            lr: f.finish_lr.unwrap_or_default(),
            ema: self.ema.unwrap_or(0.999),
            by: by(finishing),
        })
    }

    /// What follows that.
    fn roundings(&self) -> Vec<Rounding> {
        let f = &self.finishing;
        let asked =
            [(WeightForm::Int8, f.int8_images.zip(f.int8_lr)), (WeightForm::Int4, f.int4_images.zip(f.int4_lr))];
        let ema = self.ema.unwrap_or(0.999);
        let rounding =
            |(weights, asked): (_, Option<_>)| asked.map(|(pictures, lr)| Rounding { weights, pictures, lr, ema });
        asked.into_iter().filter_map(rounding).collect()
    }

    /// Opens what --guided and --start name, if they do; notes the checksums.
    fn open_networks(&mut self, device: &Device, teacher: &Arch) -> Result<[Option<Checkpoint>; 2]> {
        let open = |name: &str, file: &Option<PathBuf>, fits: fn(Kind) -> bool, wanted: &str| -> Result<_> {
            let Some(file) = file else { return Ok(None) };
            let found = Checkpoint::open(file, device)?;
            let show = file.display();
            ensure!(fits(found.kind), "{name} {show}: a {}; give {wanted}", found.kind.describe());
            let (a, b) = (&found.net.arch, teacher);
            ensure!(
                (a.height, a.width, a.channels, a.classes) == (b.height, b.width, b.channels, b.classes),
                "{name} {show}: it draws other pictures than the teacher; give a network distilled from it"
            );
            let crc = crc32c(&files::read_file(file, MAX_CHECKPOINT_BYTES)?);
            Ok(Some((found, format!("{crc:08x}"))))
        };
        let guided = open("--guided", &self.guided, |k| k == Kind::Guided, "a guided.safetensors that distill wrote")?;
        let starts: fn(Kind) -> bool = match self.encoder {
            false => |kind| matches!(kind, Kind::Student(_)),
            true => |kind| matches!(kind, Kind::Student(_) | Kind::Encoder(_)),
        };
        let student = open("--start", &self.start, starts, "a student that distill wrote")?;
        if let (Some((a, _)), Some((b, _))) = (&guided, &student) {
            ensure!(a.net.arch == b.net.arch, "--guided and --start have different shapes; give networks of one run");
        }
        let [guided, start] = [guided, student].map(Option::unzip);
        (self.guided_crc32c, self.start_crc32c) = (guided.1, start.1);
        Ok([guided.0, start.0])
    }
}

pub fn run(mut args: Args) -> Result<()> {
    args.settle()?;
    let mut rounds = args.rounds()?;
    let device = args.training.open()?;
    let roundings = args.roundings();
    ensure!(
        device.is_cpu() || roundings.is_empty(),
        "--int8-images, --int4-images: integers are computed by the device's own kernels on the CPU; use --device cpu"
    );
    let teacher = TeacherNetwork::open(&args.teacher, &device)?;
    let own = teacher.arch();
    if own.base > 0 {
        ensure!(
            roundings.is_empty(),
            "--int8-images, --int4-images: students that enlarge pictures are not fine-tuned through the rounding; leave \
             them out"
        );
        ensure!(
            matches!(args.finish, None | Some(Finishing::Mm)),
            "--finish: students that enlarge pictures are finished by mm alone; leave it out"
        );
        ensure!(!args.encoder, "--encoder: a teacher that enlarges pictures has no encoder; leave it out");
    }
    let [guided, start] = args.open_networks(&device, &own)?;
    let classifiers = args.finishing.open_classifiers(&own)?;
    let t = &args.training;
    let given = start.as_ref().or(guided.as_ref());
    let base = given.map_or(own, |g| g.net.arch.clone());
    let mut arch = base.clone();
    t.reshape(&mut arch)?;
    ensure!(
        given.is_none() || arch == base,
        "--guided and --start have a shape of their own; leave --width, --blocks and --heads out"
    );
    // A student to start from that has these steps needs no round, when it is only to be finished or rounded.
    if let (Some(Kind::Student(n)), Some(first)) = (start.as_ref().map(|s| s.kind), rounds.first_mut())
        && (args.finish.is_some() || !roundings.is_empty())
        && first.steps == n
    {
        first.pictures = 0;
    }
    let plan = Plan {
        arch,
        direction: if args.encoder { Direction::ToNoise } else { Direction::ToPicture },
        guided: guided.map(|g| g.net),
        start,
        guided_pictures: args.guided_images.unwrap_or_default(),
        lr: args.lr,
        power: args.guidance_power.unwrap_or(1.0),
        rounds,
        finish: args.finish(),
        classifiers,
        matched_strengths: args.finishing.match_guidance.clone().unwrap_or_default(),
        roundings,
        batch: t.batch,
        seed: t.seed,
    };
    let data = teacher.fit(data::open(&t.data, Split::Train)?, &t.data)?;
    let run = RunDir::open(&t.out, &RunOptions::new(&args, &device, &data, Some(&args.teacher))?, t.resume)?;
    for student in distill(&teacher, &data, &device, &run, &plan)? {
        println!("{}", student.display());
    }
    run.report();
    println!("{}", run.path("report.html").display());
    Ok(())
}
