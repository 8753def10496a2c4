//! Convolution, a band of output rows at a time: the band's input is copied into slices with its padding, then every
//! output channel runs over it with its weights, and its accumulators become outputs. Nothing is gathered per output: a
//! kernel row of a cell and its neighbours lies together already.

use core::mem::size_of;
use core::ptr;

use super::pack::{self, SLICE};
use super::store::{self, Factors};
use super::tile::{self, LONGEST, Run, Strip};
use super::{bare, int4};
use crate::ops::{Conv, ConvIn, ConvOut, Weights};
use crate::part::{at as number, cut, part, part_mut, put, rest_mut};

/// Bound of the factors with which the formula stays finite: an accumulator is below 2^31 and an old value below 2^15,
/// so that no sum reaches 2^128.
pub const FINITE: f32 = 1.0e27;

/// [`ops::conv`](crate::ops::conv()).
pub fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, scratch: &mut [u8]) {
    let small = |x: f32| -FINITE < x && x < FINITE;
    let mut channels = p.scale.iter().zip(p.bias);
    if !(channels.all(|(scale, bias)| small(scale * p.a) && small(bias * p.b)) && small(p.c)) {
        return bare::run(p, &input, out);
    }
    // The assembly reads and writes words.
    let scratch = match bytemuck::pod_align_to_mut::<u8, u32>(scratch) {
        (_, words, _) => bytemuck::try_cast_slice_mut(words).unwrap_or_default(),
    };
    match (Plan::new(p, matches!(input, ConvIn::I8(_)), scratch.len()), input) {
        (Some(plan), ConvIn::I8(input)) => run::<true>(p, &plan, bytemuck::cast_slice(input), out, scratch),
        (Some(plan), ConvIn::I16(input)) => run::<false>(p, &plan, bytemuck::cast_slice(input), out, scratch),
        (None, input) => bare::run(p, &input, out),
    }
}

/// How a layer is cut, and the scratch with it: strips, weights of a channel, accumulators [rows][width] and some, input
/// slices [rows + 2 * padding][slices][columns] and some.
#[derive(Debug)]
struct Plan {
    /// Slices of the input channels.
    slices: usize,
    /// Cells of a strip.
    cells: usize,
    /// Output rows of a band.
    rows: usize,
    /// Columns of the slices.
    columns: usize,
}

/// The parts of the scratch, in bytes.
struct Parts {
    strips: usize,
    weights: usize,
    acc: usize,
    /// A channel's weights, decoded.
    room: usize,
    input: usize,
}

impl Plan {
    /// `None` when `scratch` bytes hold no row.
    fn new(p: &Conv<'_>, bytes: bool, scratch: usize) -> Option<Self> {
        if p.height == 0 || p.width == 0 || p.cin == 0 {
            return None;
        }
        let slices = p.cin.div_ceil(if bytes { SLICE } else { SLICE / 2 });
        // A 1x1 kernel sees no rows: a band is one long one.
        let (cells, _) = tile::best_strip(p.width, p.kernel * slices);
        let mut plan = Self { slices, cells, rows: 1, columns: p.width + p.kernel - 1 };
        let parts = |plan: &Self| plan.parts(p).total();
        let one = parts(&plan);
        plan.rows = 2;
        let more = parts(&plan) - one;
        let rows = scratch.checked_sub(one + 2 * LONGEST * size_of::<Strip>())? / more.max(1) + 1;
        // Bands of about the same height: the weights are packed once in each.
        let bands = p.height.div_ceil(rows.max(1));
        plan.rows = p.height.div_ceil(bands.max(1));
        if p.kernel == 1 {
            plan.columns = p.width * plan.rows;
            (plan.cells, _) = tile::best_strip(plan.columns, slices);
        }
        (parts(&plan) <= scratch).then_some(plan)
    }

    /// Rows of slices, and their columns, for a band of `rows` output rows.
    fn shape(&self, p: &Conv<'_>, rows: usize) -> (usize, usize) {
        if p.kernel == 1 { (1, rows * p.width) } else { (rows, p.width) }
    }

