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
    // Eight channels: those of one half of sixteen.
    macro_rules! eight {
        ($cells:ident, $weights:expr, $k:expr, $half:literal) => {
            let weights = &$weights[..8 * NV];
            let (w0, w1) = (s.load(weights), s.load(&weights[4..]));
            let (w2, w3) = if NV == 2 { (s.load(&weights[8..]), s.load(&weights[12..])) } else { (w0, w1) };
            macro_rules! product {
                ($i:literal, $v:literal) => {
                    let q = s.load(&$cells[2 * $i + $half].0[4 * ($k & 3)..]);
                    let (a, b) = if $v == 0 { (w0, w1) } else { (w2, w3) };
                    // SAFETY: the token proves SMMLA.
                    even[$i][$v] = unsafe { smmla(even[$i][$v], q, a) };
                    // SAFETY: as above.
                    odd[$i][$v] = unsafe { smmla(odd[$i][$v], q, b) };
                };
            }
            all!(product);
        };
    }
    for ky in taps.ky0..taps.ky1 {
        for kx in 0..taps.kernel {
            let cells = &taps.rows[ky][2 * kx..][..2 * PAIRS];
            let panel = &taps.panel.values[(ky * taps.kernel + kx) * per_tap..][..per_tap];
            let sixteens = panel.chunks_exact(16 * NV);
            let rest = sixteens.remainder();
            for (k, weights) in sixteens.enumerate() {
                eight!(cells, weights, k, 0);
                eight!(cells, weights[8 * NV..], k, 1);
            }
            if rest.len() == 8 * NV {
                let k = panel.len() / (16 * NV);
                eight!(cells, rest, k, 0);
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

backend!("neon-i8mm", "neon,dotprod,i8mm", Neon<Smmla>, has(Isa::I8mm));
