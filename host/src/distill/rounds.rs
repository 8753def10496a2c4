//! The rounds after stage 1: which students are trained, one after the other, and how.

use crate::quant::WeightForm;
use crate::train::Weight;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

/// Most steps of a student, and of the teacher's way that its segments are cut into.
pub const MAX_STEPS: usize = 1024;

/// How students get fewer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// progressive distillation: one step equals two of the last student
    Pd,
    /// transitive closure: a step of the last network, then the student's average jumps to the segment's end
    Tract,
    /// consistency distillation: a step of the teacher, then the student itself jumps to the picture
    Cd,
    /// multistep consistency distillation: a step of the teacher, then the student's average jumps to the segment's end
    Mcd,
}

/// Who takes the teacher's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// the teacher itself, evaluated with and without the class; it may be wider than the student
    Teacher,
    /// the network of stage 1: one evaluation
    Guided,
}

/// Settings of [`crate::train::Segments`] for a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SegmentRound {
    /// None for the network of the last round.
    pub target: Option<Target>,
    /// Whether the student's average jumps, or the student itself.
    pub average_jumps: bool,
    /// Decay of the average, which is also what is kept.
    pub ema: f64,
    /// Teacher steps in a segment.
    pub fine: usize,
    pub weight: Weight,
}

/// What a round learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Learn {
    /// One step for two of the last network.
    Halving,
    Segments(SegmentRound),
}

/// One round: a student of `steps` steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    pub steps: usize,
    /// Whether the student is a result, or a rung on the way.
    pub keep: bool,
    pub pictures: u64,
    pub lr: f64,
    pub learn: Learn,
}

/// The rounds of progressive distillation: halvings from `first` steps (or the most that are kept) down to the fewest.
/// Those to 4 steps and fewer get `last_factor` times the pictures.
///
/// # Errors
/// When a count is no power of two.
pub fn halving_rounds(keep: &[usize], first: usize, pictures: u64, last_factor: u64, lr: f64) -> Result<Vec<Round>> {
    ensure!(!keep.is_empty(), "--steps: give at least one step count");
    for s in keep.iter().chain([&first]) {
        ensure!(
            s.is_power_of_two() && *s <= MAX_STEPS,
            "--steps and --first take powers of two up to {MAX_STEPS}, not {s}"
        );
    }
    let most = keep.iter().copied().max().unwrap_or(1).max(first);
    let fewest = keep.iter().copied().min().unwrap_or(1);
    let counts = std::iter::successors(Some(most), |n| Some(n / 2)).take_while(|n| *n >= fewest);
    let round = |steps: usize| Round {
        steps,
        keep: keep.contains(&steps),
        pictures: pictures * if steps <= 4 { last_factor } else { 1 },
        lr,
        learn: Learn::Halving,
    };
    Ok(counts.map(round).collect())
}

/// How a student is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finishing {
    /// moment matching with an auxiliary denoiser
    Mm,
    /// the guided teacher's own trajectories, drawn once: each step lands where the teacher is by then
    Traj,
    /// a wider start: steps land where the student as it was lands from noise of a higher temperature
    Wide,
    /// pictures spread as the data set's without guidance, in the features of classifiers, and as the teacher's with
    /// strengths that --match-guidance names; else as wide
    Match,
}

/// The stage after a student's round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finish {
    /// Of all networks' updates.
    pub pictures: u64,
    pub lr: f64,
    /// Decay of the student's average, which is what is kept.
    pub ema: f64,
    pub by: FinishBy,
}

/// What a student is finished by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FinishBy {
    /// [`crate::train::Moments`].
    Moments { target: Target, anchor: f64, auxiliary_updates: u64 },
    /// [`crate::train::Trajectories`]: how many are drawn, and the share of states that are the student's own.
    Trajectories { count: usize, own: f64 },
    /// [`crate::train::Widened`]: how much wider.
    Widened { widen: f64 },
    /// [`crate::matching::Matched`] in the features of the plan's classifiers, beside [`crate::train::Widened`]; how many
    /// trajectories of the teacher are drawn with each of the plan's strengths.
    Matched { widen: f64, trajectories: usize },
}

/// Fine-tuning of a kept student through its rounding: [`crate::quant::Finetune`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    pub weights: WeightForm,
    pub pictures: u64,
    pub lr: f64,
    /// Decay of the average, which is what is kept.
    pub ema: f64,
}

/// What the rounds by segments are made of: lists have one value for all students or one for each, most steps first.
#[derive(Clone, Debug)]
pub struct SegmentOptions<'a> {
    pub method: Method,
    pub target: Target,
    pub pictures: &'a [u64],
    /// Teacher steps in a segment; empty for [`default_fine`].
    pub fine: &'a [usize],
    pub lr: f64,
    pub ema: f64,
}

/// Teacher steps in a segment where none are given: 32 in all, but at least 8 and at most 16 a segment.
pub fn default_fine(steps: usize) -> usize {
    (32 / steps).clamp(8, 16)
}

/// The rounds of `tract`, `cd` and `mcd`: one for every student that is kept, most steps first.
///
/// # Errors
/// When the counts do not fit the method.
pub fn segment_rounds(keep: &[usize], o: &SegmentOptions) -> Result<Vec<Round>> {
    let mut counts = keep.to_vec();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts.dedup();
    ensure!(!counts.is_empty(), "--steps: give at least one step count");
    for s in &counts {
        ensure!((1..=MAX_STEPS).contains(s), "--steps {s}: give numbers from 1 to {MAX_STEPS}");
    }
    if o.method == Method::Cd {
        ensure!(
            counts == [1],
            "--method cd: its student jumps to the picture from everywhere, so give --steps 1; --method mcd makes students of more steps"
        );
    }
    let of = |name: &str, i: usize, len: usize| -> Result<usize> {
        ensure!(
            len == 1 || len == counts.len(),
            "{name}: {len} numbers for {} students; give one for all or one for each",
            counts.len()
        );
        Ok(if len == 1 { 0 } else { i })
    };
    let round = |i: usize| -> Result<Round> {
        let steps = counts[i];
        // TRACT's later phases go over the steps of the last one.
        let over_last = o.method == Method::Tract && i > 0;
        let fine = if over_last {
            let last = counts[i - 1];
            ensure!(
                last.is_multiple_of(steps),
                "--steps {last},{steps}: a step of --method tract is a number of the last student's; give divisors"
            );
            last / steps
        } else if o.fine.is_empty() {
            default_fine(steps)
        } else {
            o.fine[of("--segment-steps", i, o.fine.len())?]
        };
        ensure!(
            (1..=MAX_STEPS).contains(&fine) && steps * fine <= MAX_STEPS,
            "--segment-steps {fine}: give at least 1 and, times --steps {steps}, at most {MAX_STEPS}"
        );
        let learn = SegmentRound {
            target: (!over_last).then_some(o.target),
            average_jumps: o.method != Method::Cd,
            ema: o.ema,
            fine,
            weight: Weight::Sine,
        };
        let pictures = o.pictures[of("--images", i, o.pictures.len())?];
        Ok(Round { steps, keep: true, pictures, lr: o.lr, learn: Learn::Segments(learn) })
    };
    (0..counts.len()).map(round).collect()
}
