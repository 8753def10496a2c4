//! Kernel inception distance: the unbiased squared maximum mean discrepancy with the kernel (x.y/d + 1)^3, averaged
//! over subsets.

use super::bootstrap::Figure;
use crate::noise::{Purpose, Stream};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Most pictures of a subset.
const SUBSET: usize = 1000;
/// Disjoint subsets of a set where it is too small for as many of the largest size.
const DISJOINT: usize = 10;
/// Times that the sets are shuffled and cut anew.
const SHUFFLES: usize = 10;

/// Sum of the kernel over all pairs of rows, without those of a row and itself if `own`.
fn kernel_sum(x: ArrayView2<f32>, y: ArrayView2<f32>, own: bool) -> f64 {
    let d = x.ncols() as f64;
    let products = x.dot(&y.t());
    let kernel = |v: f32| (f64::from(v) / d + 1.0).powi(3);
    let all: f64 = products.iter().map(|v| kernel(*v)).sum();
    let diagonal: f64 = if own { products.diag().iter().map(|v| kernel(*v)).sum() } else { 0.0 };
    all - diagonal
}

/// Unbiased squared MMD of two sets of at least two rows each.
pub fn squared_mmd(x: ArrayView2<f32>, y: ArrayView2<f32>) -> f64 {
    let (n, m) = (x.nrows() as f64, y.nrows() as f64);
    kernel_sum(x, x, true) / (n * (n - 1.0)) + kernel_sum(y, y, true) / (m * (m - 1.0))
        - 2.0 * kernel_sum(x, y, false) / (n * m)
}

/// A seeded order of `n` rows.
fn shuffled(n: usize, seed: u64, shuffle: usize, set: u32) -> Vec<usize> {
    let random = Stream::new(seed, Purpose::Shuffle, shuffle as u32, 2 + set);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, (random.u64(i as u32) % (i as u64 + 1)) as usize);
    }
    order
}

/// KID of two sets [n, d] and [m, d]: the mean over subsets of at most 1000, of ten shuffles each cut into disjoint
/// subsets. The interval is that of the first shuffle's subsets, which share no picture.
pub fn kid(x: ArrayView2<f32>, y: ArrayView2<f32>, seed: u64) -> Figure {
    let smaller = x.nrows().min(y.nrows());
    let size = (smaller / DISJOINT).clamp(2, SUBSET).min(smaller);
    let subsets = smaller / size;
    let values: Vec<f64> = (0..SHUFFLES * subsets)
        .into_par_iter()
        .map(|i| {
            let (shuffle, part) = (i / subsets, i % subsets);
            let subset = |set: ArrayView2<f32>, which: u32| -> Array2<f32> {
                let order = shuffled(set.nrows(), seed, shuffle, which);
                set.select(Axis(0), &order[part * size..(part + 1) * size])
            };
            squared_mmd(subset(x, 0).view(), subset(y, 1).view())
        })
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let first = &values[..subsets];
    Figure::resampled(mean, subsets, seed, |counts| {
        counts.iter().zip(first).map(|(c, v)| f64::from(*c) * v).sum::<f64>() / subsets as f64
    })
}
