//! Loops over rows of channels.

use super::wide::wide;

/// Runs `f::<L>(first channel)` for blocks of L channels: 16 as long as there are, then 8, then each alone. A block's
/// values of one position are one array, so that its sums stay in registers over all positions.
macro_rules! channel_blocks {
    ($c:expr, $f:ident($($arg:expr),*)) => {
        let (c, mut i) = ($c, 0);
        while i + 16 <= c {
            $f::<16>(i, $($arg),*);
            i += 16;
        }
        if i + 8 <= c {
            $f::<8>(i, $($arg),*);
            i += 8;
        }
        while i < c {
            $f::<1>(i, $($arg),*);
            i += 1;
        }
    };
}
pub(super) use channel_blocks;

/// The block of `L` values at `i`.
#[inline(always)]
pub fn at<const L: usize>(v: &[f32], i: usize) -> &[f32; L] {
    v[i..i + L].try_into().expect("a block of L values")
}

#[inline(always)]
pub fn at_mut<const L: usize>(v: &mut [f32], i: usize) -> &mut [f32; L] {
    (&mut v[i..i + L]).try_into().expect("a block of L values")
}

/// Adds to `sum` what `f` makes of the block of every row. Two sums, of the even and the odd rows, hide an addition's
/// latency.
#[inline(always)]
fn sum_block<const L: usize>(i: usize, x: &[f32], sum: &mut [f32], f: impl Fn(&[f32; L]) -> [f32; L]) {
    let c = sum.len();
    let mut sums = [[0.0; L]; 2];
    let pairs = x.chunks_exact(2 * c);
    let last = pairs.remainder();
    for rows in pairs {
        for (j, sum) in sums.iter_mut().enumerate() {
            let v = f(at::<L>(rows, j * c + i));
            for k in 0..L {
                sum[k] += v[k];
            }
        }
    }
    if !last.is_empty() {
        let v = f(at::<L>(last, i));
        for k in 0..L {
            sums[0][k] += v[k];
        }
    }
    let out = at_mut::<L>(sum, i);
    for k in 0..L {
        out[k] += sums[0][k] + sums[1][k];
    }
}

#[inline(always)]
fn plain_block<const L: usize>(i: usize, x: &[f32], sum: &mut [f32]) {
    sum_block::<L>(i, x, sum, |v| *v);
}

#[inline(always)]
fn square_block<const L: usize>(i: usize, x: &[f32], mean: &[f32], sum: &mut [f32]) {
    let m = *at::<L>(mean, i);
    sum_block::<L>(i, x, sum, |v| {
        let mut out = [0.0; L];
        for k in 0..L {
            let d = v[k] - m[k];
            out[k] = d * d;
        }
        out
    });
}

wide! {
    /// Adds the rows of `x` to `sum`.
    pub fn channel_sums(x: &[f32], sum: &mut [f32]) {
        channel_blocks!(sum.len(), plain_block(x, sum));
    }
}

wide! {
    /// Adds the squares of the rows of `x` less `mean` to `sum`.
    pub fn channel_squares(x: &[f32], mean: &[f32], sum: &mut [f32]) {
        channel_blocks!(sum.len(), square_block(x, mean, sum));
    }
}

wide! {
    /// Sets every row of `y` to `row`.
    pub fn fill_rows(y: &mut [f32], row: &[f32]) {
        for y in y.chunks_exact_mut(row.len()) {
            y.copy_from_slice(row);
        }
    }
}

wide! {
    /// Adds `row` to every row of `y`.
    pub fn add_to_rows(y: &mut [f32], row: &[f32]) {
        for y in y.chunks_exact_mut(row.len()) {
            y.iter_mut().zip(row).for_each(|(y, v)| *y += v);
        }
    }
}
