//! NEON alone: byte products widen to int16, two of them are added there, pairs of sums to int32.

use core::arch::aarch64::*;

use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Panel as TilePanel, Sums, Taps};
use crate::arch::generic::{Products, Rows, Simd};

/// SMULL, SMLAL2, SADALP. Two products of weights from -127 on have a sum within int16; it has not if both factors of
/// both are -128.
#[derive(Clone, Copy)]
pub(super) struct Smull;

impl Kind for Smull {
    const ANY_WEIGHT: bool = false;
    const WINOGRAD: bool = true;
}

/// Adds the products of sixteen bytes to four partial sums. One piece of assembly, so that the compiler does not start
/// many products before it adds the first: there is no register left for them.
///
/// # Safety
///
/// The CPU has NEON.
#[inline(always)]
unsafe fn dot(sum: int32x4_t, q: int8x16_t, w: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: as the caller says; the instructions work on registers alone.
    unsafe {
        core::arch::asm!("smull {two:v}.8h, {q:v}.8b, {w:v}.8b", "smlal2 {two:v}.8h, {q:v}.16b, {w:v}.16b",
            "sadalp {sum:v}.4s, {two:v}.8h",
            two = out(vreg) _, sum = inout(vreg) sum, q = in(vreg) q, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Four sums of a lane each.
#[inline(always)]
fn sums_of([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: every target of this module has NEON.
    unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
}

// SAFETY of every block here: every target of this module has NEON.
impl Products<Neon<Smull>> for Smull {
    const GROUP: usize = 4;
    const PAD: usize = 8;
    const UNIT: usize = 16;
    const TILE: usize = 3;

    /// [sixteen channels][outputs][16], at the end perhaps [outputs][8].
    #[inline(always)]
    fn pack<const NV: usize>(s: Neon<Smull>, rows: Rows<'_>, panel: &mut [i32]) {
        let whole = rows.count / 16;
        let (blocks, rest) = panel.split_at_mut(whole * 16 * NV);
        for r in 0..4 * NV {
            let row = rows.row(r);
            let weights = row.chunks_exact(16);
            let last = weights.remainder();
            let mut blocks = blocks.chunks_exact_mut(16 * NV);
            for (to, weights) in (&mut blocks).zip(weights) {
                s.store(s.load_bytes(weights), &mut to[4 * r..]);
            }
            blocks.for_each(|to| s.store(s.splat(0), &mut to[4 * r..]));
            // More than eight channels are a whole block; `rest` is that, half of it, or nothing.
            let weights = s.load_bytes(last);
            if rows.count % 16 > 8 {
                s.store(weights, &mut rest[4 * r..]);
            } else if !rows.count.is_multiple_of(16) {
                let to = &mut rest[2 * r..][..2];
                // SAFETY: see above; the slice has two elements.
                unsafe { vst1_s32(to.as_mut_ptr(), vget_low_s32(weights)) }
            }
        }
    }

    #[inline(always)]
    fn count<const NV: usize>(s: Neon<Smull>, panel: &[i32], sums: &mut [i32]) {
        let mut acc = [[s.splat(0); 4]; NV];
        let blocks = panel.chunks_exact(16 * NV);
        let rest = blocks.remainder();
        // SAFETY: see above; the slices have a vector's elements, or half of them.
        unsafe {
            for block in blocks {
                for (acc, w) in acc.as_flattened_mut().iter_mut().zip(block.chunks_exact(4)) {
                    *acc = vpadalq_s16(*acc, vpaddlq_s8(vreinterpretq_s8_s32(s.load(w))));
                }
            }
            for (acc, w) in acc.as_flattened_mut().iter_mut().zip(rest.chunks_exact(2)) {
                let w = vreinterpret_s8_s32(vld1_s32(w.as_ptr()));
                *acc = vpadalq_s16(*acc, vcombine_s16(vpaddl_s8(w), vdup_n_s16(0)));
            }
        }
        for (sums, acc) in sums.chunks_exact_mut(4).zip(acc) {
            s.store(s.add(s.load(sums), sums_of(acc)), sums);
        }
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "a constant number of steps over several arrays: registers")]
    fn tile<const NV: usize, const M: usize>(
        s: Neon<Smull>,
        taps: &Taps<'_>,
        panel: TilePanel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        let mut acc = [[[s.splat(0); 4]; NV]; M];
        let per_tap = taps.groups.min(CELL) * NV * 4;
        for ky in taps.ky0..taps.ky1 {
            for kx in 0..taps.kernel {
                let cells = &taps.rows[ky][kx..][..M];
                let panel = &panel.values[(ky * taps.kernel + kx) * per_tap..][..per_tap];
                let blocks = panel.chunks_exact(16 * NV);
                let rest = blocks.remainder();
                // SAFETY: see above.
                unsafe {
                    for (k, block) in blocks.enumerate() {
                        let mut q = [vdupq_n_s8(0); M];
                        for m in 0..M {
                            q[m] = vreinterpretq_s8_s32(s.load(&cells[m].0[4 * (k & 3)..]));
                        }
                        for v in 0..NV {
                            for o in 0..4 {
                                let w = vreinterpretq_s8_s32(s.load(&block[16 * v + 4 * o..]));
                                for m in 0..M {
                                    acc[m][v][o] = dot(acc[m][v][o], q[m], w);
                                }
                            }
                        }
                    }
                    if !rest.is_empty() {
                        let k = panel.len() / (16 * NV);
                        for v in 0..NV {
                            for o in 0..4 {
                                let w = vreinterpret_s8_s32(vld1_s32(rest[8 * v + 2 * o..][..2].as_ptr()));
                                for m in 0..M {
                                    let q = vreinterpretq_s8_s32(s.load(&cells[m].0[4 * (k & 3)..]));
                                    acc[m][v][o] = vpadalq_s16(acc[m][v][o], vmull_s8(vget_low_s8(q), w));
                                }
                            }
                        }
                    }
                }
            }
        }
        for v in 0..NV {
            let start = start.map(|start| s.load(&start[4 * v..]));
            for m in 0..M {
                let sums = &mut sums.0[m][4 * v..];
                let start = start.unwrap_or_else(|| s.load(sums));
                s.store(s.add(start, sums_of(acc[m][v])), sums);
            }
        }
    }
}

backend!("neon", "neon", Neon<Smull>, true);
#[cfg(test)]
crate::arch::generic::entry::methods!("neon");
