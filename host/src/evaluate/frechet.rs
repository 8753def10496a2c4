//! The Frechet distance between Gaussians: `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)`.

use super::bootstrap::{Figure, blocks};
use super::symmetric::{eigenvalues, inverse_root, root};
use ndarray::{Array2, ArrayView2};

/// Mean and covariance (divided by n - 1, as numpy's `cov`).
#[derive(Clone, Debug)]
pub struct Gaussian {
    pub mean: Vec<f64>,
    /// [d, d]
    pub covariance: Array2<f64>,
}

/// Sums from which a Gaussian is made: count, sum of features, sum of their products.
struct Moments {
    n: f64,
    sum: Vec<f64>,
    products: Array2<f64>,
}

impl Moments {
    /// Of features [n, d], moved by `-origin` against cancellation.
    fn of(features: ArrayView2<f32>, origin: &[f64]) -> Moments {
        let centred = Array2::from_shape_fn(features.dim(), |(i, k)| f64::from(features[[i, k]]) - origin[k]);
        let sum = centred.sum_axis(ndarray::Axis(0)).to_vec();
        Moments { n: features.nrows() as f64, sum, products: centred.t().dot(&centred) }
    }

    /// A sum of blocks, each taken `counts` times.
    fn combine(blocks: &[Moments], counts: &[u32]) -> Moments {
        let d = blocks[0].sum.len();
        let mut total = Moments { n: 0.0, sum: vec![0.0; d], products: Array2::zeros((d, d)) };
        for (block, count) in blocks.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let c = f64::from(*count);
            total.n += c * block.n;
            total.sum.iter_mut().zip(&block.sum).for_each(|(t, s)| *t += c * s);
            total.products.scaled_add(c, &block.products);
        }
        total
    }

    fn gaussian(&self, origin: &[f64]) -> Gaussian {
        let d = self.sum.len();
        let mean: Vec<f64> = self.sum.iter().map(|s| s / self.n).collect();
        let divisor = (self.n - 1.0).max(1.0);
        let covariance =
            Array2::from_shape_fn((d, d), |(i, k)| (self.products[[i, k]] - self.n * mean[i] * mean[k]) / divisor);
        Gaussian { mean: mean.iter().zip(origin).map(|(m, o)| m + o).collect(), covariance }
    }
}

impl Gaussian {
    /// Of features [n, d], at least two rows.
    pub fn of(features: ArrayView2<f32>) -> Gaussian {
        let origin: Vec<f64> = features.row(0).iter().map(|v| f64::from(*v)).collect();
        Moments::of(features, &origin).gaussian(&origin)
    }
}

/// A Gaussian that others are compared with: its covariance's root is taken once.
pub struct Root {
    gaussian: Gaussian,
    root: Array2<f64>,
}

impl Root {
    pub fn new(gaussian: Gaussian) -> Root {
        Root { root: root(gaussian.covariance.view()), gaussian }
    }

    /// The Frechet distance to another Gaussian.
    pub fn distance(&self, other: &Gaussian) -> f64 {
        let between: f64 = self.gaussian.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let cross: f64 = eigenvalues(self.product(other).view()).iter().map(|v| v.max(0.0).sqrt()).sum();
        between + self.gaussian.covariance.diag().sum() + other.covariance.diag().sum() - 2.0 * cross
    }

    /// The optimal transport from another Gaussian takes x to this mean + T (x - its mean) (Dowson & Landau 1982):
    /// T = R (R S R)^-1/2 R with this covariance's root R and the other covariance S, both of full rank.
    pub fn transport(&self, other: &Gaussian) -> Array2<f64> {
        self.root.dot(&inverse_root(self.product(other).view())).dot(&self.root)
    }

    /// R S R, symmetric to the last bit.
    fn product(&self, other: &Gaussian) -> Array2<f64> {
        let product = self.root.dot(&other.covariance).dot(&self.root);
        (&product + &product.t()) * 0.5
    }

    /// The distance of features [n, d], with its interval.
    pub fn figure(&self, features: ArrayView2<f32>, seed: u64) -> Figure {
        let origin = &self.gaussian.mean;
        let moments: Vec<Moments> = blocks(features.nrows())
            .into_iter()
            .map(|b| Moments::of(features.slice(ndarray::s![b, ..]), origin))
            .collect();
        let distance = |counts: &[u32]| self.distance(&Moments::combine(&moments, counts).gaussian(origin));
        Figure::resampled(distance(&vec![1; moments.len()]), moments.len(), seed, distance)
    }
}
