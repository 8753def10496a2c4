//! 3x3 convolution of int8 as F(2x2, 3x3), F(4x2, 3x3) or F(4x4, 3x3) in int16, with exactly the accumulators of the
//! direct sum, for cores that multiply int16 as fast as int8.
//!
//! The formulas of a dimension stand in [`line`], and why nothing is lost in `docs/kernels.md`: operands are exact in
//! int16, sums wrap modulo 2^32, a factor 3 is divided out as a multiplication with its inverse modulo 2^32, and what is
//! left is 2^s times the accumulator, which fits i32 for up to [`Method::max_cin`] channels.
//!
//! **Order.** A rectangle of tiles at a time: all its cells are transformed and stay. Then, for one block of outputs
//! after the other, the taps are packed as convolutions of int16 pack them; for each vertical index they are transformed
//! (element by element: the order inside a panel does not matter) and multiplied with that index's cells, a tile of cells
//! being a row of tiles here; the sums are turned into sums of output columns at once, and into outputs when all indices
//! are there.

mod cells;
mod line;
mod outputs;
pub(in crate::arch) mod products;
mod weights;

use super::Simd;
use super::conv::{Order, Stored};
use super::tile::{CELL, Cell};
use crate::ops::{Conv, ConvOut};
use line::{Four, Line, Two};
use outputs::{Rows, Strip};
use products::{Products, Sums, TILES};
use weights::TAPS;

/// Tiles' outputs, and taps, cells and weights of a tile's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::arch) enum Method {
    /// F(2x2).
    Two,
    /// F(4x2).
    FourTwo,
    /// F(4x4).
    Four,
}

impl Method {
    pub(in crate::arch) const ALL: [Self; 3] = [Self::Four, Self::FourTwo, Self::Two];

    /// Rows and columns of a tile of outputs.
    const fn out(self) -> (usize, usize) {
        match self {
            Self::Two => (Two::OUT, Two::OUT),
            Self::FourTwo => (Four::OUT, Two::OUT),
            Self::Four => (Four::OUT, Four::OUT),
        }
    }

    /// Rows and columns of a tile of products.
    const fn products(self) -> (usize, usize) {
        let (rows, columns) = self.out();
        (rows + 2, columns + 2)
    }

    /// Most input channels for which the enlarged accumulators fit i32.
    pub(in crate::arch) const fn max_cin(self) -> usize {
        let largest = match self {
            Self::Two => 1 << (Two::SHIFT[0] + Two::SHIFT[0]),
            Self::FourTwo => 1 << (Four::SHIFT[0] + Two::SHIFT[0]),
            Self::Four => 1 << (Four::SHIFT[0] + Four::SHIFT[0]),
        };
        i32::MAX as usize / (largest * 9 * 255 * 128)
    }
}

/// Transformed cells that there is room for.
const WORK_CELLS: usize = 576;
/// Words for pictures, taps, panels and partial outputs.
const WORK_WORDS: usize = 10_000;

/// Where a layer's intermediate results are.
#[repr(align(64))]
pub(in crate::arch) struct Work {
    cells: [Cell; WORK_CELLS],
    words: [i32; WORK_WORDS],
    sums: Sums,
    acc: Rows,
}

/// How a layer is cut.
#[derive(Clone, Copy, Debug)]
pub(in crate::arch) struct Plan {
    pub(in crate::arch) method: Method,
    /// Most rows and columns of tiles of a rectangle.
    rows: usize,
    columns: usize,
    /// Vectors of outputs of a block.
    vectors: usize,
    /// Parts of the input channels that a cell holds, and groups of each.
    rounds: usize,
    per_round: usize,
}

