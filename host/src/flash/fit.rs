//! Whether an image fits a target, what it costs there, and what would make it fit.

use super::{Target, enlarging};
use anyhow::{Context, Result};
use fewstep_core::format::buffer::{BufferRepr, Element};
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::step::step_len;
use fewstep_core::slots::HEAD_BYTES;
use fewstep_core::{Model, format::OpRepr};
use serde::{Deserialize, Serialize};

/// Instructions of one step as a simulator counted them, for one image on one CPU.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// As in [`Target::cpu`].
    pub cpu: String,
    /// CRC-32C of the image file.
    pub image: u32,
    pub instructions_per_step: u64,
}

/// Reads counts: TOML with tables `[[count]]`.
///
/// # Errors
/// The text is not such a file.
pub fn parse_counts(text: &str) -> Result<Vec<Count>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        count: Vec<Count>,
    }
    Ok(toml::from_str::<File>(text).map_err(|e| anyhow::anyhow!("{}", e.to_string().trim_end()))?.count)
}

/// Multiply-accumulates of one step by the kernels that do them.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Macs {
    pub conv3x3: u64,
    pub conv1x1: u64,
    pub attention: u64,
    pub embedding: u64,
}

impl Macs {
    pub fn of(model: &Model) -> Self {
        let mut macs = Self { embedding: model.image().embed_macs(), ..Self::default() };
        for i in 0..model.op_count() {
            let n = model.op_macs(i) * u64::from(model.image().rounds());
            match model.op(i) {
                Some(OpRepr::Conv { kernel: 3, .. }) => macs.conv3x3 += n,
                Some(OpRepr::Conv { .. }) => macs.conv1x1 += n,
                Some(OpRepr::Attention { .. }) => macs.attention += n,
                _ => {}
            }
        }
        macs
    }

    pub fn total(&self) -> u64 {
        self.conv3x3 + self.conv1x1 + self.attention + self.embedding
    }
}

/// Thousandths of an instruction per multiply-accumulate, everything between the convolutions included.
///
/// So that a step of the shipped student, 38.0 M MACs, comes to what the simulator counts (firmware-sim/counts): with DSP
/// kernels and scratch 0.625, Helium 0.197, on RISC-V without FPU 5.0; with DSP kernels without scratch 3.34, scalar 5.55.
struct Rates {
    conv3x3: u64,
    other: u64,
}

fn rates(cpu: &str, scratch: bool) -> Rates {
    let dsp = cpu.starts_with("cortex-m") && !["cortex-m0", "cortex-m0+", "cortex-m3"].contains(&cpu);
    match scratch {
        true if ["cortex-m55", "cortex-m85"].contains(&cpu) => Rates { conv3x3: 165, other: 1000 },
        true if dsp => Rates { conv3x3: 560, other: 2100 },
        false if dsp => Rates { conv3x3: 3340, other: 3340 },
        _ if cpu.starts_with("rv32") => Rates { conv3x3: 4600, other: 15_000 },
        _ => Rates { conv3x3: 5550, other: 5550 },
    }
}

/// What was found for one target.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    pub target: String,
    pub description: String,
    pub cpu: String,
    pub fits: bool,
    pub flash: Use,
    pub ram: Use,
    pub macs_per_step: Macs,
    /// Bands of rows that a step is computed in; 1 but for students that enlarge.
    pub bands: u16,
    pub steps: u16,
    pub instructions_per_picture: u64,
    /// Counted by the simulator, or estimated from multiply-accumulates.
    pub counted: bool,
    /// At one instruction a cycle: an estimate.
    pub estimated_seconds: f64,
    /// Whether an update can be received while the image is kept.
    pub safe_updates: bool,
    /// What would make it fit; empty where it does.
    pub remedies: Vec<String>,
}

/// Bytes of one kind of memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Use {
    /// Of the image: file and head, or arena and the picture that is enlarged, if one is.
    pub image: u64,
    /// What is left for it.
    pub room: u64,
    /// Firmware: code, or statics and stack.
    pub firmware: u64,
    pub all: u64,
}

impl Use {
    fn over(&self) -> u64 {
        self.image.saturating_sub(self.room)
    }
}

