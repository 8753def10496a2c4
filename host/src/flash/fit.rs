//! Whether an image fits a target, what it costs there, and what would make it fit.

use super::counts::{self, Count};
use super::{Target, remedies};
use anyhow::{Context, Result};
use fewstep_core::slots::HEAD_BYTES;
use fewstep_core::{Model, format::OpRepr};
use serde::Serialize;

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
/// kernels and scratch 0.625, Helium 0.197, on RISC-V without FPU 4.42; with DSP kernels without scratch 3.34, scalar 5.55.
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
        _ if cpu.starts_with("rv32") => Rates { conv3x3: 3880, other: 15_000 },
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
    /// Whether it fits and an update can be received while the image is kept.
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
    /// Bytes too many.
    pub(super) fn over(&self) -> u64 {
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
    let count = counts::find(counts, counts::fingerprint(&model, bytes), &target.cpu);
    let per_step = match count {
        Some(count) => count.instructions_per_step,
        None => {
            let rates = rates(&target.cpu, info.scratch_bytes > 0);
            (macs.conv3x3 * rates.conv3x3 + (macs.total() - macs.conv3x3) * rates.other) / 1000
        }
    };
    let instructions = per_step.saturating_mul(info.steps.into());
    let fits = flash.over() == 0 && ram.over() == 0;
    Ok(Fit {
        target: target.name.clone(),
        description: target.description.clone(),
        cpu: target.cpu.clone(),
        fits,
        flash,
        ram,
        macs_per_step: macs,
        bands: model.image().rounds(),
        steps: info.steps,
        instructions_per_picture: instructions,
        counted: count.is_some(),
        estimated_seconds: instructions as f64 / target.clock_hz as f64,
        safe_updates: fits && target.slots.head && target.slots.b.is_some(),
        remedies: remedies::all(&model, target, &flash, &ram),
    })
}
