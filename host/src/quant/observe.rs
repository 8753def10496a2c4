//! Calibration: what every activation looks like on the student's own trajectories.

use super::range::Seen;
use crate::diffusion::{angle, rotate, start};
use crate::nn::{Query, UNet};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Strengths that trajectories are calibrated at.
const STRENGTHS: [f32; 6] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0];
/// Pictures per strength.
const PICTURES: usize = 40;

/// Classes of the pictures of every strength.
pub fn calibration_classes(classes: usize) -> Vec<u16> {
    (0..PICTURES).map(|i| (i % classes) as u16).collect()
}

/// Values of every named activation, per step, over trajectories of all classes at several strengths. Names are
/// [`UNet::forward_observed`]'s. `base`: what is enlarged, a picture for each of [`calibration_classes`].
pub fn observe(
    net: &UNet,
    steps: usize,
    seed: u64,
    base: Option<&Tensor>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<BTreeMap<String, Seen>>> {
    let mut seen: Vec<BTreeMap<String, Seen>> = vec![BTreeMap::new(); steps];
    let class = calibration_classes(net.arch.classes);
    for (k, w) in STRENGTHS.iter().enumerate() {
        let mut z = start(&net.arch, seed.wrapping_add((k * PICTURES) as u64), PICTURES, &Device::Cpu)?;
        let w = vec![*w; PICTURES];
        for (i, seen) in seen.iter_mut().enumerate() {
            let phi = angle(i, steps);
            let phis = vec![phi as f32; PICTURES];
            let mut note = |name: &str, t: Tensor| -> candle_core::Result<Tensor> {
                let values = t.flatten_all()?.to_vec1::<f32>()?;
                seen.entry(name.into()).or_default().add(&values, STRENGTHS.len());
                Ok(t)
            };
            let v = net.forward_observed(&Query { z: &z, phi: &phis, class: &class, w: Some(&w), base }, &mut note)?;
            z = rotate(&z, &v, &[(phi - angle(i + 1, steps)) as f32; PICTURES])?;
            progress(k * steps + i + 1, STRENGTHS.len() * steps);
        }
    }
    Ok(seen)
}
