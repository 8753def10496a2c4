//! Mean and covariance of what a network draws while it learns.

use crate::evaluate::Gaussian;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use std::collections::BTreeMap;

/// Pictures that the running moments remember at first, in the mean: the network still changes fast.
const MEMORY: f64 = 800.0;
/// By how many more for each picture that was drawn: as the rate falls the network changes less, and moments of few pictures
/// have a bias. Of n pictures in d dimensions the inverse root of a covariance is about 1 + 3 d / 8 n times too large, so
/// that what is drawn would end up that much too widely spread.
const LONGER: f64 = 0.5;

/// Moments of features, each batch's a share of them. Their values are f32, as a saved state's are, so that a killed run
/// goes on with the same bits; the features' origin is near their mean, against cancellation.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    mean: Array1<f32>,
    /// E[x x'], [d, d].
    second: Array2<f32>,
    /// Pictures that it has followed.
    followed: u32,
}

impl Running {
    /// Of features [n, d], at least one row.
    pub fn of(features: ArrayView2<f64>) -> Running {
        let n = features.nrows() as f64;
        let (sum, products) = (features.sum_axis(Axis(0)), features.t().dot(&features));
        Running { mean: sum.mapv(|v| (v / n) as f32), second: products.mapv(|v| (v / n) as f32), followed: 0 }
    }

    /// Moves towards the moments of a batch.
    pub fn follow(&mut self, batch: ArrayView2<f64>) {
        let memory = MEMORY + LONGER * f64::from(self.followed);
        let (newer, share) = (Running::of(batch), (batch.nrows() as f64 / memory).min(1.0));
        self.followed = self.followed.saturating_add(batch.nrows() as u32);
        let step = |old: &mut f32, new: &f32| *old += ((f64::from(*new) - f64::from(*old)) * share) as f32;
        self.mean.zip_mut_with(&newer.mean, step);
        self.second.zip_mut_with(&newer.second, step);
    }

    /// The Gaussian of these moments.
    pub fn gaussian(&self) -> Gaussian {
        let mean = self.mean.mapv(f64::from);
        let covariance =
            Array2::from_shape_fn(self.second.dim(), |(i, k)| f64::from(self.second[[i, k]]) - mean[i] * mean[k]);
        Gaussian { mean: mean.to_vec(), covariance }
    }

    /// Adds what is needed to go on, under names that begin with `name`.
    pub fn save(&self, name: &str, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let d = self.mean.len();
        let second: Vec<f32> = self.second.iter().copied().collect();
        out.insert(format!("{name}.mean"), Tensor::from_slice(&self.mean.to_vec(), d, &Device::Cpu)?);
        out.insert(format!("{name}.followed"), Tensor::new(&[self.followed as f32], &Device::Cpu)?);
        out.insert(format!("{name}.second"), Tensor::from_vec(second, (d, d), &Device::Cpu)?);
        Ok(())
    }

    /// What [`Running::save`] wrote of features [n, d].
    pub fn load(name: &str, d: usize, saved: &BTreeMap<String, Tensor>) -> Result<Running> {
        let get = |part: &str| -> Result<Vec<f32>> {
            let name = format!("{name}.{part}");
            Ok(saved.get(&name).with_context(|| format!("it lacks {name}"))?.flatten_all()?.to_vec1()?)
        };
        let (mean, second, followed) = (get("mean")?, get("second")?, get("followed")?);
        ensure!(mean.len() == d, "{name}: moments of {} features where there are {d}", mean.len());
        let followed = followed.first().map_or(0, |n| *n as u32);
        Ok(Running { mean: Array1::from(mean), second: Array2::from_shape_vec((d, d), second)?, followed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn moments_follow_their_batches_and_are_saved_to_the_bit() {
        let first = arr2(&[[1.0, 0.0], [3.0, 2.0]]);
        let mut running = Running::of(first.view());
        let g = running.gaussian();
        assert_eq!((g.mean, g.covariance), (vec![2.0, 1.0], arr2(&[[1.0, 1.0], [1.0, 1.0]])));
        running.follow(arr2(&[[7.0, 1.0]]).view());
        assert!((running.gaussian().mean[0] - (2.0 + 5.0 / MEMORY)).abs() < 1e-6);
        let before = running.clone();
        running.follow(arr2(&[[7.0, 1.0]]).view());
        let moved = running.gaussian().mean[0] - before.gaussian().mean[0];
        assert!((moved * (MEMORY + LONGER) - (7.0 - before.gaussian().mean[0])).abs() < 1e-3, "{moved}");
        for _ in 0..10_000 {
            running.follow(first.view());
        }
        assert!((running.gaussian().covariance[[0, 1]] - 1.0).abs() < 1e-4, "{running:?}");
        let mut saved = BTreeMap::new();
        running.save("a", &mut saved).unwrap();
        assert_eq!(Running::load("a", 2, &saved).unwrap(), running);
        assert!(Running::load("a", 3, &saved).is_err());
        assert!(Running::load("b", 2, &saved).is_err());
    }
}
