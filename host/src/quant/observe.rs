//! Calibration: what every activation looks like on the student's own trajectories.

use super::range::Seen;
use crate::data::Dataset;
use crate::diffusion::{angle_towards, rotate, start, to_batch, to_signed};
use crate::enlarge;
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
    /// The same, for a student that enlarges these: bytes [count][H][W][C], a picture for each of
    /// [`calibration_classes`].
    Bases(&'a [u8]),
    /// Pictures of a data set, under their classes: an encoder's.
    Pictures(&'a Dataset),
}

/// First states of trajectories, and what they go under.
struct Start {
    z: Tensor,
    class: Vec<u16>,
    base: Option<Tensor>,
}

impl Calibration<'_> {
    /// The way of the trajectories.
    pub fn direction(&self) -> Direction {
        match self {
            Calibration::Noise | Calibration::Bases(_) => Direction::ToPicture,
            Calibration::Pictures(_) => Direction::ToNoise,
        }
    }

    /// The trajectories of strength `k`.
    fn start(&self, net: &UNet, seed: u64, k: usize) -> Result<Start> {
        let first = k * PICTURES;
        let from_noise = |base: Option<Tensor>| -> Result<Start> {
            let z = start(&net.arch, seed.wrapping_add(first as u64), PICTURES, &Device::Cpu)?;
            Ok(Start { z, class: calibration_classes(net.arch.classes), base })
        };
        match self {
            Calibration::Noise => from_noise(None),
            Calibration::Bases(bases) => from_noise(Some(enlarge::bases(&net.arch, bases, &Device::Cpu)?)),
            Calibration::Pictures(data) => {
                // Spread over the set, which may be sorted.
                let all = PICTURES * STRENGTHS.len();
                let picks: Vec<usize> = (first..first + PICTURES).map(|i| i * data.len() / all).collect();
                let values: Vec<f32> =
                    picks.iter().flat_map(|i| data.picture(*i).iter().map(|byte| to_signed(*byte))).collect();
                let class = picks.iter().map(|i| data.labels[*i]).collect();
                Ok(Start { z: to_batch(&net.arch, &values, &Device::Cpu)?, class, base: None })
            }
        }
    }
}

/// Classes of the pictures of every strength, where they are not a data set's.
pub fn calibration_classes(classes: usize) -> Vec<u16> {
    (0..PICTURES).map(|i| (i % classes) as u16).collect()
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
        let Start { mut z, class, base } = from.start(net, seed, k)?;
        let w = vec![*w; PICTURES];
        for i in 0..steps {
            let phi = angle_towards(from.direction(), i, steps);
            let phis = vec![phi as f32; PICTURES];
            let mut see = |name: &str, t: Tensor| -> candle_core::Result<Tensor> {
                note(i, name, &t)?;
                Ok(t)
            };
            let query = Query { z: &z, phi: &phis, class: &class, w: Some(&w), base: base.as_ref() };
            let v = net.forward_observed(&query, &mut see)?;
            let next = angle_towards(from.direction(), i + 1, steps);
            z = rotate(&z, &v, &[(phi - next) as f32; PICTURES])?;
            progress(k * steps + i + 1, STRENGTHS.len() * steps);
        }
    }
    Ok(())
}
