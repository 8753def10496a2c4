//! Weights of a convolution or a dense layer, of eight bits or four.

use super::int4::Int4;
use crate::part::{part, part_mut};

/// Integer weights, rows of output channels.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Eight bits.
    Int8(&'a [i8]),
    /// Four bits with a multiplier for every few; decoded, they are of eight.
    Int4(Int4<'a>),
}

impl<'a> Weights<'a> {
    /// The weights where they are of eight bits; none where they are not.
    pub fn int8(&self) -> &'a [i8] {
        match *self {
            Self::Int8(weights) => weights,
            Self::Int4(_) => &[],
        }
    }

    /// Bytes of `room` that [`rows`](Self::rows) needs for `count` weights.
    pub fn room(&self, count: usize) -> usize {
        match self {
            Self::Int8(_) => 0,
            Self::Int4(_) => count,
        }
    }

    /// Weights `from .. from + count` of row `index`, of `row` weights, some at a time: how many came before, and them.
    #[inline]
    pub(crate) fn each(
        &self,
        (index, row): (usize, usize),
        from: usize,
        count: usize,
        mut f: impl FnMut(usize, &[i8]),
    ) {
        match self {
            Self::Int8(weights) => f(0, part(weights, index * row + from, count)),
            Self::Int4(weights) => weights.each(index, from, count, f),
        }
    }

    /// Rows `first .. first + count`, of `row` weights each: where they are, or decoded into `room`.
    #[inline]
    pub fn rows<'s>(&self, first: usize, count: usize, row: usize, room: &'s mut [i8]) -> &'s [i8]
    where
        'a: 's,
    {
        match self {
            Self::Int8(weights) => part(weights, first * row, count * row),
            Self::Int4(weights) => {
                let room = part_mut(room, 0, count * row);
                for (i, out) in room.chunks_exact_mut(row.max(1)).enumerate() {
                    weights.decode(first + i, 0, out);
                }
                room
            }
        }
    }
}
