//! Widening: what guidance narrows, a wider start gives back.
//!
//! Guided samplers draw pictures that are too much alike: beside the class, the distance to other pictures of it counts.
//! Noise of a standard deviation above 1 (a temperature) counters that; how much is wanted grows with w. A student can
//! learn it: its steps land where the student as it was lands from the wider noise, so that a device still starts from
//! plain noise.

use super::batch::Batch;
use super::live::Live;
use super::objective::{Objective, Targets, strengths};
use super::segments::landing_v;
use super::walk::walk;
use crate::diffusion::angle;
use crate::nn::UNet;
use anyhow::Result;
use candle_core::Tensor;
use std::f64::consts::FRAC_PI_2;

/// The standard deviation of the noise that stands for strength w: 1 + widen * w / (1 + w).
pub fn temperature(w: f32, widen: f64) -> f32 {
    (1.0 + widen * f64::from(w) / (1.0 + f64::from(w))) as f32
}

/// The finishing stage of a student of `steps` steps, from its own states.
pub struct Widened {
    /// The student as it was.
    pub start: UNet,
    pub steps: usize,
    /// See [`temperature`].
    pub widen: f64,
    /// Of the strengths' distribution: w = 4 u^power.
    pub power: f64,
}

impl Objective for Widened {
    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let steps = batch.spread(self.steps);
        let (class, w) = (batch.class.clone(), strengths(batch, self.power));
        let from = vec![0; steps.len()];
        let ends: Vec<usize> = steps.iter().map(|step| step + 1).collect();
        let wider: Vec<f32> = w.iter().map(|w| temperature(*w, self.widen)).collect();
        let wider = Tensor::from_slice(&wider, (wider.len(), 1, 1, 1), batch.eps.device())?;
        let noise = batch.eps.broadcast_mul(&wider)?;
        let z = walk(&live.average, batch.eps.clone(), &from, &steps, self.steps, &class, &w)?;
        let landed = walk(&self.start, noise, &from, &ends, self.steps, &class, &w)?;
        let v = landing_v(&z, &landed, &vec![FRAC_PI_2 / self.steps as f64; steps.len()])?;
        let phi = steps.iter().map(|step| angle(*step, self.steps) as f32).collect();
        Ok(Targets { z, phi, class, w: Some(w), v, weight: None })
    }
}
