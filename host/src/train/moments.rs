//! Moment matching with an auxiliary denoiser (Salimans et al. 2024): the student's pictures, noised again, are to
//! have the means that the teacher expects there.
//!
//! The student's step goes from angle phi_t to phi_e, the end of its segment, where the last step's is 0. What it
//! lands on, z_e, is the picture of a diffusion of its own: noised by an angle psi it is
//! z_s = cos(psi) z_e + sin(psi) eps, at the angle phi_s with cos(phi_s) = cos(psi) cos(phi_e), and its v is
//! cos(psi) eps - sin(psi) z_e = kappa v, kappa = cos(phi_e) sin(psi) / sin(phi_s), with v the network's own. For the
//! last step kappa is 1.

use super::batch::Batch;
use super::live::{Live, Turn};
use super::objective::{Objective, Targets, noised, strengths};
use crate::diffusion::{Denoise, guided_v, mix, rotate};
use crate::nn::UNet;
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

/// Least share of a segment that a landing is noised by: with none there is nothing to expect.
const LEAST_NOISE: f64 = 0.05;

/// How a landing at phi_e is noised to phi_s.
#[derive(Clone, Copy, Debug)]
pub struct Renoise {
    /// cos(psi) and sin(psi).
    pub keep: f64,
    pub noise: f64,
    /// v from z_e to z_s over the network's v at z_s.
    pub kappa: f64,
}

impl Renoise {
    /// From `end` up to `phi`, 0 <= end < phi <= pi/2, end < pi/2.
    pub fn new(end: f64, phi: f64) -> Renoise {
        let keep = (phi.cos() / end.cos()).clamp(0.0, 1.0);
        let noise = (1.0 - keep * keep).sqrt();
        Renoise { keep, noise, kappa: end.cos() * noise / phi.sin() }
    }
}

/// The finishing stage of a student of `segments` steps. Updates take turns: the auxiliary network learns what to
/// expect of noised landings, halfway between the student's and the teacher's,
///
/// ```text
/// L_A = |z_e - A(z_s)|^2 + |T_w(z_s) - A(z_s)|^2,  L_S = <z_e, sg[A(z_s) - T_w(z_s)]> + anchor * |S - S_0|^2
/// ```
///
/// both written for expectations of z_e. As targets: the mean of the two for A; for S, what it says now less half the
/// gradient.
pub struct Moments {
    /// T_w: takes w as an input, or is a teacher that is evaluated with and without the class.
    pub teacher: Arc<dyn Denoise>,
    /// S_0: the student as it was; it holds on to the pictures that belong to a noise.
    pub start: UNet,
    /// How strongly.
    pub anchor: f64,
    pub segments: usize,
    /// Of the strengths' distribution: w = 4 u^power.
    pub power: f64,
    /// Updates of the auxiliary network for one of the student.
    pub auxiliary_updates: u64,
}

impl Objective for Moments {
    fn turn(&self, step: u64) -> Turn {
        if step % (self.auxiliary_updates + 1) < self.auxiliary_updates { Turn::Auxiliary } else { Turn::Student }
    }

    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let auxiliary = live.auxiliary.as_ref().context("moment matching trains two networks")?;
        let d = FRAC_PI_2 / self.segments as f64;
        let segments: Vec<f64> = batch.spread(self.segments).iter().map(|segment| *segment as f64).collect();
        let phi: Vec<f32> = segments.iter().map(|s| (FRAC_PI_2 - s * d) as f32).collect();
        let (z, w) = (noised(batch, &phi)?, strengths(batch, self.power));
        let ask = |net: &dyn Denoise, z: &Tensor, phi: &[f32]| guided_v(net, &batch.query(z, phi, &w));

        let said = ask(&live.student, &z, &phi)?;
        let landed = rotate(&z, &said, &vec![d as f32; phi.len()])?;
        let ends = segments.iter().map(|s| FRAC_PI_2 - (s + 1.0) * d);
        let shares = batch.u.iter().map(|u| LEAST_NOISE + (1.0 - LEAST_NOISE) * f64::from(u[1]));
        let angles: Vec<(f64, Renoise)> = ends
            .zip(shares)
            .map(|(end, share)| {
                let end = end.max(0.0);
                (end + share * d, Renoise::new(end, end + share * d))
            })
            .collect();
        let list = |f: &dyn Fn(&Renoise) -> f64| -> Vec<f32> { angles.iter().map(|a| f(&a.1) as f32).collect() };
        let phi_s: Vec<f32> = angles.iter().map(|a| a.0 as f32).collect();
        let eps = batch.fresh_noise()?;
        let z_s = mix(&list(&|r| r.keep), &landed, &list(&|r| r.noise), &eps)?;
        let expected = ask(&*self.teacher, &z_s, &phi_s)?;
        let (class, w_in) = (batch.class.clone(), Some(w.clone()));
        match live.turn {
            Turn::Auxiliary => {
                let own = mix(&list(&|r| 0.5 * r.keep / r.kappa), &eps, &list(&|r| -0.5 * r.noise / r.kappa), &landed)?;
                let v = (own + (expected * 0.5)?)?;
                let weight = Some(list(&|r| r.kappa * r.kappa));
                Ok(Targets { z: z_s, phi: phi_s, class, w: w_in, v, weight })
            }
            Turn::Student => {
                // Half the gradient: z_e falls with S as sin(d), and E[z_e] with v as sin(psi) kappa.
                let half = list(&|r| 0.5 * d.sin() * r.noise * r.kappa);
                let minus: Vec<f32> = half.iter().map(|h| -h).collect();
                let half = mix(&half, &ask(auxiliary, &z_s, &phi_s)?, &minus, &expected)?;
                let drift = (&said - ask(&self.start, &z, &phi)?)?;
                let v = ((said - half)? - (drift * self.anchor)?)?;
                Ok(Targets { z, phi, class, w: w_in, v, weight: None })
            }
        }
    }
}
