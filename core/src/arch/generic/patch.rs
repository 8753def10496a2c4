//! The inputs of a tile: the cells under its kernel, with the zero point around the picture, where it adds nothing to
//! the sums. Channels beyond what a cell holds come in further rounds.

use super::Simd;
use super::panel::Products;
use super::tile::{CELL, NONE, Row};

/// Rounds that the patch holds. Where there are more, each is copied again for each block of outputs.
pub(super) const HELD: usize = 2;

/// How inputs get into the patch.
pub(super) trait Source<S: Simd>: Copy {
    /// Element of the input.
    type Q: Copy;
    type Products: Products<S>;

    /// A vector's channels, or fewer.
    fn lanes(self, s: S, q: &[Self::Q]) -> S::I;
    /// Lanes of a cell outside the picture.
    fn outside(self) -> i32;
    /// What every input has too much.
    fn excess(self) -> i32;
}

/// int8 as bytes, with the zero point.
#[derive(Clone, Copy)]
pub(super) struct AsBytes {
    pub zp: i32,
}

impl<S: Simd> Source<S> for AsBytes {
    type Q = i8;
    type Products = S::Bytes;

    #[inline(always)]
    fn lanes(self, s: S, q: &[i8]) -> S::I {
        s.xor(s.load_bytes(q), s.splat(i32::from_le_bytes([<S::Bytes as Products<S>>::FLIP; 4])))
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        i32::from_le_bytes([self.zp as u8 ^ <S::Bytes as Products<S>>::FLIP; 4])
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        i32::from(<S::Bytes as Products<S>>::FLIP) + self.zp
    }
}

/// int8 as int16, without the zero point.
#[derive(Clone, Copy)]
pub(super) struct Widened {
    pub zp: i16,
}

impl<S: Simd> Source<S> for Widened {
    type Q = i8;
    type Products = S::Words;

    #[inline(always)]
    fn lanes(self, s: S, q: &[i8]) -> S::I {
        s.sub_words(s.load_words(q), s.splat(bytemuck::cast([self.zp; 2])))
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        0
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        0
    }
}

/// int16 as it is.
#[derive(Clone, Copy)]
pub(super) struct Wide;

impl<S: Simd> Source<S> for Wide {
    type Q = i16;
    type Products = S::Words;

    #[inline(always)]
    fn lanes(self, s: S, q: &[i16]) -> S::I {
        s.load_pairs(q)
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        0
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        0
    }
}

/// An input and where a column of tiles lies in it.
pub(super) struct Column<'a, Q> {
    pub input: &'a [Q],
    /// Cells of a row of the input.
    pub width: usize,
    /// Channels of the input.
    pub cin: usize,
    /// First cell and number of cells of a tile.
    pub x: usize,
    pub cells: usize,
    /// Cells beside the tile that the kernel reaches.
    pub pad: usize,
}

/// By round. Row r of the input is row r % 3: going down a column, each is copied once.
pub(super) struct Patch([[Row; 3]; HELD]);

impl Patch {
    pub(super) fn new() -> Self {
        Self([[NONE; 3]; HELD])
    }

    /// Cells of rows `first`, `first` + 1, `first` + 2.
    #[inline(always)]
    pub(super) fn rows(&self, round: usize, first: usize) -> [&Row; 3] {
        let [a, b, c] = &self.0[round];
        match first % 3 {
            0 => [a, b, c],
            1 => [b, c, a],
            _ => [c, a, b],
        }
    }

    /// Copies channels `from .. from + count` of row `row` of the column.
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(never))]
    pub(super) fn fill<S: Simd, Q: Source<S>>(
        &mut self,
        s: S,
        source: Q,
        column: &Column<'_, Q::Q>,
        row: usize,
        (round, from, count): (usize, usize, usize),
    ) {
        let Column { input, width, cin, x, cells, pad } = *column;
        let to = &mut self.0[round][row % 3];
        let input = &input[row * width * cin..][..width * cin];
        // The part of the row that is in the picture.
        let (left, right) = (pad.saturating_sub(x), (cells + 2 * pad).min(width + pad - x));
        for at in (0..left).chain(right..cells + 2 * pad) {
            for lane in (0..CELL).step_by(S::LANES) {
                Q::Products::put(s, to, at, lane, s.splat(source.outside()), cells);
            }
        }
        let vector = S::LANES * Q::Products::GROUP;
        for (at, q) in (left..right).zip(input[(x + left - pad) * cin..].chunks_exact(cin)) {
            for (lane, q) in (0..CELL).step_by(S::LANES).zip(q[from..][..count].chunks(vector)) {
                Q::Products::put(s, to, at, lane, source.lanes(s, q), cells);
            }
        }
    }
}