impl Plan {
    /// `None` for layers that do not go this way.
    pub(in crate::arch) fn of<S: Simd>(method: Method, p: &Conv<'_>) -> Option<Self> {
        if p.kernel != 3 || p.cin == 0 || p.cin > method.max_cin() || p.height == 0 || p.width == 0 {
            return None;
        }
        let all = p.cin.div_ceil(2);
        let rounds = all.div_ceil(CELL);
        let per_round = all.div_ceil(rounds);
        let (out, products) = (method.out(), method.products());
        let vectors = if p.cout > S::LANES { 2 } else { 1 };
        (1..=vectors).rev().find_map(|vectors| {
            let lanes = vectors * S::LANES;
            let fits = |rows: usize, columns: usize| {
                let tiles = rows * columns;
                let picture = rounds * (rows * out.0 + 2) * (columns * out.1 + 2) * CELL;
                let panels = (TAPS * all + products.1 * rounds * per_round) * lanes;
                let partial = products.0 * tiles * out.1 * lanes;
                products.0 * products.1 * rounds * tiles <= WORK_CELLS && picture.max(panels + partial) <= WORK_WORDS
            };
            let (mut rows, mut columns) = (p.height.div_ceil(out.0), p.width.div_ceil(out.1));
            while !fits(rows, columns) {
                // The longer side is halved: the cells at a rectangle's rim are transformed twice.
                match rows.max(columns) {
                    1 => return None,
                    _ if rows * out.0 >= columns * out.1 && rows > 1 => rows = rows.div_ceil(2),
                    _ => columns = columns.div_ceil(2),
                }
            }
            Some(Self { method, rows, columns, vectors, rounds, per_round })
        })
    }

    /// The way for a layer, `None` if that is the direct one.
    pub(in crate::arch) fn new<S: Simd>(p: &Conv<'_>) -> Option<Self> {
        let plans = Method::ALL.iter().filter_map(|&method| Self::of::<S>(method, p));
        let (cost, plan) = plans.map(|plan| (plan.cost::<S>(p), plan)).min_by_key(|(cost, _)| *cost)?;
        (cost < direct_cost::<S>(p)).then_some(plan)
    }

    /// Elements of the weights' side of a vertical index, for a block of `vectors` vectors.
    #[inline(always)]
    fn panel_len<S: Simd>(&self, vectors: usize) -> usize {
        self.rounds * self.per_round * self.method.products().1 * vectors * S::LANES
    }

    /// The same of all of them.
    #[inline(always)]
    fn block_len<S: Simd>(&self, vectors: usize) -> usize {
        self.method.products().0 * self.panel_len::<S>(vectors)
    }

    /// The same of all blocks.
    pub(in crate::arch) fn panels_len<S: Simd>(&self, p: &Conv<'_>) -> usize {
        let block = self.vectors * S::LANES;
        let last = if p.cout % block > S::LANES { self.vectors } else { (p.cout % block).min(1) };
        p.cout / block * self.block_len::<S>(self.vectors) + self.block_len::<S>(last)
    }

    /// Instructions, by the counts of the compiled loops.
    fn cost<S: Simd>(&self, p: &Conv<'_>) -> usize {
        let ((out_down, out_across), (down, across)) = (self.method.out(), self.method.products());
        let (rows, columns) = (p.height.div_ceil(out_down), p.width.div_ceil(out_across));
        let rectangles = rows.div_ceil(self.rows) * columns.div_ceil(self.columns);
        let (tiles, chunks) = (rows * columns, rectangles * (self.rows * self.columns).div_ceil(TILES));
        let (groups, nv) = (self.rounds * self.per_round, self.vectors);
        let blocks = p.cout.div_ceil(nv * S::LANES);
        let products = chunks * (groups * (nv + 2) + 40) + tiles * (groups * (1 + 2 * nv) + 2 * nv);
        let weights = rectangles * nv * groups * (down * (19 + 3 * across) + PACK);
        let outputs = tiles * nv * (4 * down * across + 16 * out_down * out_across);
        let cells = tiles * groups.div_ceil(S::LANES) * 12 * down * across;
        blocks * (down * across * products + weights + outputs) + cells
    }
}

/// Instructions of packing the nine taps of a group of inputs for a vector of outputs.
const PACK: usize = 60;

/// The same of the direct way.
fn direct_cost<S: Simd>(p: &Conv<'_>) -> usize {
    let groups = p.cin.div_ceil(2);
    let nv = if p.cout > S::LANES { 2 } else { 1 };
    let row = p.width.div_ceil(TILES) * (nv + 5) + p.width * (1 + 2 * nv);
    let block = 9 * groups * p.height * row + nv * (groups * PACK + 16 * p.height * p.width);
    p.cout.div_ceil(nv * S::LANES) * block
}

