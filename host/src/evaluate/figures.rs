//! All figures of one set of pictures against the reference set.

use super::bootstrap::Figure;
use super::frechet::{Gaussian, Root};
use super::kid::kid;
use super::manifold::{Manifold, NEIGHBOURS};
use crate::features::{Classifier, Extracted};
use anyhow::{Result, ensure};
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

/// Pictures by their features, with the classes that were asked for.
pub struct Set {
    seen: Extracted,
    labels: Vec<u16>,
}

impl Set {
    /// Passes pictures [n, H, W, C] through the classifier.
    pub fn new(net: &Classifier, pictures: &[u8], labels: &[u16]) -> Result<Set> {
        ensure!(
            labels.len() > NEIGHBOURS,
            "{} pictures are too few to compare; take at least {}",
            labels.len(),
            NEIGHBOURS + 1
        );
        Ok(Set { seen: net.extract(pictures)?, labels: labels.to_vec() })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true: a set has neighbours.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// [n, d]
    pub fn features(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.len(), self.seen.width), &self.seen.features).expect("rows of `width` features")
    }

    /// Share that the classifier takes for its label.
    pub fn accuracy(&self, seed: u64) -> Figure {
        let right = |(seen, label): (&u16, &u16)| f64::from(u8::from(seen == label));
        Figure::mean(&self.seen.class.iter().zip(&self.labels).map(right).collect::<Vec<_>>(), seed)
    }
}

/// The real pictures that all others are measured against.
pub struct Reference {
    set: Set,
    root: Root,
    origin: Array1<f32>,
    manifold: Manifold,
}

/// Figures of a set; lower is better for the distances, 1 is best for the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures measured.
    pub count: usize,
    pub frechet_distance: Figure,
    pub kid: Figure,
    pub precision: Figure,
    pub recall: Figure,
    pub density: Figure,
    pub coverage: Figure,
    pub class_accuracy: Figure,
}

impl Reference {
    pub fn new(set: Set) -> Reference {
        let gaussian = Gaussian::of(set.features());
        let origin: Array1<f32> = gaussian.mean.iter().map(|m| *m as f32).collect();
        let manifold = Manifold::new(set.features(), origin.view());
        Reference { root: Root::new(gaussian), origin, manifold, set }
    }

    /// The real pictures.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// Measures a set; `seed` draws subsets and resamples.
    pub fn measure(&self, set: &Set, seed: u64) -> Figures {
        let samples = Manifold::new(set.features(), self.origin.view());
        let near = self.manifold.neighbours(&samples);
        let share = |v: &[bool]| Figure::mean(&v.iter().map(|b| f64::from(u8::from(*b))).collect::<Vec<_>>(), seed);
        let inside: Vec<bool> = near.balls.iter().map(|b| *b > 0).collect();
        let density: Vec<f64> = near.balls.iter().map(|b| f64::from(*b) / NEIGHBOURS as f64).collect();
        Figures {
            count: set.len(),
            frechet_distance: self.root.figure(set.features(), seed),
            kid: kid(set.features(), self.set.features(), seed),
            precision: share(&inside),
            recall: share(&near.recalled),
            density: Figure::mean(&density, seed),
            coverage: share(&near.covered),
            class_accuracy: set.accuracy(seed),
        }
    }
}
