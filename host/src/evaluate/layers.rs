//! Where int8 loses: every operation's output in the core against the float network's, from the same state.
//!
//! At the start of each step the float network gets the state z that the int8 student has reached, so that a step's
//! figures are its own losses; the loss carried over from earlier steps shows in z. An output of the core is a number
//! of levels whose scale and zero point the comparison does not need: a straight line is fitted from levels to float
//! values, and the signal-to-noise ratio is the variance of the values over that of the residual.

use crate::diffusion::{SampleRequest, Sampler, trajectory};
use crate::files::AlignedBytes;
use crate::nn::{Query, UNet};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use fewstep_core::format::{BufferRepr, Element};
use fewstep_core::{Model, Request, Session, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An operation's loss at one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loss {
    pub operation: String,
    /// Signal-to-noise ratio in dB; None where nothing is lost.
    pub snr: Option<f64>,
}

/// The losses of one denoising step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepLoss {
    /// Of the state before the step, against the float student's own trajectory.
    pub state: Option<f64>,
    /// In the order of execution; the last one is v.
    pub operations: Vec<Loss>,
}

/// An image against the float student it was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerReport {
    pub image: PathBuf,
    pub float: PathBuf,
    pub pictures: usize,
    pub steps: Vec<StepLoss>,
}

/// Sums of a straight-line fit.
#[derive(Clone, Copy, Default)]
struct Fit {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Fit {
    fn add(&mut self, levels: &[f32], values: &[f32]) {
        for (x, y) in levels.iter().zip(values) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            self.n += 1.0;
            self.x += x;
            self.y += y;
            self.xx += x * x;
            self.xy += x * y;
            self.yy += y * y;
        }
    }

    /// Variance of y over the variance that x leaves, in dB.
    fn snr(&self) -> Option<f64> {
        let (xx, xy) = (self.xx - self.x * self.x / self.n, self.xy - self.x * self.y / self.n);
        let yy = self.yy - self.y * self.y / self.n;
        let left = if xx > 0.0 { yy - xy * xy / xx } else { yy };
        let snr = 10.0 * (yy / left.max(0.0)).log10();
        // Beyond 120 dB lie only the sums' own rounding errors.
        (snr < 120.0).then_some(snr)
    }
}

/// Values of a buffer as they lie in the arena.
fn values(arena: &[u8], b: &BufferRepr) -> Vec<f32> {
    let bytes = &arena[b.offset as usize..b.end() as usize];
    match b.element {
        Element::I8 => bytes.iter().map(|v| f32::from(*v as i8)).collect(),
        Element::I16 => bytes.as_chunks().0.iter().map(|v| f32::from(i16::from_le_bytes(*v))).collect(),
        Element::F32 => bytes.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect(),
    }
}

/// Runs a request up to (but without) stage `until` of step `step`, and returns the arena.
fn arena_at(model: &Model, request: &Request, step: u16, until: Stage) -> Result<AlignedBytes> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::new(model, &mut arena).map_err(|e| anyhow::anyhow!("{e}"))?;
    session.begin(request).map_err(|e| anyhow::anyhow!("{e}"))?;
    for _ in 0..step {
        session.step();
    }
    while session.stage().is_some_and(|stage| stage != until) {
        session.step_op();
    }
    Ok(arena)
}

/// The outputs of all operations of step `step`, and z before it.
fn outputs(model: &Model, request: &Request, step: u16) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    let image = model.image();
    let buffer = |index: u16| image.buffer(index).map_err(|e| anyhow::anyhow!("{e}"));
    let z = values(&arena_at(model, request, step, Stage::Embed)?, &buffer(image.info().roles.z)?);
    let ops = model.op_count() as u16;
    let outputs = (0..ops).map(|op| {
        let next = if op + 1 < ops { Stage::Op(op + 1) } else { Stage::Update };
        let arena = arena_at(model, request, step, next)?;
        let record = model.op(op.into()).context("an operation below the count")?;
        Ok(values(&arena, &buffer(record.buffers().1)?))
    });
    Ok((z, outputs.collect::<Result<_>>()?))
}

