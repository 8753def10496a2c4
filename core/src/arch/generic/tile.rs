//! The inner loop of convolution and attention: a tile of cells times a panel of weights.

use super::Simd;
use super::panel::Products;

/// Most cells of a tile, of any backend.
pub(in crate::arch) const MAX_TILE: usize = 14;
/// Lanes of 32 bits that a cell of the patch has: its channels, at most this many groups at a time.
pub(in crate::arch) const CELL: usize = 16;

/// The inputs of a tile. A cell starts on a cache line, and its distance to the next is known to the compiler, so
/// that one register addresses them all.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Cell(pub [i32; CELL]);

/// A row of the patch: a tile and its neighbours, and one cell more, which pairs of cells may need.
pub(crate) type Row = [Cell; MAX_TILE + 2];

/// A row without inputs yet.
pub(super) const NONE: Row = [Cell([0; CELL]); MAX_TILE + 2];

/// The sums of a tile: [cell][output channel].
#[repr(C, align(64))]
pub(crate) struct Sums(pub [[i32; 32]; MAX_TILE]);

/// The taps of a tile, and its inputs.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a> {
    /// By kernel row: the cells under the tile.
    pub rows: [&'a Row; 3],
    /// Side of the kernel.
    pub kernel: usize,
    /// Kernel rows in use: ky0..ky1.
    pub ky0: usize,
    pub ky1: usize,
    /// Groups of a cell, at most [`CELL`].
    pub groups: usize,
}

/// Weights as a tile reads them: [kernel][kernel][groups][NV * LANES], each group's from `lane` on and `stride` behind
/// the last one's.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub values: &'a [i32],
    pub stride: usize,
    pub lane: usize,
}

/// [`Products::tile`] of `cells` cells.
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
pub(in crate::arch) fn tile<S: Simd, P: Products<S>, const NV: usize>(
    s: S,
    cells: usize,
    taps: &Taps<'_>,
    panel: Panel<'_>,
    start: Option<&[i32]>,
    sums: &mut Sums,
) {
    macro_rules! by_size {
        ($($m:literal)*) => {
            match cells {
                // Constant, so that the compiler does not see what a backend has not.
                $($m if const { $m <= P::TILE } => P::tile::<NV, { if $m <= MAX_TILE { $m } else { 1 } }>(s, taps, panel, start, sums),)*
                _ => unreachable!("a tile has 1 to TILE cells"),
            }
        };
    }
    by_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// Sets the sums of a tile to what they start from. In place: an array that is returned stays in memory.
#[expect(clippy::needless_range_loop, reason = "a constant number of steps over several arrays: registers")]
#[inline(always)]
pub(in crate::arch) fn load_sums<S: Simd, const NV: usize, const M: usize>(
    s: S,
    start: Option<&[i32]>,
    sums: &Sums,
    acc: &mut [[S::I; NV]; M],
) {
    for v in 0..NV {
        let start = start.map(|start| s.load(&start[v * S::LANES..]));
        for m in 0..M {
            acc[m][v] = match start {
                Some(start) => start,
                None => s.load(&sums.0[m][v * S::LANES..]),
            };
        }
    }
}

/// The sums of a tile, to memory.
#[expect(clippy::needless_range_loop, reason = "a constant number of steps over several arrays: registers")]
#[inline(always)]
pub(in crate::arch) fn store_sums<S: Simd, const NV: usize, const M: usize>(
    s: S,
    acc: &[[S::I; NV]; M],
    sums: &mut Sums,
) {
    for m in 0..M {
        for v in 0..NV {
            s.store(acc[m][v], &mut sums.0[m][v * S::LANES..]);
        }
    }
}
