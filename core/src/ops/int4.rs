//! Weights of four bits: an int8 weight is q * m, with q in -8 to 7 and one multiplier m, 1 to 15, for every
//! [`GROUP`] weights of a row. All products are int8, so accumulators and their requantization are those of int8
//! weights.
//!
//! A matrix of rows, the weights of an output channel each, lies as
//!
//! ```text
//! [rows][chunks of 8 weights][4 bytes]    byte i: q + 8 of weight i in bits 0 to 3, of weight i + 4 in bits 4 to 7
//! [rows][pairs of groups]                 m of the first group in bits 0 to 3, of the second in bits 4 to 7
//! ```
//!
//! where a row's last chunk, group and pair may be short; bits that stand for nothing are 0. With q + 8 and the order
//! within a chunk, one multiplication makes four weights: masked, a chunk's word has weights 0 to 3 in its bytes, shifted
//! and masked 4 to 7, and no byte's product reaches the next.

use crate::part::{at as number, cut, part, part_mut, rest};

/// Weights that share a multiplier.
pub const GROUP: usize = 32;
/// Weights whose bits lie together.
const CHUNK: usize = 8;
/// Largest multiplier.
pub const MAX_MULTIPLIER: u8 = 15;

/// A matrix of weights of four bits.
#[derive(Clone, Copy, Debug)]
pub struct Int4<'a> {
    /// [rows][row.div_ceil(8)][4]
    chunks: &'a [u8],
    /// [rows][row.div_ceil(64)]
    multipliers: &'a [u8],
    /// Weights of a row.
    row: usize,
    /// Without the feature there is no such matrix, and the compiler leaves out what would work with it.
    #[cfg(not(feature = "int4"))]
    #[expect(dead_code, reason = "its type is what matters")]
    none: core::convert::Infallible,
}

/// Bytes of a matrix, saturating: those of the chunks, and all.
pub(crate) const fn bytes(rows: u64, row: u64) -> (u64, u64) {
    let chunks = rows.saturating_mul(row.div_ceil(CHUNK as u64)).saturating_mul(4);
    (chunks, chunks.saturating_add(rows.saturating_mul(row.div_ceil(2 * GROUP as u64))))
}

/// Bytes of a matrix.
pub const fn packed_len(rows: usize, row: usize) -> usize {
    bytes(rows as u64, row as u64).1 as usize
}

impl<'a> Int4<'a> {
    /// The matrix in `bytes`; `None` when they are not as many as it has.
    #[cfg(feature = "int4")]
    pub fn new(bytes: &'a [u8], rows: usize, row: usize) -> Option<Self> {
        let (chunks, all) = self::bytes(rows as u64, row as u64);
        if bytes.len() as u64 != all {
            return None;
        }
        let (chunks, multipliers) = bytes.split_at_checked(chunks as usize)?;
        Some(Self { chunks, multipliers, row })
    }

    /// `None`: the feature `int4` is off.
    #[cfg(not(feature = "int4"))]
    pub fn new(_bytes: &'a [u8], _rows: usize, _row: usize) -> Option<Self> {
        None
    }