/// Losses of an image against its float network, summed over pictures of all classes at every strength of `w`.
///
/// # Errors
/// When the image's operations are not the network's.
pub fn layer_losses(model: &Model, net: &UNet, w: &[f32], seed: u64, pictures: usize) -> Result<Vec<StepLoss>> {
    let info = model.info();
    let (steps, classes) = (usize::from(info.steps), usize::from(info.classes));
    let names: Vec<String> = (0..model.op_count())
        .map(|op| Ok(model.op_name(op).context("the image has no names of operations")?.to_string()))
        .collect::<Result<_>>()?;
    let class: Vec<u16> = (0..pictures).map(|i| (i % classes) as u16).collect();
    let mut reports = Vec::new();
    for step in 0..steps {
        let mut state = Fit::default();
        let mut fits: Vec<Vec<Fit>> = vec![Vec::new(); names.len()];
        for w in w {
            let runs: Vec<_> = class
                .par_iter()
                .enumerate()
                .map(|(i, class)| {
                    let seed = seed.wrapping_add(i as u64);
                    outputs(model, &Request { seed, class: *class, w: *w, ..Request::default() }, step as u16)
                })
                .collect::<Result<_>>()?;
            let z: Vec<f32> = runs.iter().flat_map(|r| r.0.iter().copied()).collect();
            let request = SampleRequest {
                steps,
                seed,
                classes: class.clone(),
                w: *w,
                sampler: Sampler::Deterministic,
                bases: Vec::new(),
            };
            let mut own = None;
            trajectory(net, &request, 0..pictures, &Device::Cpu, |i, z| {
                if i == step {
                    own = Some(z.clone());
                }
                Ok(())
            })?;
            let own = own.context("a step of the trajectory")?;
            ensure!(own.elem_count() == z.len(), "the image's pictures have another shape than the network's");
            state.add(&z, &own.flatten_all()?.to_vec1()?);

            let phi = vec![crate::diffusion::angle(step, steps) as f32; pictures];
            let mut seen: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            let z = Tensor::from_vec(z, own.shape(), &Device::Cpu)?;
            let mut see = |name: &str, t: Tensor| -> candle_core::Result<Tensor> {
                seen.insert(name.into(), t.flatten_all()?.to_vec1()?);
                Ok(t)
            };
            _ = net.forward_observed(
                &Query { z: &z, phi: &phi, class: &class, w: Some(&vec![*w; pictures]), base: None },
                &mut see,
            )?;
            for (op, (name, fits)) in names.iter().zip(&mut fits).enumerate() {
                let float = seen.get(name).with_context(|| format!("the float network has no operation {name}"))?;
                let len = float.len() / pictures;
                ensure!(runs.iter().all(|r| r.1[op].len() == len), "operation {name} has another shape in the image");
                // q, k and v were scaled each for itself before they were rounded: a fit for each.
                let parts = if name.ends_with(".qkv") { 3 } else { 1 };
                let channels = usize::from(output_channels(model, op)?);
                fits.resize(parts, Fit::default());
                for (run, float) in runs.iter().zip(float.chunks_exact(len)) {
                    for (levels, float) in run.1[op].chunks_exact(channels).zip(float.chunks_exact(channels)) {
                        let size = channels / parts;
                        for ((fit, l), f) in fits.iter_mut().zip(levels.chunks(size)).zip(float.chunks(size)) {
                            fit.add(l, f);
                        }
                    }
                }
            }
        }
        let operations = names.iter().zip(&fits).map(|(name, fits)| {
            let snr = fits.iter().filter_map(Fit::snr).reduce(f64::min);
            Loss { operation: name.clone(), snr }
        });
        reports.push(StepLoss { state: state.snr(), operations: operations.collect() });
    }
    Ok(reports)
}

fn output_channels(model: &Model, op: usize) -> Result<u16> {
    let (_, dst) = model.op(op).context("an operation below the count")?.buffers();
    Ok(model.image().buffer(dst).map_err(|e| anyhow::anyhow!("{e}"))?.channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_knows_scale_zero_and_noise() {
        let x: Vec<f32> = (0..1000).map(|i| (i * 37 % 256) as f32 - 128.0).collect();
        let line: Vec<f32> = x.iter().map(|x| 0.25 * x + 3.0).collect();
        let snr = |y: &[f32]| {
            let mut fit = Fit::default();
            fit.add(&x, y);
            fit.snr()
        };
        assert_eq!(snr(&line), None);
        // Noise of one tenth of the signal's deviation, unrelated to it: 20 dB.
        let signal = (x.iter().map(|v| v * v).sum::<f32>() / 1000.0).sqrt() * 0.25;
        let noisy: Vec<f32> =
            line.iter().enumerate().map(|(i, y)| y + 0.1 * signal * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert!((snr(&noisy).unwrap() - 20.0).abs() < 0.2, "{:?}", snr(&noisy));
    }
}
