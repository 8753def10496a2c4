//! Products of int16 inputs: SMLAL by element, four outputs at a time.

use core::arch::aarch64::*;

use super::token::{Kind, Neon};
use crate::arch::generic::tile::{CELL, Panel as TilePanel, Sums, Taps, load_sums, store_sums};
use crate::arch::generic::winograd::products as winograd;
use crate::arch::generic::{Products, Rows, Simd, panel};

/// Two int16 inputs to a lane of a cell; in a panel a group is [2][NV * 4 outputs] of int16.
pub(super) struct ByLane;

impl<P: Kind> Products<Neon<P>> for ByLane {
    const GROUP: usize = 2;
    const TILE: usize = Neon::<P>::TILE;

    #[inline(always)]
    fn pack<const NV: usize>(s: Neon<P>, rows: Rows<'_>, panel: &mut [i32]) {
        let groups = rows.count.div_ceil(2);
        panel::transpose::<_, 2, NV>(s, rows, panel, |from| s.load_words(from));
        // From [outputs][2] to [2][outputs].
        for group in panel.chunks_exact_mut(4 * NV).take(groups) {
            let (first, last) = (s.load(group), s.load(&group[4 * (NV - 1)..]));
            // SAFETY: every target of this module has NEON.
            let (even, odd) = unsafe {
                let (first, last) = (vreinterpretq_s16_s32(first), vreinterpretq_s16_s32(last));
                (vreinterpretq_s64_s16(vuzp1q_s16(first, last)), vreinterpretq_s64_s16(vuzp2q_s16(first, last)))
            };
            // SAFETY: as above.
            unsafe {
                if NV == 1 {
                    s.store(vreinterpretq_s32_s64(vzip1q_s64(even, odd)), group);
                } else {
                    s.store(vreinterpretq_s32_s64(even), group);
                    s.store(vreinterpretq_s32_s64(odd), &mut group[4..]);
                }
            }
        }
    }

    #[inline(always)]
    fn count<const NV: usize>(_: Neon<P>, _: &[i32], _: &mut [i32]) {}

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(
        s: Neon<P>,
        taps: &Taps<'_>,
        panel: TilePanel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        const { assert!(NV <= 2, "a vector holds the weights of eight outputs") };
        let mut acc = [[s.splat(0); NV]; M];
        load_sums(s, start, sums, &mut acc);
        let groups = taps.groups.min(CELL);
        let per_tap = groups * NV * 4;
        // One channel: lane $lane of the inputs, half $half of a group.
        macro_rules! channel {
            ($q:ident, $group:expr, $lane:literal, $half:literal) => {
                let at = $half * NV * 2;
                let w = if NV == 1 { padded_half($group, at) } else { vreinterpretq_s16_s32(s.load(&$group[at..])) };
                for m in 0..M {
                    acc[m][0] = vmlal_laneq_s16::<$lane>(acc[m][0], vget_low_s16(w), $q[m]);
                    if NV == 2 {
                        acc[m][NV - 1] = vmlal_high_laneq_s16::<$lane>(acc[m][NV - 1], w, $q[m]);
                    }
                }
            };
        }
        for ky in taps.ky0..taps.ky1 {
            for kx in 0..taps.kernel {
                let cells = &taps.rows[ky][kx..][..M];
                let panel = &panel.values[(ky * taps.kernel + kx) * per_tap..][..per_tap];
                let fours = panel.chunks_exact(16 * NV);
                let rest = fours.remainder().chunks_exact(4 * NV);
                // SAFETY: every target of this module has NEON.
                unsafe {
                    for (k, four) in fours.enumerate() {
                        let mut q = [vdupq_n_s16(0); M];
                        for m in 0..M {
                            q[m] = vreinterpretq_s16_s32(s.load(&cells[m].0[4 * (k & 3)..]));
                        }
                        channel!(q, four, 0, 0);
                        channel!(q, four, 1, 1);
                        channel!(q, &four[4 * NV..], 2, 0);
                        channel!(q, &four[4 * NV..], 3, 1);
                        channel!(q, &four[8 * NV..], 4, 0);
                        channel!(q, &four[8 * NV..], 5, 1);
                        channel!(q, &four[12 * NV..], 6, 0);
                        channel!(q, &four[12 * NV..], 7, 1);
                    }
                    for (g, group) in (groups & !3..).zip(rest) {
                        let mut q = [vdupq_n_s16(0); M];
                        for m in 0..M {
                            q[m] = vreinterpretq_s16_s32(s.splat(cells[m].0[g & (CELL - 1)]));
                        }
                        channel!(q, group, 0, 0);
                        channel!(q, group, 1, 1);
                    }
                }
            }
        }
        store_sums(s, &acc, sums);
    }
}

