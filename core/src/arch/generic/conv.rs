//! Convolution as a matrix product: for 2 * LANES output channels at a time, a block, the weights are packed into a
//! panel, and tiles of neighbouring cells of a row pass over it.
//!
//! The tiles go down columns, so that a row of input is copied once for three rows of output ([`Patch`]); and for each
//! tile all blocks take their turn whose panels there is room for. A block's panel is one stream: what the sums of each
//! kernel row start from, scales, biases, weights.

use core::ops::Range;

use super::Simd;
use super::panel::{Products, Rows, groups, pack_taps};
use super::patch::{AsBytes, Column, HELD, Patch, Source, Wide, Widened};
use super::tile::{CELL, MAX_TILE, Panel, Sums, Taps};
use super::vector::Narrow;
use crate::ops::{Conv, ConvIn, ConvOut, Weights, blocks};

/// What the sums of a tile may start from: with all kernel rows, without the first, without the last of three, with the
/// middle one alone.
const STARTS: usize = 4;
/// Kernel rows whose weights are added up.
const ADDS: usize = 3;
/// Vectors in front of a block's weights, for each of its vectors of outputs: the starts, scale, bias.
const FRONT: usize = STARTS + 2;
/// Panel that most layers need: 3x3 of 64 int8 or 32 int16 channels for 32 outputs.
pub(in crate::arch) const SMALL_PANEL: usize = (9 * CELL + FRONT) * 32;
/// Panel where the weights stay in the image: what stands in front of eight blocks.
pub(in crate::arch) const FRONT_PANEL: usize = 8 * FRONT * 32;
/// Panel for all outputs of a layer that has many.
pub(in crate::arch) const MEDIUM_PANEL: usize = 2 * SMALL_PANEL;
/// Panel for wider layers. Where even this is too small, weights are packed again for each tile.
pub(in crate::arch) const LARGE_PANEL: usize = 4 * SMALL_PANEL;

/// Where the weights are.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::arch) enum Order {
    /// [`Conv::weights`] is row-major.
    Rows,
    /// [`Conv::weights`] is in [`blocks`].
    Blocks,
}

/// The weights that a layer is given.
#[derive(Clone, Copy)]
pub(in crate::arch) enum Stored<'a> {
    /// [`Conv::weights`].
    Image(Order),
    /// What was prepared of them.
    Panels(&'a [i32]),
}

/// Elements of the panel that the layer is best given.
#[inline]
pub(in crate::arch) fn panel<S: Simd>(p: &Conv<'_>, order: Order, input: &ConvIn<'_>) -> usize {
    let fits = |plan: Plan| {
        let all = p.cout.div_ceil(2 * S::LANES) * plan.block;
        match plan.resident {
            true if all <= SMALL_PANEL || S::LANES > 4 => SMALL_PANEL,
            // Inputs are copied again for each part of the outputs: too dear, where a part is a few small vectors.
            true if all <= MEDIUM_PANEL => MEDIUM_PANEL,
            _ => LARGE_PANEL,
        }
    };
    match input {
        ConvIn::I8(_) if S::takes(&p.weights) => match in_image::<S, S::Bytes>(p, order) {
            InPlace::No => fits(Plan::new::<S, S::Bytes>(p, InPlace::No, SMALL_PANEL)),
            _ => FRONT_PANEL,
        },
        _ => fits(Plan::new::<S, S::Words>(p, InPlace::No, SMALL_PANEL)),
    }
}

/// Weights that tiles read where they are.
#[derive(Clone, Copy)]
enum InPlace<'a> {
    /// None: they are packed.
    No,
    /// Those of the image: [`blocks`].
    Image(&'a [i32]),
    /// What [`prepare`] made of them, block after block: what the weights of each kernel row add up to, then the rounds.
    Panels(&'a [i32]),
}

/// The image's weights, if they are such that tiles read them.
#[inline(always)]
fn in_image<'a, S: Simd, P: Products<S>>(p: &Conv<'a>, order: Order) -> InPlace<'a> {
    if order == Order::Rows || !P::BLOCKS {
        return InPlace::No;
    }
    // Tests have weights at any address, images at multiples of 16.
    bytemuck::try_cast_slice(p.weights.int8()).map_or(InPlace::No, InPlace::Image)
}

