//! NEON with SDOT: four byte products to a lane, the inputs by element.

use core::arch::aarch64::int32x4_t;

use super::detect::{Isa, has};
use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Sums, Taps, load_sums, store_sums};
use crate::arch::generic::{Products, Rows, Simd, panel};

/// SDOT.
#[derive(Clone, Copy)]
pub(super) struct Sdot;

impl Kind for Sdot {
    const ANY_WEIGHT: bool = true;
}

/// Per lane: sum + the products of the four bytes of `w` and of lane `LANE` of `q`.
///
/// # Safety
///
/// The CPU has SDOT.
#[inline(always)]
unsafe fn sdot<const LANE: u32>(sum: int32x4_t, w: int32x4_t, q: int32x4_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: as the caller says; the instruction works on registers alone.
    unsafe {
        core::arch::asm!(".arch_extension dotprod", "sdot {sum:v}.4s, {w:v}.16b, {q:v}.4b[{lane}]",
            sum = inout(vreg) sum, w = in(vreg) w, q = in(vreg) q, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

// SAFETY of every block here: the token proves SDOT.
impl Products<Neon<Sdot>> for Sdot {
    const GROUP: usize = 4;
    const TILE: usize = 8;

    #[inline(always)]
    fn pack<const NV: usize>(s: Neon<Sdot>, rows: Rows<'_>, panel: &mut [i32]) {
        panel::transpose::<_, 4, NV>(s, rows, panel, |from| s.load_bytes(from));
    }

    #[inline(always)]
    fn count<const NV: usize>(s: Neon<Sdot>, panel: &[i32], sums: &mut [i32]) {
        let ones = s.splat(0x0101_0101);
        // SAFETY: see above.
        panel::count::<_, NV>(s, panel, sums, |sum, weights| unsafe { sdot::<0>(sum, weights, ones) });
    }

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(s: Neon<Sdot>, taps: Taps<'_>, start: Option<&[i32]>, sums: &mut Sums) {
        let mut acc = [[s.splat(0); NV]; M];
        load_sums(s, &taps, start, sums, &mut acc);
        let groups = taps.groups.min(CELL);
        let per_tap = groups * NV * 4;
        macro_rules! group {
            ($q:ident, $group:expr, $lane:literal) => {
                let mut w = [s.splat(0); NV];
                for v in 0..NV {
                    w[v] = s.load(&$group[4 * v..]);
                }
                for m in 0..M {
                    for v in 0..NV {
                        // SAFETY: see above.
                        acc[m][v] = unsafe { sdot::<$lane>(acc[m][v], w[v], $q[m]) };
                    }
                }
            };
        }
        for ky in taps.ky0..taps.ky1 {
            for kx in 0..taps.kernel {
                let cells = &taps.rows[ky][kx..][..M];
                let panel = &taps.panel.values[(ky * taps.kernel + kx) * per_tap..][..per_tap];
                let fours = panel.chunks_exact(16 * NV);
                let rest = fours.remainder().chunks_exact(4 * NV);
                for (k, four) in fours.enumerate() {
                    let mut q = [s.splat(0); M];
                    for m in 0..M {
                        q[m] = s.load(&cells[m].0[4 * (k & 3)..]);
                    }
                    group!(q, four, 0);
                    group!(q, four[4 * NV..], 1);
                    group!(q, four[8 * NV..], 2);
                    group!(q, four[12 * NV..], 3);
                }
                for (g, group) in (groups & !3..).zip(rest) {
                    let mut q = [s.splat(0); M];
                    for m in 0..M {
                        q[m] = s.splat(cells[m].0[g & (CELL - 1)]);
                    }
                    group!(q, group, 0);
                }
            }
        }
        store_sums(s, &acc, sums);
    }
}

backend!("neon-dotprod", "neon,dotprod", Neon<Sdot>, has(Isa::Dotprod));
