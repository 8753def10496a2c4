//! 3x3 convolution of int8 as F(2x2, 3x3) in int16, with exactly the accumulators of the direct sum: the first formula of
//! the Arm kernels in both dimensions, whose proof holds here too. Per output 4 products in place of 9, each of 2.75
//! instructions; cells and weights are transformed for a chunk of tile rows, weights of four output channels at a time.

use super::conv::{CHANNELS, products};
use super::store::Sink;
use crate::ops::Conv;
use crate::part::{cut, part, rest_mut};

/// Products of a tile and channel pair: 4 down times 4 across.
const POINTS: usize = 16;
/// The accumulators that come out are 2^2 times the direct sum's.
const SHIFT: u32 = 2;
/// Most input channels for which they fit i32, as |acc| <= 9 * 255 * 128 * cin.
const MAX_CIN: usize = (i32::MAX >> SHIFT) as usize / (9 * 255 * 128);
/// Tiles that are multiplied at once.
const TILES: usize = 2;

/// How the scratch is cut, in i16: the cells of a chunk of tile rows, [point][tile][cin], then the weights of four output
/// channels, [point][cin][4], and a cell outside the picture.
pub struct Plan {
    /// Tile rows of a chunk.
    rows: usize,
    /// Tiles of a row, even: they are multiplied two at once.
    across: usize,
}

impl Plan {
    /// None for layers that are not cheaper this way, or where `scratch`, in i16, holds no tile row.
    pub fn new(p: &Conv<'_>, scratch: usize) -> Option<Self> {
        if p.kernel != 3 || p.cin == 0 || p.cin > MAX_CIN || p.height < 2 || p.width < 2 {
            return None;
        }
        let across = p.width.div_ceil(2).next_multiple_of(TILES);
        let left = scratch.checked_sub(POINTS * CHANNELS * p.cin + (p.cin + p.weights.room(9 * p.cin)).div_ceil(2))?;
        let most = left / (POINTS * across * p.cin).max(1);
        let all = p.height.div_ceil(2);
        if most == 0 {
            return None;
        }
        let chunks = all.div_ceil(most).max(1);
        let plan = Self { rows: all.div_ceil(chunks), across };
        (plan.cost(p, chunks) < 11 * 9 * p.height * p.width * p.cin).then_some(plan)
    }

    /// Instructions of products and transforms for four output channels, estimated by counts.
    fn cost(&self, p: &Conv<'_>, chunks: usize) -> usize {
        let tiles = p.height.div_ceil(2) * self.across;
        let blocks = p.cout.div_ceil(CHANNELS).max(1);
        tiles * p.cin * POINTS * 11 + chunks * p.cin * CHANNELS * WEIGHT + tiles * p.cin * CELL / blocks
    }
}

/// Instructions that transform a weight's nine taps, and a tile's cells of a channel.
const WEIGHT: usize = 85;
const CELL: usize = 150;

/// Runs the convolution in `scratch`, of the length that the plan was made for.
pub fn run(p: &Conv<'_>, input: &[i8], plan: &Plan, scratch: &mut [i16], sink: &mut Sink<'_>) {
    // Not 0: told to the compiler, or a division would bring in a panic.
    let across = plan.across.max(1);
    let tiles = plan.rows * across;
    let (cells, left) = cut(scratch, POINTS * tiles * p.cin);
    let (weights, room) = cut(left, POINTS * CHANNELS * p.cin);
    let room: &mut [i8] = bytemuck::try_cast_slice_mut(room).unwrap_or_default();
    let (outside, room) = cut(room, p.cin);
    outside.fill(p.zp as i8);
    let all = p.height.div_ceil(2);
    for first in (0..all).step_by(plan.rows.max(1)) {
        let count = plan.rows.min(all - first) * across;
        for tile in 0..count {
            let place = (2 * (first + tile / across), 2 * (tile % across));
            let around = cells_around(p, input, outside, place);
            transform_cells(&around, p.zp, tiles * p.cin, rest_mut(cells, tile * p.cin));
        }
        for channel in (0..p.cout).step_by(CHANNELS) {
            for lane in 0..CHANNELS {
                let exists = channel + lane < p.cout;
                let taps = if exists { p.weights.rows(channel + lane, 1, 9 * p.cin, room) } else { &[] };
                transform_weights(p.cin, taps, lane, weights);
            }
            sink.channels(p, channel);
            for pair in (0..count).step_by(TILES) {
                let (y, x) = (2 * (first + pair / across), 2 * (pair % across));
                let mut sums = [[[0; CHANNELS]; TILES]; POINTS];
                for (point, sums) in sums.iter_mut().enumerate() {
                    let from = (point * tiles + pair) * p.cin;
                    let (left, right) = (part(cells, from, p.cin), part(cells, from + p.cin, p.cin));
                    products(left, right, part(weights, point * p.cin * CHANNELS, p.cin * CHANNELS), sums);
                }
                for tile in 0..TILES {
                    for (i, acc) in outputs(&sums, tile).iter().enumerate() {
                        let (y, x) = (y + i / 2, x + 2 * tile + i % 2);
                        if y < p.height && x < p.width {
                            sink.cell(y * p.width + x, acc);
                        }
                    }
                }
            }
        }
    }
}