/// Elements that [`prepare`] writes for the layer; 0 where its weights are not prepared.
#[inline]
pub(in crate::arch) fn panels_len<S: Simd>(p: &Conv<'_>) -> usize {
    if !S::PANELS || !S::takes(&p.weights) {
        return 0;
    }
    p.cout.div_ceil(2 * S::LANES) * Plan::new::<S, S::Bytes>(p, InPlace::No, 0).prepared::<S>()
}

/// Writes the weights of a layer of int8 inputs as tiles read them, [`panels_len`] elements.
#[inline(always)]
pub(in crate::arch) fn prepare<S: Simd>(s: S, p: &Conv<'_>, order: Order, panels: &mut [i32]) {
    let plan = Plan::new::<S, S::Bytes>(p, InPlace::No, usize::MAX);
    let layer = Layer { p, order, plan, source: AsBytes { zp: 0 } };
    let outputs = 2 * S::LANES;
    for (first, panel) in (0..p.cout).step_by(outputs).zip(panels.chunks_exact_mut(plan.prepared::<S>())) {
        let block = Block { layer: &layer, first, count: (p.cout - first).min(outputs) };
        let (adds, weights) = panel.split_at_mut(ADDS * outputs);
        adds.fill(0);
        if block.count > S::LANES {
            block.pack_and_add::<S, 2>(s, weights, adds);
        } else {
            block.pack_and_add::<S, 1>(s, weights, adds);
        }
    }
}

/// Whether the kernels below take it: everything that a student image can hold.
#[inline]
pub(in crate::arch) fn fits(p: &Conv<'_>, input: &ConvIn<'_>) -> bool {
    match input {
        ConvIn::I8(_) => (-128..=127).contains(&p.zp),
        ConvIn::I16(_) => p.zp == 0,
    }
}

/// See [`ops::conv`](crate::ops::conv()) and [`ops::conv_blocks`](crate::ops::conv_blocks). `panel` has as many
/// elements as [`panel`] says, or [`FRONT_PANEL`] where the weights of int8 inputs were prepared.
#[inline(always)]
pub(in crate::arch) fn conv<S: Simd>(
    s: S,
    p: &Conv<'_>,
    weights: Stored<'_>,
    input: ConvIn<'_>,
    mut out: ConvOut<'_>,
    panel: &mut [i32],
) {
    // Without neighbours, rows need not be kept apart.
    let p = if p.kernel == 1 { &Conv { height: 1, width: p.height * p.width, ..*p } } else { p };
    match input {
        ConvIn::I8(input) if S::BYTES && S::takes(&p.weights) => {
            layer(s, p, weights, AsBytes { zp: p.zp }, input, &mut out, panel)
        }
        ConvIn::I8(input) => layer(s, p, weights, Widened { zp: p.zp as i16 }, input, &mut out, panel),
        ConvIn::I16(input) => layer(s, p, weights, Wide, input, &mut out, panel),
    }
}

/// How a panel is divided.
#[derive(Clone, Copy)]
struct Plan<'a> {
    in_place: InPlace<'a>,
    /// Rounds over the input channels, as many at a time as a cell of the patch holds.
    rounds: usize,
    /// Elements of a round's weights of a block.
    round: usize,
    /// Elements of a block.
    block: usize,
    /// Whether there is room for all rounds of a block. If not, each is packed when its turn comes.
    resident: bool,
    /// Blocks that there is room for.
    blocks: usize,
}

