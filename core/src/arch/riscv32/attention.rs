//! Self-attention: scores and exponentials are the scalar function's, and the mix of values is estimated in integers.
//!
//! With n tokens, the scalar sum is n + 2 roundings of 2^-24 from the true one, each of at most 128 times the total, so that
//! an output is off by (n + 4) * 2^-17 * b at most. The estimate cuts every exponential by less than 2^-24, which makes
//! n * 2^-17 times the factor of the sum, and what follows by less than 4 units.

use super::fixed::{FRACTION, certain, fixed, high};
use crate::math::{exp, rne_i8};
use crate::ops::Attention;
use crate::part::{part, part_mut, put, rest};

/// Fraction bits of an exponential.
const FINE: u32 = 24;

/// [`ops::attention`](crate::ops::attention()).
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads.max(1);
    let scores = part_mut(scores, 0, p.tokens);
    // Sums of n exponentials times int8 take this many bits more than one does.
    let more = usize::BITS - p.tokens.leading_zeros();
    // 0, 1, 2 = q, k, v of one token and head.
    let of = |token: usize, which: usize, h: usize| part(qkv, token * 3 * ch + which * ch + h * head, head);
    for h in 0..p.heads {
        for i in 0..p.tokens {
            let q = of(i, 0, h);
            let mut max = f32::MIN;
            for (j, score) in scores.iter_mut().enumerate() {
                let dot: i32 = q.iter().zip(of(j, 1, h)).map(|(&q, &k)| i32::from(q) * i32::from(k)).sum();
                *score = dot as f32 * p.a;
                max = if *score > max { *score } else { max };
            }
            let mut total = 0.0;
            for score in scores.iter_mut() {
                *score = exp(*score - max);
                total += *score;
            }
            let factor = p.b / total;
            let error = 8.0 + (p.tokens as f32 + 4.0) * 0.125 * (p.b.abs() + factor.abs());
            let estimated = fixed(factor, 32 + FRACTION - FINE + more, 1 << 30)
                .zip(fixed(error, 0, 1 << (FRACTION - 3)))
                .filter(|_| scores.iter().all(|e| (0.0..=1.0).contains(e)));
            for d in 0..head {
                let values = rest(qkv, 2 * ch + h * head + d);
                let known = estimated.and_then(|(factor, error)| {
                    let sum = mix(scores, values, 3 * ch);
                    certain(high((sum >> more) as i32, factor), error)
                });
                let exactly = || {
                    let mut sum = 0.0;
                    for (&e, &v) in scores.iter().zip(values.iter().step_by((3 * ch).max(1))) {
                        sum += e * f32::from(v);
                    }
                    rne_i8(sum * factor)
                };
                put(out, i * ch + h * head + d, known.map_or_else(exactly, |q| q.clamp(-128, 127) as i8));
            }
        }
    }
}

/// Sum of scores\[j\] * values\[j * stride\], of scores from 0 to 1, with [`FINE`] fraction bits.
fn mix(scores: &[f32], values: &[i8], stride: usize) -> i64 {
    let each = scores.iter().zip(values.iter().step_by(stride.max(1)));
    each.map(|(&e, &v)| i64::from(truncated(e).wrapping_mul(i32::from(v)))).sum()
}

/// A number from 0 to 1 with [`FINE`] fraction bits, rounded down.
#[inline(always)]
fn truncated(e: f32) -> i32 {
    let bits = e.to_bits();
    // mantissa * 2^(exponent - 150), and 1 is 2^24.
    let mantissa = ((bits & 0x007f_ffff) | 0x0080_0000) << 1;
    mantissa.checked_shr(127u32.saturating_sub(bits >> 23)).unwrap_or(0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use crate::ops::testing::Numbers;

    #[test]
    fn exponentials_are_rounded_down() {
        for i in 0..=1_000_000u32 {
            let e = i as f32 / 1_000_000.0;
            assert_eq!(truncated(e), (f64::from(e) * 16_777_216.0) as i32, "{e}");
        }
        assert_eq!((truncated(1.0e-38), truncated(f32::MIN_POSITIVE), truncated(1.0)), (0, 0, 1 << 24));
    }

    #[test]
    fn outputs_equal_scalar() {
        let mut n = Numbers(72);
        for (tokens, channels, heads) in [(1, 4, 1), (2, 3, 3), (17, 24, 2), (49, 64, 1), (64, 72, 8), (300, 16, 1)] {
            for (a, b) in [(0.0, 1.3), (1e-5, 0.5), (3e-4, 1.3), (2e-3, 1.0), (1e-2, 7.0), (0.5, 1.3), (1e30, 1e9)] {
                let p = Attention { tokens, channels, heads, a, b };
                let qkv = n.i8s(tokens * 3 * channels);
                let run = |attention: fn(&Attention, &[i8], &mut [f32], &mut [i8])| {
                    let mut out = vec![0; tokens * channels];
                    attention(&p, &qkv, &mut vec![0.0; tokens + 3], &mut out);
                    out
                };
                assert!(run(attention) == run(ops::attention), "{p:?}");
            }
        }
    }
}
