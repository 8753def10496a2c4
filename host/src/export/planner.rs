//! Places every buffer in the arena: buffers that live at the same time share no bytes, and the whole is as small as
//! simple placement gets it.

use super::graph::{Graph, Input, NodeKind};
use crate::nn::Arch;
use anyhow::{Result, bail};
use fewstep_core::IMAGE_ALIGN;
use fewstep_core::format::info::RolesRepr;
use fewstep_core::format::{BandsRepr, BufferRepr, Element};

/// Where everything lies. Stage 0 is the embedding, stage 1 + i node i, the last stage the update of z.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    pub buffers: Vec<BufferRepr>,
    /// Per node: the buffer of its output.
    pub output: Vec<u16>,
    /// Per node: the scores of an attention.
    pub scores: Vec<Option<u16>>,
    pub roles: RolesRepr,
    /// How a picture is enlarged, where one is.
    pub bands: Option<BandsRepr>,
    pub arena_bytes: u32,
    /// Bytes of the buffers that live at `peak_stage`, the most at any stage: no plan needs less.
    pub peak_bytes: u32,
    pub peak_stage: u16,
    /// Scratch granted to kernels, at all stages.
    pub scratch_offset: u32,
    pub scratch_bytes: u32,
}

impl MemoryPlan {
    /// The buffer of a node's input.
    pub fn input(&self, input: Input) -> u16 {
        match input {
            Input::State => self.roles.z,
            Input::Base => self.bands.map_or(self.roles.z, |bands| bands.base),
            Input::Node(i) => self.output[i],
        }
    }
}

/// Rows of the windows that an architecture can be computed in, the fewest bands first: all rows, and, where it enlarges
/// pictures, every band of whole rows with the network's reach before and after it.
fn windows(arch: &Arch) -> Vec<usize> {
    let (height, halo) = (arch.level_size(0).0, arch.reach());
    let bands = (1..height).rev().filter(|band| arch.base > 0 && height.is_multiple_of(*band));
    std::iter::once(height).chain(bands.map(|band| band + 2 * halo).filter(|rows| *rows < height)).collect()
}

/// The graph and plan with the fewest bands whose arena has at most `arena_limit` bytes. Fewer bands compute less of
/// the picture twice.
///
/// # Errors
/// When none is so small.
pub fn plan_within(arch: &Arch, scratch_bytes: u32, arena_limit: u32) -> Result<(Graph, MemoryPlan)> {
    let mut least = u32::MAX;
    for rows in windows(arch) {
        let graph = Graph::of_window(arch, rows);
        let plan = plan(arch, &graph, scratch_bytes);
        if plan.arena_bytes <= arena_limit {
            return Ok((graph, plan));
        }
        least = least.min(plan.arena_bytes);
    }
    bail!("no plan has an arena of {arena_limit} bytes: the least is {least}")
}

