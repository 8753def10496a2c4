//! The statistics that a run wrote, and their curves.

use crate::files;
use crate::picture::{Plot, Series};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// Largest statistics file.
const MAX_BYTES: u64 = 64 << 20;

/// A line of stats.jsonl. Figures that a line lacks are of a network that had no update since the line before.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub phase: String,
    /// Pictures of the phase so far.
    pub pictures: f64,
    pub loss: Option<f64>,
    pub auxiliary_loss: Option<f64>,
    pub grad_norm: Option<f64>,
    pub lr: Option<f64>,
    /// Seconds of training of the phase so far.
    pub seconds: Option<f64>,
}

/// Reads a run folder's statistics.
///
/// # Errors
/// The file is missing or is no run's.
pub fn read(run: &Path) -> Result<Vec<Line>> {
    let path = run.join("stats.jsonl");
    let text = String::from_utf8(files::read_file(&path, MAX_BYTES)?)
        .with_context(|| format!("{}: is no text; name a run folder", path.display()))?;
    let line = |(i, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}: line {} is no statistics; name a run folder", path.display(), i + 1))
    };
    text.lines().enumerate().map(line).collect()
}

/// Names of the phases, in the order in which they began.
pub fn phases(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        if !names.contains(&line.phase.as_str()) {
            names.push(&line.phase);
        }
    }
    names
}

/// A figure along the pictures of each phase; None where no line has it.
pub fn curves(lines: &[Line], title: &str, log_y: bool, figure: impl Fn(&Line) -> Option<f64>) -> Option<Plot> {
    let of = |phase: &str| {
        let points = lines.iter().filter(|l| l.phase == phase).filter_map(|l| Some((l.pictures, figure(l)?)));
        Series { name: phase.into(), points: points.collect(), ..Series::default() }
    };
    let series: Vec<Series> = phases(lines).into_iter().map(of).filter(|s| !s.points.is_empty()).collect();
    (!series.is_empty()).then(|| Plot {
        title: title.into(),
        x_label: "pictures".into(),
        y_label: title.split(':').next().unwrap_or_default().to_lowercase(),
        log_y,
        series,
        ..Plot::default()
    })
}

/// Loss curves of a run folder, a line for each phase, with a name for their file.
///
/// # Errors
/// As `read`.
pub fn loss_curves(run: &Path) -> Result<(String, Plot)> {
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let plot = curves(&read(run)?, &format!("Loss: {name}"), true, |line| line.loss).unwrap_or_default();
    Ok((format!("loss-{name}"), plot))
}