/// The four int16 of two lanes.
///
/// # Safety
///
/// The CPU has NEON.
#[inline(always)]
unsafe fn padded_half(group: &[i32], at: usize) -> int16x8_t {
    let half = &group[at..][..2];
    // SAFETY: as the caller says; the slice has two elements.
    unsafe { vreinterpretq_s16_s32(vcombine_s32(vld1_s32(half.as_ptr()), vdup_n_s32(0))) }
}

/// From [outputs][2] to [2][outputs], of four outputs.
#[inline(always)]
pub(super) fn by_input(w: int32x4_t) -> int32x4_t {
    // SAFETY: every target of this module has NEON.
    unsafe {
        let w = vreinterpretq_s16_s32(w);
        vreinterpretq_s32_s16(vcombine_s16(vget_low_s16(vuzp1q_s16(w, w)), vget_low_s16(vuzp2q_s16(w, w))))
    }
}

/// sum + the products of elements `A` and `B` of `q` with the halves of `w`.
///
/// # Safety
///
/// The CPU has NEON.
#[inline(always)]
pub(super) unsafe fn dot<const A: i32, const B: i32>(sum: int32x4_t, q: int16x8_t, w: int32x4_t) -> int32x4_t {
    // SAFETY: as the caller says.
    unsafe {
        let w = vreinterpretq_s16_s32(w);
        vmlal_high_laneq_s16::<B>(vmlal_laneq_s16::<A>(sum, vget_low_s16(w), q), w, q)
    }
}

/// See [`winograd::round`]: a vector of a cell is four groups.
#[inline(always)]
pub(super) fn round<P: Kind, const NV: usize, const IN: usize, const M: usize>(
    s: Neon<P>,
    round: winograd::Round<'_>,
    acc: &mut [[int32x4_t; NV]; M],
) {
    let (group, lane) = (NV * IN * 4, round.index * 4);
    let cells = &round.cells[..(M - 1) * IN + 1];
    macro_rules! step {
        ($q:ident, $weights:expr, $a:literal, $b:literal) => {
            let weights = $weights;
            let mut w = [s.splat(0); NV];
            for v in 0..NV {
                w[v] = s.load(&weights[v * IN * 4 + lane..]);
            }
            for m in 0..M {
                for v in 0..NV {
                    // SAFETY: every target of this module has NEON.
                    acc[m][v] = unsafe { dot::<$a, $b>(acc[m][v], $q[m], w[v]) };
                }
            }
        };
    }
    let fours = round.panel.chunks_exact(4 * group);
    let rest = fours.remainder();
    let done = fours.len() * 4;
    // SAFETY: every target of this module has NEON.
    let mut q = [unsafe { vdupq_n_s16(0) }; M];
    for (k, four) in fours.enumerate() {
        for m in 0..M {
            q[m] = int16s(s.load(&cells[m * IN].0[4 * (k & 3)..]));
        }
        step!(q, &four[..group], 0, 1);
        step!(q, &four[group..][..group], 2, 3);
        step!(q, &four[2 * group..][..group], 4, 5);
        step!(q, &four[3 * group..][..group], 6, 7);
    }
    for (g, weights) in (done..).zip(rest.chunks_exact(group)) {
        for m in 0..M {
            q[m] = int16s(s.splat(cells[m * IN].0[g & (CELL - 1)]));
        }
        step!(q, weights, 0, 1);
    }
}

#[inline(always)]
fn int16s(x: int32x4_t) -> int16x8_t {
    // SAFETY: every target of this module has NEON.
    unsafe { vreinterpretq_s16_s32(x) }
}
