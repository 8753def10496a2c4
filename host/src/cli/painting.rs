//! What the verbs that work on pictures share: `edit`, `inpaint`, `morph`, `augment`.

use super::common::use_threads;
use crate::apps::Painter;
use crate::diffusion::{Sampler, check_steps};
use crate::files;
use crate::nn::Kind;
use crate::picture::{Grid, write_png};
use crate::sampling::StudentImage;
use anyhow::{Result, ensure};
use fewstep_core::Request;
use fewstep_core::format::crc::crc32c;
use serde_json::{Value, json};
use std::path::Path;

/// Most pictures of one call that shows them.
pub const MAX_SHOWN: usize = 4096;

/// How the student draws.
#[derive(clap::Args)]
pub struct Drawing {
    /// Picture i has seed S + i
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps; the student's own if not given
    #[arg(long)]
    pub steps: Option<usize>,
    #[arg(long, value_enum, default_value = "deterministic")]
    pub sampler: Sampler,
    /// Kernels of the core: auto, scalar or another name
    #[arg(long, default_value = "auto")]
    pub backend: String,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

impl Drawing {
    /// The student of `image`, once threads and steps are found right.
    pub fn painter<'a>(&self, image: &'a StudentImage) -> Result<Painter<'a>> {
        let painter = Painter::new(image, &self.backend)?;
        let own = usize::from(painter.info().steps);
        check_steps(Kind::Student(own), self.steps.unwrap_or(own), self.sampler)?;
        use_threads(self.threads)?;
        Ok(painter)
    }

    /// Steps from noise to picture. Only a divisor of the student's own passes [`Drawing::painter`].
    pub fn steps(&self, painter: &Painter) -> u16 {
        self.steps.map_or(painter.info().steps, |steps| u16::try_from(steps).unwrap_or(u16::MAX))
    }

    /// The request of picture `i`.
    pub fn request(&self, painter: &Painter, i: usize, class: u16, w: f32) -> Request {
        Request {
            seed: self.seed.wrapping_add(i as u64),
            class,
            w,
            steps: self.steps(painter),
            sampler: match self.sampler {
                Sampler::Deterministic => fewstep_core::Sampler::Deterministic,
                Sampler::Stochastic => fewstep_core::Sampler::Stochastic,
            },
        }
    }
}

/// Checks outputs before the work; `png` must end so.
pub fn check_outputs(png: Option<&Path>, others: &[Option<&Path>]) -> Result<()> {
    for path in others.iter().copied().chain([png]).flatten() {
        files::check_output(path)?;
    }
    if let Some(path) = png {
        ensure!(
            path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")),
            "--out {}: is written as a PNG picture; name it .png",
            path.display()
        );
    }
    Ok(())
}

/// One picture as it is, several as a labelled grid of `columns`.
pub struct Sheet<'a> {
    pub title: String,
    pub columns: Vec<String>,
    /// Label and pictures; None leaves a place empty.
    pub rows: Vec<(String, Vec<Option<&'a [u8]>>)>,
}

impl Sheet<'_> {
    pub fn write(&self, path: &Path, (h, w, c): (usize, usize, usize)) -> Result<()> {
        let mut grid = Grid::new(h, w, c, self.columns.clone());
        grid.title = self.title.clone();
        for (label, pictures) in &self.rows {
            grid.push_row(label, pictures.iter().copied())?;
        }
        grid.write_png(path)
    }
}

/// Writes a single picture in its own size, so that it can be worked on further.
pub fn write_picture(path: &Path, picture: &[u8], (h, w, c): (usize, usize, usize)) -> Result<()> {
    write_png(path, picture, h, w, c)
}

/// "4 steps", "1 step".
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What a report says of a picture.
pub fn checksum(picture: &[u8]) -> Value {
    json!(crc32c(picture))
}

/// Decibels of a report: equal pictures have none.
pub fn decibels(psnr: f64) -> Value {
    if psnr.is_finite() { json!(psnr) } else { Value::Null }
}
