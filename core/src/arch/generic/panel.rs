//! Weights in the order in which a tile of a convolution reads them.

use super::Simd;

/// How the products of a convolution are made: the input and weights that share a lane of 32 bits.
pub(crate) trait Products {
    /// Weights in a lane.
    const GROUP: usize;

    /// `GROUP` weights to a lane.
    fn load<S: Simd>(s: S, from: &[i8]) -> S::I;
    fn dot<S: Simd>(s: S, sum: S::I, inputs: S::I, weights: S::I) -> S::I;
    /// Adds a vector of weights to their sums, where inputs carry an offset that is to be taken off afterwards.
    fn count<S: Simd>(s: S, sum: S::I, weights: S::I) -> S::I;
}

/// Four int8 inputs to a lane, with 128 added to make them unsigned.
pub(super) struct Bytes;

impl Products for Bytes {
    const GROUP: usize = 4;

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[i8]) -> S::I {
        s.load_bytes(from)
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, sum: S::I, inputs: S::I, weights: S::I) -> S::I {
        s.dot_bytes(sum, inputs, weights)
    }

    #[inline(always)]
    fn count<S: Simd>(s: S, sum: S::I, weights: S::I) -> S::I {
        s.dot_bytes(sum, s.splat(0x0101_0101), weights)
    }
}

/// Two int16 inputs to a lane.
pub(super) struct Words;

impl Products for Words {
    const GROUP: usize = 2;

    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[i8]) -> S::I {
        s.load_words(from)
    }

    #[inline(always)]
    fn dot<S: Simd>(s: S, sum: S::I, inputs: S::I, weights: S::I) -> S::I {
        s.dot_words(sum, inputs, weights)
    }

    #[inline(always)]
    fn count<S: Simd>(_: S, sum: S::I, _: S::I) -> S::I {
        sum
    }
}

/// `count` weights of each of up to NV * LANES rows, from `from` on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
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

/// Writes panel [ceil(count / GROUP)][NV * LANES rows] of GROUP weights each, zeros at the tails.
#[inline(always)]
pub(super) fn pack<S: Simd, P: Products, const NV: usize>(s: S, rows: Rows<'_>, panel: &mut [i32]) {
    let groups = rows.count.div_ceil(P::GROUP);
    for v in 0..NV {
        let first = v * S::LANES;
        let here = rows.rows.saturating_sub(first).min(S::LANES);
        for group in (0..groups).step_by(S::LANES) {
            let from = rows.from + group * P::GROUP;
            let count = (rows.count - group * P::GROUP).min(S::LANES * P::GROUP);
            let mut square = s.square();
            for (r, vector) in square.as_mut().iter_mut().enumerate().take(here) {
                let start = (first + r) * rows.stride + from;
                *vector = P::load(s, &rows.weights[start..start + count]);
            }
            s.transpose(&mut square);
            let panel = panel[group * NV * S::LANES..].chunks_mut(NV * S::LANES).take(groups - group);
            for (panel, &mut vector) in panel.zip(square.as_mut()) {
                s.store(vector, &mut panel[v * S::LANES..]);
            }
        }
    }
}

/// Adds the sums of all weights of `panel`.
#[inline(always)]
pub(super) fn count<S: Simd, P: Products, const NV: usize>(s: S, panel: &[i32], sums: &mut [i32; 32]) {
    let mut acc = [[s.splat(0); NV]; 4];
    // Four sums at a time hide the latency of one.
    let (fours, rest) = panel.split_at(panel.len() / (4 * NV * S::LANES) * (4 * NV * S::LANES));
    for four in fours.chunks_exact(4 * NV * S::LANES) {
        for i in 0..4 {
            for v in 0..NV {
                acc[i][v] = P::count(s, acc[i][v], s.load(&four[(i * NV + v) * S::LANES..]));
            }
        }
    }
    for one in rest.chunks_exact(NV * S::LANES) {
        for v in 0..NV {
            acc[0][v] = P::count(s, acc[0][v], s.load(&one[v * S::LANES..]));
        }
    }
    for v in 0..NV {
        let sum = s.add(s.add(acc[0][v], acc[1][v]), s.add(acc[2][v], acc[3][v]));
        let sums = &mut sums[v * S::LANES..];
        s.store(s.add(s.load(sums), sum), sums);
    }
}
