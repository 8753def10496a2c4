//! Products of an input in all lanes with a vector of weights.

use super::Simd;
#[cfg(target_arch = "x86_64")]
use super::panel::count;
use super::panel::{Products, Rows, transpose};
use super::tile::{CELL, Panel, Sums, Taps, load_sums, store_sums};

/// Four int8 inputs to a lane, with 128 added to make them unsigned.
#[cfg(target_arch = "x86_64")]
pub(in crate::arch) struct Bytes;

#[cfg(target_arch = "x86_64")]
impl<S: Simd> Products<S> for Bytes {
    const GROUP: usize = 4;
    const FLIP: u8 = 0x80;
    const BLOCKS: bool = true;
    const TILE: usize = S::TILE;

    #[inline(always)]
    fn pack<const NV: usize>(s: S, rows: Rows<'_>, panel: &mut [i32]) {
        transpose::<S, 4, NV>(s, rows, panel, |from| s.load_bytes(from));
    }

    #[inline(always)]
    fn count<const NV: usize>(s: S, panel: &[i32], sums: &mut [i32]) {
        let ones = s.splat(0x0101_0101);
        count::<S, NV>(s, panel, sums, |sum, weights| s.dot_bytes(sum, ones, weights));
    }

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(
        s: S,
        taps: &Taps<'_>,
        panel: Panel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        splat_tile::<S, NV, M>(s, taps, panel, start, sums, |sum, q, w| s.dot_bytes(sum, q, w));
    }
}

/// Two int16 inputs to a lane.
pub(in crate::arch) struct Words;

impl<S: Simd> Products<S> for Words {
    const GROUP: usize = 2;
    const TILE: usize = S::TILE;

    #[inline(always)]
    fn pack<const NV: usize>(s: S, rows: Rows<'_>, panel: &mut [i32]) {
        transpose::<S, 2, NV>(s, rows, panel, |from| s.load_words(from));
    }

    #[inline(always)]
    fn count<const NV: usize>(_: S, _: &[i32], _: &mut [i32]) {}

    #[inline(always)]
    fn tile<const NV: usize, const M: usize>(
        s: S,
        taps: &Taps<'_>,
        panel: Panel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        // Panels of words are never in the image: what is between two groups' weights is known here.
        let panel = Panel { stride: NV * S::LANES, lane: 0, ..panel };
        splat_tile::<S, NV, M>(s, taps, panel, start, sums, |sum, q, w| s.dot_words(sum, q, w));
    }
}

/// A tile with an input in all lanes: `dot` adds its products with a vector of weights.
#[inline(always)]
pub(super) fn splat_tile<S: Simd, const NV: usize, const M: usize>(
    s: S,
    taps: &Taps<'_>,
    panel: Panel<'_>,
    start: Option<&[i32]>,
    sums: &mut Sums,
    dot: impl Fn(S::I, S::I, S::I) -> S::I,
) {
    let mut acc = [[s.splat(0); NV]; M];
    load_sums(s, start, sums, &mut acc);
    let groups = taps.groups.min(CELL);
    let Panel { values, stride, lane } = panel;
    let per_tap = groups * stride;
    for ky in taps.ky0..taps.ky1 {
        for kx in 0..taps.kernel {
            let cells = &taps.rows[ky][kx..][..M];
            let panel = &values[(ky * taps.kernel + kx) * per_tap..][..per_tap];
            for (g, weights) in panel.chunks_exact(stride).enumerate() {
                let weights = &weights[lane..][..NV * S::LANES];
                // Always so; keeps the bounds check of the cells out of their loop.
                let g = g & (CELL - 1);
                let mut w = [s.splat(0); NV];
                for v in 0..NV {
                    w[v] = s.load(&weights[v * S::LANES..]);
                }
                for m in 0..M {
                    let q = s.splat(cells[m].0[g]);
                    for v in 0..NV {
                        acc[m][v] = dot(acc[m][v], q, w[v]);
                    }
                }
            }
        }
    }
    store_sums(s, &acc, sums);
}
