//! GroupNorm and SiLU: sums two values at a time, and the exponential without the checks that finite factors make
//! idle. Every f32 operation of the scalar function is there, in its order.

use core::f32::consts::LOG2_E;

use super::simd::{pair, round_saturated, smlad, smlald};
use crate::math::{exp, inv_std};
use crate::ops::norm_act::MAX_GROUP;
use crate::ops::{self, NormAct, NormOut};

/// Bound of a channel's factors with which no sum reaches infinity.
const FINITE: f32 = 1.0e30;

/// [`ops::norm_act`](crate::ops::norm_act()).
pub fn norm_act(p: &NormAct<'_>, input: &[i16], mut out: NormOut<'_>) {
    let (ch, group) = (p.channels, p.group);
    if !group.is_multiple_of(2) || !p.a.is_finite() {
        return ops::norm_act(p, input, out);
    }
    for first in (0..ch).step_by(group) {
        let mut factors = [(0.0f32, 0.0f32); MAX_GROUP];
        let factors = &mut factors[..group];
        let (sum, squares) = sums(input, ch, first, group);
        let n = (p.cells * group) as u32;
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, squares, p.b);
        for (factor, c) in factors.iter_mut().zip(first..) {
            let (scale, shift) = match p.film {
                Some(film) => (1.0 + film[c], film[ch + c]),
                None => (1.0, 0.0),
            };
            let a = inv_std * p.gamma[c] * scale;
            let b = (p.beta[c] * scale + shift) - mean * a;
            *factor = (a, b);
        }
        let small = |x: f32| -FINITE < x && x < FINITE;
        if !factors.iter().all(|&(a, b)| small(a) && small(b)) {
            // The groups before this one come out the same again: the input is not the output.
            return ops::norm_act(p, input, out);
        }
        // Two roundings to an integer may not follow each other; two saturations may.
        match (&mut out, p.silu) {
            (NormOut::I8(out), true) => values(p, input, first, factors, |i, y| {
                out[i] = (round_saturated::<22>(silu(y) * p.a) + p.zp).clamp(-128, 127) as i8;
            }),
            (NormOut::I8(out), false) => values(p, input, first, factors, |i, y| {
                out[i] = (round_saturated::<22>(y * p.a) + p.zp).clamp(-128, 127) as i8;
            }),
            (NormOut::I16(out), true) => values(p, input, first, factors, |i, y| {
                out[i] = (round_saturated::<22>(silu(y) * p.a) + p.zp).clamp(-32768, 32767) as i16;
            }),
            (NormOut::I16(out), false) => values(p, input, first, factors, |i, y| {
                out[i] = (round_saturated::<22>(y * p.a) + p.zp).clamp(-32768, 32767) as i16;
            }),
        }
    }
}

/// Calls `put(index in [cells][channels], q * A + B)` for every value of a group.
#[inline(always)]
fn values(p: &NormAct<'_>, input: &[i16], first: usize, factors: &[(f32, f32)], mut put: impl FnMut(usize, f32)) {
    for (cell, values) in input.chunks_exact(p.channels).enumerate() {
        let at = cell * p.channels + first;
        for (i, (&q, &(a, b))) in values[first..first + factors.len()].iter().zip(factors).enumerate() {
            put(at + i, f32::from(q) * a + b);
        }
    }
}

/// Exact sum and sum of squares of `group` channels from `first` on, `group` even.
fn sums(input: &[i16], ch: usize, first: usize, group: usize) -> (i32, u64) {
    let (mut sum, mut squares) = (0i32, 0i64);
    for cell in input.chunks_exact(ch) {
        let (pairs, _) = cell[first..first + group].as_chunks::<2>();
        for two in pairs {
            let two = u32::from(two[0] as u16) | u32::from(two[1] as u16) << 16;
            sum = smlad(two, pair(1, 1), sum);
            squares = smlald(two, two, squares);
        }
    }
    (sum, squares as u64)
}

/// [`math::silu`](crate::math::silu) of a finite number.
#[inline(always)]
fn silu(y: f32) -> f32 {
    y / (1.0 + exp_of_finite(-y))
}

/// [`math::exp`](crate::math::exp) of a finite number, the same operations: only the clamp of a number that is within
/// +-87 already is left out, and the second one, of a product that then is within +-126.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the scalar function's constants, exact in binary")]
fn exp_of_finite(x: f32) -> f32 {
    if x.to_bits() & 0x7fff_ffff > 87.0f32.to_bits() {
        return exp(x);
    }
    // 1.5 * 2^23: the sum has no fraction bits, and its lowest bits are the integer.
    const ROUNDING: f32 = 12_582_912.0;
    let rounded = x * LOG2_E + ROUNDING;
    let kf = rounded - ROUNDING;
    let r = (x - kf * 0.693_115_234_375) - kf * 3.194_618_3e-5;
    let p = 0.001_392_692_7;
    let p = p * r + 0.008_363_774;
    let p = p * r + 0.041_666_55;
    let p = p * r + 0.166_665_73;
    let p = p * r + 0.5;
    let e = (p * (r * r) + r) + 1.0;
    e * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_the_same() {
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2147) ^ i << 31);
            if x.is_finite() {
                assert_eq!(exp_of_finite(x).to_bits(), exp(x).to_bits(), "{x:e}");
            }
        }
        for i in -900_000..900_000 {
            let x = i as f32 * 1.0e-4;
            assert_eq!(exp_of_finite(x).to_bits(), exp(x).to_bits(), "{x:e}");
        }
    }
}
