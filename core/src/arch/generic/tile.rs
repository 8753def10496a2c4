//! The inner loop of convolution and attention: a tile of cells times a panel of weights.

use super::Simd;
use super::panel::Products;

/// Most cells of a tile, of any backend.
pub(super) const MAX_TILE: usize = 14;
/// Lanes of 32 bits that a cell of the patch has: its channels, at most this many groups at a time.
pub(super) const CELL: usize = 16;

/// The inputs of a tile. A cell starts on a cache line, and its distance to the next is known to the compiler, so
/// that one register addresses them all.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Cell(pub [i32; CELL]);

/// The sums of a tile: [cell][output channel].
#[repr(C, align(64))]
pub(super) struct Sums(pub [[i32; 32]; MAX_TILE]);

/// The taps of a tile and where their inputs are.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    /// [kernel rows][row_cells].
    pub patch: &'a [Cell],
    pub row_cells: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Kernel rows in use: ky0..ky1.
    pub ky0: usize,
    pub ky1: usize,
    /// Groups of a cell, at most [`CELL`].
    pub groups: usize,
    /// [kernel][kernel][groups][NV * LANES].
    pub panel: &'a [i32],
}

/// sums = `offset` (per output channel) + the products of `cells` cells, on top of what `sums` holds if `onto`.
#[inline(always)]
pub(super) fn tile<S: Simd, P: Products, const NV: usize>(
    s: S,
    cells: usize,
    taps: Taps<'_>,
    offset: &[i32; 32],
    onto: bool,
    sums: &mut Sums,
) {
    macro_rules! by_size {
        ($($m:literal)*) => {
            match cells {
                $($m if $m <= S::TILE => fixed::<S, P, NV, $m>(s, taps, offset, onto, sums),)*
                _ => unreachable!("a tile has 1 to TILE cells"),
            }
        };
    }
    by_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

#[expect(clippy::needless_range_loop, reason = "a constant number of steps over several arrays: registers")]
#[inline(always)]
fn fixed<S: Simd, P: Products, const NV: usize, const M: usize>(
    s: S,
    taps: Taps<'_>,
    offset: &[i32; 32],
    onto: bool,
    sums: &mut Sums,
) {
    let mut acc = [[s.splat(0); NV]; M];
    for m in 0..M {
        for v in 0..NV {
            let start = s.load(&offset[v * S::LANES..]);
            acc[m][v] = if onto { s.add(start, s.load(&sums.0[m][v * S::LANES..])) } else { start };
        }
    }
    let groups = taps.groups.min(CELL);
    let per_tap = groups * NV * S::LANES;
    for ky in taps.ky0..taps.ky1 {
        for kx in 0..taps.kernel {
            let cells = &taps.patch[ky * taps.row_cells + kx..][..M];
            let panel = &taps.panel[(ky * taps.kernel + kx) * per_tap..][..per_tap];
            for (g, weights) in panel.chunks_exact(NV * S::LANES).enumerate() {
                // Always so; keeps the bounds check of the cells out of their loop.
                let g = g & (CELL - 1);
                let mut w = [s.splat(0); NV];
                for v in 0..NV {
                    w[v] = s.load(&weights[v * S::LANES..]);
                }
                for m in 0..M {
                    let q = s.splat(cells[m].0[g]);
                    for v in 0..NV {
                        acc[m][v] = P::dot(s, acc[m][v], q, w[v]);
                    }
                }
            }
        }
    }
    for m in 0..M {
        for v in 0..NV {
            s.store(acc[m][v], &mut sums.0[m][v * S::LANES..]);
        }
    }
}