/// Compares an image with a target.
///
/// # Errors
/// The image is none.
pub fn fit(bytes: &[u8], target: &Target, counts: &[Count]) -> Result<Fit> {
    let model = Model::parse(bytes).context("the image cannot be read")?;
    let info = model.info();
    let head = if target.slots.head { HEAD_BYTES as u64 } else { 0 };
    let flash = Use {
        image: u64::from(info.file_bytes) + head,
        room: target.slots.bytes.into(),
        firmware: target.flash.firmware.into(),
        all: target.flash.size.into(),
    };
    // A picture that is enlarged lies beside the arena.
    let base = model.base_bytes().unwrap_or_default() as u64;
    let ram = Use {
        image: u64::from(info.arena_bytes) + base,
        room: target.arena_bytes().into(),
        firmware: u64::from(target.ram.stack) + u64::from(target.ram.firmware),
        all: target.ram.size.into(),
    };
    let macs = Macs::of(&model);
    let crc = crc32c(bytes.get(..info.file_bytes as usize).unwrap_or(bytes));
    let count = counts.iter().find(|c| c.cpu == target.cpu && c.image == crc);
    let per_step = match count {
        Some(count) => count.instructions_per_step,
        None => {
            let rates = rates(&target.cpu, info.scratch_bytes > 0);
            (macs.conv3x3 * rates.conv3x3 + (macs.total() - macs.conv3x3) * rates.other) / 1000
        }
    };
    let instructions = per_step.saturating_mul(info.steps.into());
    let mut remedies = Vec::new();
    if flash.over() > 0 {
        remedies.extend(for_flash(&model, &flash));
        if target.slots.b.is_some() && flash.image <= u64::from(target.slots.bytes) * 2 {
            remedies.push("one slot instead of two, without safe updates: a target file without slots.b".into());
        }
    }
    if ram.over() > 0 {
        remedies.extend(less_scratch(&model, &ram));
        remedies.extend(match enlarging::arch(&model) {
            Some(arch) => enlarging::remedies(&model, &arch, ram.room.saturating_sub(base) as u32),
            None => vec![narrower(&model, &ram)],
        });
    }
    Ok(Fit {
        target: target.name.clone(),
        description: target.description.clone(),
        cpu: target.cpu.clone(),
        fits: flash.over() == 0 && ram.over() == 0,
        flash,
        ram,
        macs_per_step: macs,
        bands: model.image().rounds(),
        steps: info.steps,
        instructions_per_picture: instructions,
        counted: count.is_some(),
        estimated_seconds: instructions as f64 / target.clock_hz as f64,
        safe_updates: target.slots.head && target.slots.b.is_some(),
        remedies,
    })
}

fn for_flash(model: &Model, flash: &Use) -> Vec<String> {
    let image = model.image();
    let weights: u64 = (0..image.info().counts.tensors)
        .filter_map(|i| image.tensor(i).ok())
        .filter(|tensor| tensor.element == Element::I8)
        .map(|tensor| tensor.bytes())
        .sum();
    let mut remedies = Vec::new();
    let int4 = flash.image - weights / 2;
    if int4 <= flash.room {
        remedies.push(format!("int4 weights: about {int4} bytes instead of {}", flash.image));
    }
    // A step costs its row of parameters and nothing else.
    let info = image.info();
    let row = step_len(info.embed.into(), info.counts.ops.into()) as u64;
    let left = u64::from(info.steps).saturating_sub(flash.over().div_ceil(row));
    if left > 0 {
        remedies.push(format!("fewer steps: {left} instead of {}", info.steps));
    }
    // Weights grow with the square of the channels, the rest about linearly.
    let rest = (flash.image - weights) as f64;
    let size = |part: f64| weights as f64 * part * part + rest * part;
    let widths = Widths::of(model);
    match widths.narrower().find(|&percent| size(percent as f64 / 100.0) <= flash.room as f64) {
        Some(percent) => remedies.push(format!("a narrower student: {percent} % of the channels (estimate)")),
        None => remedies.push("a much smaller student: fewer levels and blocks; no width is small enough".into()),
    }
    remedies
}

