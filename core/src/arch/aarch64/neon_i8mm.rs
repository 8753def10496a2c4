//! NEON with SMMLA: a 2x2 product of two cells and two outputs, eight byte products to a lane.

use core::arch::aarch64::*;

use super::detect::{Isa, has};
use super::token::{Kind, Neon};
use crate::arch::generic::entry::backend;
use crate::arch::generic::tile::{CELL, Panel as TilePanel, Row, Sums, Taps};
use crate::arch::generic::{Products, Rows, Simd};

/// Pairs of a row of the patch.
const PAIRS: usize = size_of::<Row>() / (4 * CELL * 2);

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

    /// A row of the patch: [eight channels][pairs][2][8].
    #[inline(always)]
    fn put(_: Neon<Smmla>, row: &mut Row, at: usize, lane: usize, lanes: int32x4_t, tile: usize) {
        let pairs = tile.div_ceil(2);
        assert!(lane + 4 <= CELL && at < pairs + PAIRS);
        let to = row.as_mut_ptr().cast::<i64>();
        let eight = lane / 2;
        // SAFETY: there are CELL / 2 rows of PAIRS pairs.
        unsafe {
            let lanes = vreinterpretq_s64_s32(lanes);
            // A kernel reaches two cells further than the tile.
            if at < (pairs + 2).min(PAIRS) {
                let to = to.add((eight * PAIRS + at) * 2);
                vst1q_lane_s64::<0>(to, lanes);
                vst1q_lane_s64::<1>(to.add(PAIRS * 2), lanes);
            }
            if at >= pairs {
                let to = to.add((eight * PAIRS + at - pairs) * 2 + 1);
                vst1q_lane_s64::<0>(to, lanes);
                vst1q_lane_s64::<1>(to.add(PAIRS * 2), lanes);
            }
        }
    }

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(
        s: Neon<Smmla>,
        taps: &Taps<'_>,
        panel: TilePanel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        match const { M.div_ceil(2) } {
            1 => pairs::<NV, 1>(s, M, taps, panel, start, sums),
            2 => pairs::<NV, 2>(s, M, taps, panel, start, sums),
            3 => pairs::<NV, 3>(s, M, taps, panel, start, sums),
            _ => pairs::<NV, 4>(s, M, taps, panel, start, sums),
        }
    }
}

/// A tile of `cells` cells in N pairs.
#[inline(always)]
fn pairs<const NV: usize, const N: usize>(
    s: Neon<Smmla>,
    cells: usize,
    taps: &Taps<'_>,
    panel: TilePanel<'_>,
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
            if $i < N {
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
                    let start = s.load(&start[4 * $v..]);
                    (start, start)
                }
                None => (s.load(&sums.0[$i][4 * $v..]), s.load(&sums.0[$i + N][4 * $v..])),
            };
            let [low, high] = halves(a, b);
            (even[$i][$v], odd[$i][$v]) = (low, high);
        };
    }
    all!(begin);
    products::<NV, N>(taps, panel.values, &mut even, &mut odd);
    macro_rules! end {
        ($i:literal, $v:literal) => {
            let [a, b] = halves(even[$i][$v], odd[$i][$v]);
            s.store(a, &mut sums.0[$i][4 * $v..]);
            if $i + N < cells {
                s.store(b, &mut sums.0[$i + N][4 * $v..]);
            }
        };
    }
    all!(end);
}

