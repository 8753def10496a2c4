//! Which way a convolution runs, and what becomes of its accumulators.

use super::panel::CHANNELS;
use super::simd::round_saturated;
use super::{bare, direct, winograd};
use crate::math::rne;
use crate::ops::{Conv, ConvIn, ConvOut};
use crate::part::{at as number, part, part_mut, put, rest};

/// Bound of the factors with which the formula stays finite: an accumulator is below 2^31 and an old value below 2^15,
/// so that no sum reaches 2^128.
const FINITE: f32 = 1.0e27;

/// Smallest scale, but for 0, that a power of two of the accumulators can be divided out of exactly.
const NORMAL: f32 = 1.0e-30;

/// [`ops::conv`](crate::ops::conv()).
pub fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, scratch: &mut [u8]) {
    let small = |x: f32| -FINITE < x && x < FINITE;
    let exact = |x: f32| x == 0.0 || !(-NORMAL < x && x < NORMAL);
    let mut channels = p.scale.iter().zip(p.bias);
    let channels = channels.all(|(scale, bias)| small(scale * p.a) && exact(scale * p.a) && small(bias * p.b));
    let usual = channels && exact(p.a) && small(p.c);
    let words: &mut [u32] = bytemuck::try_cast_slice_mut(whole_words(scratch)).unwrap_or_default();
    let direct_plan = direct::Plan::new(p, words.len());
    let mut sink = Sink::new(p, out, usual);
    if usual
        && let ConvIn::I8(input) = input
        && let Some(plan) = winograd::Plan::new(p, words.len())
        && direct_plan.as_ref().is_none_or(|direct| plan.cost < direct.cost)
    {
        return winograd::run(p, input, &plan, words, &mut sink);
    }
    match direct_plan {
        Some(plan) => direct::run(p, &input, &plan, words, &mut sink),
        None => bare::run(p, &input, &mut sink),
    }
}

fn whole_words(bytes: &mut [u8]) -> &mut [u8] {
    let whole = bytes.len() / 4 * 4;
    part_mut(bytes, 0, whole)
}

/// Turns the accumulators of four output channels into outputs, cell by cell.
#[derive(Debug)]
pub struct Sink<'a> {
    out: ConvOut<'a>,
    scale: &'a [f32],
    bias: &'a [f32],
    /// [`Conv::a`], `b`, `c`, and `a` over what the accumulators are too large by.
    a: f32,
    b: f32,
    c: f32,
    part: f32,
    /// Whether all factors are within the bounds above; else outputs are made one by one, as the scalar function does.
    usual: bool,
    cout: usize,
    /// Channels that have both scale and bias.
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    channels: usize,
    /// The channels: the first, and how many there are.
    first: usize,
    count: usize,
}

/// Lines of neighbouring cells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// The first cell's number.
    pub cell: usize,
    /// Cells of a line.
    pub cells: usize,
    pub lines: usize,
    /// Cells from a line's first to the next line's, in the picture and among the accumulators.
    pub stride: usize,
    pub acc_stride: usize,
}

impl<'a> Sink<'a> {
    pub fn new(p: &Conv<'a>, out: ConvOut<'a>, usual: bool) -> Self {
        let Conv { scale, bias, a, b, c, cout, .. } = *p;
        Self {
            out,
            scale,
            bias,
            a,
            b,
            c,
            part: a,
            usual,
            cout,
            #[cfg(all(arm_dsp, target_abi = "eabihf"))]
            channels: scale.len().min(bias.len()),
            first: 0,
            count: 0,
        }
    }

    /// The next accumulators are of channels `first..first + 4`, as far as they exist, and 2^shift times their value.
    /// Scales are divided by that, instead of accumulators: both are exact, and so is their product as it was.
    pub fn channels(&mut self, first: usize, shift: u32) {
        self.first = first;
        self.count = CHANNELS.min(self.cout - first);
        // a 2^-shift.
        self.part = self.a * f32::from_bits((127 - shift) << 23);
    }

