//! 3x3 convolution of int8 as F(2x2, 3x3) or F(4x2, 3x3) in int16, with exactly the accumulators of the direct sum.
//!
//! One dimension: two outputs of three taps g0 g1 g2 over four cells d0 d1 d2 d3 are, without a fraction anywhere,
//!
//! ```text
//! M0 = 2 (d0 - d2) g0    M1 = (d1 + d2) (g0 + g1 + g2)    M2 = (d2 - d1) (g0 - g1 + g2)    M3 = 2 (d3 - d1) g2
//! 2 y0 = M0 + M1 + M2    2 y1 = M1 - M2 + M3
//! ```
//!
//! and four outputs over six cells
//!
//! ```text
//! M0 = (4 (d0 - d2) + (d4 - d2)) g0                  M1 = (d3 + d4 - 4 (d1 + d2)) (g0 + g1 + g2)
//! M2 = (4 (d1 - d2) + (d4 - d3)) (g0 - g1 + g2)      M3 = (2 (d3 - d1) + (d4 - d2)) (g0 + 2 g1 + 4 g2)
//! M4 = (2 (d1 - d3) + (d4 - d2)) (g0 - 2 g1 + 4 g2)  M5 = (4 (d1 - d3) + (d5 - d3)) g2
//! A = M1 + M2    B = M1 - M2    C = M3 + M4    D = M3 - M4
//! 8 y0 = (C - 4 A) / 3 + 2 M0    4 y1 = (D - 2 B) / 3    2 y2 = (C - A) / 3    2 y3 = (2 D - B) / 3 + 2 M5
//! ```
//!
//! F(2x2) is the first in both dimensions, 4 products per output instead of 9; F(4x2) the second down and the first
//! across, 3 per output. The accumulators that come out are 4 times those of the direct sum, or 16, 8, 4, 4 times by row.
//!
//! **Exactness.** All sums wrap modulo 2^32, in which additions, subtractions and multiplications by integers are exact.
//! So are divisions by 3, where the quotient is an integer, as multiplications by the inverse of 3. What comes out is
//! 2^s acc modulo 2^32, with s = 2 for F(2x2) and 4, 3, 2, 2 for the rows of F(4x2); it is the number itself as soon as that
//! fits i32: |acc| <= 9 * 255 * 128 * cin, so for cin up to [`Method::max_cin`]. The power of two goes into the scale.
//!
//! **Operands.** They are exact in i16. With q - zp at most 255 in magnitude: F(2x2) at most 4 * 2 * 255 = 2040 (two differences,
//! one of them doubled twice over), F(4x2) at most 10 * 4 * 255 = 10200. The weights: 9 * 128 = 1152, and
//! 7 * 3 * 128 = 2688. The cells enter as they are stored; in every combination but one the zero point cancels, and
//! there it is taken out (before that, the numbers are within 10 * 2 * 128).
//!
//! **Order.** For each vertical index the cells of a chunk of tiles are transformed and stay; the weights of four output
//! channels after the other are transformed and pass; the sums enter planes of partial outputs, in an order in which
//! three planes are enough for four rows (two for two). Rows go out as soon as they are complete. Indices that only
//! serve rows outside the picture are left out. So the scratch holds one index of the cells and of four channels'
//! weights, and the partial outputs of a group of output channels.

mod cells;
mod product;
mod weights;

use core::ops::Range;

use super::conv::{Lines, Sink};
use super::panel::CHANNELS;
use crate::ops::Conv;
use crate::part::{cut, part, part_mut, rest, rest_mut};
use cells::{Combine, Strip};
use product::{BEHIND, Edges, PLANE, Rows};
use weights::Taps;

/// Rows of a tile; all have two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// F(2x2)
    Two,
    /// F(4x2)
    Four,
}

/// Whether F(2x2) is there: a firmware can do without, see the feature in `Cargo.toml`.
const WITH_TWO: bool = cfg!(feature = "winograd-2x2");

/// One vertical index: the input rows that are combined, counted from the one above the tile; how; the taps; what
/// becomes of the sums; which output rows are complete then: the row, its s (see above), where it lies.
struct Index {
    rows: [isize; 4],
    combine: Combine,
    taps: Taps,
    enter: Rows,
    done: &'static [(usize, u32, Place)],
}

