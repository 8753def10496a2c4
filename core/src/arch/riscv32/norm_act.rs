//! GroupNorm and SiLU to int8, in integers where those are certain: y with 20 fraction bits, SiLU from a table, the output
//! with a bound of its distance from the scalar function's.
//!
//! With M = |A| * 2^15 + |B|, the scalar function's y is within M * 2^-23 of the true one; SiLU has a slope of at most 1.1,
//! and the scalar one is within 5e-7 of its value (see the tests of [`math`](crate::math)). The table is within 6.2e-5: an
//! eighth of its step squared times the second derivative, which is at most 0.5; its ends within 2e-6, and the integers
//! within 5 units of 2^-20.

use super::fixed::{FRACTION, certain, fixed, high};
use crate::math::{inv_std, rne, silu};
use crate::ops::norm_act::MAX_GROUP;
use crate::ops::{self, NormAct, NormOut};
use crate::part::{at, part, part_mut};

/// Fraction bits of y and of SiLU.
const FINE: u32 = 20;
/// SiLU is tabulated from -`RANGE` to `RANGE`; above it is y and below it 0.
const RANGE: i32 = 16;
/// Table steps in a unit, as a power of two.
const STEPS_LOG2: u32 = 5;
const ENTRIES: usize = (2 * RANGE as usize) << STEPS_LOG2;

/// SiLU at multiples of 2^-[`STEPS_LOG2`], with [`FINE`] fraction bits.
static SILU: [i32; ENTRIES + 1] = table();

/// A channel's factors.
#[derive(Clone, Copy, Default)]
struct Channel {
    a: f32,
    b: f32,
    fixed: Option<Fixed>,
}

/// y is `high(q << 16, a) + b`, with [`FINE`] fraction bits; `error` is that of the output.
#[derive(Clone, Copy)]
struct Fixed {
    a: i32,
    b: i32,
    error: i32,
}

impl Channel {
    /// `factor` is the output's.
    fn new(a: f32, b: f32, factor: f32) -> Self {
        let magnitude = a.abs() * 32768.0 + b.abs();
        // In units of 2^-14: 7e-5 of the table, ends and integers, and 1.1 * 2^-23 of the magnitude.
        let error = 8.0 + factor * (1.25 + magnitude * (1.0 / 400.0));
        let fixed = || {
            Some(Fixed {
                a: fixed(a, FINE + 16, 1 << 29)?,
                b: fixed(b, FINE, 1 << 28)?,
                error: fixed(error, 0, 1 << (FRACTION - 3))?,
            })
        };
        Self { a, b, fixed: fixed() }
    }
}

/// [`ops::norm_act`](crate::ops::norm_act()).
pub fn norm_act(p: &NormAct<'_>, input: &[i16], out: NormOut<'_>) {
    // The output's factor with FINE fraction bits.
    let factor = fixed(p.a, FINE, 1 << 30).filter(|_| p.a > 0.0);
    let out = match (out, factor) {
        (NormOut::I8(out), Some(_)) => out,
        (out, _) => return ops::norm_act(p, input, out),
    };
    let factor = factor.unwrap_or_default();
    let (ch, group) = (p.channels, p.group);
    for first in (0..ch).step_by(group.max(1)) {
        let (sum, squares) = sums(input, ch, first, group);
        let n = (p.cells * group) as u32;
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, squares, p.b);
        let mut channels = [Channel::default(); MAX_GROUP];
        let channels = part_mut(&mut channels, 0, group);
        for (channel, c) in channels.iter_mut().zip(first..) {
            let (scale, shift) = match p.film {
                Some(film) => (1.0 + at(film, c), at(film, ch + c)),
                None => (1.0, 0.0),
            };
            let a = inv_std * at(p.gamma, c) * scale;
            *channel = Channel::new(a, (at(p.beta, c) * scale + shift) - mean * a, p.a);
        }
        for (cell, out) in input.chunks_exact(ch.max(1)).zip(out.chunks_exact_mut(ch.max(1))) {
            let values = part(cell, first, group).iter().zip(part_mut(out, first, group));
            for ((&q, out), channel) in values.zip(channels.iter()) {
                let certain = channel.fixed.and_then(|fixed| estimate(q, &fixed, factor, p.silu));
                let rounded = certain.unwrap_or_else(|| {
                    let y = f32::from(q) * channel.a + channel.b;
                    rne(if p.silu { silu(y) } else { y } * p.a)
                });
                *out = (rounded + p.zp).clamp(-128, 127) as i8;
            }
        }
    }
}