/// The products of N pairs, of three taps a kernel row or of one: inputs [eight channels][pairs][2][8], weights
/// [taps][eight channels][pairs of outputs][2][8]. In one loop: the compiler would load every vector by itself, and count
/// several addresses.
#[inline(always)]
fn products<const NV: usize, const N: usize>(
    taps: &Taps<'_>,
    panel: &[i32],
    even: &mut [[int32x4_t; 2]; 4],
    odd: &mut [[int32x4_t; 2]; 4],
) {
    const { assert!(N + 2 <= PAIRS && NV <= 2) };
    let eights = taps.groups.min(CELL) / 2;
    let three = taps.kernel == 3;
    let width = if three { 3 } else { 1 };
    // Bytes of a tap's weights.
    let tap = eights * 32 * NV;
    let rows = &taps.rows[taps.ky0..taps.ky1];
    let panel = &bytemuck::cast_slice::<i32, u8>(panel)[taps.ky0 * width * tap..taps.ky1 * width * tap];
    if panel.is_empty() {
        return;
    }
    let [[e00, e01], [e10, e11], [e20, e21], [e30, e31]] = even;
    let [[o00, o01], [o10, o11], [o20, o21], [o30, o31]] = odd;
    // Pair $i, in v$q, times the weights, in v26 to v29.
    macro_rules! pair {
        ($i:literal, $q:literal) => {
            concat!(
                ".if {pairs} > ",
                $i,
                "\n",
                "smmla {e",
                $i,
                "0:v}.4s, v",
                $q,
                ".16b, v26.16b\n",
                "smmla {o",
                $i,
                "0:v}.4s, v",
                $q,
                ".16b, v27.16b\n",
                ".if {nv} == 2\n",
                "smmla {e",
                $i,
                "1:v}.4s, v",
                $q,
                ".16b, v28.16b\n",
                "smmla {o",
                $i,
                "1:v}.4s, v",
                $q,
                ".16b, v29.16b\n",
                ".endif\n.endif\n",
            )
        };
    }
    // The pairs from v$q0 on with the weights at $w.
    macro_rules! tap {
        ($w:literal, $q0:literal, $q1:literal, $q2:literal, $q3:literal) => {
            concat!(
                ".if {nv} == 2\n ld1 {{v26.16b-v29.16b}}, [",
                $w,
                "], #64\n",
                ".else\n ld1 {{v26.16b-v27.16b}}, [",
                $w,
                "], #32\n .endif\n",
                pair!("0", $q0),
                pair!("1", $q1),
                pair!("2", $q2),
                pair!("3", $q3),
            )
        };
    }
    // Statement with the accumulators, and what both loops share.
    macro_rules! run {
        ([$($template:expr),*], $loaded:expr, $($operands:tt)*) => {
            // SAFETY: the token proves SMMLA. Each row has N + 2 pairs for as many eights as a cell has, the panel the
            // weights of all taps; both are not empty. Nothing is written but registers.
            unsafe {
                core::arch::asm!(
                    ".arch_extension i8mm",
                    "3:",
                    "ldr {q}, [{rows}], #8",
                    "mov {k}, {eights}",
                    "2:",
                    $($template,)*
                    rows = inout(reg) rows.as_ptr() => _,
                    count = inout(reg) rows.len() => _,
                    q = out(reg) _,
                    k = out(reg) _,
                    // From the last pairs that are loaded to the next eight channels.
                    next = in(reg) PAIRS * 16 - $loaded,
                    eights = in(reg) eights,
                    nv = const NV,
                    pairs = const N,
                    e00 = inout(vreg) *e00, e01 = inout(vreg) *e01, e10 = inout(vreg) *e10, e11 = inout(vreg) *e11,
                    e20 = inout(vreg) *e20, e21 = inout(vreg) *e21, e30 = inout(vreg) *e30, e31 = inout(vreg) *e31,
                    o00 = inout(vreg) *o00, o01 = inout(vreg) *o01, o10 = inout(vreg) *o10, o11 = inout(vreg) *o11,
                    o20 = inout(vreg) *o20, o21 = inout(vreg) *o21, o30 = inout(vreg) *o30, o31 = inout(vreg) *o31,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
                    out("v26") _, out("v27") _, out("v28") _, out("v29") _,
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
                ".if {pairs} == 1\n ld1 {{v20.16b-v22.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} == 2\n ld1 {{v20.16b-v23.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} > 2\n ld1 {{v20.16b-v23.16b}}, [{q}], #64\n .endif",
                ".if {pairs} == 3\n ld1 {{v24.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} == 4\n ld1 {{v24.16b-v25.16b}}, [{q}], {next}\n .endif",
                tap!("{w0}", "20", "21", "22", "23"),
                tap!("{w1}", "21", "22", "23", "24"),
                tap!("{w2}", "22", "23", "24", "25"),
                "subs {k}, {k}, #1",
                "b.ne 2b",
                // From the end of a tap's weights to that of the tap below.
                "add {w0}, {w0}, {two}",
                "add {w1}, {w1}, {two}",
                "add {w2}, {w2}, {two}",
                "subs {count}, {count}, #1",
                "b.ne 3b"
            ],
            if N > 2 { 64 } else { 0 },
            two = in(reg) 2 * tap,
            w0 = inout(reg) first => _,
            w1 = inout(reg) second => _,
            w2 = inout(reg) third => _,
        );
    } else {
        run!(
            [
                ".if {pairs} == 1\n ld1 {{v20.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} == 2\n ld1 {{v20.16b-v21.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} == 3\n ld1 {{v20.16b-v22.16b}}, [{q}], {next}\n .endif",
                ".if {pairs} == 4\n ld1 {{v20.16b-v23.16b}}, [{q}], {next}\n .endif",
                tap!("{w0}", "20", "21", "22", "23"),
                "subs {k}, {k}, #1",
                "b.ne 2b",
                "subs {count}, {count}, #1",
                "b.ne 3b"
            ],
            0,
            w0 = inout(reg) panel.as_ptr() => _,
        );
    }
}

backend!("neon-i8mm", "neon,dotprod,i8mm", Neon<Smmla>, has(Isa::I8mm));
