//! What would make a student that enlarges fit into less memory: its plan is made again, as the exporter would.

use crate::export::{Graph, plan_within};
use crate::nn::Arch;
use fewstep_core::Model;
use fewstep_core::format::OpRepr;

/// The architecture of an image that enlarges, as far as its memory depends on it.
pub(super) fn arch(model: &Model) -> Option<Arch> {
    let (image, info) = (model.image(), model.image().info());
    let bands = image.bands()?;
    let convolutions = |op: &OpRepr| matches!(op, OpRepr::Conv { kernel: 3, .. });
    let ops: Vec<OpRepr> = (0..model.op_count()).filter_map(|i| model.op(i)).collect();
    let first = ops.iter().find(|op| convolutions(op))?.buffers().1;
    let arch = Arch {
        patch: info.patch.into(),
        embed: info.embed.into(),
        widths: vec![image.buffer(first).ok()?.channels.into()],
        // Two in each block, and those at the ends.
        middle: ops.iter().filter(|op| convolutions(op)).count().checked_sub(2)? / 2,
        ..Arch::for_enlarging(info.height.into(), info.width.into(), bands.base_channels.into(), info.classes.into())
    };
    (arch.check().is_ok() && Graph::new(&arch).nodes.len() == ops.len()).then_some(arch)
}

/// Bands of rows, and fewer channels, with which the arena has at most `room` bytes.
pub(super) fn remedies(model: &Model, arch: &Arch, room: u32) -> Vec<String> {
    let (info, rows) = (model.info(), arch.level_size(0).0 as u16);
    let mut remedies = Vec::new();
    if let Ok((graph, plan)) = plan_within(arch, info.scratch_bytes, room)
        && let Some(bands) = plan.bands
    {
        let count = bands.count(rows);
        let work = (graph.macs() * u64::from(count)) as f64 / info.macs_per_step as f64;
        remedies.push(format!("{count} bands of rows, {work:.1} times the work: export --arena {}", plan.arena_bytes));
    }
    let width = arch.widths[0];
    let narrow = |width: &usize| {
        plan_within(&Arch { widths: vec![*width], ..arch.clone() }, info.scratch_bytes, room)
            .is_ok_and(|(_, plan)| plan.bands.is_some_and(|bands| bands.count(rows) <= model.image().rounds()))
    };
    if let Some(narrower) = (8..width).step_by(8).rev().find(narrow) {
        remedies.push(format!("a narrower student: {narrower} channels instead of {width}"));
    }
    if remedies.is_empty() {
        // f32 values of the state z and of v.
        let state = 2 * 4 * arch.picture_len();
        remedies.push(format!("smaller pictures: the state of these alone takes {state} bytes, of {room}"));
    }
    remedies
}
