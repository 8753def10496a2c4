//! Calibration: what every activation looks like on the student's own trajectories.

use super::range::Seen;
use crate::data::Dataset;
use crate::diffusion::{angle_towards, rotate, start, to_batch, to_signed};
use crate::nn::{Query, UNet};
use anyhow::Result;
use candle_core::{Device, Tensor};
use fewstep_core::Direction;
use std::collections::BTreeMap;

/// Strengths that trajectories are calibrated at.
const STRENGTHS: [f32; 6] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0];
/// Pictures per strength.
const PICTURES: usize = 40;

/// What the trajectories of calibration start from.
#[derive(Clone, Copy)]
pub enum Calibration<'a> {
    /// Noise of all classes: a student's.
    Noise,
    /// Pictures of a data set, under their classes: an encoder's.
    Pictures(&'a Dataset),
}

impl Calibration<'_> {
    /// The way of the trajectories.
    pub fn direction(&self) -> Direction {
        match self {
            Calibration::Noise => Direction::ToPicture,
            Calibration::Pictures(_) => Direction::ToNoise,
        }
    }

    /// First states and classes of the trajectories of strength `k`.
    fn start(&self, net: &UNet, seed: u64, k: usize) -> Result<(Tensor, Vec<u16>)> {
        let first = k * PICTURES;
        match self {
            Calibration::Noise => {
                let class = (0..PICTURES).map(|i| (i % net.arch.classes) as u16).collect();
                Ok((start(&net.arch, seed.wrapping_add(first as u64), PICTURES, &Device::Cpu)?, class))
            }
            Calibration::Pictures(data) => {
                // Spread over the set, which may be sorted.
                let all = PICTURES * STRENGTHS.len();
                let picks: Vec<usize> = (first..first + PICTURES).map(|i| i * data.len() / all).collect();
                let values: Vec<f32> =
                    picks.iter().flat_map(|i| data.picture(*i).iter().map(|byte| to_signed(*byte))).collect();
                let class = picks.iter().map(|i| data.labels[*i]).collect();
                Ok((to_batch(&net.arch, &values, &Device::Cpu)?, class))
            }
        }
    }
}

/// Values of every named activation, per step, over trajectories at several strengths. Names are
/// [`UNet::forward_observed`]'s.
pub fn observe(
    net: &UNet,
    steps: usize,
    from: Calibration,
    seed: u64,
    progress: impl FnMut(usize, usize),
) -> Result<Vec<BTreeMap<String, Seen>>> {
    let mut seen: Vec<BTreeMap<String, Seen>> = vec![BTreeMap::new(); steps];
    walk(net, steps, from, seed, progress, |step, name, t| {
        let values = t.flatten_all()?.to_vec1::<f32>()?;
        seen[step].entry(name.into()).or_default().add(&values, STRENGTHS.len());
        Ok(())
    })?;
    Ok(seen)
}

/// Calls `note` with the step, name and value of every activation on these trajectories.
pub(super) fn walk(
    net: &UNet,
    steps: usize,
    from: Calibration,
    seed: u64,
    mut progress: impl FnMut(usize, usize),
    mut note: impl FnMut(usize, &str, &Tensor) -> candle_core::Result<()>,
) -> Result<()> {
    for (k, w) in STRENGTHS.iter().enumerate() {
        let (mut z, class) = from.start(net, seed, k)?;
        let w = vec![*w; PICTURES];
        for i in 0..steps {
            let phi = angle_towards(from.direction(), i, steps);
            let phis = vec![phi as f32; PICTURES];
            let mut see = |name: &str, t: Tensor| -> candle_core::Result<Tensor> {
                note(i, name, &t)?;
                Ok(t)
            };
            let v = net.forward_observed(&Query { z: &z, phi: &phis, class: &class, w: Some(&w) }, &mut see)?;
            let next = angle_towards(from.direction(), i + 1, steps);
            z = rotate(&z, &v, &[(phi - next) as f32; PICTURES])?;
            progress(k * steps + i + 1, STRENGTHS.len() * steps);
        }
    }
    Ok(())
}
