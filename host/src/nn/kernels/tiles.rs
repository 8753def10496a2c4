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
    let pieces = vectors.div_ceil(most.len() - 1);
    let mut from = 0;
    for piece in 0..pieces {
        let wide = (vectors - from).div_ceil(pieces - piece);
        let count = rows.div_ceil(most[wide]);
        let mut row = 0;
        for i in 0..count {
            let height = (rows - row).div_ceil(count - i);
            f(Tile { row, height, from, vectors: wide });
            row += height;
        }
        from += wide;
    }
}