/// The 4x4 cells around the outputs (y, x), all their channels; for each outside the picture the `outside` one.
fn cells_around<'a>(p: &Conv<'_>, input: &'a [i8], outside: &'a [i8], (y, x): (usize, usize)) -> [&'a [i8]; POINTS] {
    let mut cells = [outside; POINTS];
    for (i, cell) in cells.iter_mut().enumerate() {
        let (y, x) = ((y + i / 4).wrapping_sub(1), (x + i % 4).wrapping_sub(1));
        if y < p.height && x < p.width {
            *cell = part(input, (y * p.width + x) * p.cin, p.cin);
        }
    }
    cells
}

/// One dimension of cells.
#[inline(always)]
fn combine(d0: i32, d1: i32, d2: i32, d3: i32) -> [i32; 4] {
    [2 * (d0 - d2), d1 + d2, d2 - d1, 2 * (d3 - d1)]
}

/// Both dimensions of cells, of all channels, to `out[point * stride + channel]`. Written out, since firmware is compiled for
/// size.
fn transform_cells(cells: &[&[i8]; POINTS], zp: i32, stride: usize, out: &mut [i16]) {
    let cin = cells[0].len();
    require!(cells.iter().all(|cell| cell.len() == cin) && out.len() >= (POINTS - 1) * stride + cin);
    for channel in 0..cin {
        // SAFETY: all have as many channels.
        let d = |i: usize| i32::from(unsafe { *cells[i].get_unchecked(channel) }) - zp;
        let a = combine(d(0), d(4), d(8), d(12));
        let b = combine(d(1), d(5), d(9), d(13));
        let c = combine(d(2), d(6), d(10), d(14));
        let d = combine(d(3), d(7), d(11), d(15));
        // SAFETY: the last of sixteen is within the numbers there are.
        unsafe {
            let to = out.as_mut_ptr().add(channel);
            let to = put(to, stride, combine(a[0], b[0], c[0], d[0]));
            let to = put(to, stride, combine(a[1], b[1], c[1], d[1]));
            let to = put(to, stride, combine(a[2], b[2], c[2], d[2]));
            put(to, stride, combine(a[3], b[3], c[3], d[3]));
        }
    }
}

/// One dimension of weights.
#[inline(always)]
fn spread(g0: i32, g1: i32, g2: i32) -> [i32; 4] {
    let outer = g0 + g2;
    [g0, outer + g1, outer - g1, g2]
}

/// Both dimensions of an output channel's taps [9][cin] to lane `lane` of [point][cin][4]; zeros where there are no taps.
fn transform_weights(cin: usize, taps: &[i8], lane: usize, out: &mut [i16]) {
    if taps.is_empty() {
        return out.iter_mut().skip(lane).step_by(CHANNELS).for_each(|out| *out = 0);
    }
    let stride = cin * CHANNELS;
    require!(taps.len() >= 9 * cin && out.len() >= POINTS * stride && lane < CHANNELS);
    for channel in 0..cin {
        // SAFETY: there are nine times `cin` taps.
        let g = |i: usize| i32::from(unsafe { *taps.get_unchecked(i * cin + channel) });
        let a = spread(g(0), g(3), g(6));
        let b = spread(g(1), g(4), g(7));
        let c = spread(g(2), g(5), g(8));
        // SAFETY: there are sixteen times four numbers a channel, and `lane` is below four.
        unsafe {
            let to = out.as_mut_ptr().add(channel * CHANNELS + lane);
            let to = put(to, stride, spread(a[0], b[0], c[0]));
            let to = put(to, stride, spread(a[1], b[1], c[1]));
            let to = put(to, stride, spread(a[2], b[2], c[2]));
            put(to, stride, spread(a[3], b[3], c[3]));
        }
    }
}

/// Four numbers, `stride` from each to the next; returns where the number after them goes.
///
/// # Safety
/// All four may be written.
#[inline(always)]
unsafe fn put(to: *mut i16, stride: usize, [v0, v1, v2, v3]: [i32; 4]) -> *mut i16 {
    // SAFETY: the caller allows it.
    unsafe {
        *to = v0 as i16;
        *to.add(stride) = v1 as i16;
        *to.add(2 * stride) = v2 as i16;
        *to.add(3 * stride) = v3 as i16;
    }
    to.wrapping_add(4 * stride)
}

/// One dimension of sums.
#[inline(always)]
fn fold(m0: i32, m1: i32, m2: i32, m3: i32) -> [i32; 2] {
    [m0.wrapping_add(m1).wrapping_add(m2), m1.wrapping_sub(m2).wrapping_add(m3)]
}

/// The direct sums of a tile's four outputs, row by row: M0 + M1 + M2 and M1 - M2 + M3 in both dimensions, 2^-[`SHIFT`] times.
fn outputs(sums: &[[[i32; CHANNELS]; TILES]; POINTS], tile: usize) -> [[i32; CHANNELS]; 4] {
    let mut out = [[0; CHANNELS]; 4];
    for lane in 0..CHANNELS {
        let m = |i: usize| sums[i][tile % TILES][lane];
        let a = fold(m(0), m(4), m(8), m(12));
        let b = fold(m(1), m(5), m(9), m(13));
        let c = fold(m(2), m(6), m(10), m(14));
        let d = fold(m(3), m(7), m(11), m(15));
        let [top, bottom] = [fold(a[0], b[0], c[0], d[0]), fold(a[1], b[1], c[1], d[1])];
        (out[0][lane], out[1][lane]) = (top[0] >> SHIFT, top[1] >> SHIFT);
        (out[2][lane], out[3][lane]) = (bottom[0] >> SHIFT, bottom[1] >> SHIFT);
    }
    out
}
