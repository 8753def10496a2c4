//! A matrix product cut into register tiles of even size.

/// One tile: `height` rows from `row` on, `vectors` vectors of columns from vector `from` on.
pub struct Tile {
    pub row: usize,
    pub height: usize,
    pub from: usize,
    pub vectors: usize,
}

/// Calls `f` for every tile of `rows` times `vectors`. `most[v]` is the largest height of a tile of v vectors, and v is
/// below its length. Columns are the outer loop: a tile column's part of B stays in the cache.
pub fn tiles(rows: usize, vectors: usize, most: &[usize], mut f: impl FnMut(Tile)) {
    pieces(vectors, most.len() - 1, |from, vectors| {
        pieces(rows, most[vectors], |row, height| f(Tile { row, height, from, vectors }));
    });
}

/// Calls `f` with start and length of the fewest even pieces of `len` that are no longer than `most`.
pub fn pieces(len: usize, most: usize, mut f: impl FnMut(usize, usize)) {
    let count = len.div_ceil(most);
    let mut from = 0;
    for i in 0..count {
        let piece = (len - from).div_ceil(count - i);
        f(from, piece);
        from += piece;
    }
}
