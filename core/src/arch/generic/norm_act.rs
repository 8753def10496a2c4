//! GroupNorm and SiLU: sums per channel first, then by group; then all cells, a vector of channels at a time.

use super::Simd;
use super::vector::{Narrow, rne, silus};
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
    let mut totals = Totals { sums: [0; MAX_GROUP], lows: [0; MAX_GROUP], highs: [0; MAX_GROUP] };
    // Groups of whole pairs need no totals by channel.
    let per_lane = if p.group.is_multiple_of(2) { 2 } else { 1 };
    match per_lane {
        2 => totals.add::<S, 2>(s, input, ch, first, count),
        _ => totals.add::<S, 1>(s, input, ch, first, count),
    }
    let Totals { sums, lows, highs } = totals;

    let (mut a, mut b) = ([0f32; MAX_GROUP], [0f32; MAX_GROUP]);
    let n = (p.cells * p.group) as u32;
    for start in (0..count).step_by(p.group) {
        let (members, lanes) = (start..start + p.group, start / per_lane..(start + p.group) / per_lane);
        let sum: i32 = sums[lanes.clone()].iter().sum();
        let low: u64 = lows[lanes.clone()].iter().map(|&low| u64::from(low as u32)).sum();
        let high: u64 = highs[lanes].iter().map(|&high| u64::from(high as u32)).sum();
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

/// Sums over all cells by channel, or by pair of channels; of the squares the lower and the upper 16 bits apart, so that 2^16
/// of them fit 32 bits.
struct Totals {
    sums: [i32; MAX_GROUP],
    lows: [i32; MAX_GROUP],
    highs: [i32; MAX_GROUP],
}

impl Totals {
    /// Of channels `first .. first + count` of `ch`, PER of them a lane: 1 or 2.
    #[inline(always)]
    fn add<S: Simd, const PER: usize>(&mut self, s: S, input: &[i16], ch: usize, first: usize, count: usize) {
        let wide = PER * S::LANES;
        for at in (0..count).step_by(wide) {
            let lane = at / PER;
            // Whole vectors have a length that the compiler knows.
            match count - at {
                n if n < wide => self.lanes::<S, PER>(s, input, ch, (first + at, n), lane),
                _ => self.lanes::<S, PER>(s, input, ch, (first + at, wide), lane),
            }
        }
    }

    /// Of a vector: `n` channels from `from` on.
    #[inline(always)]
    fn lanes<S: Simd, const PER: usize>(
        &mut self,
        s: S,
        input: &[i16],
        ch: usize,
        (from, n): (usize, usize),
        lane: usize,
    ) {
        let mask = s.splat(0xffff);
        let (mut sum, mut low, mut high) = (s.splat(0), s.splat(0), s.splat(0));
        for cell in input.chunks_exact(ch) {
            let q = &cell[from..][..n];
            let (q, square) = if PER == 2 {
                s.pair_sums(s.load_pairs(q))
            } else {
                let q = s.widen_i16(q);
                (q, s.squares(q))
            };
            sum = s.add(sum, q);
            low = s.add(low, s.and(square, mask));
            high = s.add(high, s.shift_right::<16>(square));
        }
        s.store(sum, &mut self.sums[lane..]);
        s.store(low, &mut self.lows[lane..]);
        s.store(high, &mut self.highs[lane..]);
    }
}

/// Channels first .. first + count and their factors.
struct Part {
    first: usize,
    count: usize,
    a: [f32; MAX_GROUP],
    b: [f32; MAX_GROUP],
}

/// Vectors of a cell that are done together.
const TOGETHER: usize = 4;

/// The expression itself, for the part's channels of every cell.
#[inline(always)]
fn apply<S: Simd, T: Narrow, const SILU: bool>(s: S, p: &NormAct<'_>, input: &[i16], out: &mut [T], part: &Part) {
    let mut at = 0;
    while part.count - at >= TOGETHER * S::LANES {
        vectors::<S, T, SILU, TOGETHER>(s, p, input, out, part, at);
        at += TOGETHER * S::LANES;
    }
    while part.count - at >= S::LANES {
        vectors::<S, T, SILU, 1>(s, p, input, out, part, at);
        at += S::LANES;
    }
    if at < part.count {
        let (from, n) = (part.first + at, part.count - at);
        let factors = ([s.load_f(&part.a[at..])], [s.load_f(&part.b[at..])]);
        for (input, out) in input.chunks_exact(p.channels).zip(out.chunks_exact_mut(p.channels)) {
            let [y] = normed::<S, SILU, 1>(s, p, [s.widen_i16(&input[from..][..n])], &factors);
            T::narrow(s, y, &mut out[from..][..n]);
        }
    }
}

/// N whole vectors of every cell, from channel `at` of the part on.
#[inline(always)]
fn vectors<S: Simd, T: Narrow, const SILU: bool, const N: usize>(
    s: S,
    p: &NormAct<'_>,
    input: &[i16],
    out: &mut [T],
    part: &Part,
    at: usize,
) {
    let mut factors = ([s.splat_f(0.0); N], [s.splat_f(0.0); N]);
    for i in 0..N {
        factors.0[i] = s.load_f(&part.a[at + i * S::LANES..]);
        factors.1[i] = s.load_f(&part.b[at + i * S::LANES..]);
    }
    let from = part.first + at;
    for (input, out) in input.chunks_exact(p.channels).zip(out.chunks_exact_mut(p.channels)) {
        let (input, out) = (&input[from..][..N * S::LANES], &mut out[from..][..N * S::LANES]);
        let mut q = [s.splat(0); N];
        for i in 0..N {
            q[i] = s.widen_i16(&input[i * S::LANES..][..S::LANES]);
        }
        T::narrow_all(s, normed::<S, SILU, N>(s, p, q, &factors), out);
    }
}

/// Results of N vectors, before they are narrowed.
#[inline(always)]
fn normed<S: Simd, const SILU: bool, const N: usize>(
    s: S,
    p: &NormAct<'_>,
    q: [S::I; N],
    (a, b): &([S::F; N], [S::F; N]),
) -> [S::I; N] {
    let mut y = [s.splat_f(0.0); N];
    for i in 0..N {
        y[i] = s.add_f(s.mul_f(s.to_f(q[i]), a[i]), b[i]);
    }
    if SILU {
        y = silus(s, y);
    }
    let mut out = q;
    for i in 0..N {
        out[i] = s.add(rne(s, s.mul_f(y[i], s.splat_f(p.a))), s.splat(p.zp));
    }
    out
}
