//! Which way a convolution runs, and what becomes of its accumulators.

use super::panel::CHANNELS;
use super::simd::round_saturated;
use super::store::Factors;
use super::{bare, direct, winograd};
use crate::ops::{self, Conv, ConvIn, ConvOut};

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
    if !(channels.all(|(scale, bias)| small(scale * p.a) && exact(scale * p.a) && small(bias * p.b)) && small(p.c)) {
        return ops::conv(p, input, out);
    }
    let words: &mut [u32] = bytemuck::try_cast_slice_mut(whole_words(scratch)).unwrap_or_default();
    let direct_plan = direct::Plan::new(p, words.len());
    if let ConvIn::I8(input) = input
        && let Some(plan) = winograd::Plan::new(p, words.len())
        && direct_plan.as_ref().is_none_or(|direct| plan.cost < direct.cost)
    {
        return winograd::run(p, input, &plan, words, &mut Sink::new(p, out));
    }
    match direct_plan {
        Some(plan) => direct::run(p, &input, &plan, words, &mut Sink::new(p, out)),
        None => bare::run(p, &input, &mut Sink::new(p, out)),
    }
}

fn whole_words(bytes: &mut [u8]) -> &mut [u8] {
    let whole = bytes.len() / 4 * 4;
    &mut bytes[..whole]
}

/// Turns the accumulators of four output channels into outputs, cell by cell.
#[derive(Debug)]
pub struct Sink<'a> {
    out: ConvOut<'a>,
    c: f32,
    cout: usize,
    /// The channels: the first, how many there are, their factors.
    first: usize,
    count: usize,
    factors: Factors,
}

impl<'a> Sink<'a> {
    pub fn new(p: &Conv<'_>, out: ConvOut<'a>) -> Self {
        let none = [0.0; CHANNELS];
        Self { out, c: p.c, cout: p.cout, first: 0, count: 0, factors: Factors { scale: none, bias: none } }
    }

    /// The next accumulators are of channels `first..first + 4`, as far as they exist, and 2^shift times their value.
    /// Scales are divided by that, instead of accumulators: both are exact, and so is their product as it was.
    pub fn channels(&mut self, p: &Conv<'_>, first: usize, shift: u32) {
        self.first = first;
        self.count = CHANNELS.min(p.cout - first);
        // 2^-shift.
        let part = f32::from_bits((127 - shift) << 23);
        let (scale, bias) = (&p.scale[first..][..self.count], &p.bias[first..][..self.count]);
        for (i, (scale, bias)) in scale.iter().zip(bias).enumerate() {
            self.factors.scale[i] = scale * p.a * part;
            self.factors.bias[i] = bias * p.b;
        }
    }

    /// acc: [cells][4], of the cells from `cell` on.
    pub fn cells(&mut self, cell: usize, cells: usize, acc: &[i32]) {
        let acc = &acc[..cells * CHANNELS];
        let from = cell * self.cout + self.first;
        #[cfg(all(arm_dsp, target_abi = "eabihf"))]
        if self.count == CHANNELS && cells > 0 {
            use super::store;
            let (out, len, size, run): (*mut u8, usize, usize, store::Run) = match &mut self.out {
                ConvOut::I8(out) => (out.as_mut_ptr().cast(), out.len(), 1, store::to_i8),
                ConvOut::I16(out) => (out.as_mut_ptr().cast(), out.len(), 2, store::to_i16),
                ConvOut::I16Add(out) => (out.as_mut_ptr().cast(), out.len(), 2, store::add_to_i16),
                ConvOut::F32(out) => (out.as_mut_ptr().cast(), out.len(), 4, store::to_f32),
            };
            assert!(from + (cells - 1) * self.cout + CHANNELS <= len);
            // SAFETY: there are four accumulators a cell, and the first to the last output, checked; the ABI says that
            // there is an FPU.
            unsafe { run(acc.as_ptr(), out.add(from * size), cells, self.cout * size, &self.factors, self.c) };
            return;
        }
        for (cell, acc) in acc.chunks_exact(CHANNELS).enumerate() {
            self.cell(from + cell * self.cout, acc);
        }
    }

    /// Four accumulators to the outputs from `at` on.
    #[inline(never)]
    fn cell(&mut self, at: usize, acc: &[i32]) {
        let span = at..at + self.count;
        let c = self.c;
        let values = acc.iter().zip(self.factors.scale.iter().zip(&self.factors.bias));
        let values = values.map(|(&acc, (scale, bias))| acc as f32 * scale + bias);
        match &mut self.out {
            ConvOut::I8(out) => {
                out[span].iter_mut().zip(values).for_each(|(out, y)| *out = round_saturated::<8>(y) as i8);
            }
            ConvOut::I16(out) => {
                out[span].iter_mut().zip(values).for_each(|(out, y)| *out = round_saturated::<16>(y) as i16);
            }
            ConvOut::I16Add(out) => out[span].iter_mut().zip(values).for_each(|(out, y)| {
                *out = round_saturated::<16>(y + f32::from(*out) * c) as i16;
            }),
            ConvOut::F32(out) => out[span].iter_mut().zip(values).for_each(|(out, y)| *out = y),
        }
    }
}
