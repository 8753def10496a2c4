//! One dimension of Winograd's algorithm: some outputs of three taps, without a fraction anywhere.

use super::Simd;

/// Most cells and most outputs of a dimension.
pub(in crate::arch) const CELLS: usize = 6;
pub(super) const OUTPUTS: usize = 4;

/// F(OUT, 3). Arrays are as long as the longest dimension needs; what is behind `IN` or `OUT` is not used.
pub(super) trait Line {
    /// Outputs.
    const OUT: usize;
    /// Cells, and products.
    const IN: usize;
    /// Output i comes out 2^SHIFT\[i\] times too large,
    const SHIFT: [u32; OUTPUTS];
    /// and 3 times, if so.
    const THREE: bool;

    /// The cells' side of the products, of int16 lanes.
    fn cells<S: Simd>(s: S, d: [S::I; CELLS]) -> [S::I; CELLS];
    /// The weights' side of product `I`, of int16 lanes.
    fn weight<S: Simd, const I: usize>(s: S, g: [S::I; 3]) -> S::I;
    /// The weights' side of all products.
    #[inline(always)]
    fn weights<S: Simd>(s: S, g: [S::I; 3]) -> [S::I; CELLS] {
        [
            Self::weight::<S, 0>(s, g),
            Self::weight::<S, 1>(s, g),
            Self::weight::<S, 2>(s, g),
            Self::weight::<S, 3>(s, g),
            Self::weight::<S, 4>(s, g),
            Self::weight::<S, 5>(s, g),
        ]
    }
    /// Enlarged outputs from sums of products, of int32 lanes, modulo 2^32.
    fn outputs<S: Simd>(s: S, m: [S::I; CELLS]) -> [S::I; OUTPUTS];
}

/// 2 x, of int16 lanes.
#[inline(always)]
fn twice<S: Simd>(s: S, x: S::I) -> S::I {
    s.add_words(x, x)
}

/// 2 x, of int32 lanes.
#[inline(always)]
fn double<S: Simd>(s: S, x: S::I) -> S::I {
    s.add(x, x)
}

/// F(2, 3).
pub(super) struct Two;

impl Line for Two {
    const OUT: usize = 2;
    const IN: usize = 4;
    const SHIFT: [u32; OUTPUTS] = [1, 1, 0, 0];
    const THREE: bool = false;

    #[inline(always)]
    fn cells<S: Simd>(s: S, [d0, d1, d2, d3, ..]: [S::I; CELLS]) -> [S::I; CELLS] {
        let zero = s.splat(0);
        [s.sub_words(d0, d2), s.add_words(d1, d2), s.sub_words(d2, d1), s.sub_words(d3, d1), zero, zero]
    }

    #[inline(always)]
    fn weight<S: Simd, const I: usize>(s: S, [g0, g1, g2]: [S::I; 3]) -> S::I {
        match I {
            0 => s.add_words(g0, g0),
            1 => s.add_words(s.add_words(g0, g2), g1),
            2 => s.sub_words(s.add_words(g0, g2), g1),
            _ => s.add_words(g2, g2),
        }
    }

    #[inline(always)]
    fn outputs<S: Simd>(s: S, [m0, m1, m2, m3, ..]: [S::I; CELLS]) -> [S::I; OUTPUTS] {
        let zero = s.splat(0);
        [s.add(m0, s.add(m1, m2)), s.add(s.sub(m1, m2), m3), zero, zero]
    }
}

/// F(4, 3).
pub(super) struct Four;

impl Line for Four {
    const OUT: usize = 4;
    const IN: usize = 6;
    const SHIFT: [u32; OUTPUTS] = [3, 2, 1, 1];
    const THREE: bool = true;

    #[inline(always)]
    fn cells<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::I; CELLS]) -> [S::I; CELLS] {
        // d4 - d2 and 2 (d3 - d1) are in two products each.
        let (even, odd) = (s.sub_words(d4, d2), twice(s, s.sub_words(d3, d1)));
        [
            s.add_words(twice(s, twice(s, s.sub_words(d0, d2))), even),
            s.sub_words(s.add_words(d3, d4), twice(s, twice(s, s.add_words(d1, d2)))),
            s.add_words(twice(s, twice(s, s.sub_words(d1, d2))), s.sub_words(d4, d3)),
            s.add_words(even, odd),
            s.sub_words(even, odd),
            s.sub_words(s.sub_words(d5, d3), twice(s, odd)),
        ]
    }

    #[inline(always)]
    fn weight<S: Simd, const I: usize>(s: S, [g0, g1, g2]: [S::I; 3]) -> S::I {
        match I {
            0 => g0,
            1 => s.add_words(s.add_words(g0, g2), g1),
            2 => s.sub_words(s.add_words(g0, g2), g1),
            3 => s.add_words(s.add_words(g0, twice(s, twice(s, g2))), twice(s, g1)),
            4 => s.sub_words(s.add_words(g0, twice(s, twice(s, g2))), twice(s, g1)),
            _ => g2,
        }
    }

    #[inline(always)]
    fn outputs<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: [S::I; CELLS]) -> [S::I; OUTPUTS] {
        let (a, b, c, d) = (s.add(m1, m2), s.sub(m1, m2), s.add(m3, m4), s.sub(m3, m4));
        let (m0, m5) = (s.add(double(s, m0), m0), s.add(double(s, m5), m5));
        [
            s.add(c, double(s, s.sub(m0, double(s, a)))),
            s.sub(d, double(s, b)),
            s.sub(c, a),
            s.sub(double(s, s.add(d, m5)), b),
        ]
    }
}
