//! Sums of products over all channels: a tile of cells is some tiles of the picture here.

use super::line::CELLS;
use crate::arch::generic::Simd;
use crate::arch::generic::tile::{CELL, Cell};

/// Most tiles that are multiplied together.
pub(in crate::arch) const TILES: usize = 6;

/// Sums by horizontal index: [CELLS][TILES][NV * LANES].
pub(in crate::arch) type Sums = [[[i32; 32]; TILES]; CELLS];

/// The products of some tiles for one vertical index.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Products<'a> {
    /// [rounds][tiles][horizontal indices].
    pub(super) cells: &'a [Cell],
    /// Tiles there are, the first, and the number: at most `TILES`.
    pub(super) tiles: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    /// [rounds][groups of a round][NV][horizontal indices][LANES].
    pub(super) panel: &'a [i32],
    /// Groups of a round.
    pub(super) per_round: usize,
}

/// The sums for all of `IN` horizontal indices.
#[inline(always)]
pub(in crate::arch) fn sums<S: Simd, const NV: usize, const IN: usize>(s: S, p: Products<'_>, sums: &mut Sums) {
    match p.count {
        1 => tiles::<S, NV, IN, 1>(s, p, sums),
        2 => tiles::<S, NV, IN, 2>(s, p, sums),
        3 => tiles::<S, NV, IN, 3>(s, p, sums),
        4 => tiles::<S, NV, IN, 4>(s, p, sums),
        5 => tiles::<S, NV, IN, 5>(s, p, sums),
        6 => tiles::<S, NV, IN, 6>(s, p, sums),
        _ => unreachable!("1 to 6 tiles"),
    }
}

#[inline(always)]
fn tiles<S: Simd, const NV: usize, const IN: usize, const M: usize>(s: S, p: Products<'_>, sums: &mut Sums) {
    let group = NV * IN * S::LANES;
    for (j, sums) in sums.iter_mut().enumerate().take(IN) {
        // Always so, here and below; keeps checks of bounds out of the loop.
        let lane = j.min(IN - 1) * S::LANES;
        let mut acc = [[s.splat(0); NV]; M];
        let rounds = p.cells.chunks_exact(p.tiles * IN).zip(p.panel.chunks_exact(p.per_round * group));
        for (cells, panel) in rounds {
            let cells = &cells[p.first * IN + j..][..(M - 1) * IN + 1];
            macro_rules! step {
                ($g:expr, $weights:expr) => {
                    let (g, weights) = ($g, $weights);
                    let mut w = [s.splat(0); NV];
                    for v in 0..NV {
                        w[v] = s.load(&weights[v * IN * S::LANES + lane..]);
                    }
                    for m in 0..M {
                        let q = s.splat(cells[m * IN].0[g]);
                        for v in 0..NV {
                            acc[m][v] = s.dot_words(acc[m][v], q, w[v]);
                        }
                    }
                };
            }
            let twos = panel.chunks_exact(2 * group);
            let last = twos.remainder();
            for (g, two) in twos.enumerate() {
                let g = (2 * g) & (CELL - 2);
                step!(g, &two[..group]);
                step!(g + 1, &two[group..]);
            }
            if !last.is_empty() {
                step!((p.per_round - 1) & (CELL - 1), &last[..group]);
            }
        }
        for m in 0..M {
            for v in 0..NV {
                s.store(acc[m][v], &mut sums[m][v * S::LANES..]);
            }
        }
    }
}