/// The rounded output of `q` without its zero point, if it is certain.
#[inline(always)]
fn estimate(q: i16, channel: &Fixed, factor: i32, silu: bool) -> Option<i32> {
    const END: i32 = RANGE << FINE;
    const WITHIN: u32 = FINE - STEPS_LOG2;
    let y = high(i32::from(q) << 16, channel.a) + channel.b;
    let value = if !silu || y >= END {
        y
    } else if y < -END {
        0
    } else {
        let at = y + END;
        let (index, rest) = ((at >> WITHIN) as usize, at & ((1 << WITHIN) - 1));
        let [low, high] = *SILU.get(index..index + 2)?.first_chunk()?;
        low + (((high - low) * rest) >> WITHIN)
    };
    // value * factor has 40 fraction bits; six more, less 32, are those of an estimate. 2^25 is 32.
    const { assert!(2 * FINE + 6 - 32 == FRACTION) };
    if value.unsigned_abs() >= 1 << 25 {
        return None;
    }
    let product = high(value << 6, factor);
    certain(product, channel.error + (product.unsigned_abs() >> 20) as i32)
}

/// Exact sum and sum of squares of `group` channels from `first` on.
fn sums(input: &[i16], ch: usize, first: usize, group: usize) -> (i32, u64) {
    let (mut sum, mut squares) = (0i32, 0u64);
    for cell in input.chunks_exact(ch.max(1)) {
        for &q in part(cell, first, group) {
            sum += i32::from(q);
            squares += u64::from((i32::from(q) * i32::from(q)) as u32);
        }
    }
    (sum, squares)
}

/// [`SILU`], computed with doubles.
const fn table() -> [i32; ENTRIES + 1] {
    let mut table = [0; ENTRIES + 1];
    let mut i = 0;
    while i <= ENTRIES {
        let x = i as f64 / (1 << STEPS_LOG2) as f64 - RANGE as f64;
        // exp(-x): Taylor's series of a 256th, squared eight times.
        let step = -x / 256.0;
        let (mut term, mut e, mut k) = (1.0, 1.0, 1.0);
        while k < 14.0 {
            term = term * step / k;
            e += term;
            k += 1.0;
        }
        let mut squarings = 0;
        while squarings < 8 {
            e = e * e;
            squarings += 1;
        }
        let value = x / (1.0 + e) * (1 << FINE) as f64;
        table[i] = (value + if value < 0.0 { -0.5 } else { 0.5 }) as i32;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;

    #[test]
    fn the_table_and_its_interpolation_are_within_their_bound() {
        for i in -(33 << 12)..(33 << 12) {
            let y = i << (FINE - 12);
            let x = f64::from(i) / 4096.0;
            let want = x / (1.0 + (-x).exp());
            // A factor of 1: 14 fraction bits are left of the 20.
            let fixed = Fixed { a: 0, b: y, error: 0 };
            let Some(got) = estimate(0, &fixed, 1 << FINE, true) else { continue };
            assert!((f64::from(got) - want).abs() <= 0.5 + 7e-5, "{x}: {got} {want}");
        }
        for (i, &entry) in SILU.iter().enumerate() {
            let x = i as f64 / 32.0 - 16.0;
            let want = x / (1.0 + (-x).exp()) * 1_048_576.0;
            assert!((f64::from(entry) - want).abs() < 0.51, "{x}");
        }
    }

    /// Every int16 value through factors of all sizes.
    #[test]
    fn every_value_is_the_scalar_functions() {
        let mut n = Numbers(70);
        let input: Vec<i16> = (0..=u16::MAX).map(|q| q as i16).collect();
        let mut certain = 0;
        for (case, a) in [0.3f32, 2.0, 17.0, 45.0, 63.7, 120.0, 900.0].into_iter().enumerate() {
            for gamma in [0.01, 0.3, 1.0, 2.7, 9.0, 60.0] {
                let (gamma, beta) = ([gamma], n.f32s(1, gamma * 2.0));
                for silu in [false, true] {
                    let zp = [-128, -100, 0, 90][case % 4];
                    let (film, b) = (None, 0.9);
                    let p = NormAct {
                        cells: 65536,
                        channels: 1,
                        group: 1,
                        gamma: &gamma,
                        beta: &beta,
                        film,
                        silu,
                        a,
                        b,
                        zp,
                    };
                    let (mut got, mut want) = (vec![0; 65536], vec![0; 65536]);
                    norm_act(&p, &input, NormOut::I8(&mut got));
                    ops::norm_act(&p, &input, NormOut::I8(&mut want));
                    assert!(got == want, "{p:?}");
                }
            }
            let channel = Channel::new(3.0e-5, 0.1, a);
            let fixed = channel.fixed.unwrap();
            let factor = super::fixed(a, FINE, 1 << 30).unwrap();
            certain += input.iter().filter(|&&q| estimate(q, &fixed, factor, true).is_some()).count();
        }
        // Otherwise nothing is tested but the scalar function.
        assert!(certain > 6 * 65536 * 9 / 10, "{certain}");
    }
}
