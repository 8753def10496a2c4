//! NEON with SDOT: four byte products to a lane, the inputs by element.

use core::arch::aarch64::int32x4_t;

use super::detect::{Isa, has};
use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Panel as TilePanel, Row, Sums, Taps, load_sums, store_sums};
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
    const PAD: usize = 16;
    const UNIT: usize = 16;
    const TILE: usize = 8;

    #[inline(always)]
    fn pack<const NV: usize>(s: Neon<Sdot>, rows: Rows<'_>, panel: &mut [i32]) {
        panel::transpose::<_, 4, NV>(s, rows, panel, |from| s.load_bytes(from));
        // What makes sixteen of the last channels.
        let groups = rows.count.div_ceil(4);
        panel[groups * 4 * NV..groups.next_multiple_of(4) * 4 * NV].fill(0);
    }

    #[inline(always)]
    fn count<const NV: usize>(s: Neon<Sdot>, panel: &[i32], sums: &mut [i32]) {
        let ones = s.splat(0x0101_0101);
        // SAFETY: see above.
        panel::count::<_, NV>(s, panel, sums, |sum, weights| unsafe { sdot::<0>(sum, weights, ones) });
    }

    /// A row of the patch: [sixteen channels][cells][16].
    #[inline(always)]
    fn put(_: Neon<Sdot>, row: &mut Row, at: usize, lane: usize, lanes: int32x4_t, _tile: usize) {
        let cells = row.len();
        assert!(lane + 4 <= CELL && at < cells);
        // SAFETY: there are CELL / 4 rows of so many cells' vectors.
        unsafe { *row.as_mut_ptr().cast::<int32x4_t>().add(lane / 4 * cells + at) = lanes };
    }

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(
        s: Neon<Sdot>,
        taps: &Taps<'_>,
        panel: TilePanel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        let mut acc = [[s.splat(0); NV]; M];
        load_sums(s, start, sums, &mut acc);
        products::<NV, M>(taps, panel.values, &mut acc);
        store_sums(s, &acc, sums);
    }
}

