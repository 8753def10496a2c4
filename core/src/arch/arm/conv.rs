//! Which way a convolution runs, and what becomes of its accumulators.

use super::panel::CHANNELS;
use super::simd::round_saturated;
use super::store::{self, Factors};
use super::{bare, direct, winograd};
use crate::ops::{self, Conv, ConvIn, ConvOut};

/// Bound of the factors with which the formula stays finite: an accumulator is below 2^31 and an old value below 2^15,
/// so that no sum reaches 2^128.
const FINITE: f32 = 1.0e27;

/// [`ops::conv`](crate::ops::conv()).
pub fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, scratch: &mut [u8]) {
    let small = |x: f32| -FINITE < x && x < FINITE;
    let mut channels = p.scale.iter().zip(p.bias);
    if !(channels.all(|(scale, bias)| small(scale * p.a) && small(bias * p.b)) && small(p.c)) {
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

/// Turns the accumulators of four output channels of a cell into outputs.
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
    fn new(p: &Conv<'_>, out: ConvOut<'a>) -> Self {
        let none = [0.0; CHANNELS];
        Self { out, c: p.c, cout: p.cout, first: 0, count: 0, factors: Factors { scale: none, bias: none } }
    }

    /// The next cells are of channels `first..first + 4`, as far as they exist.
    pub fn channels(&mut self, p: &Conv<'_>, first: usize) {
        self.first = first;
        self.count = CHANNELS.min(p.cout - first);
        for i in 0..self.count {
            self.factors.scale[i] = p.scale[first + i] * p.a;
            self.factors.bias[i] = p.bias[first + i] * p.b;
        }
    }

    /// The accumulators of one cell, each 2^SHIFT times its value.
    #[inline(always)]
    pub fn cell<const SHIFT: u32>(&mut self, cell: usize, acc: &[i32]) {
        let at = cell * self.cout + self.first;
        let span = at..at + self.count;
        let c = self.c;
        // The common ways, where the CPU has them.
        if let Ok(acc) = acc.try_into() {
            let done = match &mut self.out {
                ConvOut::I16(out) => <&mut [i16; 4]>::try_from(&mut out[span.clone()])
                    .ok()
                    .and_then(|out| store::four::<SHIFT, false>(acc, &self.factors, c, out)),
                ConvOut::I16Add(out) => <&mut [i16; 4]>::try_from(&mut out[span.clone()])
                    .ok()
                    .and_then(|out| store::four::<SHIFT, true>(acc, &self.factors, c, out)),
                _ => None,
            };
            if done.is_some() {
                return;
            }
        }
        let values = acc.iter().zip(self.factors.scale.iter().zip(&self.factors.bias));
        let values = values.map(|(&acc, (scale, bias))| (acc >> SHIFT) as f32 * scale + bias);
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
