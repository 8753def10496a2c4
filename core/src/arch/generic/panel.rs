//! Weights in the order in which a tile of a convolution reads them, and how they meet the inputs.

use super::Simd;
use super::tile::{Panel, Row, Sums, Taps};

/// How the products of a convolution are made. The input is in cells of lanes of 32 bits, the weights in a panel
/// [taps][groups][NV * LANES outputs] of such lanes, where a group is the channels that share a lane of a cell; inside
/// [`UNIT`](Self::UNIT) channels a panel may have any order.
pub(crate) trait Products<S: Simd> {
    /// Channels in a lane of a cell.
    const GROUP: usize;
    /// Channels that are always multiplied together: the channels of a tap are padded with zeros to a multiple.
    const PAD: usize = Self::GROUP;
    /// Whether panels are [`blocks`](crate::ops::blocks), so that tiles can read those where they are.
    const BLOCKS: bool = false;
    /// Channels over which the order of a panel repeats.
    const UNIT: usize = Self::GROUP;
    /// Flips bits of each int8 input: 0x80 makes them unsigned, with 128 too much.
    const FLIP: u8 = 0;
    /// Most cells of a tile: with the sums of NV vectors of outputs for each, weights and inputs, the registers are full.
    const TILE: usize;
    /// Cells that are multiplied together: tiles are multiples of it where the row allows.
    const STEP: usize = 1;

    /// Writes a panel of one tap, or of all if they are contiguous: zeros at the tails.
    fn pack<const NV: usize>(s: S, rows: Rows<'_>, panel: &mut [i32]);
    /// Adds the sums of all weights of a panel to those of the outputs: [NV * LANES].
    fn count<const NV: usize>(s: S, panel: &[i32], sums: &mut [i32]);
    /// Writes lanes `lane` .. `lane` + LANES of cell `at` of the row's part under a tile of `tile` cells, where the tile will
    /// read them.
    #[inline(always)]
    fn put(s: S, row: &mut Row, at: usize, lane: usize, lanes: S::I, _tile: usize) {
        s.store(lanes, &mut row[at].0[lane..]);
    }
    /// Sums of M cells: from `start`, which is [NV * LANES], or on top of what `sums` holds, if there is none.
    fn tile<const NV: usize, const M: usize>(
        s: S,
        taps: &Taps<'_>,
        panel: Panel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    );
}

/// Groups of a tap of `channels` channels, with the padding.
#[inline(always)]
pub(super) fn groups<S: Simd, P: Products<S>>(channels: usize) -> usize {
    channels.next_multiple_of(P::PAD) / P::GROUP
}

/// Packs the weights of `taps` taps, each `cin` further in a row.
#[inline(always)]
pub(super) fn pack_taps<S: Simd, P: Products<S>, const NV: usize>(
    s: S,
    rows: Rows<'_>,
    taps: usize,
    cin: usize,
    panel: &mut [i32],
) {
    if rows.count == cin && cin.is_multiple_of(P::UNIT) {
        // The taps are contiguous.
        return s.pack::<P, NV>(Rows { count: taps * cin, ..rows }, panel);
    }
    let tap = groups::<S, P>(rows.count) * NV * S::LANES;
    for (tap, panel) in panel.chunks_exact_mut(tap).take(taps).enumerate() {
        s.pack::<P, NV>(Rows { from: rows.from + tap * cin, ..rows }, panel);
    }
}

/// `count` weights of each of up to NV * LANES rows, from `from` on.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub weights: &'a [i8],
    /// Distance between rows.
    pub stride: usize,
    /// Rows there are; the panel has zeros for the others.
    pub rows: usize,
    /// First weight of a row.
    pub from: usize,
    /// Weights of a row.
    pub count: usize,
}

#[cfg(target_arch = "aarch64")]
impl<'a> Rows<'a> {
    /// The weights of row `row`; none where there is no such row.
    #[inline(always)]
    pub(in crate::arch) fn row(&self, row: usize) -> &'a [i8] {
        if row >= self.rows { &[] } else { &self.weights[row * self.stride + self.from..][..self.count] }
    }
}

/// Writes panel [ceil(count / GROUP)][NV * LANES rows] of GROUP weights each: `load` gives those of a row, a lane a
/// group.
#[inline(always)]
pub(in crate::arch) fn transpose<S: Simd, const GROUP: usize, const NV: usize>(
    s: S,
    rows: Rows<'_>,
    panel: &mut [i32],
    load: impl Fn(&[i8]) -> S::I,
) {
    let groups = rows.count.div_ceil(GROUP);
    let wide = S::LANES * GROUP;
    for v in 0..NV {
        let first = v * S::LANES;
        let here = rows.rows.saturating_sub(first).min(S::LANES);
        let mut all = [&[][..]; 16];
        for (r, row) in all.iter_mut().enumerate().take(here) {
            *row = &rows.weights[(first + r) * rows.stride + rows.from..][..rows.count];
        }
        let whole = if here == S::LANES { rows.count / wide } else { 0 };
        for i in 0..whole {
            let mut square = s.square();
            for (vector, row) in square.as_mut().iter_mut().zip(all) {
                *vector = load(&row[i * wide..][..wide]);
            }
            s.transpose(&mut square);
            let panel = &mut panel[i * S::LANES * NV * S::LANES..][..S::LANES * NV * S::LANES];
            for (j, &mut vector) in square.as_mut().iter_mut().enumerate() {
                s.store(vector, &mut panel[(j * NV + v) * S::LANES..]);
            }
        }
        for group in (whole * S::LANES..groups).step_by(S::LANES) {
            let count = (rows.count - group * GROUP).min(wide);
            let mut square = s.square();
            for (vector, row) in square.as_mut().iter_mut().zip(all).take(here) {
                *vector = load(&row[group * GROUP..][..count]);
            }
            s.transpose(&mut square);
            let panel = panel[group * NV * S::LANES..].chunks_mut(NV * S::LANES).take(groups - group);
            for (panel, &mut vector) in panel.zip(square.as_mut()) {
                s.store(vector, &mut panel[v * S::LANES..]);
            }
        }
    }
}

/// Adds the sums of all weights of `panel`: `add` adds those of a vector.
#[cfg(not(target_arch = "wasm32"))]
#[inline(always)]
pub(in crate::arch) fn count<S: Simd, const NV: usize>(
    s: S,
    panel: &[i32],
    sums: &mut [i32],
    add: impl Fn(S::I, S::I) -> S::I,
) {
    let mut acc = [[s.splat(0); NV]; 4];
    // Four sums at a time hide the latency of one.
    let (fours, rest) = panel.split_at(panel.len() / (4 * NV * S::LANES) * (4 * NV * S::LANES));
    for four in fours.chunks_exact(4 * NV * S::LANES) {
        for i in 0..4 {
            for v in 0..NV {
                acc[i][v] = add(acc[i][v], s.load(&four[(i * NV + v) * S::LANES..]));
            }
        }
    }
    for one in rest.chunks_exact(NV * S::LANES) {
        for v in 0..NV {
            acc[0][v] = add(acc[0][v], s.load(&one[v * S::LANES..]));
        }
    }
    for v in 0..NV {
        let sum = s.add(s.add(acc[0][v], acc[1][v]), s.add(acc[2][v], acc[3][v]));
        let sums = &mut sums[v * S::LANES..];
        s.store(s.add(s.load(sums), sum), sums);
    }
}
