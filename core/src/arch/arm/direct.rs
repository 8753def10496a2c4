//! Convolution as a matrix product over panels of columns: the cells around two outputs, zero point subtracted and
//! padding 0, against the weights of four output channels. Any kernel, any channel counts, int8 and int16 inputs.

use core::num::NonZeroUsize;

use super::conv::Sink;
use super::gemm::{self, MAX_PAIRS, TILE};
use super::int4;
use super::panel::{self, CHANNELS};
use super::simd::pair;
use crate::ops::{Conv, ConvIn, Weights};
use crate::part::{at as number_at, cut, part, part_mut, rest};

/// How the scratch is cut: weights [[`MAX_PAIRS`]][4], then columns [tiles][pairs][2], then accumulators [tiles][8].
#[derive(Debug)]
pub struct Plan {
    /// Pairs of the whole sum.
    pairs: usize,
    /// Tiles of two cells in a block.
    tiles: usize,
    /// Instructions, estimated.
    pub cost: u64,
}

const WEIGHTS: usize = MAX_PAIRS * CHANNELS;

impl Plan {
    /// `None` when `words` of scratch hold no tile.
    pub fn new(p: &Conv<'_>, words: usize) -> Option<Self> {
        let sum = p.kernel * p.kernel * p.cin;
        let pairs = sum.div_ceil(4) * 2;
        let all = (p.height * p.width).div_ceil(2);
        let most = words.checked_sub(WEIGHTS)? / (2 * pairs + TILE).max(1);
        if most == 0 || all == 0 {
            return None;
        }
        // Blocks of about the same size: the weights are unpacked once in each.
        let blocks = all.div_ceil(most);
        let tiles = all.div_ceil(blocks.max(1));
        let cout = p.cout.next_multiple_of(CHANNELS);
        let cost = (all * cout / 4 * pairs * 12 + all * 2 * sum * 3 + blocks * cout * sum * 2) as u64;
        Some(Self { pairs, tiles, cost })
    }
}

/// Runs the convolution in `scratch`, of the length that the plan was made for.
pub fn run(p: &Conv<'_>, input: &ConvIn<'_>, plan: &Plan, scratch: &mut [u32], sink: &mut Sink<'_>) {
    let sum = p.kernel * p.kernel * p.cin;
    let cells = p.height * p.width;
    let Some(width) = NonZeroUsize::new(p.width) else { return };
    let stride = plan.pairs * 2;
    let mut room = [[0u32; MAX_PAIRS / 2]; CHANNELS];
    let (weights, left) = cut(scratch, WEIGHTS);
    let (columns, left) = cut(left, plan.tiles * stride);
    let acc: &mut [i32] = bytemuck::try_cast_slice_mut(part_mut(left, 0, plan.tiles * TILE)).unwrap_or_default();
    for first in (0..cells).step_by((2 * plan.tiles).max(1)) {
        let end = cells.min(first + 2 * plan.tiles);
        let tiles = (end - first).div_ceil(2);
        for (column, cell) in columns.chunks_exact_mut(stride.max(1)).zip((first..end).step_by(2)) {
            for lane in 0..2.min(end - cell) {
                gather(p, width, input, cell + lane, column, lane);
            }
        }
        let acc = part_mut(acc, 0, tiles * TILE);
        for channel in (0..p.cout).step_by(CHANNELS) {
            acc.fill(0);
            for from in (0..sum).step_by(2 * MAX_PAIRS) {
                let to = sum.min(from + 2 * MAX_PAIRS);
                let pairs = (to - from).div_ceil(4) * 2;
                let mut rows = [&[][..]; CHANNELS];
                for ((row, room), channel) in rows.iter_mut().zip(&mut room).zip(channel..p.cout) {
                    *row = match &p.weights {
                        Weights::Int8(weights) => part(weights, channel * sum + from, to - from),
                        Weights::Int4(weights) => {
                            let room: &mut [i8] = bytemuck::try_cast_slice_mut(room).unwrap_or_default();
                            let room = part_mut(room, 0, to - from);
                            int4::decode(weights, channel, from, room);
                            room
                        }
                    };
                }
                panel::weights(rows, part_mut(weights, 0, pairs * CHANNELS));
                gemm::direct(weights, rest(columns, from), stride, acc, pairs);
            }
            sink.channels(channel, 0);
            sink.cells(first, end - first, acc);
        }
    }
}

/// The cells under the kernel around output `cell`, as one lane of a panel.
fn gather(p: &Conv<'_>, width: NonZeroUsize, input: &ConvIn<'_>, cell: usize, column: &mut [u32], lane: usize) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let (y, x, pad) = (cell / width, cell % width, k / 2);
    let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
    let (kx0, kx1) = (pad.saturating_sub(x), k.min(w + pad - x));
    if !(kx0 == 0 && ky0 == 0 && kx1 == k && ky1 == k && cin % 4 == 0) {
        column.iter_mut().skip(lane).step_by(2).for_each(|word| *word = 0);
    }
    for ky in ky0..ky1 {
        // The taps kx0..kx1 of one kernel row are contiguous, in the input as in the column.
        let from = ((y + ky - pad) * w + x + kx0 - pad) * cin;
        let (at, run) = ((ky * k + kx0) * cin, (kx1 - kx0) * cin);
        if cin % 4 == 0 {
            if let Some(column) = column.get_mut(at..at + run) {
                panel::column(input, pair(p.zp, p.zp), from, run, column, lane);
            }
        } else {
            for i in 0..run {
                let value = match input {
                    ConvIn::I8(input) => i32::from(number_at(input, from + i)) - p.zp,
                    ConvIn::I16(input) => i32::from(number_at(input, from + i)),
                };
                panel::number(value, at + i, column, lane);
            }
        }
    }
}