/// Tiles that are done together.
#[derive(Clone, Copy)]
struct Rectangle {
    /// The first output.
    top: usize,
    left: usize,
    /// Rows and columns of tiles.
    rows: usize,
    columns: usize,
}

impl Rectangle {
    fn tiles(&self) -> usize {
        self.rows * self.columns
    }
}

/// See [`ops::conv`](crate::ops::conv()), with a plan for `p`.
#[inline(always)]
pub(in crate::arch) fn conv<S: Simd>(
    s: S,
    p: &Conv<'_>,
    weights: Stored<'_>,
    input: &[i8],
    mut out: ConvOut<'_>,
    plan: &Plan,
    work: &mut Work,
) {
    let tile = plan.method.out();
    let (rows, columns) = (p.height.div_ceil(tile.0), p.width.div_ceil(tile.1));
    for row in (0..rows).step_by(plan.rows) {
        for column in (0..columns).step_by(plan.columns) {
            let part = Rectangle {
                top: row * tile.0,
                left: column * tile.1,
                rows: plan.rows.min(rows - row),
                columns: plan.columns.min(columns - column),
            };
            cells::picture(s, p, input, plan, &part, &mut work.words);
            let (picture, cells) = (&work.words[..], &mut work.cells[..]);
            match plan.method {
                Method::Two => cells::transform::<S, Two, Two>(s, picture, plan, &part, cells),
                Method::FourTwo => cells::transform::<S, Four, Two>(s, picture, plan, &part, cells),
                Method::Four => cells::transform::<S, Four, Four>(s, picture, plan, &part, cells),
            }
            for first in (0..p.cout).step_by(plan.vectors * S::LANES) {
                let block = Block { p, plan, part, first, count: (p.cout - first).min(plan.vectors * S::LANES) };
                if block.wide::<S>() {
                    block.run::<S, 2>(s, weights, work, &mut out);
                } else {
                    block.run::<S, 1>(s, weights, work, &mut out);
                }
            }
        }
    }
}

/// Writes the weights of `p` as products read them, [blocks of outputs][vertical indices] of panels:
/// [`Plan::panels_len`] elements.
#[inline(always)]
pub(in crate::arch) fn prepare<S: Simd>(
    s: S,
    p: &Conv<'_>,
    order: Order,
    plan: &Plan,
    work: &mut Work,
    mut panels: &mut [i32],
) {
    let part = Rectangle { top: 0, left: 0, rows: 0, columns: 0 };
    for first in (0..p.cout).step_by(plan.vectors * S::LANES) {
        let block = Block { p, plan, part, first, count: (p.cout - first).min(plan.vectors * S::LANES) };
        let vectors = if block.wide::<S>() { 2 } else { 1 };
        let (these, rest) = panels.split_at_mut(plan.block_len::<S>(vectors));
        if vectors == 2 {
            block.prepare::<S, 2>(s, order, work, these);
        } else {
            block.prepare::<S, 1>(s, order, work, these);
        }
        panels = rest;
    }
}

/// Output channels `first .. first + count` of a rectangle.
struct Block<'a> {
    p: &'a Conv<'a>,
    plan: &'a Plan,
    part: Rectangle,
    first: usize,
    count: usize,
}

