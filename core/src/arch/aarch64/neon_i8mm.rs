//! NEON with SMMLA: a 2x2 product of two cells and two outputs, eight byte products to a lane.

use core::arch::aarch64::*;

use super::detect::{Isa, has};
use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Cell, Sums, Taps, first};
use crate::arch::generic::{Products, Rows, Simd};

/// SMMLA. A pair is two cells of a tile of M: cell i and cell i + ceil(M / 2).
#[derive(Clone, Copy)]
pub(super) struct Smmla;

impl Kind for Smmla {
    const ANY_WEIGHT: bool = true;
}

/// sum + [[q0 . w0, q0 . w1], [q1 . w0, q1 . w1]] of the halves of `q` and `w`, eight bytes each.
///
/// # Safety
///
/// The CPU has SMMLA.
#[inline(always)]
unsafe fn smmla(sum: int32x4_t, q: int32x4_t, w: int32x4_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: as the caller says; the instruction works on registers alone.
    unsafe {
        core::arch::asm!(".arch_extension i8mm", "smmla {sum:v}.4s, {q:v}.16b, {w:v}.16b",
            sum = inout(vreg) sum, q = in(vreg) q, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// The lower halves of `a` and `b`, then the upper ones.
#[inline(always)]
fn halves(a: int32x4_t, b: int32x4_t) -> [int32x4_t; 2] {
    // SAFETY: every target of this module has NEON.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
        [vreinterpretq_s32_s64(vzip1q_s64(a, b)), vreinterpretq_s32_s64(vzip2q_s64(a, b))]
    }
}

/// Member `B` of the pair that two cells of the patch hold: eight channels of both members at a time, in the first cell
/// those of each first half of sixteen, in the second the others.
#[inline(always)]
fn put_member<const B: usize>(pair: &mut [Cell], cell: &Cell) {
    for i in (0..CELL).step_by(4) {
        for (half, to) in pair.iter_mut().enumerate() {
            to.0[i + 2 * B..][..2].copy_from_slice(&cell.0[i + 2 * half..][..2]);
        }
    }
}

// SAFETY of every block here: the token proves SMMLA.
impl Products<Neon<Smmla>> for Smmla {
    const GROUP: usize = 4;
    const PAD: usize = 8;
    const UNIT: usize = 8;
    const TILE: usize = 8;
    const STEP: usize = 2;

    /// [eight channels][pairs of outputs][2][8].
    #[inline(always)]
    fn pack<const NV: usize>(s: Neon<Smmla>, rows: Rows<'_>, panel: &mut [i32]) {
        for pair in 0..2 * NV {
            let (a, b) = (rows.row(2 * pair), rows.row(2 * pair + 1));
            let whole = if b.is_empty() { 0 } else { rows.count / 16 };
            let (sixteens, rest) = panel.split_at_mut(whole * 16 * NV);
            let weights = a.chunks_exact(16).zip(b.chunks_exact(16));
            for (to, (a, b)) in sixteens.chunks_exact_mut(16 * NV).zip(weights) {
                let [low, high] = halves(s.load_bytes(a), s.load_bytes(b));
                s.store(low, &mut to[4 * pair..]);
                s.store(high, &mut to[8 * NV + 4 * pair..]);
            }
            // Where there are fewer: the second row, or the last channels of both.
            for (at, to) in (16 * whole..rows.count).step_by(8).zip(rest.chunks_exact_mut(8 * NV)) {
                let part = |row: &[i8]| s.load_bytes(&row[at.min(row.len())..row.len().min(at + 8)]);
                s.store(halves(part(a), part(b))[0], &mut to[4 * pair..]);
            }
        }
    }

    #[inline(always)]
    fn count<const NV: usize>(s: Neon<Smmla>, panel: &[i32], sums: &mut [i32]) {
        let ones = s.splat(0x0101_0101);
        let mut acc = [[s.splat(0); 2]; NV];
        for block in panel.chunks_exact(8 * NV) {
            for (acc, w) in acc.as_flattened_mut().iter_mut().zip(block.chunks_exact(4)) {
                // SAFETY: see above.
                *acc = unsafe { smmla(*acc, ones, s.load(w)) };
            }
        }
        for (sums, [a, b]) in sums.chunks_exact_mut(4).zip(acc) {
            s.store(s.add(s.load(sums), halves(a, b)[0]), sums);
        }
    }

    #[inline(always)]
    fn place(row: &mut [Cell], cell: &Cell, at: usize, tile: usize) {
        let pairs = tile.div_ceil(2);
        // A kernel reaches two cells further than the tile.
        if at < pairs + 2 {
            put_member::<0>(&mut row[2 * at..][..2], cell);
        }
        if at >= pairs {
            put_member::<1>(&mut row[2 * (at - pairs)..][..2], cell);
        }
    }

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(s: Neon<Smmla>, taps: Taps<'_>, start: Option<&[i32]>, sums: &mut Sums) {
        match const { M.div_ceil(2) } {
            1 => pairs::<NV, 1>(s, M, taps, start, sums),
            2 => pairs::<NV, 2>(s, M, taps, start, sums),
            3 => pairs::<NV, 3>(s, M, taps, start, sums),
            _ => pairs::<NV, 4>(s, M, taps, start, sums),
        }
    }
}

/// A tile of `cells` cells in PAIRS pairs.
#[inline(always)]
fn pairs<const NV: usize, const PAIRS: usize>(
    s: Neon<Smmla>,
    cells: usize,
    taps: Taps<'_>,
    start: Option<&[i32]>,
    sums: &mut Sums,
) {
    // Does something for all pairs and vectors, each a constant: the sums stay in registers.
    macro_rules! all {
        ($do:ident) => {
            all!($do 0);
            all!($do 1);
            all!($do 2);
            all!($do 3);
        };
        ($do:ident $i:literal) => {
            if $i < PAIRS {
                $do!($i, 0);
                if NV == 2 {
                    $do!($i, 1);
                }
            }
        };
    }
    // Of each vector outputs 0, 1 and 2, 3.
    let mut even = [[s.splat(0); 2]; 4];
    let mut odd = [[s.splat(0); 2]; 4];
    macro_rules! begin {
        ($i:literal, $v:literal) => {
            let (a, b) = match start {
                Some(start) => {
                    let start = first(s, &taps, start, 4 * NV, 4 * $v);
                    (start, start)
                }
                None => (s.load(&sums.0[$i][4 * $v..]), s.load(&sums.0[$i + PAIRS][4 * $v..])),
            };
            let [low, high] = halves(a, b);
            (even[$i][$v], odd[$i][$v]) = (low, high);
        };
    }
    all!(begin);
    let per_tap = taps.groups.min(CELL) * NV * 4;
    let (sixteens, rest) = (per_tap / (16 * NV), per_tap % (16 * NV));
    for ky in taps.ky0..taps.ky1 {
        let panel = &taps.panel.values[ky * taps.kernel * per_tap..][..taps.kernel * per_tap];
        let row = &taps.rows[ky][..2 * (taps.kernel - 1 + PAIRS)];
        if rest == 0 && sixteens > 0 {
            // SAFETY: the row holds the pairs of all taps, CELL lanes each, and the panel their weights; both were cut
            // to these lengths. The token proves SMMLA.
            unsafe { row_of_taps::<NV, PAIRS>(row, panel, taps.kernel, sixteens, &mut even, &mut odd) };
            continue;
        }
        for (kx, panel) in panel.chunks_exact(per_tap).enumerate() {
            let cells = &row[2 * kx..][..2 * PAIRS];
            // Eight channels at a time: those of one half of sixteen.
            for (k, weights) in panel.chunks_exact(8 * NV).enumerate() {
                let (w0, w1) = (s.load(weights), s.load(&weights[4..]));
                let (w2, w3) = if NV == 2 { (s.load(&weights[8..]), s.load(&weights[12..])) } else { (w0, w1) };
                macro_rules! product {
                    ($i:literal, $v:literal) => {
                        let q = s.load(&cells[2 * $i + k % 2].0[4 * (k / 2 & 3)..]);
                        let (a, b) = if $v == 0 { (w0, w1) } else { (w2, w3) };
                        // SAFETY: the token proves SMMLA.
                        even[$i][$v] = unsafe { smmla(even[$i][$v], q, a) };
                        // SAFETY: as above.
                        odd[$i][$v] = unsafe { smmla(odd[$i][$v], q, b) };
                    };
                }
                all!(product);
            }
        }
    }
    macro_rules! end {
        ($i:literal, $v:literal) => {
            let [a, b] = halves(even[$i][$v], odd[$i][$v]);
            s.store(a, &mut sums.0[$i][4 * $v..]);
            if $i + PAIRS < cells {
                s.store(b, &mut sums.0[$i + PAIRS][4 * $v..]);
            }
        };
    }
    all!(end);
}

/// The taps of one kernel row, `sixteens` times sixteen channels each, in one loop: the compiler would load every vector
/// by itself, and count two addresses.
///
/// # Safety
///
/// The CPU has SMMLA; `row` holds PAIRS pairs of cells for each tap, one pair further for each, and `panel` the weights of
/// all taps. Neither number of taps nor of sixteens is 0.
#[inline(always)]
unsafe fn row_of_taps<const NV: usize, const PAIRS: usize>(
    row: &[Cell],
    panel: &[i32],
    taps: usize,
    sixteens: usize,
    even: &mut [[int32x4_t; 2]; 4],
    odd: &mut [[int32x4_t; 2]; 4],
) {
    let [[e00, e01], [e10, e11], [e20, e21], [e30, e31]] = even;
    let [[o00, o01], [o10, o11], [o20, o21], [o30, o31]] = odd;
    // Eight channels of all pairs: v24-v27 weights, v28-v31 cells.
    macro_rules! eight {
        ($first:literal, $second:literal, $third:literal, $fourth:literal) => {
            concat!(
                ".if {nv} == 2\n ld1 {{v24.16b-v27.16b}}, [{w}], #64\n .else\n ld1 {{v24.16b-v25.16b}}, [{w}], #32\n .endif\n",
                "ldr q28, [{q}",
                $first,
                "\n",
                pair!("0", "v28"),
                ".if {pairs} > 1\n ldr q29, [{q}, #",
                $second,
                "]\n",
                pair!("1", "v29"),
                ".endif\n .if {pairs} > 2\n ldr q30, [{q}, #",
                $third,
                "]\n",
                pair!("2", "v30"),
                ".endif\n .if {pairs} > 3\n ldr q31, [{q}, #",
                $fourth,
                "]\n",
                pair!("3", "v31"),
                ".endif\n",
            )
        };
    }
    macro_rules! pair {
        ($i:literal, $q:literal) => {
            concat!(
                "smmla {e",
                $i,
                "0:v}.4s, ",
                $q,
                ".16b, v24.16b\n smmla {o",
                $i,
                "0:v}.4s, ",
                $q,
                ".16b, v25.16b\n",
                ".if {nv} == 2\n",
                "smmla {e",
                $i,
                "1:v}.4s, ",
                $q,
                ".16b, v26.16b\n smmla {o",
                $i,
                "1:v}.4s, ",
                $q,
                ".16b, v27.16b\n",
                ".endif\n",
            )
        };
    }
    // SAFETY: as the caller says; nothing is written but registers.
    unsafe {
        core::arch::asm!(
            ".arch_extension i8mm",
            "2:",
            "mov {k}, {sixteens}",
            "3:",
            // The cell behind holds the second half; the pointer is sixteen bytes further from the first load on.
            eight!("], #16", "112", "240", "368"),
            eight!(", #48]", "176", "304", "432"),
            "subs {k}, {k}, #1",
            "b.ne 3b",
            // From the end of a cell's channels to the next pair.
            "add {q}, {q}, {next}",
            "subs {taps}, {taps}, #1",
            "b.ne 2b",
            q = inout(reg) row.as_ptr() => _,
            w = inout(reg) panel.as_ptr() => _,
            taps = inout(reg) taps => _,
            k = out(reg) _,
            sixteens = in(reg) sixteens,
            next = in(reg) 2 * size_of::<Cell>() - 16 * sixteens,
            nv = const NV,
            pairs = const PAIRS,
            e00 = inout(vreg) *e00, e01 = inout(vreg) *e01, e10 = inout(vreg) *e10, e11 = inout(vreg) *e11,
            e20 = inout(vreg) *e20, e21 = inout(vreg) *e21, e30 = inout(vreg) *e30, e31 = inout(vreg) *e31,
            o00 = inout(vreg) *o00, o01 = inout(vreg) *o01, o10 = inout(vreg) *o10, o11 = inout(vreg) *o11,
            o20 = inout(vreg) *o20, o21 = inout(vreg) *o21, o30 = inout(vreg) *o30, o31 = inout(vreg) *o31,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(readonly, nostack),
        );
    }
}

backend!("neon-i8mm", "neon,dotprod,i8mm", Neon<Smmla>, has(Isa::I8mm));
