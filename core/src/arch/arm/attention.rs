//! Self-attention: scores by SMLAD, the mix of values four channels at a time, so that their sums stay in registers.

use super::bare::dot;
use super::panel::word;
use crate::math::{exp, rne_i8};
use crate::ops::{self, Attention};

/// [`ops::attention`](crate::ops::attention()).
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads;
    if !head.is_multiple_of(4) {
        return ops::attention(p, qkv, scores, out);
    }
    let scores = &mut scores[..p.tokens];
    // part 0, 1, 2 = q, k, v of one token and head.
    let of = |token: usize, part: usize, h: usize| &qkv[token * 3 * ch + part * ch + h * head..][..head];
    for h in 0..p.heads {
        for i in 0..p.tokens {
            let q = of(i, 0, h);
            let mut max = f32::MIN;
            for (j, score) in scores.iter_mut().enumerate() {
                *score = dot(q, of(j, 1, h)) as f32 * p.a;
                max = if *score > max { *score } else { max };
            }
            let mut total = 0.0;
            for score in scores.iter_mut() {
                *score = exp(*score - max);
                total += *score;
            }
            let factor = p.b / total;
            for d in (0..head).step_by(4) {
                let four = mix(scores, &qkv[2 * ch + h * head + d..], 3 * ch);
                for (out, sum) in out[i * ch + h * head + d..][..4].iter_mut().zip(four) {
                    *out = rne_i8(sum * factor);
                }
            }
        }
    }
}

/// For four channels: the sum over j, in order, of scores\[j\] * values\[j * stride + channel\].
#[inline(never)]
fn mix(scores: &[f32], values: &[i8], stride: usize) -> [f32; 4] {
    assert!(!scores.is_empty() && values.len() >= (scores.len() - 1) * stride + 4);
    let (mut s0, mut s1, mut s2, mut s3) = (0.0, 0.0, 0.0, 0.0);
    let mut at = 0;
    for &e in scores {
        // SAFETY: at is j * stride, and the length was checked.
        let v = unsafe { word(values, at) };
        s0 += e * f32::from(v as i8);
        s1 += e * f32::from((v >> 8) as i8);
        s2 += e * f32::from((v >> 16) as i8);
        s3 += e * f32::from((v >> 24) as i8);
        at += stride;
    }
    [s0, s1, s2, s3]
}
