//! The cells of a rectangle of tiles.

use super::line::{CELLS, Line};
use super::{Plan, Rectangle};
use crate::arch::generic::Simd;
use crate::arch::generic::tile::{CELL, Cell};
use crate::ops::Conv;

/// int8 as int16 without the zero point, with zeros around the picture: [rounds][rows][columns][CELL].
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
pub(super) fn picture<S: Simd>(s: S, p: &Conv<'_>, input: &[i8], plan: &Plan, part: &Rectangle, words: &mut [i32]) {
    let (out, per_round) = (plan.method.out(), plan.per_round);
    let (rows, columns) = (part.rows * out.0 + 2, part.columns * out.1 + 2);
    let zp = s.splat(bytemuck::cast([p.zp as i16; 2]));
    // Columns of the rectangle that are in the picture.
    let from = usize::from(part.left == 0);
    let to = columns.min(p.width + 1 - part.left);
    for round in 0..plan.rounds {
        let channel = round * 2 * per_round;
        let count = (p.cin - channel).min(2 * per_round);
        let words = words[round * rows * columns * CELL..].chunks_exact_mut(columns * CELL);
        for (row, words) in (part.top..part.top + rows).zip(words) {
            if row == 0 || row > p.height {
                words.fill(0);
                continue;
            }
            words[..from * CELL].fill(0);
            words[to * CELL..].fill(0);
            let first = (row - 1) * p.width + part.left + from - 1;
            let input = input[first * p.cin..].chunks_exact(p.cin);
            for (cell, q) in words[from * CELL..to * CELL].chunks_exact_mut(CELL).zip(input) {
                let q = &q[channel..][..count];
                for (lanes, q) in cell.chunks_exact_mut(S::LANES).zip(q.chunks(2 * S::LANES)) {
                    s.store(s.sub_words(s.load_words(q), zp), lanes);
                }
            }
        }
    }
}

/// The cells' side of all products: [vertical indices][rounds][tiles][horizontal indices].
#[cfg_attr(target_arch = "x86_64", inline(always))]
#[cfg_attr(not(target_arch = "x86_64"), inline(never))]
pub(super) fn transform<S: Simd, A: Line, B: Line>(
    s: S,
    picture: &[i32],
    plan: &Plan,
    part: &Rectangle,
    cells: &mut [Cell],
) {
    let (rows, columns, tiles) = (part.rows * A::OUT + 2, part.columns * B::OUT + 2, part.tiles());
    let (picture, _) = picture.as_chunks::<CELL>();
    for (round, picture) in picture.chunks_exact(rows * columns).enumerate().take(plan.rounds) {
        for tile in 0..tiles {
            let (y, x) = (tile / part.columns * A::OUT, tile % part.columns * B::OUT);
            macro_rules! line {
                ($row:literal) => {
                    &picture[(y + if $row < A::IN { $row } else { 0 }) * columns + x..][..B::IN]
                };
            }
            let lines = [line!(0), line!(1), line!(2), line!(3), line!(4), line!(5)];
            for lane in (0..plan.per_round).step_by(S::LANES) {
                // Always so; keeps checks of bounds out of the loops.
                let lane = lane.min(CELL - S::LANES);
                let zero = s.splat(0);
                let mut half = [[zero; CELLS]; CELLS];
                for x in 0..B::IN {
                    let mut d = [zero; CELLS];
                    for row in 0..A::IN {
                        d[row] = s.load(&lines[row][x][lane..]);
                    }
                    half[x] = A::cells(s, d);
                }
                for i in 0..A::IN {
                    let mut row = [zero; CELLS];
                    for x in 0..B::IN {
                        row[x] = half[x][i];
                    }
                    let across = B::cells(s, row);
                    let to = &mut cells[((i * plan.rounds + round) * tiles + tile) * B::IN..][..B::IN];
                    for j in 0..B::IN {
                        s.store(across[j], &mut to[j].0[lane..]);
                    }
                }
            }
        }
    }
}