impl<'a> Plan<'a> {
    #[inline(always)]
    fn new<S: Simd, P: Products<S>>(p: &Conv<'_>, in_place: InPlace<'a>, panel: usize) -> Self {
        let outputs = 2 * S::LANES;
        let rounds = p.cin.div_ceil(CELL * P::GROUP);
        let round = p.kernel * p.kernel * groups::<S, P>(p.cin.min(CELL * P::GROUP)) * outputs;
        let block = FRONT * outputs + if matches!(in_place, InPlace::No) { rounds * round } else { 0 };
        let resident = block <= panel;
        let blocks = if resident && rounds <= HELD { panel / block } else { 1 };
        Self { in_place, rounds, round, block, resident, blocks }
    }

    /// Elements of a block in [`InPlace::Panels`].
    #[inline(always)]
    fn prepared<S: Simd>(&self) -> usize {
        ADDS * 2 * S::LANES + self.rounds * self.round
    }

    /// First channel and number of channels of a round.
    #[inline(always)]
    fn channels<S: Simd, P: Products<S>>(&self, p: &Conv<'_>, round: usize) -> (usize, usize) {
        let from = round * CELL * P::GROUP;
        (from, p.cin.saturating_sub(from).min(CELL * P::GROUP))
    }
}

/// All output channels, as many blocks at a time as there is room for.
#[inline(always)]
fn layer<S: Simd, Q: Source<S>>(
    s: S,
    p: &Conv<'_>,
    weights: Stored<'_>,
    source: Q,
    input: &[Q::Q],
    out: &mut ConvOut<'_>,
    panel: &mut [i32],
) {
    let (order, in_place) = match weights {
        Stored::Image(order) => (order, in_image::<S, Q::Products>(p, order)),
        Stored::Panels(panels) => (Order::Rows, InPlace::Panels(panels)),
    };
    let plan = Plan::new::<S, Q::Products>(p, in_place, panel.len());
    let layer = Layer { p, order, plan, source };
    let outputs = 2 * S::LANES;
    let pad = p.kernel / 2;
    let mut patch = Patch::new();
    let mut sums = Sums([[0; 32]; MAX_TILE]);
    let steps = p.width.div_ceil(Q::Products::STEP);
    let tiles = p.width.div_ceil(Q::Products::TILE);
    for chunk in (0..p.cout).step_by(plan.blocks * outputs) {
        let end = p.cout.min(chunk + plan.blocks * outputs);
        for (first, panel) in (chunk..end).step_by(outputs).zip(panel.chunks_mut(plan.block)) {
            let block = Block { layer: &layer, first, count: (end - first).min(outputs) };
            if block.count > S::LANES { block.pack::<S, 2>(s, panel) } else { block.pack::<S, 1>(s, panel) }
        }
        let mut x = 0;
        for t in 0..tiles {
            // Tiles of equal size, up to one step.
            let cells = ((steps / tiles + usize::from(t < steps % tiles)) * Q::Products::STEP).min(p.width - x);
            let column = Column { input, width: p.width, cin: p.cin, x, cells, pad };
            let mut filled = 0;
            for y in 0..p.height {
                if plan.rounds <= HELD {
                    while filled < p.height.min(y + pad + 1) {
                        for round in 0..plan.rounds {
                            let (from, count) = plan.channels::<S, Q::Products>(p, round);
                            patch.fill(s, source, &column, filled, (round, from, count));
                        }
                        filled += 1;
                    }
                }
                layer.row(s, &column, y, chunk..end, &mut patch, panel, &mut sums, out);
            }
            x += cells;
        }
    }
}

/// A layer, and how it runs.
struct Layer<'a, Q> {
    p: &'a Conv<'a>,
    order: Order,
    plan: Plan<'a>,
    source: Q,
}

// On x86-64 instructions beyond the target's become single ones only inside of a function compiled for them, so everything
// is copied into that. Elsewhere functions of their own have their values in registers.

