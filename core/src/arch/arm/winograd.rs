//! 3x3 convolution of int8 as F(2x2, 3x3) in int16, with exactly the accumulators of the direct sum.
//!
//! One dimension: two outputs of three taps g0 g1 g2 over four cells d0 d1 d2 d3 are
//!
//! ```text
//! M0 = (d0 - d2) 2 g0    M1 = (d1 + d2) (g0 + g1 + g2)    M2 = (d2 - d1) (g0 - g1 + g2)    M3 = (d3 - d1) 2 g2
//! 2 y0 = M0 + M1 + M2    2 y1 = M1 - M2 + M3
//! ```
//!
//! without a fraction anywhere, because the filter's transform is doubled. In two dimensions four products per output
//! instead of nine, and 4 times the accumulator, which an arithmetic shift by two undoes without loss.
//!
//! **Zero point.** Cells outside the picture hold the zero point, and every cell enters as it is stored. All sums of
//! cells but (d1 + d2) in both dimensions are differences, in which the zero point cancels; there 4 times the zero
//! point is subtracted. So the products are those of (q - zp).
//!
//! **Bounds.** A sum of four differences q - zp is at most 4 * 255 = 1020 in magnitude, any other transformed cell at
//! most 2 * 255; a transformed weight is at most 9 * 128 = 1152: all are exact in i16. The vertical doubling is left to the
//! accumulators. Those wrap modulo 2^32, and so do their sums; the result is right as soon as 4 times the direct
//! accumulator fits i32, and |4 acc| <= 4 * 9 * 255 * 128 * cin < 2^31 for cin up to [`MAX_CIN`].
//!
//! **Order.** For each vertical index the cells of a block of tiles are transformed and stay; the weights of four output
//! channels after the other are transformed and pass; what they give is added to the outputs of the tiles, in i32. So
//! the scratch holds a quarter of the transformed cells and a quarter of the transformed weights of four channels.

use super::conv::Sink;
use super::gemm::{self, MAX_PAIRS, Rows, WINOGRAD_TILE};
use super::panel::CHANNELS;
use super::simd::{add16, pair, sub16, sxtab16, sxtab16_odd, sxtb16, sxtb16_odd};
use crate::ops::Conv;

/// Most input channels for which 4 times every accumulator fits i32.
pub const MAX_CIN: usize = 1827;

const _: () = assert!(4 * 9 * 255 * 128 * MAX_CIN as u64 <= i32::MAX as u64);

/// How the scratch is cut: cell outside the picture [channels] i8, weights [4][pairs][4], cells [tile pairs][4][pairs][2],
/// outputs [channel blocks][tile pairs][32].
#[derive(Debug)]
pub struct Plan {
    /// Input channels at a time, a multiple of 4.
    channels: usize,
    /// Tile pairs of a block.
    tile_pairs: usize,
    /// Blocks of four output channels whose outputs wait together.
    blocks: usize,
    /// Instructions, estimated.
    pub cost: u64,
}

impl Plan {
    /// `None` for layers that do not go this way, or when `words` of scratch hold no tile.
    pub fn new(p: &Conv<'_>, words: usize) -> Option<Self> {
        if p.kernel != 3 || !p.cin.is_multiple_of(4) || p.cin == 0 || p.cin > MAX_CIN {
            return None;
        }
        let slices = p.cin.div_ceil(2 * MAX_PAIRS);
        let channels = p.cin.div_ceil(4 * slices) * 4;
        let pairs = channels / 2;
        let rest = words.checked_sub(channels / 4 + 16 * pairs)?;
        let tiles = p.height.div_ceil(2) * p.width.div_ceil(2);
        let all_blocks = p.cout.div_ceil(CHANNELS);
        let mut best: Option<Self> = None;
        for groups in 1..=all_blocks {
            let blocks = all_blocks.div_ceil(groups);
            let most = rest / (8 * pairs + WINOGRAD_TILE * blocks);
            if most == 0 {
                continue;
            }
            let rounds = tiles.div_ceil(2).div_ceil(most);
            let tile_pairs = tiles.div_ceil(2).div_ceil(rounds);
            let products = tiles.div_ceil(2) * all_blocks * (16 * slices * 11 * pairs + 250);
            let cells = tiles * p.cin * 80 * all_blocks.div_ceil(blocks);
            let weights = p.cout * p.cin * 50 * rounds;
            let cost = (products + cells + weights) as u64;
            if best.as_ref().is_none_or(|best| cost < best.cost) {
                best = Some(Self { channels, tile_pairs, blocks, cost });
            }
        }
        best
    }
}

