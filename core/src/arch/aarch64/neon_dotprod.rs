//! NEON with SDOT: four byte products to a lane, the inputs by element.

use core::arch::aarch64::int32x4_t;

use super::detect::{Isa, has};
use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Cell, Sums, Taps, load_sums, store_sums};
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
        let (fours, rest) = (groups / 4, groups % 4);
        for ky in taps.ky0..taps.ky1 {
            let panel = &taps.panel.values[ky * taps.kernel * per_tap..][..taps.kernel * per_tap];
            let row = &taps.rows[ky][..taps.kernel - 1 + M];
            if rest == 0 && fours > 0 {
                // SAFETY: the row holds the cells of all taps, and the panel their weights; both were cut to these
                // lengths. The token proves SDOT.
                unsafe { row_of_taps::<NV, M>(row, panel, taps.kernel, fours, &mut acc) };
                continue;
            }
            for (kx, panel) in panel.chunks_exact(per_tap).enumerate() {
                for (g, group) in panel.chunks_exact(4 * NV).enumerate() {
                    let mut w = [s.splat(0); NV];
                    for v in 0..NV {
                        w[v] = s.load(&group[4 * v..]);
                    }
                    for m in 0..M {
                        let q = s.splat(row[kx + m].0[g & (CELL - 1)]);
                        for v in 0..NV {
                            // SAFETY: see above.
                            acc[m][v] = unsafe { sdot::<0>(acc[m][v], w[v], q) };
                        }
                    }
                }
            }
        }
        store_sums(s, &acc, sums);
    }
}

/// The taps of one kernel row, `fours` times four groups each, in one loop: the compiler would load every vector by itself,
/// and count two addresses.
///
/// # Safety
///
/// The CPU has SDOT; `row` holds M cells for each tap, one further for each, and `panel` the weights of all taps. Neither
/// number of taps nor of fours is 0.
#[inline(always)]
unsafe fn row_of_taps<const NV: usize, const M: usize>(
    row: &[Cell],
    panel: &[i32],
    taps: usize,
    fours: usize,
    acc: &mut [[int32x4_t; NV]; M],
) {
    // Where there are fewer, registers that are not used.
    let mut all = [[acc[0][0]; 2]; 8];
    for m in 0..M {
        for v in 0..NV {
            all[m][v] = acc[m][v];
        }
    }
    let [[a0, b0], [a1, b1], [a2, b2], [a3, b3], [a4, b4], [a5, b5], [a6, b6], [a7, b7]] = &mut all;
    // Cell $m, in v16 to v23, is loaded from its place behind the pointer, which the first load moves by sixteen bytes.
    macro_rules! load {
        ($m:literal, $q:literal, $at:literal) => {
            concat!(".if {cells} > ", $m, "\n ldr ", $q, ", [{q}, #", $at, "]\n .endif\n")
        };
    }
    // Lane $lane of cell $m with the weights of a group.
    macro_rules! cell {
        ($m:literal, $q:literal, $lane:literal, $w0:literal, $w1:literal) => {
            concat!(
                ".if {cells} > ",
                $m,
                "\n sdot {a",
                $m,
                ":v}.4s, ",
                $w0,
                ".16b, ",
                $q,
                ".4b[",
                $lane,
                "]\n",
                ".if {nv} == 2\n sdot {b",
                $m,
                ":v}.4s, ",
                $w1,
                ".16b, ",
                $q,
                ".4b[",
                $lane,
                "]\n .endif\n .endif\n",
            )
        };
    }
    macro_rules! group {
        ($lane:literal, $w0:literal, $w1:literal) => {
            concat!(
                cell!("0", "v16", $lane, $w0, $w1),
                cell!("1", "v17", $lane, $w0, $w1),
                cell!("2", "v18", $lane, $w0, $w1),
                cell!("3", "v19", $lane, $w0, $w1),
                cell!("4", "v20", $lane, $w0, $w1),
                cell!("5", "v21", $lane, $w0, $w1),
                cell!("6", "v22", $lane, $w0, $w1),
                cell!("7", "v23", $lane, $w0, $w1),
            )
        };
    }
    // SAFETY: as the caller says; nothing is written but registers.
    unsafe {
        core::arch::asm!(
            ".arch_extension dotprod",
            "2:",
            "mov {k}, {fours}",
            "3:",
            "ldr q16, [{q}], #16",
            load!("1", "q17", "48"),
            load!("2", "q18", "112"),
            load!("3", "q19", "176"),
            load!("4", "q20", "240"),
            load!("5", "q21", "304"),
            load!("6", "q22", "368"),
            load!("7", "q23", "432"),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            ".if {nv} == 2",
            group!("0", "v24", "v25"),
            group!("1", "v26", "v27"),
            "ld1 {{v24.16b-v27.16b}}, [{w}], #64",
            group!("2", "v24", "v25"),
            group!("3", "v26", "v27"),
            ".else",
            group!("0", "v24", "v24"),
            group!("1", "v25", "v25"),
            group!("2", "v26", "v26"),
            group!("3", "v27", "v27"),
            ".endif",
            "subs {k}, {k}, #1",
            "b.ne 3b",
            // From the end of a cell's channels to the next cell.
            "add {q}, {q}, {next}",
            "subs {taps}, {taps}, #1",
            "b.ne 2b",
            q = inout(reg) row.as_ptr() => _,
            w = inout(reg) panel.as_ptr() => _,
            taps = inout(reg) taps => _,
            k = out(reg) _,
            fours = in(reg) fours,
            next = in(reg) size_of::<Cell>() - 16 * fours,
            nv = const NV,
            cells = const M,
            a0 = inout(vreg) *a0, b0 = inout(vreg) *b0, a1 = inout(vreg) *a1, b1 = inout(vreg) *b1,
            a2 = inout(vreg) *a2, b2 = inout(vreg) *b2, a3 = inout(vreg) *a3, b3 = inout(vreg) *b3,
            a4 = inout(vreg) *a4, b4 = inout(vreg) *b4, a5 = inout(vreg) *a5, b5 = inout(vreg) *b5,
            a6 = inout(vreg) *a6, b6 = inout(vreg) *b6, a7 = inout(vreg) *a7, b7 = inout(vreg) *b7,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
            out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            options(readonly, nostack),
        );
    }
    for m in 0..M {
        for v in 0..NV {
            acc[m][v] = all[m][v];
        }
    }
}

backend!("neon-dotprod", "neon,dotprod", Neon<Sdot>, has(Isa::Dotprod));