    fn parts(&self, p: &Conv<'_>) -> Parts {
        let (rows, width) = self.shape(p, self.rows);
        let pad = p.kernel / 2;
        Parts {
            strips: (rows * width.div_ceil(self.cells.max(1)) + 1) * size_of::<Strip>(),
            weights: p.kernel * p.kernel * self.slices * SLICE,
            acc: (rows * width + LONGEST) * size_of::<i32>(),
            room: p.weights.room(p.kernel * p.kernel * p.cin).next_multiple_of(SLICE),
            input: ((rows + 2 * pad) * self.slices * (width + 2 * pad) + LONGEST) * SLICE,
        }
    }
}

impl Parts {
    fn total(&self) -> usize {
        self.strips + self.weights + self.acc + self.room + self.input
    }
}

/// Runs the convolution in `scratch`, which holds the plan's parts. `input` as bytes.
fn run<const BYTES: bool>(p: &Conv<'_>, plan: &Plan, input: &[u8], mut out: ConvOut<'_>, scratch: &mut [u8]) {
    let parts = plan.parts(p);
    require!(scratch.len() >= parts.total());
    let (strips, left) = cut(scratch, parts.strips);
    let (weights, left) = cut(left, parts.weights);
    let (acc, left) = cut(left, parts.acc);
    let (room, slices) = cut(left, parts.room);
    let room: &mut [i8] = bytemuck::try_cast_slice_mut(room).unwrap_or_default();
    let acc: &mut [i32] = bytemuck::try_cast_slice_mut(acc).unwrap_or_default();
    let strips: &mut [[usize; 2]] = bytemuck::try_cast_slice_mut(strips).unwrap_or_default();
    let slices = part_mut(slices, 0, parts.input);
    require!(!strips.is_empty() && !acc.is_empty());
    // Slices without a channel have zeros as weights, whatever the input has there.
    weights.fill(0);
    let sum = p.kernel * p.kernel * p.cin;
    for first in (0..p.height).step_by(plan.rows.max(1)) {
        let rows = plan.rows.min(p.height - first);
        let (band_rows, width) = plan.shape(p, rows);
        let columns = width + 2 * (p.kernel / 2);
        gather::<BYTES>(p, plan, input, first, rows, slices);
        list(plan, band_rows, width, columns, slices, acc, strips);
        let cells = rows * p.width;
        for channel in 0..p.cout {
            let row = match &p.weights {
                Weights::Int8(weights) => part(weights, channel * sum, sum),
                Weights::Int4(weights) => {
                    let room = part_mut(room, 0, sum);
                    int4::decode(weights, channel, room);
                    room
                }
            };
            require!(row.len() == sum);
            // SAFETY: the row has `kernel`^2 taps of `cin` weights, and the panel a slice for each; `cin` is not 0.
            let weight_sum =
                unsafe { pack::weights::<BYTES>(row.as_ptr(), p.cin, p.kernel, plan.slices, weights.as_mut_ptr()) };
            let mut run = Run {
                start: [weight_sum.wrapping_mul(p.zp).wrapping_neg(); LONGEST],
                weights: weights.as_ptr(),
                bodies: plan.slices as u32,
                strips: strips.as_ptr().cast(),
                stride: (columns * SLICE) as u32,
            };
            // SAFETY: `list` wrote the strips. A strip reads `kernel` rows of `slices` slices from its first column on, at
            // most LONGEST columns beyond the row's, and writes as many accumulators: both parts have that many more.
            unsafe { tile::kernel(p.kernel, plan.cells, BYTES)(&mut run) };
            let factors =
                Factors { scale: number(p.scale, channel) * p.a, bias: number(p.bias, channel) * p.b, c: p.c };
            store(acc, cells, &mut out, first * p.width * p.cout + channel, p.cout, factors);
        }
    }
}