impl Block<'_> {
    /// Whether it has two vectors of outputs.
    #[inline(always)]
    fn wide<S: Simd>(&self) -> bool {
        self.plan.vectors == 2 && self.count > S::LANES
    }

    /// The panel of vertical index `i`, from the taps.
    #[inline(always)]
    fn transform<S: Simd, const NV: usize>(&self, s: S, i: usize, taps: &[i32], panel: &mut [i32]) {
        match self.plan.method {
            Method::Two => weights::transform::<S, Two, Two>(s, i, taps, panel),
            Method::FourTwo => weights::transform::<S, Four, Two>(s, i, taps, panel),
            Method::Four => weights::transform::<S, Four, Four>(s, i, taps, panel),
        }
        // Groups that are there to make rounds equal.
        let (groups, across) = (self.p.cin.div_ceil(2), self.plan.method.products().1);
        panel[groups * across * NV * S::LANES..].fill(0);
    }

    /// All panels.
    #[inline(always)]
    fn prepare<S: Simd, const NV: usize>(&self, s: S, order: Order, work: &mut Work, panels: &mut [i32]) {
        let taps = &mut work.words[..self.p.cin.div_ceil(2) * TAPS * NV * S::LANES];
        weights::pack::<S, NV>(s, self.p, order, (self.first, self.count), taps);
        for (i, panel) in panels.chunks_exact_mut(self.plan.panel_len::<S>(NV)).enumerate() {
            self.transform::<S, NV>(s, i, taps, panel);
        }
    }

    #[inline(always)]
    fn run<S: Simd, const NV: usize>(&self, s: S, weights: Stored<'_>, work: &mut Work, out: &mut ConvOut<'_>) {
        let (p, plan) = (self.p, self.plan);
        let Work { cells, words, sums, acc } = work;
        let (lanes, tiles) = (NV * S::LANES, self.part.tiles());
        let (down, across) = plan.method.products();
        let (taps, rest) = words.split_at_mut(p.cin.div_ceil(2) * TAPS * lanes);
        let (panel, partial) = rest.split_at_mut(plan.panel_len::<S>(NV));
        let prepared = match weights {
            Stored::Image(order) => {
                weights::pack::<S, NV>(s, p, order, (self.first, self.count), taps);
                &[]
            }
            // All blocks before this one have all vectors.
            Stored::Panels(all) => &all[self.first / (plan.vectors * S::LANES) * plan.block_len::<S>(plan.vectors)..],
        };
        let columns = tiles * plan.method.out().1 * lanes;
        let cells = cells.chunks_exact(plan.rounds * tiles * across);
        for (i, (partial, cells)) in partial.chunks_exact_mut(columns).zip(cells).enumerate().take(down) {
            let panel = match weights {
                Stored::Image(_) => {
                    self.transform::<S, NV>(s, i, taps, panel);
                    s.prefetch(self.next_weights(i, down));
                    &*panel
                }
                Stored::Panels(_) => &prepared[i * panel.len()..][..panel.len()],
            };
            let needed = self.needed(i);
            let chunks = needed.div_ceil(TILES);
            let mut first = 0;
            for chunk in 0..chunks {
                let count = needed / chunks + usize::from(chunk < needed % chunks);
                let products = Products { cells, tiles, first, count, panel, per_round: plan.per_round };
                let partial = &mut partial[first * plan.method.out().1 * lanes..];
                if plan.method == Method::Four {
                    s.products::<NV, { Four::IN }>(products, sums);
                    outputs::across::<S, Four, NV>(s, sums, count, partial);
                } else {
                    s.products::<NV, { Two::IN }>(products, sums);
                    outputs::across::<S, Two, NV>(s, sums, count, partial);
                }
                first += count;
            }
        }
        let mut factors = [[0f32; 32]; 2];
        let [scale, bias] = &mut factors;
        for i in 0..self.count {
            scale[i] = p.scale[self.first + i] * p.a;
            bias[i] = p.bias[self.first + i] * p.b;
        }
        let strip = Strip { p, part: &self.part, first: self.first, count: self.count, scale, bias };
        match plan.method {
            Method::Two => strip.each::<S, Two, Two, NV>(s, partial, acc, out),
            Method::FourTwo => strip.each::<S, Four, Two, NV>(s, partial, acc, out),
            Method::Four => strip.each::<S, Four, Four, NV>(s, partial, acc, out),
        }
    }

    /// Part `i` of `parts` of the weights of the next block: they come from a cache further away while this one is
    /// multiplied.
    #[inline(always)]
    fn next_weights(&self, i: usize, parts: usize) -> &[i8] {
        let of_output = TAPS * self.p.cin;
        let (from, len) = ((self.first + self.count) * of_output, self.count * of_output);
        let part = len.div_ceil(parts);
        self.p.weights.int8().get(from + i * part..).map_or(&[], |rest| &rest[..part.min(rest.len())])
    }

    /// Tiles that vertical index `i` is for, from the first on: the last index serves the last row of a tile only.
    #[inline(always)]
    fn needed(&self, i: usize) -> usize {
        let (tile, down) = (self.plan.method.out().0, self.plan.method.products().0);
        let row = if i + 1 == down { tile - 1 } else { 0 };
        let rows = (self.p.height - self.part.top).saturating_sub(row).div_ceil(tile);
        rows.min(self.part.rows) * self.part.columns
    }
}