/// Runs the convolution in `scratch`, of the length that the plan was made for.
pub fn run(p: &Conv<'_>, input: &[i8], plan: &Plan, scratch: &mut [u32], sink: &mut Sink<'_>) {
    assert!(input.len() >= p.height * p.width * p.cin && p.weights.len() >= p.cout * 9 * p.cin);
    let pairs = plan.channels / 2;
    let (outside, rest) = scratch.split_at_mut(plan.channels / 4);
    let (weights, rest) = rest.split_at_mut(16 * pairs);
    let (cells, rest) = rest.split_at_mut(plan.tile_pairs * 8 * pairs);
    let outputs: &mut [i32] = bytemuck::cast_slice_mut(&mut rest[..plan.blocks * plan.tile_pairs * WINOGRAD_TILE]);
    let outside: &mut [i8] = bytemuck::cast_slice_mut(outside);
    outside.fill(p.zp as i8);

    let across = p.width.div_ceil(2);
    let tiles = p.height.div_ceil(2) * across;
    for first in (0..tiles).step_by(2 * plan.tile_pairs) {
        let end = tiles.min(first + 2 * plan.tile_pairs);
        let tile_pairs = (end - first).div_ceil(2);
        for channel in (0..p.cout).step_by(CHANNELS * plan.blocks) {
            let blocks = (p.cout - channel).div_ceil(CHANNELS).min(plan.blocks);
            let outputs = &mut outputs[..blocks * tile_pairs * WINOGRAD_TILE];
            outputs.fill(0);
            for slice in (0..p.cin).step_by(plan.channels) {
                let channels = plan.channels.min(p.cin - slice);
                for index in [Rows::First, Rows::Both, Rows::Difference, Rows::Second] {
                    let part = Part { p, index, slice, channels };
                    part.transform_cells(input, outside, first, end, cells);
                    for (block, outputs) in outputs.chunks_exact_mut(tile_pairs * WINOGRAD_TILE).enumerate() {
                        part.transform_weights(channel + block * CHANNELS, weights);
                        gemm::winograd(weights, cells, outputs, channels / 2, index);
                    }
                }
            }
            for (block, outputs) in outputs.chunks_exact(tile_pairs * WINOGRAD_TILE).enumerate() {
                sink.channels(p, channel + block * CHANNELS);
                for tile in first..end {
                    let at = tile - first;
                    let acc = &outputs[at / 2 * WINOGRAD_TILE + at % 2 * CHANNELS..];
                    let (y, x) = (tile / across * 2, tile % across * 2);
                    for row in 0..2.min(p.height - y) {
                        for column in 0..2.min(p.width - x) {
                            let acc = &acc[row * 16 + column * 8..][..CHANNELS];
                            sink.cell::<2>((y + row) * p.width + x + column, acc);
                        }
                    }
                }
            }
        }
    }
}

/// One vertical index of some input channels.
struct Part<'a> {
    p: &'a Conv<'a>,
    index: Rows,
    slice: usize,
    channels: usize,
}

/// Four channels as two pairs: (0, 2) and (1, 3).
#[derive(Clone, Copy)]
struct Four(u32, u32);

impl Four {
    #[inline(always)]
    fn of(word: u32) -> Self {
        Self(sxtb16(word), sxtb16_odd(word))
    }

    #[inline(always)]
    fn plus_word(self, word: u32) -> Self {
        Self(sxtab16(self.0, word), sxtab16_odd(self.1, word))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(add16(self.0, other.0), add16(self.1, other.1))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(sub16(self.0, other.0), sub16(self.1, other.1))
    }

    #[inline(always)]
    fn twice(self) -> Self {
        self.plus(self)
    }

    /// The second pair `STRIDE` words after the first.
    ///
    /// # Safety
    /// Both words can be written.
    #[inline(always)]
    unsafe fn store<const STRIDE: usize>(self, at: *mut u32) {
        // SAFETY: the caller says so.
        unsafe {
            at.write(self.0);
            at.add(STRIDE).write(self.1);
        }
    }
}

