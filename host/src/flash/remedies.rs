//! What would make an image fit a target that it does not fit.

use super::fit::Use;
use super::{Target, enlarging};
use crate::export::INT4_SCRATCH;
use crate::quant::WeightForm;
use fewstep_core::format::step::step_len;
use fewstep_core::format::{BufferRepr, Element, Layout, OpRepr, TensorRepr};
use fewstep_core::{Direction, IMAGE_ALIGN, Model};

/// Everything to try, what changes least first.
pub(super) fn all(model: &Model, target: &Target, flash: &Use, ram: &Use) -> Vec<String> {
    let mut remedies = Vec::new();
    if flash.over() > 0 {
        remedies.extend(one_slot(target, flash));
        remedies.extend(for_flash(model, flash));
    }
    if ram.over() > 0 {
        // A picture that is enlarged lies beside the arena.
        let room = ram.room.saturating_sub(model.base_bytes().unwrap_or_default() as u64);
        remedies.extend(less_scratch(model, ram));
        remedies.extend(match enlarging::arch(model) {
            Some(arch) => enlarging::remedies(model, &arch, room as u32),
            None => vec![narrower(model, ram)],
        });
    }
    remedies
}

/// The target with one slot, where there is such a one and its slot is large enough.
fn one_slot(target: &Target, flash: &Use) -> Option<String> {
    target.slots.b?;
    let single = Target::find(&format!("{}-single", target.name));
    match single {
        Ok(single) if flash.image <= single.slots.bytes.into() => {
            Some(format!("one slot instead of two, without safe updates: --target {}", single.name))
        }
        Err(_) if flash.image <= u64::from(target.slots.bytes) * 2 => {
            Some("one slot instead of two, without safe updates: a target file without slots.b".into())
        }
        _ => None,
    }
}

/// What weights of four bits would change.
#[derive(Default)]
struct FourBits {
    /// Bytes that the image loses.
    saved: u64,
    /// Bytes of scratch that their kernels want besides.
    scratch: u64,
}

impl FourBits {
    /// Of the layers that the exporter would turn, and as it lays them out.
    fn of(model: &Model) -> Self {
        let image = model.image();
        let embedding = image.info().embedding;
        let convolutions = (0..model.op_count()).filter_map(|i| match model.op(i)? {
            OpRepr::Conv { weights, .. } => Some((model.op_name(i).unwrap_or_default(), weights, true)),
            _ => None,
        });
        let dense = [("embed.hidden", embedding.hidden_weights, false), ("embed.film", embedding.film_weights, false)];
        let mut found = Self::default();
        for (name, index, convolution) in convolutions.chain(dense) {
            let Ok(tensor) = image.tensor(index) else { continue };
            if WeightForm::Int4.of(name) == WeightForm::Int8 || tensor.layout == Layout::Int4 {
                continue;
            }
            let padded = |tensor: TensorRepr| tensor.bytes().next_multiple_of(IMAGE_ALIGN as u64);
            found.saved += padded(tensor).saturating_sub(padded(TensorRepr { layout: Layout::Int4, ..tensor }));
            if convolution && model.info().scratch_bytes > 0 {
                found.scratch = found.scratch.max(tensor.len() / u64::from(tensor.dims[0]) * INT4_SCRATCH as u64);
            }
        }
        found
    }
}

/// The command that writes the same student with weights of four bits.
fn int4_command(model: &Model) -> String {
    let info = model.image().info();
    let from = match info.direction {
        _ if model.base_bytes().is_some() => " --on FIRST.fsw",
        Direction::ToNoise => " --data DIR",
        Direction::ToPicture => "",
    };
    format!("fewstep export STUDENT.safetensors --steps {} --weights int4{from} --out STUDENT-int4.fsw", info.steps)
}

fn for_flash(model: &Model, flash: &Use) -> Vec<String> {
    let image = model.image();
    let mut remedies = Vec::new();
    let four = FourBits::of(model);
    let int4 = flash.image - four.saved;
    if four.saved > 0 && int4 <= flash.room {
        remedies.push(format!(
            "int4 weights: {int4} bytes instead of {}, and up to {} more bytes of arena: `{}`",
            flash.image,
            four.scratch,
            int4_command(model)
        ));
    }
    // A step costs its row of parameters and nothing else.
    let info = image.info();
    let row = step_len(info.embed.into(), info.counts.ops.into()) as u64;
    let left = u64::from(info.steps).saturating_sub(flash.over().div_ceil(row));
    if left > 0 {
        remedies.push(format!("fewer steps: {left} instead of {}", info.steps));
    }
    // Weights grow with the square of the channels, the rest about linearly.
    let weights: u64 = (0..info.counts.tensors)
        .filter_map(|i| image.tensor(i).ok())
        .filter(|tensor| tensor.element == Element::I8)
        .map(|tensor| tensor.bytes())
        .sum();
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
