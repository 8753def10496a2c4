//! What a network draws while it learns: strips of pictures, one a class, from the same noise each time.

use super::run_dir::RunDir;
use crate::diffusion::{self, SampleRequest, Sampler};
use crate::nn::{Kind, UNet};
use crate::picture::write_png;
use anyhow::{Context, Result};
use candle_core::Device;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const FOLDER: &str = "snapshots";
/// Snapshots of a phase.
pub(super) const COUNT: u64 = 8;
/// Pictures of a strip, at most: a class each.
const CLASSES: usize = 10;
/// Steps of networks that draw in any number: few, as they are drawn while others wait.
const STEPS: usize = 16;
const GUIDANCE: f32 = 1.0;
const SEED: u64 = 1;

/// Draws a strip into the run folder, where the network draws pictures.
pub(super) fn take(run: &RunDir, phase: &str, kind: Kind, net: &UNet, pictures: u64, device: &Device) -> Result<()> {
    let arch = &net.arch;
    let classes: Vec<u16> = (0..arch.classes.min(CLASSES)).map(|class| class as u16).collect();
    let steps = match kind {
        Kind::Student(steps) => steps,
        Kind::Teacher | Kind::Guided => STEPS,
        // Makes noise of pictures: there is nothing to look at.
        Kind::Encoder(_) => return Ok(()),
    };
    let count = classes.len();
    let request = SampleRequest { steps, seed: SEED, classes, w: GUIDANCE, sampler: Sampler::Deterministic };
    let values = diffusion::sample(net, &request, device, |_| ())?;
    let row = arch.width * arch.channels;
    // Pictures lie one after the other; a strip has them side by side.
    let mut strip = Vec::with_capacity(values.len());
    for y in 0..arch.height {
        for picture in values.chunks_exact(arch.picture_len()) {
            strip.extend(picture[y * row..(y + 1) * row].iter().map(|v| diffusion::to_byte(*v)));
        }
    }
    let folder = run.path(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = folder.join(format!("{phase}-{pictures:012}.png"));
    write_png(&file, &strip, arch.height, arch.width * count, arch.channels)
}

/// The snapshots of a phase in a run folder: pictures that it had learnt from, and the file.
///
/// # Errors
/// The folder does not read.
pub fn snapshots(run: &Path, phase: &str) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run.join(FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pictures = name.strip_prefix(phase).and_then(|n| n.strip_prefix('-')?.strip_suffix(".png")?.parse().ok());
        found.extend(pictures.map(|pictures: u64| (pictures, path)));
    }
    found.sort();
    Ok(found)
}
