//! The embedding. Its eight running sums are the lanes of a vector of AVX2, which all backends of x86-64 have.

use core::arch::x86_64::*;

use crate::arch::generic::{Simd, vector::silu};
use crate::ops::Embed;
use crate::ops::embed::{Dense, GUIDANCE_FEATURES, dot8, guidance_features};

/// See [`ops::embed`](crate::ops::embed()). Every token of x86-64 proves AVX2.
#[inline(always)]
pub(super) fn embed<S: Simd>(s: S, p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    let features = guidance_features(p.w);
    let rows = p.guidance.chunks_exact(GUIDANCE_FEATURES);
    for (((out, &time), &class), row) in first.iter_mut().zip(p.time).zip(p.class).zip(rows) {
        *out = (time + class) + dot8(&features, row, |w| w);
    }
    activate(s, first);
    dense(&p.hidden, first, second);
    activate(s, second);
    dense(&p.film, second, film);
}

/// SiLU of every element.
#[inline(always)]
fn activate<S: Simd>(s: S, x: &mut [f32]) {
    for x in x.chunks_mut(S::LANES) {
        s.store_f(silu(s, s.load_f(x)), x);
    }
}

/// Four outputs at a time.
#[inline(always)]
fn dense(p: &Dense<'_>, x: &[f32], out: &mut [f32]) {
    let e = x.len().max(1);
    let n = out.len().min(p.scale.len()).min(p.bias.len()).min(p.weights.len() / e);
    let (out, rows) = (&mut out[..n], p.weights.chunks_exact(4 * e));
    let whole = n / 4 * 4;
    for (at, rows) in (0..whole).step_by(4).zip(rows) {
        // SAFETY: the token proves AVX2; the slices are checked.
        let dots = unsafe {
            let mut sums = [_mm256_setzero_ps(); 4];
            for (i, x) in x.chunks_exact(8).enumerate() {
                let x = _mm256_loadu_ps(x.as_ptr());
                for (r, sum) in sums.iter_mut().enumerate() {
                    let w = &rows[r * e + 8 * i..][..8];
                    let w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(w.as_ptr().cast())));
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(x, w));
                }
            }
            // (0+1) (2+3) of two outputs, then (0+1)+(2+3) of four; the upper halves hold 4 to 7.
            let [a, b, c, d] = sums;
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let mut dots = [0f32; 4];
            let total = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            _mm_storeu_ps(dots.as_mut_ptr(), total);
            dots
        };
        for (i, dot) in dots.into_iter().enumerate() {
            out[at + i] = dot * p.scale[at + i] + p.bias[at + i];
        }
    }
    for (at, out) in out.iter_mut().enumerate().skip(whole) {
        let row = &p.weights[at * e..][..e];
        *out = dot8(x, row, |w: i8| f32::from(w)) * p.scale[at] + p.bias[at];
    }
}