impl<Q> Layer<'_, Q> {
    /// The outputs of the column's cells in row `y`, of channels `channels`: as many blocks as the panel has.
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    #[expect(clippy::too_many_arguments, reason = "where to, besides where from")]
    fn row<S: Simd>(
        &self,
        s: S,
        column: &Column<'_, Q::Q>,
        y: usize,
        channels: Range<usize>,
        patch: &mut Patch,
        panel: &mut [i32],
        sums: &mut Sums,
        out: &mut ConvOut<'_>,
    ) where
        Q: Source<S>,
    {
        let (p, plan) = (self.p, &self.plan);
        let outputs = 2 * S::LANES;
        let place = Place { y, ky0: column.pad.saturating_sub(y), ky1: p.kernel.min(p.height + column.pad - y) };
        let mut inputs = if plan.rounds <= HELD {
            Inputs::Held([self.taps(column, &place, patch, 0, 0), self.taps(column, &place, patch, 1, 1)])
        } else {
            Inputs::Copied(patch)
        };
        for (first, panel) in channels.clone().step_by(outputs).zip(panel.chunks_mut(plan.block)) {
            let block = Block { layer: self, first, count: (channels.end - first).min(outputs) };
            if block.count > S::LANES {
                block.tile::<S, 2>(s, column, &place, &mut inputs, panel, sums, out);
            } else {
                block.tile::<S, 1>(s, column, &place, &mut inputs, panel, sums, out);
            }
        }
    }

    /// The inputs of round `round`, which are in the patch as number `held`.
    #[inline(always)]
    fn taps<'t, S: Simd>(
        &self,
        column: &Column<'_, Q::Q>,
        place: &Place,
        patch: &'t Patch,
        held: usize,
        round: usize,
    ) -> Taps<'t>
    where
        Q: Source<S>,
    {
        let (_, count) = self.plan.channels::<S, Q::Products>(self.p, round);
        let rows = patch.rows(held, place.y + 3 - column.pad);
        Taps { rows, kernel: self.p.kernel, ky0: place.ky0, ky1: place.ky1, groups: groups::<S, Q::Products>(count) }
    }
}

/// A row of outputs, and the kernel rows ky0..ky1 that are in the picture there: others contribute nothing.
struct Place {
    y: usize,
    ky0: usize,
    ky1: usize,
}

