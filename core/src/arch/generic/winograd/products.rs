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
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
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
        let mut acc = [[s.splat(0); NV]; M];
        let rounds = p.cells.chunks_exact(p.tiles * IN).zip(p.panel.chunks_exact(p.per_round * group));
        for (cells, panel) in rounds {
            // The index is always below; keeps checks of bounds out of the loops.
            let round = Round { cells: &cells[p.first * IN + j..], panel, index: j.min(IN - 1) };
            s.round_of_products::<NV, IN, M>(round, &mut acc);
        }
        for m in 0..M {
            for v in 0..NV {
                s.store(acc[m][v], &mut sums[m][v * S::LANES..]);
            }
        }
    }
}

/// The products of a round for one horizontal index.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Round<'a> {
    /// Each tile's cell is as many behind the last one's as there are indices.
    pub(in crate::arch) cells: &'a [Cell],
    /// [groups][NV][horizontal indices][LANES].
    pub(in crate::arch) panel: &'a [i32],
    pub(in crate::arch) index: usize,
}

/// Adds the products of M tiles.
#[inline(always)]
pub(in crate::arch) fn round<S: Simd, const NV: usize, const IN: usize, const M: usize>(
    s: S,
    round: Round<'_>,
    acc: &mut [[S::I; NV]; M],
) {
    let (group, lane) = (NV * IN * S::LANES, round.index * S::LANES);
    let cells = &round.cells[..(M - 1) * IN + 1];
    macro_rules! step {
        ($g:expr, $weights:expr) => {
            let (g, weights) = ($g & (CELL - 1), $weights);
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
    let twos = round.panel.chunks_exact(2 * group);
    let last = twos.remainder();
    for (g, two) in twos.enumerate() {
        step!(2 * g, &two[..group]);
        step!(2 * g + 1, &two[group..]);
    }
    if !last.is_empty() {
        step!(round.panel.len() / group - 1, &last[..group]);
    }
}