impl Part<'_> {
    /// Tiles `first..end` into `cells` [tile pairs][4][pairs][2], the horizontal index in the order 1, 2, 0, 3.
    fn transform_cells(&self, input: &[i8], outside: &[i8], first: usize, end: usize, cells: &mut [u32]) {
        let (h, w, cin) = (self.p.height as isize, self.p.width as isize, self.p.cin);
        let across = self.p.width.div_ceil(2);
        let pairs = self.channels / 2;
        assert!(cells.len() >= (end - first).div_ceil(2) * 8 * pairs && outside.len() >= self.channels);
        // The rows whose difference (for one index: sum) is taken, counted from the tile's first.
        let (minuend, subtrahend) = match self.index {
            Rows::First => (0, 2),
            Rows::Both => (1, 2),
            Rows::Difference => (2, 1),
            Rows::Second => (3, 1),
        };
        let sum = self.index == Rows::Both;
        let zero = if sum { 4 * self.p.zp } else { 0 };
        let zero = Four(pair(zero, zero), pair(zero, zero));
        let mut tile = first;
        while tile < end {
            // The tiles of one row.
            let top = (tile / across * 2) as isize - 1;
            let left = (tile % across * 2) as isize - 1;
            let count = (across - tile % across).min(end - tile);
            let row = |r: isize| match (0..h).contains(&r) {
                true => (&input[r as usize * self.p.width * cin..][..self.p.width * cin], cin, self.slice),
                false => (outside, 0, 0),
            };
            let (a, b) = (row(top + minuend), row(top + subtrahend));
            for group in 0..self.channels / 4 {
                let at = |row: (&[i8], usize, usize)| (row.0[row.2 + 4 * group..].as_ptr(), row.1);
                let run = Run {
                    a: at(a),
                    b: at(b),
                    outside: outside.as_ptr(),
                    width: w,
                    left,
                    tile: tile - first,
                    count,
                    panel: cells[4 * group..].as_mut_ptr(),
                    pairs,
                    zero,
                };
                // SAFETY: both rows are of `width` cells whose channels include four from the pointer on, or have
                // stride 0; `outside` has four; the largest index into `cells` is 8 * pairs * (tile pair) + 1 + 6 * pairs
                // + 2 + 4 * group with group <= pairs / 2 - 1, below the length asserted.
                unsafe {
                    match sum {
                        true => run.transform::<true>(),
                        false => run.transform::<false>(),
                    }
                }
            }
            tile += count;
        }
    }

    /// Output channels `first..first + 4` into `panel` [4][pairs][4], the horizontal index in the order 1, 2, 0, 3.
    fn transform_weights(&self, first: usize, panel: &mut [u32]) {
        let cin = self.p.cin;
        let pairs = self.channels / 2;
        assert!(panel.len() >= 16 * pairs);
        for lane in 0..CHANNELS {
            let Some(taps) = self.p.weights.get((first + lane) * 9 * cin..(first + lane + 1) * 9 * cin) else {
                panel[..16 * pairs].iter_mut().skip(lane).step_by(CHANNELS).for_each(|word| *word = 0);
                continue;
            };
            let (taps, panel) = (taps[self.slice..].as_ptr(), panel[lane..].as_mut_ptr());
            let groups = self.channels / 4;
            // SAFETY: taps are [3][3][cin] and the part's channels are among them; the largest index into the panel is
            // lane + (3 * pairs + pairs - 1) * 4, below the length asserted.
            unsafe {
                match self.index {
                    Rows::First => weights_lane::<0>(taps, cin, groups, panel),
                    Rows::Both => weights_lane::<1>(taps, cin, groups, panel),
                    Rows::Difference => weights_lane::<2>(taps, cin, groups, panel),
                    Rows::Second => weights_lane::<3>(taps, cin, groups, panel),
                }
            }
        }
    }
}

/// Four channels at `at`.
///
/// # Safety
/// Four bytes from `at` on can be read.
#[inline(always)]
unsafe fn load(at: *const i8) -> u32 {
    // SAFETY: the caller says so.
    u32::from_le(unsafe { at.cast::<u32>().read_unaligned() })
}

/// Four channels of one tile row.
struct Run {
    /// The two rows at x = 0, with the bytes from cell to cell (0 for a row outside).
    a: (*const i8, usize),
    b: (*const i8, usize),
    outside: *const i8,
    width: isize,
    /// Left column of the first tile.
    left: isize,
    /// Number of the first tile in the block, and how many.
    tile: usize,
    count: usize,
    /// [tile pairs][4][pairs][2] from these channels on.
    panel: *mut u32,
    pairs: usize,
    zero: Four,
}

