//! What a network draws while it learns: strips of pictures, one a class, from the same noise each time.

use super::phase::Phase;
use crate::data::Dataset;
use crate::diffusion::{self, SampleRequest, Sampler};
use crate::enlarge;
use crate::nn::{Arch, Kind, UNet};
use crate::picture::write_png;
use anyhow::{Context, Result};
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

/// Draws a strip into the phase's run folder with its network as it is by now, where that draws pictures. One that
/// enlarges does so to pictures of the data, halved.
pub(super) fn take(phase: &Phase, net: &UNet, pictures: u64) -> Result<()> {
    let arch = &net.arch;
    let classes: Vec<u16> = (0..arch.classes.min(CLASSES)).map(|class| class as u16).collect();
    let steps = match phase.kind {
        Kind::Student(steps) => steps,
        Kind::Teacher | Kind::Guided => STEPS,
        // Makes noise of pictures: there is nothing to look at.
        Kind::Encoder(_) => return Ok(()),
    };
    let count = classes.len();
    let bases = if arch.base > 0 { halved(phase.data, &classes, arch) } else { Vec::new() };
    let request = SampleRequest { steps, seed: SEED, classes, w: GUIDANCE, sampler: Sampler::Deterministic, bases };
    let values = diffusion::sample(net, &request, phase.device, |_| ())?;
    let drawn = match arch.base {
        0 => values.iter().map(|v| diffusion::to_byte(*v)).collect(),
        _ => enlarge::join(arch, &request.bases, &values),
    };
    let (height, width, channels) = arch.data_shape();
    let row = width * channels;
    // Pictures lie one after the other; a strip has them side by side.
    let mut strip = Vec::with_capacity(drawn.len());
    for y in 0..height {
        for picture in drawn.chunks_exact(height * row) {
            strip.extend(&picture[y * row..(y + 1) * row]);
        }
    }
    let folder = phase.run.path(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = folder.join(format!("{}-{pictures:012}.png", phase.name));
    write_png(&file, &strip, height, width * count, channels)
}

/// The first picture of every class, at half its size; any picture for a class that has none.
fn halved(data: &Dataset, classes: &[u16], arch: &Arch) -> Vec<u8> {
    let first = |class: &u16| data.labels.iter().position(|label| label == class).unwrap_or_default();
    classes.iter().flat_map(|class| enlarge::halved(arch, data.picture(first(class)))).collect()
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