    /// The first multiplier that is 0, or else bits that should be 0 and are not.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let groups = self.row.div_ceil(GROUP);
        for (i, &pair) in self.multipliers.iter().enumerate() {
            let alone = 2 * (i % groups.div_ceil(2).max(1)) + 1 == groups;
            match (pair & 15, pair >> 4) {
                (0, _) => return Some(Fault::Multiplier),
                (_, 0) if !alone => return Some(Fault::Multiplier),
                (_, 1..) if alone => return Some(Fault::Padding),
                _ => {}
            }
        }
        let used = self.row % CHUNK;
        if used > 0 {
            for row in self.chunks.chunks_exact((self.row.div_ceil(CHUNK) * 4).max(1)) {
                for (i, byte) in row.last_chunk::<4>()?.iter().enumerate() {
                    if i >= used && byte & 15 != 0 || i + 4 >= used && byte >> 4 != 0 {
                        return Some(Fault::Padding);
                    }
                }
            }
        }
        None
    }

    /// Bytes of the matrix.
    pub fn len(&self) -> usize {
        self.chunks.len() + self.multipliers.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Chunks and multipliers of row `row`.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> (&'a [u8], &'a [u8]) {
        let (chunks, pairs) = (self.row.div_ceil(CHUNK) * 4, self.row.div_ceil(2 * GROUP));
        (part(self.chunks, row * chunks, chunks), part(self.multipliers, row * pairs, pairs))
    }

    /// Weights `from ..` of row `row`, as many as `out` takes.
    #[inline(never)]
    pub fn decode(&self, row: usize, from: usize, out: &mut [i8]) {
        let (chunks, multipliers) = self.row(row);
        let to = from + out.len();
        let mut out = out;
        let mut at = from;
        // A group at a time, from wherever it is entered.
        while at < to {
            let group = at / GROUP;
            let end = to.min((group + 1) * GROUP);
            let m = u32::from(number(multipliers, group / 2) >> (4 * (group % 2)) & 15);
            let (now, left) = cut(out, end - at);
            if at.is_multiple_of(CHUNK) {
                decode_chunks(rest(chunks, at / CHUNK * 4), m, now);
            } else {
                for (i, out) in (at..).zip(now) {
                    *out = weight(chunks, m, i);
                }
            }
            (out, at) = (left, end);
        }
    }

    /// Weights `from .. from + count` of row `row`, some at a time: how many came before, and them.
    pub(crate) fn each(&self, row: usize, from: usize, count: usize, mut f: impl FnMut(usize, &[i8])) {
        let mut some = [0; GROUP];
        for at in (0..count).step_by(GROUP) {
            let some = part_mut(&mut some, 0, GROUP.min(count - at));
            self.decode(row, from + at, some);
            f(at, some);
        }
    }
}

/// What is wrong with a matrix's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A multiplier is 0.
    Multiplier,
    /// Bits that stand for nothing are not 0.
    Padding,
}

/// Weight `i` of a row.
#[inline]
fn weight(chunks: &[u8], m: u32, i: usize) -> i8 {
    let bits = number(chunks, i / CHUNK * 4 + i % 4) >> (i % CHUNK / 4 * 4) & 15;
    ((i32::from(bits) - 8) * m as i32) as i8
}

/// Weights of one group, from the start of a chunk on.
#[inline]
fn decode_chunks(chunks: &[u8], m: u32, out: &mut [i8]) {
    let (words, _) = chunks.as_chunks::<4>();
    let (eights, rest) = out.as_chunks_mut::<CHUNK>();
    for (out, &word) in eights.iter_mut().zip(words) {
        let [low, high] = products(u32::from_le_bytes(word), m).map(u32::to_le_bytes);
        let [a, b, c, d] = low.map(|byte| byte as i8);
        let [e, f, g, h] = high.map(|byte| byte as i8);
        *out = [a, b, c, d, e, f, g, h];
    }
    let done = eights.len() * CHUNK;
    for (i, out) in (done..).zip(rest) {
        *out = weight(chunks, m, i);
    }
}

/// The eight weights of a chunk's word, four to a word.
#[inline]
pub(crate) fn products(word: u32, m: u32) -> [u32; 2] {
    // With u = q + 8: u * m below 256, and q * m is that less 8 m, which is below 128.
    let eight = 0x0808_0808 * m;
    [word, word >> 4].map(|u| {
        let x = (u & 0x0f0f_0f0f) * m;
        ((x | 0x8080_8080) - eight) ^ (!x & 0x8080_8080)
    })
}

