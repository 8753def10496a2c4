//! Fine-tuning a student through its rounding: forward, the integers that a device computes; backward, as if nothing
//! were rounded. What it learns is to land, from its own states, where the float student lands from the same noise.

use super::learned::{learned, names, store};
use super::observe::Calibration;
use super::simulator::{Activation, Simulator};
use super::straight_through::{rounded, stand_for};
use super::student::{WeightForm, balance_attention, calibrate, describe, describe_by};
use crate::diffusion::angle;
use crate::nn::{MAX_GUIDANCE, Params, Query, UNet};
use crate::train::{Batch, Live, Objective, Targets, landing_v, walk};
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use fewstep_core::Direction;
use std::f64::consts::FRAC_PI_2;
use std::sync::{Arc, RwLock};

/// The network that fine-tuning starts from: the student with balanced attention and calibrated scales as parameters.
/// Weights for four bits are those that [`quantize`](super::quantize) rounds to.
pub fn prepare(student: &UNet, steps: usize, form: WeightForm, progress: impl FnMut(usize, usize)) -> Result<UNet> {
    ensure!(learned(student, steps)?.is_none(), "this student was fine-tuned through its rounding already");
    ensure!(student.arch.base == 0, "students that enlarge pictures are not fine-tuned through the rounding");
    let net = balance_attention(student)?;
    let (activations, moments) = calibrate(&net, steps, Calibration::Noise, form, progress)?;
    let mut tensors = net.params.tensors().clone();
    store(&activations, &mut tensors)?;
    let spec = describe_by(&net, Direction::ToPicture, activations, form, &moments)?;
    for (name, conv) in spec.convs.iter().filter(|(_, conv)| conv.multipliers.is_some()) {
        let name = format!("{name}.weight");
        let like = net.params.get(&name)?;
        tensors.insert(name, Tensor::from_vec(multiplied(&conv.weights, &conv.scale), like.dims(), like.device())?);
    }
    Ok(UNet { arch: net.arch, params: Params::frozen(tensors) })
}

/// Rounded weights in real units.
fn multiplied(weights: &[i8], scale: &[f32]) -> Vec<f32> {
    let rows = weights.chunks(weights.len() / scale.len()).zip(scale);
    rows.flat_map(|(q, s)| q.iter().map(move |q| f32::from(*q) * s)).collect()
}

/// The objective. The network it trains comes from [`prepare`].
pub struct Finetune {
    student: UNet,
    steps: usize,
    form: WeightForm,
    /// The network in integers, as it stands before an update.
    simulator: RwLock<Option<Arc<Simulator>>>,
}

impl Finetune {
    /// `student`: the float student of `steps` steps; its weights are rounded to `form`.
    pub fn new(student: UNet, steps: usize, form: WeightForm) -> Finetune {
        Finetune { student, steps, form, simulator: RwLock::new(None) }
    }

    fn simulator(&self) -> Result<Arc<Simulator>> {
        let held = self.simulator.read().map_err(|_| anyhow::anyhow!("another thread failed"))?;
        held.clone().context("no update was begun")
    }

    /// Number of the step at an angle.
    fn step(&self, phi: f32) -> usize {
        ((1.0 - f64::from(phi) / FRAC_PI_2) * self.steps as f64).round() as usize
    }