/// What a narrower student of the same levels and blocks would be.
struct Widths {
    /// Channels come in whole groups of so many.
    group: u64,
    /// Channels of the level that has the fewest.
    fewest: u64,
}

impl Widths {
    /// As the normalisations have them.
    fn of(model: &Model) -> Self {
        let norms = (0..model.op_count()).filter_map(|i| match model.op(i)? {
            OpRepr::NormAct { src, group, .. } => {
                let channels = model.image().buffer(src).ok()?.channels;
                Some((u64::from(group), u64::from(channels)))
            }
            _ => None,
        });
        let (mut all, mut fewest) = (1, u64::MAX);
        for (group, channels) in norms {
            (all, fewest) = (group.max(all), channels.min(fewest));
        }
        Self { group: all, fewest: if fewest == u64::MAX { all } else { fewest } }
    }

    /// Percentages of the channels, from the largest, that leave every level a group at least.
    fn narrower(&self) -> impl Iterator<Item = u64> + use<> {
        let least = (self.group * 100).div_ceil(self.fewest);
        (least..100).rev()
    }

    fn scaled(&self, channels: u64, percent: u64) -> u64 {
        (channels * percent / 100 / self.group * self.group).max(self.group)
    }

    /// Bytes of a buffer then: the state and what the embedding computes with keep theirs.
    fn bytes(&self, model: &Model, index: u16, buffer: &BufferRepr, percent: u64) -> u64 {
        let roles = model.image().info().roles;
        let state = model.image().buffer(roles.z).map_or(0, |z| z.channels);
        let kept = [roles.z, roles.v, roles.first, roles.second].contains(&index);
        if kept || buffer.channels <= state || (buffer.cells() == 1 && index != roles.film) {
            return buffer.bytes();
        }
        let channels = self.scaled(buffer.channels.into(), percent);
        (buffer.cells() * channels * buffer.element.bytes()).next_multiple_of(16)
    }

    /// Most bytes of buffers that live at once.
    fn peak(&self, model: &Model, percent: u64) -> u64 {
        let image = model.image();
        let buffers: Vec<_> =
            (0..image.info().counts.buffers).filter_map(|i| Some((i, image.buffer(i).ok()?))).collect();
        let live = |stage: u16| -> u64 {
            let live = buffers.iter().filter(|(_, buffer)| (buffer.first..=buffer.last).contains(&stage));
            live.map(|(i, buffer)| self.bytes(model, *i, buffer, percent)).sum()
        };
        (0..image.stages()).map(live).max().unwrap_or(0)
    }
}

fn less_scratch(model: &Model, ram: &Use) -> Option<String> {
    let scratch = u64::from(model.info().scratch_bytes);
    let less = scratch.checked_sub(ram.over())?;
    Some(format!("less scratch: {} bytes instead of {scratch}, which is slower", less / 16 * 16))
}

fn narrower(model: &Model, ram: &Use) -> String {
    let scratch = u64::from(model.info().scratch_bytes);
    // Kernels want scratch as they have channels, so that both shrink alike. A plan has some bytes more than live at once.
    let (widths, buffers) = (Widths::of(model), ram.image.saturating_sub(scratch));
    let whole = widths.peak(model, 100).max(1);
    let needs = |percent: u64| (widths.peak(model, percent) * buffers).div_ceil(whole).next_multiple_of(16);
    let less = |percent: u64| scratch * percent / 100 / 16 * 16;
    match widths.narrower().find(|&percent| needs(percent) + less(percent) <= ram.room) {
        Some(percent) => format!(
            "a narrower student: {percent} % of the channels at its widest level, with {} bytes of scratch (estimate)",
            less(percent)
        ),
        None => "a much smaller student: fewer levels and blocks, or smaller pictures; no width is small enough".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let text = "[[count]]\ncpu = \"cortex-m7\"\nimage = 0x1234\ninstructions_per_step = 35_900_000\n";
        let count = Count { cpu: "cortex-m7".into(), image: 0x1234, instructions_per_step: 35_900_000 };
        assert_eq!(parse_counts(text).unwrap(), [count]);
        assert!(parse_counts("[[count]]\ncpu = 3\n").is_err());
        assert!(parse_counts("").unwrap().is_empty());
    }
}
