//! The taps of a block of outputs.

use super::line::Line;
use crate::arch::generic::Simd;
use crate::arch::generic::conv::Order;
use crate::ops::{Conv, Weights, blocks};

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// Packs outputs `first .. first + count`: [pairs of inputs][NV][TAPS][LANES outputs] of two int16.
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
pub(super) fn pack<S: Simd, const NV: usize>(
    s: S,
    p: &Conv<'_>,
    order: Order,
    (first, count): (usize, usize),
    taps: &mut [i32],
) {
    for v in 0..NV {
        let outputs = v * S::LANES..count.min((v + 1) * S::LANES);
        // Outputs that are not there have no weights: zeros.
        if let (Order::Rows, Weights::Int8(weights)) = (order, p.weights) {
            for tap in 0..TAPS {
                let mut rows = [&[][..]; 16];
                for (oc, row) in outputs.clone().zip(&mut rows) {
                    *row = &weights[((first + oc) * TAPS + tap) * p.cin..][..p.cin];
                }
                pack_tap::<S, NV>(s, &rows, p.cin, v * TAPS + tap, taps);
            }
            continue;
        }
        // In blocks or of four bits: copied.
        for (tap, from) in (0..TAPS).flat_map(|tap| (0..p.cin).step_by(blocks::PART).map(move |from| (tap, from))) {
            let mut copies = [0; 16 * blocks::PART];
            let here = (p.cin - from).min(blocks::PART);
            for (oc, copy) in outputs.clone().zip(copies.chunks_exact_mut(here)) {
                match p.weights {
                    Weights::Int8(weights) => blocks::unpack(TAPS, p.cin, weights, (first + oc, tap, from), copy),
                    Weights::Int4(weights) => weights.decode(first + oc, tap * p.cin + from, copy),
                }
            }
            let mut rows = [&[][..]; 16];
            for (row, copy) in rows.iter_mut().zip(copies.chunks_exact(here)).take(outputs.len()) {
                *row = copy;
            }
            let taps = &mut taps[from / 2 * NV * TAPS * S::LANES..];
            pack_tap::<S, NV>(s, &rows, here, v * TAPS + tap, taps);
        }
    }
}

/// The weights of a tap, `count` in each row that has any, to vector `place` of each group.
#[inline(always)]
fn pack_tap<S: Simd, const NV: usize>(s: S, rows: &[&[i8]; 16], count: usize, place: usize, taps: &mut [i32]) {
    let (step, wide) = (NV * TAPS * S::LANES, 2 * S::LANES);
    let all = rows[..S::LANES].iter().all(|row| row.len() == count);
    let whole = if all { count / wide } else { 0 };
    for i in 0..whole {
        let mut square = s.square();
        for (vector, row) in square.as_mut().iter_mut().zip(rows) {
            *vector = s.load_words(&row[i * wide..][..wide]);
        }
        s.transpose(&mut square);
        let panel = &mut taps[i * S::LANES * step + place * S::LANES..][..(S::LANES - 1) * step + S::LANES];
        for (j, &mut vector) in square.as_mut().iter_mut().enumerate() {
            s.store(s.pairs(vector), &mut panel[j * step..]);
        }
    }
    for from in (whole * wide..count).step_by(wide) {
        let here = (count - from).min(wide);
        let mut square = s.square();
        for (vector, row) in square.as_mut().iter_mut().zip(rows) {
            *vector = s.load_words(if row.is_empty() { row } else { &row[from..][..here] });
        }
        s.transpose(&mut square);
        let groups = taps[from / 2 * step..].chunks_exact_mut(step).take(here.div_ceil(2));
        for (group, &mut vector) in groups.zip(square.as_mut()) {
            s.store(s.pairs(vector), &mut group[place * S::LANES..]);
        }
    }
}

/// The weights' side of the products of vertical index `i`: `panel` is [pairs of inputs][NV][horizontal indices][LANES].
#[inline(always)]
pub(super) fn transform<S: Simd, A: Line, B: Line>(s: S, i: usize, taps: &[i32], panel: &mut [i32]) {
    match i {
        0 => index::<S, A, B, 0>(s, taps, panel),
        1 => index::<S, A, B, 1>(s, taps, panel),
        2 => index::<S, A, B, 2>(s, taps, panel),
        3 => index::<S, A, B, 3>(s, taps, panel),
        4 => index::<S, A, B, 4>(s, taps, panel),
        _ => index::<S, A, B, 5>(s, taps, panel),
    }
}

#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
fn index<S: Simd, A: Line, B: Line, const I: usize>(s: S, taps: &[i32], panel: &mut [i32]) {
    if I >= A::IN {
        return;
    }
    for (g, out) in taps.chunks_exact(TAPS * S::LANES).zip(panel.chunks_exact_mut(B::IN * S::LANES)) {
        // Loops, not closures: those may become functions, which are not compiled for the instruction set.
        let mut down = [s.splat(0); 3];
        for (x, down) in down.iter_mut().enumerate() {
            let top = s.load(&g[x * S::LANES..]);
            let middle = s.load(&g[(3 + x) * S::LANES..]);
            let bottom = s.load(&g[(6 + x) * S::LANES..]);
            *down = A::weight::<S, I>(s, [top, middle, bottom]);
        }
        let across = B::weights(s, down);
        for j in 0..B::IN {
            s.store(across[j], &mut out[j * S::LANES..]);
        }
    }
}
