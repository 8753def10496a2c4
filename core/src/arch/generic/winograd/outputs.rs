//! From sums of products to outputs.

use super::Rectangle;
use super::line::{CELLS, Line, OUTPUTS};
use super::products::Sums;
use crate::arch::generic::Simd;
use crate::arch::generic::conv::Finish;
use crate::ops::{Conv, ConvOut};

/// Tiles of a row that are finished together.
const TILES: usize = 4;
/// Accumulators of output rows: [rows][cells][outputs].
pub(super) type Rows = [[[i32; 32]; TILES * OUTPUTS]; OUTPUTS];
/// Inverse of 3 modulo 2^32.
const THIRD: i32 = 0xaaaa_aaabu32 as i32;

/// One vertical index of `tiles` tiles, from sums of products by horizontal index to [tiles][output columns][NV * LANES].
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
pub(super) fn across<S: Simd, B: Line, const NV: usize>(s: S, sums: &Sums, tiles: usize, partial: &mut [i32]) {
    for (tile, out) in partial.chunks_exact_mut(B::OUT * NV * S::LANES).enumerate().take(tiles) {
        for v in 0..NV {
            let mut m = [s.splat(0); CELLS];
            for j in 0..B::IN {
                m[j] = s.load(&sums[j][tile][v * S::LANES..]);
            }
            let y = B::outputs(s, m);
            for x in 0..B::OUT {
                s.store(y[x], &mut out[(x * NV + v) * S::LANES..]);
            }
        }
    }
}

/// Output channels `first .. first + count` of a rectangle.
pub(super) struct Strip<'a> {
    pub p: &'a Conv<'a>,
    pub part: &'a Rectangle,
    pub first: usize,
    pub count: usize,
    pub scale: &'a [f32],
    pub bias: &'a [f32],
}

impl Strip<'_> {
    /// All outputs of `partial`, [vertical indices][tiles][output columns][NV * LANES].
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    pub(super) fn each<S: Simd, A: Line, B: Line, const NV: usize>(
        &self,
        s: S,
        partial: &[i32],
        acc: &mut Rows,
        out: &mut ConvOut<'_>,
    ) {
        let (p, part) = (self.p, self.part);
        let cell = NV * S::LANES;
        let index = part.tiles() * B::OUT * cell;
        // Slices of one length, known to be: one check for all of them.
        macro_rules! index {
            ($i:literal) => {
                &partial[if $i < A::IN { $i } else { 0 } * index..][..index]
            };
        }
        let indices = [index!(0), index!(1), index!(2), index!(3), index!(4), index!(5)];
        for row in 0..part.rows {
            for column in (0..part.columns).step_by(TILES) {
                let tiles = (part.columns - column).min(TILES);
                let from = (row * part.columns + column) * B::OUT * cell;
                for tile in 0..tiles {
                    for x in 0..B::OUT {
                        for v in 0..NV {
                            let at = from + (tile * B::OUT + x) * cell + v * S::LANES;
                            let mut m = [s.splat(0); CELLS];
                            for i in 0..A::IN {
                                m[i] = s.load(&indices[i][at..]);
                            }
                            let y = A::outputs(s, m);
                            for r in 0..A::OUT {
                                let to = &mut acc[r][tile * B::OUT + x][v * S::LANES..];
                                s.store(exact::<S, A, B>(s, y[r], r, x), to);
                            }
                        }
                    }
                }
                let (y, x) = (part.top + row * A::OUT, part.left + column * B::OUT);
                for (y, acc) in (y..p.height).zip(&acc[..A::OUT]) {
                    let cells = (tiles * B::OUT).min(p.width - x);
                    let to = Finish {
                        channels: p.cout,
                        first: self.first,
                        count: self.count,
                        cell: y * p.width + x,
                        cells,
                        scale: self.scale,
                        bias: self.bias,
                        c: p.c,
                    };
                    to.put::<S, NV>(s, acc, out);
                }
            }
        }
    }
}

/// The accumulator of output (row, column) of a tile.
#[inline(always)]
fn exact<S: Simd, A: Line, B: Line>(s: S, enlarged: S::I, row: usize, column: usize) -> S::I {
    let inverse = const { (if A::THREE { THIRD } else { 1i32 }).wrapping_mul(if B::THREE { THIRD } else { 1 }) };
    let enlarged = if inverse == 1 { enlarged } else { s.mul(enlarged, s.splat(inverse)) };
    s.shift_right_signed(enlarged, A::SHIFT[row] + B::SHIFT[column])
}