/// Where complete rows lie: in which plane; then from which number of the planes, or of the spare one, on.
#[derive(Clone, Copy)]
enum Place {
    Plane(usize),
    Spare(usize),
}

/// M1, M2, M0, M3.
const TWO: [Index; 4] = [
    Index { rows: [1, 2, 1, 2], combine: Combine::Sum, taps: Taps::Plus, enter: Rows::Keep(0), done: &[] },
    Index {
        rows: [2, 1, 2, 1],
        combine: Combine::Difference,
        taps: Taps::Minus,
        enter: Rows::SumDifference,
        done: &[],
    },
    Index {
        rows: [0, 2, 0, 2],
        combine: Combine::Difference,
        taps: Taps::Top,
        enter: Rows::Finish(0),
        done: &[(0, 2, Place::Plane(0))],
    },
    Index {
        rows: [3, 1, 3, 1],
        combine: Combine::Difference,
        taps: Taps::Bottom,
        enter: Rows::Finish(1),
        done: &[(1, 2, Place::Plane(1))],
    },
];

/// M1, M2, M3, M4, M0, M5.
const FOUR: [Index; 6] = [
    Index { rows: [1, 2, 3, 4], combine: Combine::Outer, taps: Taps::Plus, enter: Rows::Keep(0), done: &[] },
    Index { rows: [1, 2, 4, 3], combine: Combine::Four, taps: Taps::Minus, enter: Rows::SumDifference, done: &[] },
    Index { rows: [3, 1, 4, 2], combine: Combine::Two, taps: Taps::PlusTwo, enter: Rows::Keep(2), done: &[] },
    Index {
        rows: [1, 3, 4, 2],
        combine: Combine::Two,
        taps: Taps::MinusTwo,
        enter: Rows::Middle,
        done: &[(1, 3, Place::Plane(2)), (2, 2, Place::Spare(0))],
    },
    Index {
        rows: [0, 2, 4, 2],
        combine: Combine::Four,
        taps: Taps::Top,
        enter: Rows::Finish(0),
        done: &[(0, 4, Place::Plane(0))],
    },
    Index {
        rows: [1, 3, 5, 3],
        combine: Combine::Four,
        taps: Taps::Bottom,
        enter: Rows::Finish(1),
        done: &[(3, 2, Place::Plane(1))],
    },
];

impl Method {
    /// Output rows of a tile.
    const fn rows(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    const fn indices(self) -> &'static [Index] {
        match self {
            Self::Two => &TWO,
            Self::Four => &FOUR,
        }
    }

    /// Planes of partial outputs.
    const fn planes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 3,
        }
    }

    /// Words of spare planes for a tile pair.
    const fn spare(self) -> usize {
        match self {
            Self::Two => 0,
            Self::Four => PLANE,
        }
    }

    /// Most input channels for which the enlarged accumulators fit i32.
    pub const fn max_cin(self) -> usize {
        let most = match self {
            Self::Two => 4,
            Self::Four => 16,
        };
        i32::MAX as usize / (most * 9 * 255 * 128)
    }

    /// Tile pairs of `tiles` that index `i` needs, from the first on.
    fn needed(self, p: &Conv<'_>, i: usize) -> usize {
        let across = p.width.div_ceil(2);
        // The first row that is complete only with this index.
        let row = match self.indices().get(i).map_or(&[][..], |index| index.done) {
            [(row, ..), ..] if i + 1 == self.indices().len() => *row,
            _ => 0,
        };
        // Tile rows of which that row is within the picture.
        p.height.saturating_sub(row).div_ceil(self.rows()) * across
    }
}

/// How the scratch is cut.
#[derive(Debug)]
pub struct Plan {
    pub method: Method,
    /// Tile pairs of a chunk.
    tile_pairs: usize,
    /// Blocks of four output channels whose outputs wait together.
    blocks: usize,
    /// Instructions, estimated.
    pub cost: u64,
}

/// Bytes of a row outside the picture, or of the last row's copy: words of whole groups can be read from each cell.
fn row_bytes(p: &Conv<'_>) -> usize {
    (p.width * p.cin + 3).next_multiple_of(8)
}

impl Plan {
    /// The cheapest way; `None` for layers that do not go this way, or when `words` of scratch hold no tile.
    pub fn new(p: &Conv<'_>, words: usize) -> Option<Self> {
        let two = if WITH_TWO { Self::of(Method::Two, p, words) } else { None };
        let four = Self::of(Method::Four, p, words);
        match (two, four) {
            (Some(two), Some(four)) => Some(if four.cost < two.cost { four } else { two }),
            (two, four) => two.or(four),
        }
    }

