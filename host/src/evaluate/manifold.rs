//! Precision, recall, density and coverage from k-nearest-neighbour balls.
//!
//! Each picture of a set owns a ball around its features that reaches to its k-th nearest other picture of the set.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Neighbours that a ball reaches to (k in the papers).
pub const NEIGHBOURS: usize = 5;
/// Rows of a block of distances.
const ROWS: usize = 128;

/// A set of features with the squared radii of its balls.
pub struct Manifold {
    features: Array2<f32>,
    squares: Array1<f32>,
    radii: Vec<f32>,
}

/// What two sets of balls say about each other, per picture.
pub struct Neighbours {
    /// [samples]: number of real balls that a sample lies in.
    pub balls: Vec<u32>,
    /// [real]: whether a real picture lies in a sample's ball.
    pub recalled: Vec<bool>,
    /// [real]: whether a real picture's ball holds a sample.
    pub covered: Vec<bool>,
}

fn squares(x: ArrayView2<f32>) -> Array1<f32> {
    x.map_axis(Axis(1), |row| row.dot(&row))
}

/// Squared distances of rows `from..` of `x` to all of `y`.
fn distances(x: &Manifold, rows: std::ops::Range<usize>, y: ArrayView2<f32>, y2: ArrayView1<f32>) -> Array2<f32> {
    let mut d = x.features.slice(s![rows.clone(), ..]).dot(&y.t());
    for (mut row, x2) in d.rows_mut().into_iter().zip(x.squares.slice(s![rows])) {
        row.zip_mut_with(&y2, |d, y2| *d = (x2 + y2 - 2.0 * *d).max(0.0));
    }
    d
}

impl Manifold {
    /// Of features [n, d] with n above [`NEIGHBOURS`], measured from `origin` (any point near them, against rounding).
    pub fn new(features: ArrayView2<f32>, origin: ArrayView1<f32>) -> Manifold {
        assert!(features.nrows() > NEIGHBOURS, "{} rows have no {NEIGHBOURS} neighbours each", features.nrows());
        let features = &features - &origin;
        let squares = squares(features.view());
        let mut set = Manifold { features, squares, radii: Vec::new() };
        let blocks = blocks(set.features.nrows());
        let radii = blocks.into_par_iter().map(|rows| {
            let first = rows.start;
            let mut d = distances(&set, rows, set.features.view(), set.squares.view());
            let radius = |(i, mut row): (usize, ndarray::ArrayViewMut1<f32>)| {
                row[first + i] = f32::INFINITY;
                let mut row = row.to_vec();
                *row.select_nth_unstable_by(NEIGHBOURS - 1, f32::total_cmp).1
            };
            d.rows_mut().into_iter().enumerate().map(radius).collect::<Vec<f32>>()
        });
        set.radii = radii.collect::<Vec<_>>().concat();
        set
    }

    /// Compares `self`, the real pictures, with samples measured from the same origin.
    pub fn neighbours(&self, samples: &Manifold) -> Neighbours {
        let n = self.radii.len();
        let parts = blocks(samples.radii.len()).into_par_iter().map(|rows| {
            let d = distances(samples, rows.clone(), self.features.view(), self.squares.view());
            let mut part = Neighbours { balls: Vec::new(), recalled: vec![false; n], covered: vec![false; n] };
            for (row, own) in d.rows().into_iter().zip(&samples.radii[rows]) {
                let mut balls = 0;
                for (i, d) in row.iter().enumerate() {
                    let inside = *d < self.radii[i];
                    balls += u32::from(inside);
                    part.covered[i] |= inside;
                    part.recalled[i] |= d < own;
                }
                part.balls.push(balls);
            }
            part
        });
        let empty = || Neighbours { balls: Vec::new(), recalled: vec![false; n], covered: vec![false; n] };
        // Parts come in order, so that `balls` stays in the samples' order.
        parts.collect::<Vec<_>>().into_iter().fold(empty(), |mut all, part| {
            all.balls.extend(part.balls);
            let or = |all: &mut [bool], part: &[bool]| all.iter_mut().zip(part).for_each(|(a, p)| *a |= p);
            or(&mut all.recalled, &part.recalled);
            or(&mut all.covered, &part.covered);
            all
        })
    }
}

fn blocks(n: usize) -> Vec<std::ops::Range<usize>> {
    (0..n).step_by(ROWS).map(|from| from..n.min(from + ROWS)).collect()
}