impl Run {
    /// # Safety
    /// Cells and panel are there: see the fields.
    #[inline(never)]
    unsafe fn transform<const SUM: bool>(&self) {
        let Self { width, zero, .. } = *self;
        let column = |x: isize| {
            let inside = (0..width).contains(&x);
            let at = |row: (*const i8, usize)| match inside {
                // SAFETY: x is within the row.
                true => unsafe { row.0.add(x as usize * row.1) },
                false => self.outside,
            };
            // SAFETY: both are cells.
            unsafe { combine::<SUM>(at(self.a), at(self.b)) }
        };
        let (mut d0, mut d1) = (column(self.left), column(self.left + 1));
        let mut x = self.left + 2;
        let step = 2 * self.pairs;
        let mut at = self.tile / 2 * 4 * step + self.tile % 2;
        for _ in 0..self.count {
            let (d2, d3) = if x + 1 < width {
                let (a, b) = (x as usize * self.a.1, x as usize * self.b.1);
                // SAFETY: x and x + 1 are within the rows.
                unsafe {
                    let (a, b) = (self.a.0.add(a), self.b.0.add(b));
                    (combine::<SUM>(a, b), combine::<SUM>(a.add(self.a.1), b.add(self.b.1)))
                }
            } else {
                (column(x), column(x + 1))
            };
            // SAFETY: the panel has this tile.
            unsafe {
                let panel = self.panel.add(at);
                let sum = d1.plus(d2);
                if SUM { sum.minus(zero) } else { sum }.store::<2>(panel);
                d2.minus(d1).store::<2>(panel.add(step));
                d0.minus(d2).store::<2>(panel.add(2 * step));
                d3.minus(d1).store::<2>(panel.add(3 * step));
            }
            at = if at.is_multiple_of(2) { at + 1 } else { at - 1 + 4 * step };
            (d0, d1) = (d2, d3);
            x += 2;
        }
    }
}

/// Sum or difference of two cells.
///
/// # Safety
/// Four bytes from each pointer on can be read.
#[inline(always)]
unsafe fn combine<const SUM: bool>(a: *const i8, b: *const i8) -> Four {
    // SAFETY: the caller says so.
    let (a, b) = unsafe { (load(a), load(b)) };
    if SUM { Four::of(a).plus_word(b) } else { Four::of(a).minus(Four::of(b)) }
}

/// One output channel of a weight panel: `taps` [3][3][cin] from the first of 4 * `groups` channels on, `panel`
/// [4][2 * groups][4] from the channel's lane on.
///
/// # Safety
/// Both are that large.
#[inline(never)]
unsafe fn weights_lane<const INDEX: u32>(mut taps: *const i8, cin: usize, groups: usize, mut panel: *mut u32) {
    let step = groups * 2 * CHANNELS;
    for _ in 0..groups {
        // SAFETY: the caller says so.
        unsafe {
            let g0 = filter_column::<INDEX>(taps, cin);
            let g1 = filter_column::<INDEX>(taps.add(cin), cin);
            let g2 = filter_column::<INDEX>(taps.add(2 * cin), cin);
            let outer = g0.plus(g2);
            outer.plus(g1).store::<CHANNELS>(panel);
            outer.minus(g1).store::<CHANNELS>(panel.add(step));
            g0.twice().store::<CHANNELS>(panel.add(2 * step));
            g2.twice().store::<CHANNELS>(panel.add(3 * step));
            taps = taps.add(4);
            panel = panel.add(2 * CHANNELS);
        }
    }
}

/// The vertical transform of one column of taps.
///
/// # Safety
/// As in [`weights_lane`].
#[inline(always)]
unsafe fn filter_column<const INDEX: u32>(taps: *const i8, cin: usize) -> Four {
    // SAFETY: the caller says so.
    unsafe {
        match INDEX {
            0 => Four::of(load(taps)),
            1 => Four::of(load(taps)).plus_word(load(taps.add(3 * cin))).plus_word(load(taps.add(6 * cin))),
            2 => Four::of(load(taps)).plus_word(load(taps.add(6 * cin))).minus(Four::of(load(taps.add(3 * cin)))),
            _ => Four::of(load(taps.add(6 * cin))),
        }
    }
}