/// The products of M cells, of three taps a kernel row or of one: inputs [sixteen channels][cells][16], weights
/// [taps][groups][NV * 4 outputs][4]. In one loop: the compiler would load every vector by itself, and count several
/// addresses.
#[inline(always)]
fn products<const NV: usize, const M: usize>(taps: &Taps<'_>, panel: &[i32], acc: &mut [[int32x4_t; NV]; M]) {
    assert!(M <= 8 && M + 2 <= size_of::<Row>() / (4 * CELL) && NV <= 2, "the registers of the loop");
    let sixteens = taps.groups.min(CELL) / 4;
    let three = taps.kernel == 3;
    let width = if three { 3 } else { 1 };
    // Bytes of a tap's weights.
    let tap = sixteens * 64 * NV;
    let rows = &taps.rows[taps.ky0..taps.ky1];
    let panel = &bytemuck::cast_slice::<i32, u8>(panel)[taps.ky0 * width * tap..taps.ky1 * width * tap];
    if panel.is_empty() {
        return;
    }
    // Where there are fewer, registers that are not used.
    let mut all = [[acc[0][0]; 2]; 8];
    for m in 0..M {
        for v in 0..NV {
            all[m][v] = acc[m][v];
        }
    }
    let [[a0, b0], [a1, b1], [a2, b2], [a3, b3], [a4, b4], [a5, b5], [a6, b6], [a7, b7]] = &mut all;
    // Cell $m, in v$q, times a group's weights: lane $lane of the cell.
    macro_rules! cell {
        ($m:literal, $q:literal, $lane:literal, $w0:literal, $w1:literal) => {
            concat!(
                ".if {cells} > ",
                $m,
                "\n",
                "sdot {a",
                $m,
                ":v}.4s, v",
                $w0,
                ".16b, v",
                $q,
                ".4b[",
                $lane,
                "]\n",
                ".if {nv} == 2\n sdot {b",
                $m,
                ":v}.4s, v",
                $w1,
                ".16b, v",
                $q,
                ".4b[",
                $lane,
                "]\n .endif\n",
                ".endif\n",
            )
        };
    }
    macro_rules! group {
        ($lane:literal, $w0:literal, $w1:literal, [$($q:literal)*]) => {
            group!(@ $lane, $w0, $w1, $($q)*)
        };
        (@ $lane:literal, $w0:literal, $w1:literal,
            $q0:literal $q1:literal $q2:literal $q3:literal $q4:literal $q5:literal $q6:literal $q7:literal) => {
            concat!(
                cell!("0", $q0, $lane, $w0, $w1), cell!("1", $q1, $lane, $w0, $w1),
                cell!("2", $q2, $lane, $w0, $w1), cell!("3", $q3, $lane, $w0, $w1),
                cell!("4", $q4, $lane, $w0, $w1), cell!("5", $q5, $lane, $w0, $w1),
                cell!("6", $q6, $lane, $w0, $w1), cell!("7", $q7, $lane, $w0, $w1),
            )
        };
    }
    // The cells in these registers with the weights at $w: four groups.
    macro_rules! tap {
        ($w:literal, $q:tt) => {
            concat!(
                "ld1 {{v26.16b-v29.16b}}, [",
                $w,
                "], #64\n",
                ".if {nv} == 2\n",
                group!("0", "26", "27", $q),
                group!("1", "28", "29", $q),
                "ld1 {{v26.16b-v29.16b}}, [",
                $w,
                "], #64\n",
                group!("2", "26", "27", $q),
                group!("3", "28", "29", $q),
                ".else\n",
                group!("0", "26", "26", $q),
                group!("1", "27", "27", $q),
                group!("2", "28", "28", $q),
                group!("3", "29", "29", $q),
                ".endif\n",
            )
        };
    }
    // Loads {load} cells to v16 and on.
    macro_rules! load {
        () => {
            concat!(
                ".if {load} == 1\n ld1 {{v16.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 2\n ld1 {{v16.16b-v17.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 3\n ld1 {{v16.16b-v18.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 4\n ld1 {{v16.16b-v19.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} > 4\n ld1 {{v16.16b-v19.16b}}, [{q}], #64\n .endif\n",
                ".if {load} == 5\n ld1 {{v20.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 6\n ld1 {{v20.16b-v21.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 7\n ld1 {{v20.16b-v22.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 8\n ld1 {{v20.16b-v23.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} > 8\n ld1 {{v20.16b-v23.16b}}, [{q}], #64\n .endif\n",
                ".if {load} == 9\n ld1 {{v24.16b}}, [{q}], {next}\n .endif\n",
                ".if {load} == 10\n ld1 {{v24.16b-v25.16b}}, [{q}], {next}\n .endif\n",
            )
        };
    }
    macro_rules! run {
        ([$($template:expr),*], $load:expr, $($operands:tt)*) => {
            // SAFETY: the token proves SDOT. Each row has M + 2 cells for as many sixteens as a cell has, the panel the
            // weights of all taps; both are not empty. Nothing is written but registers.
            unsafe {
                core::arch::asm!(
                    ".arch_extension dotprod",
                    "3:",
                    "ldr {q}, [{rows}], #8",
                    "mov {k}, {sixteens}",
                    "2:",
                    load!(),
                    $($template,)*
                    rows = inout(reg) rows.as_ptr() => _,
                    count = inout(reg) rows.len() => _,
                    q = out(reg) _,
                    k = out(reg) _,
                    // From the last cells that are loaded to the next sixteen channels.
                    next = in(reg) size_of::<Row>() / (CELL / 4) - 64 * (($load - 1) / 4),
                    sixteens = in(reg) sixteens,
                    nv = const NV,
                    cells = const M,
                    load = const $load,
                    a0 = inout(vreg) *a0, b0 = inout(vreg) *b0, a1 = inout(vreg) *a1, b1 = inout(vreg) *b1,
                    a2 = inout(vreg) *a2, b2 = inout(vreg) *b2, a3 = inout(vreg) *a3, b3 = inout(vreg) *b3,
                    a4 = inout(vreg) *a4, b4 = inout(vreg) *b4, a5 = inout(vreg) *a5, b5 = inout(vreg) *b5,
                    a6 = inout(vreg) *a6, b6 = inout(vreg) *b6, a7 = inout(vreg) *a7, b7 = inout(vreg) *b7,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
                    out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
                    $($operands)*
                    options(readonly, nostack),
                )
            }
        };
    }
    if three {
        let first = panel.as_ptr();
        let (second, third) = (first.wrapping_add(tap), first.wrapping_add(2 * tap));
        run!(
            [
                tap!("{w0}", ["16" "17" "18" "19" "20" "21" "22" "23"]),
                tap!("{w1}", ["17" "18" "19" "20" "21" "22" "23" "24"]),
                tap!("{w2}", ["18" "19" "20" "21" "22" "23" "24" "25"]),
                "subs {k}, {k}, #1",
                "b.ne 2b",
                // From the end of a tap's weights to that of the tap below.
                "add {w0}, {w0}, {two}",
                "add {w1}, {w1}, {two}",
                "add {w2}, {w2}, {two}",
                "subs {count}, {count}, #1",
                "b.ne 3b"
            ],
            M + 2,
            two = in(reg) 2 * tap,
            w0 = inout(reg) first => _,
            w1 = inout(reg) second => _,
            w2 = inout(reg) third => _,
        );
    } else {
        run!(
            [
                tap!("{w0}", ["16" "17" "18" "19" "20" "21" "22" "23"]),
                "subs {k}, {k}, #1",
                "b.ne 2b",
                "subs {count}, {count}, #1",
                "b.ne 3b"
            ],
            M,
            w0 = inout(reg) panel.as_ptr() => _,
        );
    }
    for m in 0..M {
        for v in 0..NV {
            acc[m][v] = all[m][v];
        }
    }
}

backend!("neon-dotprod", "neon,dotprod", Neon<Sdot>, has(Isa::Dotprod));