/// Where a row's inputs are.
enum Inputs<'a> {
    /// Of all rounds.
    Held([Taps<'a>; HELD]),
    /// Of the last round that was copied.
    Copied(&'a mut Patch),
}

/// Output channels `first .. first + count` of a layer.
struct Block<'a, Q> {
    layer: &'a Layer<'a, Q>,
    first: usize,
    count: usize,
}

impl<Q> Block<'_, Q> {
    /// Fills the panel; if it is too small for the weights, only with what stands in front of them.
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    fn pack<S: Simd, const NV: usize>(&self, s: S, panel: &mut [i32])
    where
        Q: Source<S>,
    {
        let lanes = NV * S::LANES;
        let Layer { p, plan, source, .. } = self.layer;
        let (front, weights) = panel.split_at_mut(FRONT * lanes);
        front.fill(0);
        let (starts, factors) = front.split_at_mut(STARTS * lanes);
        match plan.in_place {
            InPlace::Panels(all) if S::PANELS => {
                starts[..ADDS * lanes].copy_from_slice(&self.prepared::<S>(all)[..ADDS * lanes]);
            }
            _ => self.pack_and_add::<S, NV>(s, weights, starts),
        }
        let excess = s.splat(-source.excess());
        for v in 0..NV {
            let mut sums = [excess; 3];
            for (ky, sum) in sums.iter_mut().enumerate() {
                *sum = s.mul(*sum, s.load(&starts[ky * lanes + v * S::LANES..]));
            }
            let [top, middle, bottom] = sums;
            let below = s.add(middle, bottom);
            let kinds = [s.add(top, below), below, s.add(top, middle), middle];
            for (kind, &start) in kinds.iter().enumerate() {
                s.store(start, &mut starts[kind * lanes + v * S::LANES..]);
            }
        }
        let (scale, bias) = bytemuck::cast_slice_mut::<i32, f32>(factors).split_at_mut(lanes);
        let from = self.first..self.first + self.count;
        for (to, scale) in scale.iter_mut().zip(&p.scale[from.clone()]) {
            *to = scale * p.a;
        }
        for (to, bias) in bias.iter_mut().zip(&p.bias[from]) {
            *to = bias * p.b;
        }
    }

    /// Packs the weights of all rounds, those that tiles read elsewhere excepted, and adds up those of each kernel row:
    /// [rows][NV * LANES].
    #[inline(always)]
    fn pack_and_add<S: Simd, const NV: usize>(&self, s: S, weights: &mut [i32], adds: &mut [i32])
    where
        Q: Source<S>,
    {
        let lanes = NV * S::LANES;
        let Layer { p, plan, .. } = self.layer;
        for round in 0..plan.rounds {
            let at = if plan.resident { round * plan.round } else { 0 };
            let panel = match self.in_place::<S, NV>(round) {
                Some(panel) => panel,
                None => {
                    self.pack_round::<S, NV>(s, round, &mut weights[at..]);
                    Panel { values: &weights[at..], stride: lanes, lane: 0 }
                }
            };
            let (_, count) = plan.channels::<S, Q::Products>(p, round);
            let tap = groups::<S, Q::Products>(count) * panel.stride;
            let taps = panel.values.chunks_exact(tap).take(p.kernel * p.kernel);
            for (i, weights) in taps.enumerate() {
                let adds = &mut adds[i / p.kernel * lanes..][..lanes];
                if panel.stride == lanes {
                    Q::Products::count::<NV>(s, weights, adds);
                } else {
                    for group in weights.chunks_exact(panel.stride) {
                        Q::Products::count::<NV>(s, &group[panel.lane..][..lanes], adds);
                    }
                }
            }
        }
    }

    /// This block's part of [`InPlace::Panels`], and what follows. All blocks before have all vectors.
    #[inline(always)]
    fn prepared<'a, S: Simd>(&self, all: &'a [i32]) -> &'a [i32] {
        &all[self.first / (2 * S::LANES) * self.layer.plan.prepared::<S>()..]
    }

    /// The panel of a round, where there is one already.
    #[inline(always)]
    fn in_place<S: Simd, const NV: usize>(&self, round: usize) -> Option<Panel<'_>>
    where
        Q: Source<S>,
    {
        let Layer { p, plan, .. } = self.layer;
        let weights = match plan.in_place {
            InPlace::Image(weights) if Q::Products::BLOCKS => weights,
            InPlace::Panels(all) if S::PANELS => {
                let values = &self.prepared::<S>(all)[ADDS * 2 * S::LANES + round * plan.round..];
                return Some(Panel { values, stride: NV * S::LANES, lane: 0 });
            }
            _ => return None,
        };
        // Rounds are the parts of blocks, groups their groups: see `Products::BLOCKS`.
        let words = blocks::OUTPUTS / blocks::GROUP;
        let taps = p.kernel * p.kernel;
        let (from, _) = plan.channels::<S, Q::Products>(p, round);
        let at = (self.first / blocks::OUTPUTS * p.cin + from) * taps * words;
        let lane = self.first % blocks::OUTPUTS;
        Some(Panel { values: &weights[at..], stride: blocks::OUTPUTS, lane })
    }

    /// The weights of a round.
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    fn pack_round<S: Simd, const NV: usize>(&self, s: S, round: usize, panel: &mut [i32])
    where
        Q: Source<S>,
    {
        let &Layer { p, order, ref plan, .. } = self.layer;
        let (from, count) = plan.channels::<S, Q::Products>(p, round);
        let taps = p.kernel * p.kernel;
        let (Order::Rows, Weights::Int8(weights)) = (order, p.weights) else {
            return self.pack_copied::<S, NV>(s, (from, count), panel);
        };
        let weights = &weights[self.first * taps * p.cin..][..self.count * taps * p.cin];
        let rows = Rows { weights, stride: taps * p.cin, rows: self.count, from, count };
        pack_taps::<S, Q::Products, NV>(s, rows, taps, p.cin, panel);
    }

    /// The weights of inputs `from .. from + count`, from blocks whose order is not this backend's, or from four bits.
    #[inline(always)]
    fn pack_copied<S: Simd, const NV: usize>(&self, s: S, (from, count): (usize, usize), panel: &mut [i32])
    where
        Q: Source<S>,
    {
        let p = self.layer.p;
        let taps = p.kernel * p.kernel;
        let mut rows = [0; 32 * CELL * 4];
        let groups = groups::<S, Q::Products>(count) * NV * S::LANES;
        for (tap, panel) in panel.chunks_exact_mut(groups).take(taps).enumerate() {
            for (oc, row) in (self.first..).zip(rows.chunks_exact_mut(count)).take(self.count) {
                match p.weights {
                    Weights::Int8(weights) => blocks::unpack(taps, p.cin, weights, (oc, tap, from), row),
                    Weights::Int4(weights) => weights.decode(oc, tap * p.cin + from, row),
                }
            }
            let rows = Rows { weights: &rows, stride: count, rows: self.count, from: 0, count };
            pack_taps::<S, Q::Products, NV>(s, rows, 1, count, panel);
        }
    }

    /// The outputs of the column's cells.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "where to, besides where from")]
    fn tile<S: Simd, const NV: usize>(
        &self,
        s: S,
        column: &Column<'_, Q::Q>,
        place: &Place,
        inputs: &mut Inputs<'_>,
        panel: &mut [i32],
        sums: &mut Sums,
        out: &mut ConvOut<'_>,
    ) where
        Q: Source<S>,
    {
        let &Layer { p, ref plan, source, .. } = self.layer;
        let lanes = NV * S::LANES;
        let (front, weights) = panel.split_at_mut(FRONT * lanes);
        // See `STARTS`.
        let start = &front[(usize::from(place.ky0 > 0) + 2 * usize::from(place.ky1 < p.kernel)) * lanes..][..lanes];
        for round in 0..plan.rounds {
            if !plan.resident && matches!(plan.in_place, InPlace::No) {
                self.pack_round::<S, NV>(s, round, weights);
            }
            let at = if plan.resident { round * plan.round } else { 0 };
            let packed = || Panel { values: &weights[at..], stride: lanes, lane: 0 };
            let panel = self.in_place::<S, NV>(round).unwrap_or_else(packed);
            let start = (round == 0).then_some(start);
            match inputs {
                Inputs::Held(taps) => s.tile::<Q::Products, NV>(column.cells, &taps[round % HELD], panel, start, sums),
                Inputs::Copied(patch) => {
                    let (from, count) = plan.channels::<S, Q::Products>(p, round);
                    for row in place.y + place.ky0 - column.pad..place.y + place.ky1 - column.pad {
                        patch.fill(s, source, column, row, (0, from, count));
                    }
                    let taps = self.layer.taps(column, place, patch, 0, round);
                    s.tile::<Q::Products, NV>(column.cells, &taps, panel, start, sums);
                }
            }
        }
        let factors = bytemuck::cast_slice(&front[STARTS * lanes..]);
        let (scale, bias) = factors.split_at(lanes);
        let finish = Finish {
            channels: p.cout,
            first: self.first,
            count: self.count,
            cell: place.y * p.width + column.x,
            cells: column.cells,
            scale,
            bias,
            c: p.c,
        };
        finish.put::<S, NV>(s, &sums.0, out);
    }
}

