//! The inputs of a tile: the cells under its kernel, with the zero point around the picture, where it adds nothing to
//! the sums. Channels beyond what a cell holds come in further rounds.

use super::Simd;
use super::panel::Products;
use super::tile::{CELL, Cell, MAX_TILE};

/// Cells of a row: a tile and its neighbours, and one more, which pairs of cells may need.
pub(super) const ROW: usize = MAX_TILE + 2;
/// Rounds that the patch holds. Where there are more, each is copied again for each block of outputs.
pub(super) const HELD: usize = 2;

/// How inputs get into the patch.
pub(super) trait Source<S: Simd>: Copy {
    /// Element of the input.
    type Q: Copy;
    type Products: Products<S>;

    /// The channels `q` of one cell.
    fn fill(self, s: S, cell: &mut Cell, q: &[Self::Q]);
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
    fn fill(self, s: S, cell: &mut Cell, q: &[i8]) {
        let flip = s.splat(i32::from_le_bytes([<S::Bytes as Products<S>>::FLIP; 4]));
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(4 * S::LANES)) {
            s.store(s.xor(s.load_bytes(q), flip), lanes);
        }
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
    fn fill(self, s: S, cell: &mut Cell, q: &[i8]) {
        let zp = s.splat(bytemuck::cast([self.zp; 2]));
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(2 * S::LANES)) {
            s.store(s.sub_words(s.load_words(q), zp), lanes);
        }
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
    fn fill(self, s: S, cell: &mut Cell, q: &[i16]) {
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(2 * S::LANES)) {
            s.store(s.load_pairs(q), lanes);
        }
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

/// [HELD rounds][3 rows][ROW]. Row r of the input is row r % 3: going down a column, each is copied once.
pub(super) struct Patch([Cell; HELD * 3 * ROW]);

impl Patch {
    pub(super) fn new() -> Self {
        Self([Cell([0; CELL]); HELD * 3 * ROW])
    }

    /// Cells of row `row`.
    #[inline(always)]
    pub(super) fn row(&self, round: usize, row: usize) -> &[Cell] {
        &self.0[(round * 3 + row % 3) * ROW..][..ROW]
    }

    /// Copies channels `from .. from + count` of row `row` of the column.
    #[inline(always)]
    pub(super) fn fill<S: Simd, Q: Source<S>>(
        &mut self,
        s: S,
        source: Q,
        column: &Column<'_, Q::Q>,
        row: usize,
        (round, from, count): (usize, usize, usize),
    ) {
        let Column { input, width, cin, x, cells, pad } = *column;
        let to = &mut self.0[(round * 3 + row % 3) * ROW..][..ROW];
        let input = &input[row * width * cin..][..width * cin];
        let mut cell = Cell([source.outside(); CELL]);
        for at in 0..cells + 2 * pad {
            if (pad..width + pad).contains(&(x + at)) {
                source.fill(s, &mut cell, &input[(x + at - pad) * cin + from..][..count]);
                Q::Products::place(to, &cell, at, cells);
            } else {
                Q::Products::place(to, &Cell([source.outside(); CELL]), at, cells);
            }
        }
    }
}