/// Plans the arena of a graph, with `scratch_bytes` for kernels.
pub fn plan(arch: &Arch, graph: &Graph, scratch_bytes: u32) -> MemoryPlan {
    let mut buffers = Vec::new();
    let last = graph.nodes.len() as u16 + 1;
    let mut add = |height: usize, width: usize, channels: usize, element: Element, first: u16, last: u16| {
        buffers.push(BufferRepr {
            offset: 0,
            first,
            last,
            height: height as u16,
            width: width as u16,
            channels: channels as u16,
            element,
        });
        (buffers.len() - 1) as u16
    };
    let (h, w) = arch.level_size(0);
    let z = add(h, w, arch.patch_channels(), Element::F32, 0, last);
    let film = add(1, 1, arch.film_len(), Element::F32, 0, 0);
    let first = add(1, 1, arch.embed, Element::F32, 0, 0);
    let second = add(1, 1, arch.embed, Element::F32, 0, 0);
    let rows = graph.nodes.first().map_or(h, |node| node.height);
    let base = (arch.base > 0).then(|| add(rows, w, arch.base_shape().patch_channels(), Element::F32, 1, 1));
    // What bands leave; a window of all rows is v itself.
    let left = (rows < h).then(|| add(h, w, arch.patch_channels(), Element::F32, 1, last));
    let mut output = Vec::new();
    let mut scores = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let stage = i as u16 + 1;
        let buffer = match node.in_place() {
            Some(stream) => output[stream],
            None => add(node.height, node.width, node.channels, node.element, stage, stage),
        };
        output.push(buffer);
        scores.push(match node.kind {
            NodeKind::Attention { .. } => Some(add(1, 1, node.height * node.width, Element::F32, stage, stage)),
            _ => None,
        });
    }
    let out = *output.last().expect("a network has operations");
    let roles = RolesRepr { z, v: left.unwrap_or(out), film, first, second };
    let halo = if left.is_some() { arch.reach() as u16 } else { 0 };
    let bands = base.map(|base| BandsRepr { base_channels: arch.base as u16, rows: rows as u16, halo, base, out });
    // Every use prolongs a life.
    for (i, node) in graph.nodes.iter().enumerate() {
        let stage = i as u16 + 1;
        let mut uses = |buffer: u16| {
            let buffer = &mut buffers[usize::from(buffer)];
            buffer.last = buffer.last.max(stage);
        };
        uses(output[i]);
        match node.input {
            Input::Node(input) => uses(output[input]),
            Input::Base => bands.iter().for_each(|bands| uses(bands.base)),
            Input::State => {}
        }
        if let NodeKind::NormAct { film: Some(_), .. } = node.kind {
            uses(film);
        }
    }
    buffers[usize::from(roles.v)].last = last;
    if left.is_some() {
        // The next band has the same embedding; the window's output is kept when its operations are done.
        for buffer in [film, out] {
            buffers[usize::from(buffer)].last = last;
        }
    }

    let end = place(&mut buffers);
    let scratch_offset = if scratch_bytes > 0 { end } else { 0 };
    let arena_bytes = (end + scratch_bytes).next_multiple_of(IMAGE_ALIGN as u32);
    let live = |stage: u16| -> u64 {
        buffers.iter().filter(|b| (b.first..=b.last).contains(&stage)).map(BufferRepr::bytes).sum()
    };
    // The first stage with the most.
    let (peak_bytes, peak_stage) = (0..=last)
        .map(|stage| (live(stage), stage))
        .fold((0, 0), |best, next| if next.0 > best.0 { next } else { best });
    MemoryPlan {
        buffers,
        output,
        scores,
        roles,
        bands,
        arena_bytes,
        peak_bytes: peak_bytes as u32,
        peak_stage,
        scratch_offset,
        scratch_bytes,
    }
}

/// Gives every buffer its offset; tries several orders and keeps the smallest. Returns the arena's size.
fn place(buffers: &mut [BufferRepr]) -> u32 {
    let life = |b: &BufferRepr| u64::from(b.last - b.first) + 1;
    type Key = Box<dyn Fn(&BufferRepr) -> u64>;
    let keys: [Key; 4] = [
        Box::new(|b| b.bytes()),
        Box::new(move |b| b.bytes() * life(b)),
        Box::new(move |b| life(b)),
        Box::new(|b| u64::MAX - u64::from(b.first)),
    ];
    let mut best: Option<(u32, Vec<u32>)> = None;
    for key in keys {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(key(&buffers[i])), i));
        let (end, offsets) = place_in_order(buffers, &order);
        if best.as_ref().is_none_or(|(least, _)| end < *least) {
            best = Some((end, offsets));
        }
    }
    let (end, offsets) = best.expect("four orders were tried");
    for (buffer, offset) in buffers.iter_mut().zip(offsets) {
        buffer.offset = offset;
    }
    end
}