/// From sums to outputs.
pub(super) struct Finish<'a> {
    /// Channels of the output.
    pub channels: usize,
    /// Output channels of the block: the first, and how many.
    pub first: usize,
    pub count: usize,
    /// Cells of the tile: the first in the picture, and how many.
    pub cell: usize,
    pub cells: usize,
    /// [NV * LANES].
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    pub c: f32,
}

impl Finish<'_> {
    /// Writes the outputs of `sums`, [cells][NV * LANES of 32].
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    pub(super) fn put<S: Simd, const NV: usize>(&self, s: S, sums: &[[i32; 32]], out: &mut ConvOut<'_>) {
        match out {
            ConvOut::I8(out) => self.each::<S, Rounded, _, NV>(s, sums, out),
            ConvOut::I16(out) => self.each::<S, Rounded, _, NV>(s, sums, out),
            ConvOut::I16Add(out) => self.each::<S, Added, _, NV>(s, sums, out),
            ConvOut::F32(out) => self.each::<S, Plain, _, NV>(s, sums, out),
        }
    }

    #[inline(always)]
    fn each<S: Simd, R: Put<T>, T, const NV: usize>(&self, s: S, sums: &[[i32; 32]], out: &mut [T]) {
        let c = s.splat_f(self.c);
        let (scales, biases) = (&self.scale[..NV * S::LANES], &self.bias[..NV * S::LANES]);
        let (mut scale, mut bias) = ([s.splat_f(0.0); NV], [s.splat_f(0.0); NV]);
        for v in 0..NV {
            scale[v] = s.load_f(&scales[v * S::LANES..][..S::LANES]);
            bias[v] = s.load_f(&biases[v * S::LANES..][..S::LANES]);
        }
        let out = &mut out[self.cell * self.channels..][..self.cells * self.channels];
        let cells = sums[..self.cells].iter().zip(out.chunks_exact_mut(self.channels));
        if self.count == NV * S::LANES {
            for (sums, cell) in cells {
                let out = &mut cell[self.first..][..NV * S::LANES];
                let mut y = scale;
                for v in 0..NV {
                    y[v] = s.add_f(s.mul_f(s.to_f(s.load(&sums[v * S::LANES..])), scale[v]), bias[v]);
                }
                R::put_all(s, y, c, out);
            }
        } else {
            for (sums, cell) in cells {
                for (v, out) in cell[self.first..][..self.count].chunks_mut(S::LANES).enumerate() {
                    let y = s.add_f(s.mul_f(s.to_f(s.load(&sums[v * S::LANES..])), scale[v]), bias[v]);
                    R::put(s, y, c, out);
                }
            }
        }
    }
}

