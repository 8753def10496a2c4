//! Accumulators to outputs, in integers where those are certain.
//!
//! The scalar function's value is at most six roundings from the true one, each of 2^-24 of numbers below M, the sum of the
//! magnitudes: less than M * 2^-21. The estimate truncates two products and three factors, each by less than one unit of the estimate.

use super::conv::CHANNELS;
use super::fixed::{FRACTION, certain, fixed, high};
use crate::math::{rne_i8, rne_i16};
use crate::ops::{Conv, ConvOut};
use crate::part::{at as number, put};

/// Turns the accumulators of four output channels of a cell into outputs.
pub struct Sink<'a> {
    out: ConvOut<'a>,
    cout: usize,
    first: usize,
    count: usize,
    channels: [Channel; CHANNELS],
    c: f32,
    /// The residual's factor with 30 fraction bits.
    c_fixed: Option<i32>,
}

/// A channel's factors, and in integers where they fit.
#[derive(Clone, Copy, Default)]
struct Channel {
    scale: f32,
    bias: f32,
    fixed: Option<Fixed>,
}

/// Factors in integers.
#[derive(Clone, Copy)]
struct Fixed {
    /// Accumulators up to this magnitude have an estimate.
    limit: u32,
    /// Bits that they are shifted up by.
    shift: u32,
    factor: i32,
    bias: i32,
}

impl Fixed {
    /// acc * scale + bias with [`FRACTION`] fraction bits is `high(acc << shift, factor) + bias`.
    fn new(scale: f32, bias: f32) -> Option<Self> {
        // Outputs beyond 2^15 saturate: their accumulators have no estimate.
        const LARGEST: u32 = 15;
        let bias = fixed(bias, FRACTION, 1 << (LARGEST + FRACTION))?;
        // scale is factor * 2^(shift - 32 - FRACTION), exactly with a factor of 30 bits, or with less of a small scale.
        let exponent = (scale.abs().to_bits() >> 23) as i32 - 127;
        let shift = (exponent + 17).max(0) as u32;
        if shift > 28 {
            return None;
        }
        let factor = fixed(scale, 32 + FRACTION - shift, 1 << 30)?;
        // Shifted accumulators are below 2^31, and their products below 2^LARGEST.
        let limit = 1 << (31 - shift);
        Some(Self { limit, shift, factor, bias })
    }
}

impl<'a> Sink<'a> {
    pub fn new(p: &Conv<'_>, out: ConvOut<'a>) -> Self {
        // 1.75: three terms fit 31 bits.
        let c_fixed = fixed(p.c, 30, 7 << 28);
        Self { out, cout: p.cout, first: 0, count: 0, channels: [Channel::default(); CHANNELS], c: p.c, c_fixed }
    }

    /// The next cells are of channels `first..first + 4`, as far as they exist.
    pub fn channels(&mut self, p: &Conv<'_>, first: usize) {
        self.first = first;
        self.count = CHANNELS.min(p.cout - first);
        for (channel, index) in self.channels.iter_mut().zip(first..p.cout) {
            let (scale, bias) = (number(p.scale, index) * p.a, number(p.bias, index) * p.b);
            *channel = Channel { scale, bias, fixed: Fixed::new(scale, bias) };
        }
    }

    /// The accumulators of one cell.
    pub fn cell(&mut self, cell: usize, acc: &[i32; CHANNELS]) {
        let from = cell * self.cout + self.first;
        for ((&acc, channel), at) in acc.iter().zip(&self.channels).take(self.count).zip(from..) {
            let estimate = channel.fixed.filter(|fixed| acc.unsigned_abs() < fixed.limit).map(|fixed| {
                let product = high(acc << fixed.shift, fixed.factor);
                (product + fixed.bias, product.unsigned_abs() + fixed.bias.unsigned_abs())
            });
            let value = || acc as f32 * channel.scale + channel.bias;
            let error = |magnitude: u32| 8 + (magnitude >> 20) as i32;
            match &mut self.out {
                ConvOut::I8(out) => {
                    let known = estimate.and_then(|(y, magnitude)| certain(y, error(magnitude)));
                    put(out, at, known.map_or_else(|| rne_i8(value()), |q| q.clamp(-128, 127) as i8));
                }
                ConvOut::I16(out) => {
                    let known = estimate.and_then(|(y, magnitude)| certain(y, error(magnitude)));
                    put(out, at, known.map_or_else(|| rne_i16(value()), |q| q.clamp(-32768, 32767) as i16));
                }
                ConvOut::I16Add(out) => {
                    let old = number(out, at);
                    let known = estimate.zip(self.c_fixed).and_then(|((y, magnitude), c)| {
                        let residual = high(i32::from(old) << 16, c);
                        let magnitude = magnitude + residual.unsigned_abs();
                        certain(y.checked_add(residual)?, error(magnitude))
                    });
                    let exactly = || rne_i16(value() + f32::from(old) * self.c);
                    put(out, at, known.map_or_else(exactly, |q| q.clamp(-32768, 32767) as i16));
                }
                ConvOut::F32(out) => put(out, at, value()),
            }
        }
    }
}
