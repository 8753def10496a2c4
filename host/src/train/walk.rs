//! A student's own steps.

use crate::diffusion::{angle, rotate};
use crate::nn::{Query, UNet};
use candle_core::{Result, Tensor};
use std::f64::consts::FRAC_PI_2;

/// Where `net`, a student of `count` steps, is before step `to[i]`, at most `count`, when it starts at `z` before step
/// `from[i]`.
pub(crate) fn walk(
    net: &UNet,
    mut z: Tensor,
    from: &[usize],
    to: &[usize],
    count: usize,
    class: &[u16],
    w: &[f32],
) -> Result<Tensor> {
    let d = FRAC_PI_2 / count as f64;
    for step in 0..count {
        // Who is not under way stays: a rotation by nothing.
        let under_way = from.iter().zip(to).map(|(from, to)| (*from..*to).contains(&step));
        let turns: Vec<f32> = under_way.map(|it_is| if it_is { d as f32 } else { 0.0 }).collect();
        if turns.iter().any(|d| *d > 0.0) {
            let phi = vec![angle(step, count) as f32; turns.len()];
            let v = net.forward(&Query { z: &z, phi: &phi, class, w: Some(w), base: None })?;
            z = rotate(&z, &v, &turns)?;
        }
    }
    Ok(z)
}