/// What becomes of y.
trait Put<T> {
    /// `c`: see [`Conv::c`].
    fn put<S: Simd>(s: S, y: S::F, c: S::F, out: &mut [T]);
    /// Of whole vectors.
    fn put_all<S: Simd, const N: usize>(s: S, y: [S::F; N], c: S::F, out: &mut [T]);
}

struct Rounded;

impl<T: Narrow> Put<T> for Rounded {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, _: S::F, out: &mut [T]) {
        T::narrow(s, s.round_narrow(y), out);
    }

    #[inline(always)]
    fn put_all<S: Simd, const N: usize>(s: S, y: [S::F; N], _: S::F, out: &mut [T]) {
        let mut q = [s.splat(0); N];
        for i in 0..N {
            q[i] = s.round_narrow(y[i]);
        }
        T::narrow_all(s, q, out);
    }
}

struct Added;

impl Put<i16> for Added {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, c: S::F, out: &mut [i16]) {
        let old = s.mul_f(s.to_f(s.widen_i16(out)), c);
        s.narrow_i16(s.round_narrow(s.add_f(y, old)), out);
    }

    #[inline(always)]
    fn put_all<S: Simd, const N: usize>(s: S, mut y: [S::F; N], c: S::F, out: &mut [i16]) {
        for i in 0..N {
            let old = s.mul_f(s.to_f(s.widen_i16(&out[i * S::LANES..][..S::LANES])), c);
            y[i] = s.add_f(y[i], old);
        }
        Rounded::put_all(s, y, c, out);
    }
}

struct Plain;

impl Put<f32> for Plain {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, _: S::F, out: &mut [f32]) {
        s.store_f(y, out);
    }

    #[inline(always)]
    fn put_all<S: Simd, const N: usize>(s: S, y: [S::F; N], _: S::F, out: &mut [f32]) {
        for i in 0..N {
            s.store_f(y[i], &mut out[i * S::LANES..][..S::LANES]);
        }
    }
}