    /// v of the student in integers, with gradients to `net`, whose rounding `simulator` is. `z` [B, h, w, c].
    fn forward(&self, simulator: &Simulator, net: &UNet, q: &Query) -> Result<Tensor> {
        let w = q.w.context("a student takes w")?;
        let steps: Vec<usize> = q.phi.iter().map(|phi| self.step(*phi)).collect();
        let n = steps.len();
        let flat = q.z.flatten_all()?.to_vec1::<f32>()?;
        let len = flat.len() / n;
        let traces = (0..n)
            .map(|i| simulator.evaluate(steps[i], q.class[i], w[i], &flat[i * len..][..len]))
            .collect::<Result<Vec<_>>>()?;

        let spec = &simulator.spec;
        let mut tensors = net.params.tensors().clone();
        let mut stand = |name: &str, weights: &[i8], scale: &[f32]| -> Result<()> {
            let name = format!("{name}.weight");
            let stands = stand_for(net.params.get(&name)?, multiplied(weights, scale))?;
            tensors.insert(name, stands);
            Ok(())
        };
        for (name, conv) in &spec.convs {
            stand(name, &conv.weights, &conv.scale)?;
        }
        stand("embed.hidden", &spec.hidden.weights, &spec.hidden.scale)?;
        stand("embed.film", &spec.film.weights, &spec.film.scale)?;
        let net = UNet { arch: net.arch.clone(), params: Params::linked(tensors) };

        let rows: Vec<u32> = steps.iter().map(|s| *s as u32).collect();
        let rows = Tensor::from_vec(rows, n, q.z.device())?;
        let mut see = |name: &str, t: Tensor| -> candle_core::Result<Tensor> {
            if name == "film" {
                return stand_for(&t, traces.iter().flat_map(|trace| trace.film.iter().copied()).collect());
            }
            let place = simulator.graph.nodes.iter().position(|node| node.name == name);
            let Some(place) = place else { candle_core::bail!("the device has no operation {name}") };
            let source = simulator.scale_source(place);
            let source = source.map(|source| &simulator.graph.nodes[source].name);
            let quant = |i: usize| source.map(|name| spec.activations[steps[i]][name]);
            let (mut levels, mut limits) = (Vec::with_capacity(t.elem_count()), Vec::with_capacity(n));
            for (i, trace) in traces.iter().enumerate() {
                let zero = quant(i).map_or(0, |q| q.zero_point);
                match &trace.nodes[place] {
                    Activation::F32(v) => levels.extend_from_slice(v),
                    Activation::I8(v) => {
                        limits.push(((-128 - zero) as f32, (127 - zero) as f32));
                        levels.extend(v.iter().map(|q| (i32::from(*q) - zero) as f32));
                    }
                    Activation::I16(v) => {
                        limits.push((-32768.0, 32767.0));
                        levels.extend(v.iter().map(|q| f32::from(*q)));
                    }
                }
            }
            let Some(source) = source else { return stand_for(&t, levels) };
            // The device's own scales; the gradient of the exponential.
            let scales = (0..n).filter_map(|i| Some(quant(i)?.scale)).collect();
            let logs = net.params.get(&names(source).0)?.index_select(&rows, 0)?;
            rounded(&t, &stand_for(&logs.exp()?, scales)?, levels, limits)
        };
        Ok(net.forward_observed(q, &mut see)?)
    }
}

impl Objective for Finetune {
    /// Rounds the network as it stands.
    fn begin(&self, live: &Live) -> Result<()> {
        let activations = learned(&live.student, self.steps)?.context("a network from `prepare`")?;
        let simulator = Simulator::new(describe(&live.student, Direction::ToPicture, activations, self.form)?)?;
        *self.simulator.write().map_err(|_| anyhow::anyhow!("another thread failed"))? = Some(Arc::new(simulator));
        Ok(())
    }

    /// States of the student in integers at its steps, and the v that land where the float student is by then.
    fn targets(&self, batch: &Batch, _: &Live) -> Result<Targets> {
        let simulator = self.simulator()?;
        let n = self.steps;
        let steps = batch.spread(n);
        let w: Vec<f32> = batch.u.iter().map(|u| u[0] * MAX_GUIDANCE as f32).collect();
        let len = batch.eps.elem_count() / steps.len();

        let mut states = batch.eps.flatten_all()?.to_vec1::<f32>()?;
        for (i, z) in states.chunks_mut(len).enumerate() {
            for step in 0..steps[i] {
                simulator.advance(step, batch.class[i], w[i], z)?;
            }
        }
        let d = FRAC_PI_2 / n as f64;
        let ends: Vec<usize> = steps.iter().map(|step| step + 1).collect();
        let landed = walk(&self.student, batch.eps.clone(), &vec![0; steps.len()], &ends, n, &batch.class, &w)?;
        let z = Tensor::from_vec(states, batch.eps.shape(), batch.eps.device())?;
        let v = landing_v(&z, &landed, &vec![d; steps.len()])?;
        let phi = steps.iter().map(|s| angle(*s, n) as f32).collect();
        Ok(Targets { z, phi, class: batch.class.clone(), w: Some(w), v, weight: None })
    }

    fn predict(&self, net: &UNet, q: &Query) -> Result<Tensor> {
        let simulator = self.simulator()?;
        self.forward(&simulator, net, q)
    }
}