    /// acc: [cells][4], of the cells from `cell` on.
    pub fn cells(&mut self, cell: usize, cells: usize, acc: &[i32]) {
        self.lines(&Lines { cell, cells, lines: 1, stride: cells, acc_stride: cells }, acc);
    }

    /// acc: [lines][`acc_stride`][4], of which the first `cells` count.
    pub fn lines(&mut self, at: &Lines, acc: &[i32]) {
        if at.cells == 0 || at.lines == 0 {
            return;
        }
        let accumulators = ((at.lines - 1) * at.acc_stride + at.cells) * CHANNELS;
        let from = at.cell * self.cout + self.first;
        #[cfg(all(arm_dsp, target_abi = "eabihf"))]
        if self.usual && self.count == CHANNELS && at.acc_stride >= at.cells && at.stride >= at.cells {
            use super::store;
            let (out, len, size, run): (*mut u8, usize, usize, store::Run) = match &mut self.out {
                ConvOut::I8(out) => (out.as_mut_ptr().cast(), out.len(), 1, store::to_i8),
                ConvOut::I16(out) => (out.as_mut_ptr().cast(), out.len(), 2, store::to_i16),
                ConvOut::I16Add(out) => (out.as_mut_ptr().cast(), out.len(), 2, store::add_to_i16),
                ConvOut::F32(out) => (out.as_mut_ptr().cast(), out.len(), 4, store::to_f32),
            };
            let stride = self.cout * size;
            let lines = store::Lines {
                stride,
                scale: self.scale.as_ptr().wrapping_add(self.first),
                bias: self.bias.as_ptr().wrapping_add(self.first),
                cells: at.cells,
                lines: at.lines,
                acc_skip: (at.acc_stride - at.cells) * CHANNELS * size_of::<i32>(),
                out_skip: (at.stride - at.cells) * stride,
                a: self.part,
                b: self.b,
                c: self.c,
            };
            require!(from + ((at.lines - 1) * at.stride + at.cells - 1) * self.cout + CHANNELS <= len);
            require!(acc.len() >= accumulators && self.first + CHANNELS <= self.channels);
            // SAFETY: there are four accumulators a cell, the first to the last output, and four scales and biases, checked;
            // the ABI says that there is an FPU.
            unsafe { run(acc.as_ptr(), out.add(from * size), &lines) };
            return;
        }
        for (line, acc) in part(acc, 0, accumulators).chunks((at.acc_stride * CHANNELS).max(1)).enumerate() {
            let from = from + line * at.stride * self.cout;
            for (cell, acc) in acc.chunks_exact(CHANNELS).enumerate().take(at.cells) {
                self.cell(from + cell * self.cout, acc);
            }
        }
    }

    /// Four accumulators to the outputs from `at` on.
    #[inline(never)]
    fn cell(&mut self, at: usize, acc: &[i32]) {
        let (a, b, c, usual) = (self.part, self.b, self.c, self.usual);
        let round = |y: f32| if usual { round_saturated::<22>(y) } else { rne(y) };
        let values =
            acc.iter().take(self.count).zip(rest(self.scale, self.first).iter().zip(rest(self.bias, self.first)));
        for ((&acc, (scale, bias)), at) in values.zip(at..) {
            let y = acc as f32 * (scale * a) + bias * b;
            match &mut self.out {
                ConvOut::I8(out) => put(out, at, round(y).clamp(-128, 127) as i8),
                ConvOut::I16(out) => put(out, at, round(y).clamp(-32768, 32767) as i16),
                ConvOut::I16Add(out) => {
                    let y = y + f32::from(number(out, at)) * c;
                    put(out, at, round(y).clamp(-32768, 32767) as i16);
                }
                ConvOut::F32(out) => put(out, at, y),
            }
        }
    }
}