/// Writes rows of weights, each a multiple of its group's multiplier (see above) by -8 to 7, as a matrix.
/// multipliers: [rows][row.div_ceil([`GROUP`])].
///
/// # Panics
/// When a slice is not as long as the others say, or a weight is no such multiple.
pub fn pack(row: usize, weights: &[i8], multipliers: &[u8], out: &mut [u8]) {
    let rows = weights.len() / row;
    let (groups, (chunks, all)) = (row.div_ceil(GROUP), bytes(rows as u64, row as u64));
    assert!(weights.len() == rows * row && multipliers.len() == rows * groups && out.len() as u64 == all);
    out.fill(0);
    let (chunks, pairs) = out.split_at_mut(chunks as usize);
    let all_chunks = chunks.chunks_exact_mut(row.div_ceil(CHUNK) * 4).zip(pairs.chunks_exact_mut(groups.div_ceil(2)));
    let all_weights = weights.chunks_exact(row).zip(multipliers.chunks_exact(groups));
    for ((chunks, pairs), (weights, multipliers)) in all_chunks.zip(all_weights) {
        for (i, &m) in multipliers.iter().enumerate() {
            assert!((1..=MAX_MULTIPLIER).contains(&m));
            pairs[i / 2] |= m << (4 * (i % 2));
        }
        for (i, &w) in weights.iter().enumerate() {
            let (w, m) = (i32::from(w), i32::from(multipliers[i / GROUP]));
            assert!(w % m == 0 && (-8..8).contains(&(w / m)), "{w} is no multiple of {m} by -8 to 7");
            chunks[i / CHUNK * 4 + i % 4] |= ((w / m + 8) as u8) << (i % CHUNK / 4 * 4);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::ops::testing::Numbers;

    /// A matrix of random weights with the extremes frequent: its bytes, and the weights.
    pub fn random(n: &mut Numbers, rows: usize, row: usize) -> (Vec<u8>, Vec<i8>) {
        let groups = row.div_ceil(GROUP);
        let multipliers: Vec<u8> = n.i8s(rows * groups).iter().map(|m| m.unsigned_abs() % 15 + 1).collect();
        let q: Vec<i32> = n.i8s(rows * row).iter().map(|q| i32::from(*q) >> 4).collect();
        let weight = |(i, q): (usize, &i32)| (q * i32::from(multipliers[i / row * groups + i % row / GROUP])) as i8;
        let weights: Vec<i8> = q.iter().enumerate().map(weight).collect();
        let mut out = vec![0; packed_len(rows, row)];
        pack(row, &weights, &multipliers, &mut out);
        (out, weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;

    #[test]
    fn every_product_is_right() {
        for m in 1..=15 {
            for q in 0..16u32 {
                let word = (0..8).fold(0, |word, i| word | ((q + i * 5) % 16) << (4 * i));
                let got = products(word, m).map(u32::to_le_bytes);
                for i in 0..8 {
                    let nibble = (word >> (i % 4 * 8 + i / 4 * 4) & 15) as i32;
                    assert_eq!(i32::from(got[i / 4][i % 4] as i8), (nibble - 8) * m as i32, "{word:x} {m}");
                }
            }
        }
    }

    #[test]
    fn any_part_of_a_row_decodes() {
        let mut n = Numbers(40);
        for row in [1, 3, 4, 7, 8, 9, 31, 32, 33, 36, 63, 64, 65, 100, 128, 288] {
            let (bytes, weights) = testing::random(&mut n, 3, row);
            let matrix = Int4::new(&bytes, 3, row).unwrap();
            assert_eq!(matrix.fault(), None);
            assert_eq!(matrix.len(), bytes.len());
            for from in 0..row {
                for len in [0, 1, 8, 15, 40, row].into_iter().filter(|len| from + len <= row) {
                    let mut out = vec![99; len];
                    matrix.decode(2, from, &mut out);
                    assert_eq!(out, weights[2 * row + from..][..len], "{from} of {row}");
                }
            }
        }
    }

    #[test]
    fn faults_are_found() {
        let mut n = Numbers(41);
        for row in [1, 3, 5, 7, 8, 36, 64, 100] {
            let (bytes, _) = testing::random(&mut n, 2, row);
            assert!(Int4::new(&bytes[1..], 2, row).is_none());
            let chunks = self::bytes(2, row as u64).0 as usize;
            // Every half byte, changed to what it must not be.
            for half in 0..2 * bytes.len() {
                let (mut bad, at) = (bytes.clone(), half / 2);
                let one = 1 << (half % 2 * 4);
                let want = if at < chunks {
                    bad[at] |= one;
                    let in_row = at % (row.div_ceil(8) * 4);
                    (in_row / 4 * 8 + in_row % 4 + half % 2 * 4 >= row).then_some(Fault::Padding)
                } else if (at - chunks) % row.div_ceil(64) * 2 + half % 2 >= row.div_ceil(32) {
                    bad[at] |= one;
                    Some(Fault::Padding)
                } else {
                    bad[at] &= !(15 * one);
                    Some(Fault::Multiplier)
                };
                assert_eq!(Int4::new(&bad, 2, row).unwrap().fault(), want, "{half} of {row}");
            }
        }
    }
}