    /// The cheapest way of a method.
    pub fn of(method: Method, p: &Conv<'_>, words: usize) -> Option<Self> {
        // Whole groups of channels are read, up to three bytes behind a row: they have to be in the next one.
        if p.kernel != 3 || p.cin == 0 || p.cin > method.max_cin() || p.height == 0 || p.width * p.cin < 4 {
            return None;
        }
        let groups = p.cin.div_ceil(4);
        let copies = if p.cin.is_multiple_of(4) { 1 } else { 2 };
        // One more for alignment.
        let fixed = copies * row_bytes(p) / 4 + groups * 2 * 16 + BEHIND + 1 + weights::room(p);
        let left = words.checked_sub(fixed)?;
        let all_pairs = (p.height.div_ceil(method.rows()) * p.width.div_ceil(2)).div_ceil(2);
        let all_blocks = p.cout.div_ceil(CHANNELS);
        let costs = Cost::of(method, p);
        let mut best: Option<Self> = None;
        let mut last = usize::MAX;
        for rounds in 1..=all_blocks {
            let blocks = all_blocks.div_ceil(rounds);
            let most = left / (groups * 16 + method.planes() * blocks * PLANE + method.spare()).max(1);
            if blocks == last || most == 0 {
                continue;
            }
            last = blocks;
            let chunks = all_pairs.div_ceil(most);
            let cost = costs.sum(chunks, rounds);
            if best.as_ref().is_none_or(|best| cost < best.cost) {
                best = Some(Self { method, tile_pairs: all_pairs.div_ceil(chunks.max(1)), blocks, cost });
            }
            // More rounds transform the cells more often, for nothing.
            if chunks == 1 {
                break;
            }
        }
        best
    }
}

/// Instructions of a layer by the counts of the assembly: per four channels of a channel's weights, which pass once for
/// each chunk; per four channels of a tile's cells, once for each round; per tile pair and block of the products. An output
/// costs the same everywhere.
struct Cost {
    chunk: u64,
    round: u64,
    products: u64,
}

impl Cost {
    fn of(method: Method, p: &Conv<'_>) -> Self {
        let (groups, blocks) = (p.cin.div_ceil(4), p.cout.div_ceil(CHANNELS));
        let (cells, weights, rows) = match method {
            Method::Two => (48, 150, 24),
            Method::Four => (68, 265, 45),
        };
        let indices = method.indices().len();
        // Four bits: 38 instructions for 32 weights of nine taps, or of three for the outer two indices.
        let taps = 9 * (indices - 2) + 3 * 2;
        let decoding = p.weights.room(taps * 4 * 38 / 32);
        let chunk = (weights + decoding) * p.cout * groups + blocks * indices * 150;
        let (mut tiles, mut tile_pairs) = (0, 0);
        for i in 0..indices {
            let needed = method.needed(p, i);
            tiles += needed;
            tile_pairs += needed.div_ceil(2);
        }
        let products = tile_pairs * blocks * (4 * 22 * groups + 50 + 2 * rows);
        Self { chunk: chunk as u64, round: (tiles * groups * cells) as u64, products: products as u64 }
    }

    fn sum(&self, chunks: usize, rounds: usize) -> u64 {
        self.chunk * chunks as u64 + self.round * rounds as u64 + self.products
    }
}