/// Copies a band's input into slices: rows `first - padding ..` of the picture, padding around it.
fn gather<const BYTES: bool>(p: &Conv<'_>, plan: &Plan, input: &[u8], first: usize, rows: usize, to: &mut [u8]) {
    let width = if BYTES { 1 } else { 2 };
    let (pad, cell) = (p.kernel / 2, p.cin * width);
    let zp = p.zp as i8;
    let (copied_rows, cells) = if p.kernel == 1 { (1, rows * p.width) } else { (rows + 2 * pad, p.width) };
    let columns = cells + 2 * pad;
    for row in 0..copied_rows {
        let bytes = plan.slices * columns * SLICE;
        let to = part_mut(to, row * bytes, bytes);
        require!(to.len() == bytes);
        // Row of the picture, if it is one.
        let y = (first + row).checked_sub(pad).filter(|&y| y < p.height);
        let Some(y) = y else {
            // SAFETY: the slice has that many bytes.
            unsafe { pack::fill(to.as_mut_ptr(), zp, plan.slices * columns) };
            continue;
        };
        let from = part(input, y * p.width * cell, cells * cell);
        require!(from.len() == cells * cell);
        for (slice, to) in to.chunks_exact_mut((columns * SLICE).max(1)).enumerate() {
            let bytes = SLICE.min(cell - slice * SLICE);
            part_mut(to, 0, pad * SLICE).fill(zp as u8);
            rest_mut(to, (columns - pad) * SLICE).fill(zp as u8);
            // SAFETY: `from` has `cells` cells of `cell` bytes, and `to` as many slices after the padding.
            unsafe {
                let from = from.as_ptr().add(slice * SLICE);
                pack::slice_of_cells(from, cell, bytes, to.as_mut_ptr().add(pad * SLICE), cells);
            }
        }
    }
}

/// Lists the strips of a band. The last of a row lies within it where it can; what a strip computes beyond its row is
/// overwritten by the next one.
fn list(
    plan: &Plan,
    rows: usize,
    width: usize,
    columns: usize,
    slices: &[u8],
    acc: &mut [i32],
    strips: &mut [[usize; 2]],
) {
    let per_row = width.div_ceil(plan.cells.max(1));
    let places = (0..rows).flat_map(|row| (0..per_row).map(move |i| (row, i)));
    let acc = acc.as_mut_ptr();
    let places = places.map(|(row, i)| {
        let x = (i * plan.cells).min(width.saturating_sub(plan.cells));
        Strip {
            input: slices.as_ptr().wrapping_add((row * plan.slices * columns + x) * SLICE),
            acc: acc.wrapping_add(row * width + x),
        }
    });
    let end = Strip { input: ptr::null(), acc: ptr::null_mut() };
    for (place, strip) in strips.iter_mut().zip(places.chain([end])) {
        *place = [strip.input as usize, strip.acc as usize];
    }
}

/// Accumulators of a channel to outputs: `cells` of them, `channels` apart, from `at` on.
fn store(acc: &[i32], cells: usize, out: &mut ConvOut<'_>, at: usize, channels: usize, factors: Factors) {
    let acc = part(acc, 0, cells);
    require!(!acc.is_empty());
    // From the first output to the last.
    let len = (cells - 1) * channels + 1;
    match out {
        ConvOut::I8(out) => {
            let out = part_mut(out, at, len);
            require!(out.len() == len);
            // SAFETY: the last output is within `out`, and the others are before it.
            unsafe { store::bytes(acc.as_ptr(), cells, out.as_mut_ptr(), channels, factors) }
        }
        ConvOut::I16(out) => {
            let out = part_mut(out, at, len);
            require!(out.len() == len);
            // SAFETY: as above.
            unsafe { store::words(acc.as_ptr(), cells, out.as_mut_ptr(), channels, factors) }
        }
        ConvOut::I16Add(out) => {
            let out = part_mut(out, at, len);
            require!(out.len() == len);
            // SAFETY: as above.
            unsafe { store::words_added(acc.as_ptr(), cells, out.as_mut_ptr(), channels, factors) }
        }
        // What Helium takes for zero would show.
        ConvOut::F32(out) => {
            for (cell, &acc) in acc.iter().enumerate() {
                put(out, at + cell * channels, acc as f32 * factors.scale + factors.bias);
            }
        }
    }
}
