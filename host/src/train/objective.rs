//! What a network learns in a phase: batch in, inputs and target v out.

use super::batch::Batch;
use super::live::{Live, Turn};
use crate::diffusion::{Denoise, guided_v, mix, rotate};
use crate::nn::{MAX_GUIDANCE, Query, UNet};
use anyhow::Result;
use candle_core::Tensor;
use fewstep_core::Direction;
use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

/// Inputs of a network and the v that it should give.
pub struct Targets {
    pub z: Tensor,
    pub phi: Vec<f32>,
    pub class: Vec<u16>,
    /// None for a network without the input w.
    pub w: Option<Vec<f32>>,
    pub v: Tensor,
    /// How much each picture's loss counts; None for all alike.
    pub weight: Option<Vec<f32>>,
}

/// A phase's learning task. The loss is the mean of weight * (v - target)^2.
pub trait Objective: Sync {
    /// What the network whose turn it is has to learn from a batch.
    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets>;

    /// What is the same for all parts of an update's batch; comes before them.
    fn begin(&self, _live: &Live) -> Result<()> {
        Ok(())
    }

    /// Adds what it keeps from one update to the next to a saved state.
    fn save(&self, _out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }

    /// Takes up what [`Objective::save`] wrote.
    fn load(&self, _saved: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }

    /// What the network that is trained says.
    fn predict(&self, net: &UNet, q: &Query) -> Result<Tensor> {
        Ok(net.forward(q)?)
    }

    /// Whose turn update `step` is.
    fn turn(&self, _step: u64) -> Turn {
        Turn::Student
    }
}

fn cosines(phi: &[f32]) -> Vec<f32> {
    phi.iter().map(|p| p.cos()).collect()
}

fn sines(phi: &[f32]) -> Vec<f32> {
    phi.iter().map(|p| p.sin()).collect()
}

pub(super) fn noised(batch: &Batch, phi: &[f32]) -> candle_core::Result<Tensor> {
    mix(&cosines(phi), &batch.x, &sines(phi), &batch.eps)
}

/// w = 4 u^power, u ~ U[0, 1]. Power 1 draws all strengths alike, as Meng et al. do for pixel models; above 1 more of
/// the low ones.
pub(super) fn strength(u: f32, power: f64) -> f32 {
    (f64::from(u).powf(power) * MAX_GUIDANCE) as f32
}

/// The strengths of a batch.
pub(super) fn strengths(batch: &Batch, power: f64) -> Vec<f32> {
    batch.u.iter().map(|u| strength(u[0], power)).collect()
}

/// v-prediction with class dropout: t ~ U[0, 1], v = cos(phi) eps - sin(phi) x.
pub struct Teacher {
    pub classes: usize,
    /// Share of pictures whose class is replaced by the null class.
    pub dropout: f32,
}

impl Objective for Teacher {
    fn targets(&self, batch: &Batch, _: &Live) -> Result<Targets> {
        let phi: Vec<f32> = batch.t.iter().map(|t| t * FRAC_PI_2 as f32).collect();
        let minus: Vec<f32> = sines(&phi).iter().map(|s| -s).collect();
        let null = self.classes as u16;
        let class = batch.class.iter().zip(&batch.u).map(|(c, u)| if u[0] < self.dropout { null } else { *c });
        Ok(Targets {
            z: noised(batch, &phi)?,
            v: mix(&cosines(&phi), &batch.eps, &minus, &batch.x)?,
            class: class.collect(),
            w: None,
            weight: None,
            phi,
        })
    }
}

/// Stage 1 of Meng et al.: one network with w as an input learns (1 + w) T(z, c) - w T(z, null).
pub struct Guidance {
    pub teacher: Arc<dyn Denoise>,
    /// Of the strengths' distribution: w = 4 u^power.
    pub power: f64,
}

impl Objective for Guidance {
    fn targets(&self, batch: &Batch, _: &Live) -> Result<Targets> {
        let phi: Vec<f32> = batch.t.iter().map(|t| t * FRAC_PI_2 as f32).collect();
        let (z, w) = (noised(batch, &phi)?, strengths(batch, self.power));
        let v = guided_v(&*self.teacher, &batch.query(&z, &phi, &w))?;
        Ok(Targets { z, v, class: batch.class.clone(), w: Some(w), weight: None, phi })
    }
}

/// Stage 2: one step of the student equals two of its teacher, at t = i / steps (progressive distillation with w as
/// an input, Salimans & Ho 2022, Meng et al. 2023).
pub struct Halving {
    pub teacher: UNet,
    /// Steps of the student.
    pub steps: usize,
    pub direction: Direction,
}

impl Objective for Halving {
    fn targets(&self, batch: &Batch, _: &Live) -> Result<Targets> {
        let n = self.steps as f32;
        // t is spread evenly over [0, 1): so are the steps, however few they are.
        let starts = |t: &f32| {
            let left = ((t * n).floor() + 1.0).min(n);
            let step = if self.direction == Direction::ToNoise { n - left } else { left };
            step / n * FRAC_PI_2 as f32
        };
        let phi: Vec<f32> = batch.t.iter().map(starts).collect();
        let (z, w) = (noised(batch, &phi)?, strengths(batch, 1.0));
        let teacher = |z: &Tensor, phi: &[f32]| guided_v(&self.teacher, &batch.query(z, phi, &w));
        let v = halving_target(self.direction, self.steps, &z, &phi, teacher)?;
        Ok(Targets { z, v, class: batch.class.clone(), w: Some(w), weight: None, phi })
    }
}

/// The v whose one rotation by d = pi/(2 steps) lands where two rotations by h = d/2 along `teacher` do:
/// v~ = (v1 + v2/cos(h) - tan(h) z) / 2, z at the angles `phi`. Towards noise d and h are negative.
pub fn halving_target(
    direction: Direction,
    steps: usize,
    z: &Tensor,
    phi: &[f32],
    teacher: impl Fn(&Tensor, &[f32]) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let h = match direction {
        Direction::ToPicture => FRAC_PI_2 / steps as f64 / 2.0,
        Direction::ToNoise => -FRAC_PI_2 / steps as f64 / 2.0,
    };
    let v1 = teacher(z, phi)?;
    let middle = rotate(z, &v1, &vec![h as f32; phi.len()])?;
    let after: Vec<f32> = phi.iter().map(|p| p - h as f32).collect();
    let v2 = teacher(&middle, &after)?;
    ((v1 + (v2 / h.cos())?)? - (z * h.tan())?)? * 0.5
}
