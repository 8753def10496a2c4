//! The embedding: vectors for SiLU, four outputs of a dense layer at a time.

use super::{Simd, vector::silu};
use crate::ops::Embed;
use crate::ops::embed::{Dense, GUIDANCE_FEATURES, Int8Dense, dot8, guidance_features};

/// See [`ops::embed`](crate::ops::embed()).
#[inline(always)]
pub(in crate::arch) fn embed<S: Simd>(s: S, p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    let features = guidance_features(p.w);
    let rows = p.guidance.chunks_exact(GUIDANCE_FEATURES);
    for (((out, &time), &class), row) in first.iter_mut().zip(p.time).zip(p.class).zip(rows) {
        *out = (time + class) + dot8(&features, row, |w| w);
    }
    activate(s, first);
    dense(s, &p.hidden, first, second);
    activate(s, second);
    dense(s, &p.film, second, film);
}

/// SiLU of every element.
#[inline(always)]
fn activate<S: Simd>(s: S, x: &mut [f32]) {
    for x in x.chunks_mut(S::LANES) {
        s.store_f(silu(s, s.load_f(x)), x);
    }
}

/// See [`ops::embed`](crate::ops::embed()).
#[inline(always)]
fn dense<S: Simd>(s: S, p: &Dense<'_>, x: &[f32], out: &mut [f32]) {
    let mut parts = p.parts(x.len());
    while let Some((at, part)) = parts.next() {
        int8(s, &part, x, &mut out[at..]);
    }
}

/// Four outputs at a time.
#[inline(always)]
fn int8<S: Simd>(s: S, p: &Int8Dense<'_>, x: &[f32], out: &mut [f32]) {
    let e = x.len().max(1);
    let n = out.len().min(p.scale.len()).min(p.bias.len()).min(p.weights.len() / e);
    let (out, rows) = (&mut out[..n], p.weights.chunks_exact(4 * e));
    let whole = n / 4 * 4;
    for (at, rows) in (0..whole).step_by(4).zip(rows) {
        for (i, dot) in s.dot8_rows(x, rows).into_iter().enumerate() {
            out[at + i] = dot * p.scale[at + i] + p.bias[at + i];
        }
    }
    for (at, out) in out.iter_mut().enumerate().skip(whole) {
        let row = &p.weights[at * e..][..e];
        *out = dot8(x, row, |w: i8| f32::from(w)) * p.scale[at] + p.bias[at];
    }
}

/// [`Simd::dot8_rows`] of vectors of four lanes.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(in crate::arch) fn dot8_rows<S: Simd>(s: S, x: &[f32], rows: &[i8]) -> [f32; 4] {
    let mut sums = [[s.splat_f(0.0); 2]; 4];
    let mut row = [&[][..]; 4];
    for (row, weights) in row.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
        *row = weights;
    }
    for (i, eight) in x.chunks_exact(8).enumerate() {
        let (low, high) = (s.load_f(&eight[..4]), s.load_f(&eight[4..]));
        for (r, sum) in sums.iter_mut().enumerate() {
            let w = &row[r][8 * i..][..8];
            sum[0] = s.add_f(sum[0], s.mul_f(low, s.to_f(s.widen_i8(&w[..4]))));
            sum[1] = s.add_f(sum[1], s.mul_f(high, s.to_f(s.widen_i8(&w[4..]))));
        }
    }
    sums.map(|[low, high]| {
        let mut lanes = [0f32; 8];
        s.store_f(low, &mut lanes[..4]);
        s.store_f(high, &mut lanes[4..]);
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    })
}