/// Puts the buffers, in this order, into the smallest gap that holds them (best fit), else at the end.
fn place_in_order(buffers: &[BufferRepr], order: &[usize]) -> (u32, Vec<u32>) {
    let mut offsets = vec![0u32; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for &i in order {
        let need = (buffers[i].bytes() as u32).next_multiple_of(IMAGE_ALIGN as u32);
        let span =
            |j: usize| (offsets[j], offsets[j] + (buffers[j].bytes() as u32).next_multiple_of(IMAGE_ALIGN as u32));
        let mut taken: Vec<(u32, u32)> =
            placed.iter().filter(|&&j| buffers[i].lives_with(&buffers[j])).map(|&j| span(j)).collect();
        taken.sort_unstable();
        let mut gap: Option<(u32, u32)> = None;
        let mut at = 0;
        for (from, to) in taken {
            if from > at && from - at >= need && gap.is_none_or(|(size, _)| from - at < size) {
                gap = Some((from - at, at));
            }
            at = at.max(to);
        }
        offsets[i] = gap.map_or(at, |(_, at)| at);
        end = end.max(offsets[i] + need);
        placed.push(i);
    }
    (end, offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_together_share_nothing() {
        for arch in [Arch::for_pictures(28, 28, 1, 10), Arch::for_pictures(32, 32, 3, 10), three_levels()] {
            let graph = Graph::new(&arch);
            let plan = plan(&arch, &graph, 1000);
            for (i, a) in plan.buffers.iter().enumerate() {
                assert!(a.end() <= u64::from(plan.scratch_offset));
                for b in &plan.buffers[..i] {
                    assert!(!(a.lives_with(b) && a.overlaps(b)));
                }
            }
            assert!(plan.arena_bytes >= plan.peak_bytes + 1000);
        }
    }

    fn three_levels() -> Arch {
        Arch {
            widths: vec![16, 24, 32],
            encoder: vec![1, 2],
            decoder: vec![2, 1],
            middle: 3,
            attention_heads: 4,
            patch: 2,
            ..Arch::for_pictures(64, 64, 3, 4)
        }
    }

    /// Pictures of 64x64x3: two levels, as wide as an arena of 320 KB allows.
    fn large() -> Arch {
        Arch { widths: vec![48, 96], patch: 2, ..Arch::for_pictures(64, 64, 3, 20) }
    }

    fn architectures() -> Vec<Arch> {
        vec![
            Arch::for_pictures(28, 28, 1, 10),
            Arch { attention_heads: 0, ..Arch::for_pictures(28, 28, 1, 10) },
            Arch::for_pictures(32, 32, 3, 10),
            Arch::for_pictures(64, 64, 3, 20),
            Arch { widths: vec![64, 128], ..Arch::for_pictures(64, 64, 3, 20) },
            large(),
            three_levels(),
        ]
    }

    /// Every operation needs what the one before it wrote: there is one order, and the best is no other.
    #[test]
    fn the_operations_have_a_single_order() {
        for arch in architectures() {
            for (i, node) in Graph::new(&arch).nodes.iter().enumerate().skip(1) {
                let before = i - 1;
                assert!(node.input == Input::Node(before) || node.in_place() == Some(before), "{}", node.name);
            }
        }
    }

    /// Bytes of what must be in memory at once, by definition and without the planner: an operation's inputs and
    /// output, and what later operations will read.
    fn largest_live_set(arch: &Arch) -> usize {
        let graph = Graph::new(arch);
        let nodes = &graph.nodes;
        // A value that is added to is overwritten: both are one place, named by the first.
        let place = |mut i: usize| {
            while let Some(before) = nodes[i].in_place() {
                i = before;
            }
            i
        };
        let reads = |i: usize| {
            let input = match nodes[i].input {
                Input::Node(input) => Some(input),
                Input::State | Input::Base => None,
            };
            input.into_iter().chain(nodes[i].in_place())
        };
        let bytes = |i: usize| nodes[i].height * nodes[i].width * nodes[i].channels * nodes[i].element.bytes() as usize;
        let film = |i: usize| matches!(nodes[i].kind, NodeKind::NormAct { film: Some(_), .. });
        let state = 4 * arch.picture_len();
        let embedding = 4 * (arch.film_len() + 2 * arch.embed);
        let at = |now: usize| {
            let mut held: Vec<usize> = (0..=now)
                .filter(|&i| i == now || (now..nodes.len()).any(|j| reads(j).any(|r| r == i)))
                .map(place)
                .collect();
            held.sort_unstable();
            held.dedup();
            let film = if (now..nodes.len()).any(film) { 4 * arch.film_len() } else { 0 };
            let scores = match nodes[now].kind {
                NodeKind::Attention { .. } => 4 * nodes[now].height * nodes[now].width,
                _ => 0,
            };
            state + film + scores + held.into_iter().map(bytes).sum::<usize>()
        };
        // The embedding comes first; the update of z needs the last output too, as its operation does.
        (0..nodes.len()).map(at).fold(state + embedding, usize::max)
    }

    /// The project's bound: the arena is at most 1.05 times the largest live set, scratch included.
    #[test]
    fn arenas_are_hardly_larger_than_the_largest_live_set() {
        for arch in architectures() {
            let graph = Graph::new(&arch);
            for scratch in [0, 20 * 1024] {
                let plan = plan(&arch, &graph, scratch);
                let least = largest_live_set(&arch) + scratch as usize;
                println!(
                    "{}x{}x{} {:?}: arena {}, least {least}",
                    arch.height, arch.width, arch.channels, arch.widths, plan.arena_bytes
                );
                assert_eq!(plan.peak_bytes as usize + scratch as usize, least);
                assert!(plan.arena_bytes as f64 <= 1.05 * least as f64, "{} {least}", plan.arena_bytes);
            }
        }
    }

    #[test]
    fn arenas_stay_within_the_budgets() {
        for (arch, budget) in [
            (Arch::for_pictures(28, 28, 1, 10), 64 << 10),
            (large(), 320 << 10),
            (Arch::for_pictures(64, 64, 3, 20), 320 << 10),
            (Arch::for_enlarging(64, 64, 3, 20), 512 << 10),
        ] {
            let plan = plan(&arch, &Graph::new(&arch), 20 * 1024);
            assert!(plan.arena_bytes <= budget, "{} of {budget}", plan.arena_bytes);
        }
    }
}