/// Runs the convolution in `scratch`, of the length that the plan was made for.
pub fn run(p: &Conv<'_>, input: &[i8], plan: &Plan, scratch: &mut [u32], sink: &mut Sink<'_>) {
    let method = plan.method;
    let groups = p.cin.div_ceil(4);
    let row = p.width * p.cin;
    require!(p.height > 0 && input.len() >= p.height * row);
    // The panel of cells is aligned to 8 bytes: everything before it is a multiple of that.
    let odd = scratch.as_ptr().addr() / 4 % 2;
    let (outside, left) = cut(rest_mut(scratch, odd), row_bytes(p) / 4);
    let (last, left) = cut(left, if p.cin.is_multiple_of(4) { 0 } else { row_bytes(p) / 4 });
    let (weights, left) = cut(left, groups * 2 * 16 + BEHIND);
    let (room, left) = cut(left, weights::room(p));
    let (cells, left) = cut(left, plan.tile_pairs * groups * 16);
    let (planes, left) = cut(left, plan.blocks * method.planes() * plan.tile_pairs * PLANE);
    let spare = part_mut(left, 0, plan.tile_pairs * method.spare());
    let spare: &mut [i32] = bytemuck::try_cast_slice_mut(spare).unwrap_or_default();
    let planes: &mut [i32] = bytemuck::try_cast_slice_mut(planes).unwrap_or_default();
    // Four zero points to a word.
    outside.fill(u32::from(p.zp as u8) * 0x0101_0101);
    let outside: &mut [i8] = bytemuck::try_cast_slice_mut(outside).unwrap_or_default();
    if !last.is_empty() {
        // Reading whole groups of channels goes beyond the last cell's end: not in this copy.
        last.fill(0);
    }
    let last: &mut [i8] = bytemuck::try_cast_slice_mut(last).unwrap_or_default();
    if !last.is_empty() {
        last.iter_mut().zip(part(input, (p.height - 1) * row, row)).for_each(|(last, &cell)| *last = cell);
    }
    let picture = Picture { p, input, outside, last };

    let across = p.width.div_ceil(2);
    let tiles = p.height.div_ceil(method.rows()) * across;
    let mut done = Done::new();
    for first in (0..tiles).step_by((2 * plan.tile_pairs).max(1)) {
        for channel in (0..p.cout).step_by((CHANNELS * plan.blocks).max(1)) {
            for (i, index) in method.indices().iter().enumerate() {
                let end = tiles.min(first + 2 * plan.tile_pairs).min(method.needed(p, i));
                if end <= first {
                    continue;
                }
                picture.transform(method, index, first, end, cells);
                let shape = product::Shape {
                    pairs: groups * 2,
                    tile_pairs: (end - first).div_ceil(2),
                    rows: index.enter,
                    edges: Edges::new(p.width, first / 2),
                    stride: plan.tile_pairs,
                };
                done.set(p, method.rows(), index.done, first..end, plan.tile_pairs);
                let source = weights::Source::new(p, index.taps, room);
                let (Some(source), Some(product)) = (source, product::Product::new(weights, cells, shape)) else {
                    return;
                };
                let mut pass = Pass { weights: source, product, done: &done };
                let channels = (channel..p.cout).step_by(CHANNELS);
                let planes = planes.chunks_exact_mut((method.planes() * plan.tile_pairs * PLANE).max(1));
                pass.channels(channels.zip(planes), spare, sink);
            }
        }
    }
}

/// One vertical index of a chunk, for output channels by fours.
struct Pass<'a> {
    weights: weights::Source<'a>,
    product: product::Product<'a>,
    done: &'a Done,
}

impl Pass<'_> {
    /// The output channels from each first one of four on, with their planes. A function of its own: what it needs is in
    /// registers, or a step away.
    #[inline(never)]
    fn channels<'p>(
        &mut self,
        channels: impl Iterator<Item = (usize, &'p mut [i32])>,
        spare: &mut [i32],
        sink: &mut Sink<'_>,
    ) {
        for (channel, planes) in channels {
            self.weights.transform(channel, self.product.weights());
            self.product.run(planes, spare);
            for (lines, shift, place) in self.done.lines.iter().take(self.done.count) {
                let acc = match *place {
                    Place::Plane(at) => rest(planes, at),
                    Place::Spare(at) => rest(spare, at),
                };
                sink.channels(channel, *shift);
                sink.lines(lines, acc);
            }
        }
    }
}

/// The rows that are complete after an index: what to store, s, and where it lies.
struct Done {
    lines: [(Lines, u32, Place); MOST],
    count: usize,
}

/// Two rows, each of part of a tile row, whole ones, and part of one.
const MOST: usize = 2 * 3;

impl Done {
    fn new() -> Self {
        Self { lines: [(Lines::default(), 0, Place::Spare(0)); MOST], count: 0 }
    }

