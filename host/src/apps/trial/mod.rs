//! Does a student help who has few real pictures? Classifiers trained on few of them: alone, with classical
//! augmentation, with the student's pictures, with both; each tested on real pictures that none of them has seen.

mod report;
mod variants;

pub use report::{Cell, Trial};
pub use variants::Variants;

use super::augment;
use super::student::Painter;
use crate::data::{Dataset, subset};
use crate::evaluate::Scores;
use crate::features::Training;
use anyhow::{Context, Result};
use fewstep_core::Request;
use serde::{Deserialize, Serialize};

/// What a classifier is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    Real,
    Classical,
    Student,
    Both,
}

impl Arm {
    pub const ALL: [Arm; 4] = [Arm::Real, Arm::Classical, Arm::Student, Arm::Both];

    /// For tables and legends.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Real => "real alone",
            Arm::Classical => "and classical",
            Arm::Student => "and student",
            Arm::Both => "and both",
        }
    }
}

/// The sets of one trial.
pub struct Sets<'a> {
    /// Real pictures to draw lots from.
    pub real: &'a Dataset,
    pub painter: &'a Painter<'a>,
    /// Seed, steps and sampler of the student's first picture.
    pub first: Request,
    /// Guidance strengths, in turn.
    pub strengths: Vec<f32>,
    /// Pictures of a set with augmentation.
    pub pool: usize,
    pub variants: Variants,
}

impl Sets<'_> {
    /// `per_class` real pictures of each class, drawn by lot.
    ///
    /// # Errors
    /// A class has fewer.
    pub fn lot(&self, per_class: usize, seed: u64) -> Result<Dataset> {
        let (pictures, labels) = subset::balanced(self.real, per_class * self.real.classes(), seed)?;
        Ok(Dataset { pictures, labels, class_names: self.real.class_names.clone(), ..*self.real })
    }

    /// Half a pool of the student's pictures, of other noise for each repeat.
    ///
    /// # Errors
    /// A request does not fit the student.
    pub fn drawn(&self, repeat: u64) -> Result<Dataset> {
        let count = self.pool / 2;
        let first = Request { seed: self.first.seed.wrapping_add(repeat * count as u64), ..self.first };
        augment::pictures(self.painter, &first, &self.strengths, count, |_| {})
    }

    /// What the classifier of an arm is trained on. Sets with the student's pictures are half real, so that few real
    /// ones are not lost among many drawn.
    pub fn set(&self, arm: Arm, lot: &Dataset, drawn: &Dataset, seed: u64) -> (Vec<u8>, Vec<u16>) {
        let repeated = |count: usize| {
            let of: Vec<usize> = (0..count).map(|i| i % lot.len()).collect();
            let pictures = of.iter().flat_map(|i| lot.picture(*i).iter().copied()).collect();
            (pictures, of.iter().map(|i| lot.labels[*i]).collect())
        };
        let half = self.pool - drawn.len();
        let (mut pictures, mut labels): (Vec<u8>, Vec<u16>) = match arm {
            Arm::Real => repeated(lot.len()),
            Arm::Classical => self.variants.of(lot, self.pool, seed),
            Arm::Student => repeated(half),
            Arm::Both => self.variants.of(lot, half, seed),
        };
        if matches!(arm, Arm::Student | Arm::Both) {
            pictures.extend_from_slice(&drawn.pictures);
            labels.extend_from_slice(&drawn.labels);
        }
        (pictures, labels)
    }
}

/// Accuracies by number of real pictures a class, arm and repeat. Repeat r uses the same lot, the same drawn pictures
/// and the same start of the classifier in every arm, so that arms are compared in pairs. `progress` hears how many
/// classifiers are done and what the next one is trained on.
///
/// # Errors
/// A class has too few pictures, or a training fails.
pub fn run(
    sets: &Sets<'_>,
    scores: &Scores<'_>,
    real: &[usize],
    repeats: u64,
    seed: u64,
    mut progress: impl FnMut(usize, &str),
) -> Result<Vec<Cell>> {
    let mut cells: Vec<Cell> =
        real.iter().flat_map(|n| Arm::ALL.map(|arm| Cell { per_class: *n, arm, accuracies: Vec::new() })).collect();
    let mut done = 0;
    for repeat in 0..repeats {
        let seed = seed.wrapping_add(repeat);
        let drawn = sets.drawn(repeat)?;
        let training = Training { seed, ..scores.training.clone() };
        let scores = Scores { folder: scores.folder.clone(), arch: scores.arch.clone(), training, ..*scores };
        for (per_class, cells) in real.iter().zip(cells.chunks_exact_mut(Arm::ALL.len())) {
            let lot = sets.lot(*per_class, seed).with_context(|| format!("--real {per_class}"))?;
            for cell in cells {
                let (pictures, labels) = sets.set(cell.arm, &lot, &drawn, seed);
                progress(done, &format!("{per_class} a class, {}", cell.arm.name()));
                cell.accuracies.push(scores.score(&pictures, &labels)?);
                done += 1;
            }
        }
    }
    Ok(cells)
}
