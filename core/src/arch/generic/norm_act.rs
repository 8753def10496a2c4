//! GroupNorm and SiLU: sums per channel first, then by group; then all cells, a vector of channels at a time.

use super::Simd;
use super::vector::{Narrow, rne, silu};
use crate::math::inv_std;
use crate::ops::norm_act::MAX_GROUP;
use crate::ops::{NormAct, NormOut};

/// See [`ops::norm_act`](crate::ops::norm_act()).
#[inline(always)]
pub(in crate::arch) fn norm_act<S: Simd>(s: S, p: &NormAct<'_>, input: &[i16], mut out: NormOut<'_>) {
    // Whole groups, at most MAX_GROUP channels at a time.
    let step = MAX_GROUP / p.group * p.group;
    let mut first = 0;
    while first < p.channels {
        let count = (p.channels - first).min(step);
        let (a, b) = factors(s, p, input, first, count);
        let part = Part { first, count, a, b };
        match (&mut out, p.silu) {
            (NormOut::I8(out), true) => apply::<S, _, true>(s, p, input, out, &part),
            (NormOut::I8(out), false) => apply::<S, _, false>(s, p, input, out, &part),
            (NormOut::I16(out), true) => apply::<S, _, true>(s, p, input, out, &part),
            (NormOut::I16(out), false) => apply::<S, _, false>(s, p, input, out, &part),
        }
        first += count;
    }
}

/// The two factors of channels `first .. first + count`.
#[inline(always)]
fn factors<S: Simd>(
    s: S,
    p: &NormAct<'_>,
    input: &[i16],
    first: usize,
    count: usize,
) -> ([f32; MAX_GROUP], [f32; MAX_GROUP]) {
    let ch = p.channels;
    // Per channel; of the squares the lower and the upper 16 bits apart, so that 2^16 of them fit 32 bits.
    let (mut sums, mut lows, mut highs) = ([0i32; MAX_GROUP], [0i32; MAX_GROUP], [0i32; MAX_GROUP]);
    for at in (0..count).step_by(S::LANES) {
        let n = (count - at).min(S::LANES);
        let mask = s.splat(0xffff);
        let (mut sum, mut low, mut high) = (s.splat(0), s.splat(0), s.splat(0));
        for cell in input.chunks_exact(ch) {
            let q = s.widen_i16(&cell[first + at..][..n]);
            let square = s.squares(q);
            sum = s.add(sum, q);
            low = s.add(low, s.and(square, mask));
            high = s.add(high, s.shift_right::<16>(square));
        }
        s.store(sum, &mut sums[at..]);
        s.store(low, &mut lows[at..]);
        s.store(high, &mut highs[at..]);
    }

    let (mut a, mut b) = ([0f32; MAX_GROUP], [0f32; MAX_GROUP]);
    let n = (p.cells * p.group) as u32;
    for start in (0..count).step_by(p.group) {
        let members = start..start + p.group;
        let sum: i32 = sums[members.clone()].iter().sum();
        let low: u64 = lows[members.clone()].iter().map(|&low| u64::from(low as u32)).sum();
        let high: u64 = highs[members.clone()].iter().map(|&high| u64::from(high as u32)).sum();
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, low + (high << 16), p.b);
        for i in members {
            let c = first + i;
            let (scale, shift) = match p.film {
                Some(film) => (1.0 + film[c], film[ch + c]),
                None => (1.0, 0.0),
            };
            a[i] = inv_std * p.gamma[c] * scale;
            b[i] = (p.beta[c] * scale + shift) - mean * a[i];
        }
    }
    (a, b)
}

/// Channels first .. first + count and their factors.
struct Part {
    first: usize,
    count: usize,
    a: [f32; MAX_GROUP],
    b: [f32; MAX_GROUP],
}

/// The expression itself, for the part's channels of every cell.
#[inline(always)]
fn apply<S: Simd, T: Narrow, const SILU: bool>(s: S, p: &NormAct<'_>, input: &[i16], out: &mut [T], part: &Part) {
    let (out_scale, zp) = (s.splat_f(p.a), s.splat(p.zp));
    for at in (0..part.count).step_by(S::LANES) {
        let n = (part.count - at).min(S::LANES);
        let (a, b) = (s.load_f(&part.a[at..]), s.load_f(&part.b[at..]));
        let from = part.first + at;
        for (input, out) in input.chunks_exact(p.channels).zip(out.chunks_exact_mut(p.channels)) {
            let q = s.to_f(s.widen_i16(&input[from..][..n]));
            let y = s.add_f(s.mul_f(q, a), b);
            let y = if SILU { silu(s, y) } else { y };
            T::narrow(s, s.add(rne(s, s.mul_f(y, out_scale)), zp), &mut out[from..][..n]);
        }
    }
}
