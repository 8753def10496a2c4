//! The taps of a block of outputs.

use super::line::Line;
use crate::arch::generic::Simd;
use crate::arch::generic::conv::Order;
use crate::ops::{Conv, Weights, blocks};

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// Packs outputs `first .. first + count`: [pairs of inputs][NV][TAPS][LANES outputs] of two int16.
#[inline(always)]
pub(super) fn pack<S: Simd, const NV: usize>(
    s: S,
    p: &Conv<'_>,
    order: Order,
    (first, count): (usize, usize),
    taps: &mut [i32],
) {
    for tap in 0..TAPS {
        match (order, p.weights) {
            (Order::Rows, Weights::Int8(weights)) => {
                let row = |oc: usize| &weights[((first + oc) * TAPS + tap) * p.cin..][..p.cin];
                pack_tap::<S, NV>(s, count, p.cin, tap, row, taps);
            }
            // In blocks or of four bits: copied.
            (_, weights) => {
                let mut rows = [0; 32 * blocks::PART];
                for from in (0..p.cin).step_by(blocks::PART) {
                    let here = (p.cin - from).min(blocks::PART);
                    for (oc, row) in (first..first + count).zip(rows.chunks_exact_mut(here)) {
                        match weights {
                            Weights::Int8(weights) => blocks::unpack(TAPS, p.cin, weights, (oc, tap, from), row),
                            Weights::Int4(weights) => weights.decode(oc, tap * p.cin + from, row),
                        }
                    }
                    let taps = &mut taps[from / 2 * NV * TAPS * S::LANES..];
                    pack_tap::<S, NV>(s, count, here, tap, |oc| &rows[oc * here..][..here], taps);
                }
            }
        }
    }
}

/// One tap: `row` gives the `cin` weights of an output.
#[inline(always)]
fn pack_tap<'a, S: Simd, const NV: usize>(
    s: S,
    count: usize,
    cin: usize,
    tap: usize,
    row: impl Fn(usize) -> &'a [i8],
    taps: &mut [i32],
) {
    let step = NV * TAPS * S::LANES;
    for v in 0..NV {
        let mut rows = [&[][..]; 16];
        for (oc, to) in (v * S::LANES..count).zip(&mut rows[..S::LANES]) {
            *to = row(oc);
        }
        let at = (v * TAPS + tap) * S::LANES;
        let panels = taps.chunks_mut(S::LANES * step);
        for (from, panel) in (0..cin).step_by(2 * S::LANES).zip(panels) {
            let here = (cin - from).min(2 * S::LANES);
            let mut square = s.square();
            for (vector, row) in square.as_mut().iter_mut().zip(rows) {
                // Outputs that are not there have no weights: zeros.
                let row = if row.is_empty() { row } else { &row[from..][..here] };
                *vector = s.load_words(row);
            }
            s.transpose(&mut square);
            for (group, &mut vector) in panel.chunks_exact_mut(step).zip(square.as_mut()).take(here.div_ceil(2)) {
                s.store(vector, &mut group[at..]);
            }
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

#[inline(always)]
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
        for (j, &value) in across.iter().enumerate().take(B::IN) {
            s.store(value, &mut out[j * S::LANES..]);
        }
    }
}