    /// Of the tiles `tiles`, each of `rows` rows, in planes [tile][column 2][4] of `stride` tile pairs.
    fn set(&mut self, p: &Conv<'_>, rows: usize, complete: &[(usize, u32, Place)], tiles: Range<usize>, stride: usize) {
        let across = p.width.div_ceil(2);
        self.count = 0;
        for &(row, shift, place) in complete {
            // Tile rows that have that row, and their tiles.
            let end = tiles.end.min(p.height.saturating_sub(row).div_ceil(rows) * across);
            let mut tile = tiles.start;
            while tile < end {
                let (y, column, left) = (tile / across.max(1) * rows + row, tile % across.max(1), end - tile);
                // Whole tile rows together, or what there is of one.
                let whole = column == 0 && left >= across;
                let (lines, count) =
                    if whole { (left / across.max(1), across) } else { (1, left.min(across - column)) };
                let at = Lines {
                    cell: y * p.width + 2 * column,
                    cells: (2 * count).min(p.width - 2 * column),
                    lines,
                    stride: rows * p.width,
                    acc_stride: 2 * count,
                };
                let acc = (tile - tiles.start) * PLANE / 2;
                let place = match place {
                    Place::Plane(plane) => Place::Plane(plane * stride * PLANE + acc),
                    Place::Spare(_) => Place::Spare(acc),
                };
                if let Some(line) = self.lines.get_mut(self.count) {
                    *line = (at, shift, place);
                    self.count += 1;
                }
                tile += lines * count;
            }
        }
    }
}

/// Tiles of one tile row.
struct Piece {
    /// The first tile's number, and its place: tile row and tile column.
    tile: usize,
    row: usize,
    column: usize,
    count: usize,
}

/// The tiles `first..end`, by tile rows.
fn strips(first: usize, end: usize, across: usize) -> impl Iterator<Item = Piece> {
    let mut tile = first;
    core::iter::from_fn(move || {
        let (row, column) = (tile / across.max(1), tile % across.max(1));
        let count = (across - column).min(end - tile);
        let piece = Piece { tile, row, column, count };
        tile += count;
        (count > 0).then_some(piece)
    })
}

/// The input, and what stands for rows that are not there.
struct Picture<'a> {
    p: &'a Conv<'a>,
    input: &'a [i8],
    /// A row of cells that hold the zero point.
    outside: &'a [i8],
    /// The last row, where channels are not whole groups; else nothing.
    last: &'a [i8],
}

impl Picture<'_> {
    /// From byte `x` of a row on, `row` from the top.
    fn row(&self, row: isize, x: usize) -> &[i8] {
        let p = self.p;
        let bytes = p.width * p.cin;
        match usize::try_from(row) {
            Ok(row) if row + 1 == p.height && !self.last.is_empty() => rest(self.last, x),
            Ok(row) if row < p.height => rest(self.input, row * bytes + x),
            _ => rest(self.outside, x),
        }
    }

    /// Tiles `first..end` into `panel` [tile pair][channel pair][slot 4][tile of the pair 2].
    fn transform(&self, method: Method, index: &Index, first: usize, end: usize, panel: &mut [u32]) {
        let p = self.p;
        let (width, groups) = (p.width, p.cin.div_ceil(4));
        let block = groups * 16;
        require!(panel.len() >= (end - first).div_ceil(2) * block && panel.as_ptr().addr().is_multiple_of(8));
        let (outside, zero) = Strip::zeros(index.combine, p.zp);
        for piece in strips(first, end, width.div_ceil(2)) {
            let top = (piece.row * method.rows()) as isize - 1;
            let left = usize::from(piece.column == 0);
            // The first column that is read, and the one behind the last tile's fourth.
            let x = 2 * piece.column + left - 1;
            let right = 2 * (piece.column + piece.count) + 1;
            let tail = right.saturating_sub(width).min(2);
            let at = piece.tile - first;
            let tiles = piece.count - usize::from(tail > 0);
            let last = 2 * tiles + 1 - left + usize::from(tail == 1);
            let mut strip = Strip {
                rows: [core::ptr::null(); 4],
                cell: p.cin,
                groups,
                tiles,
                panel: rest_mut(panel, at / 2 * block + at % 2).as_mut_ptr(),
                block: block * 4,
                left,
                tail,
                outside,
                zero,
            };
            for (to, row) in strip.rows.iter_mut().zip(index.rows) {
                let row = self.row(top + row, x * p.cin);
                require!(row.len() >= last * p.cin + 4 * groups);
                *to = row.as_ptr();
            }
            // SAFETY: the rows have all the cells, checked above, and the panel all tile pairs, checked first.
            unsafe { strip.transform(index.combine) };
        }
    }
}
