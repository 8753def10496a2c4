//! AdamW with gradient clipping and an exponential moving average of the parameters, all of it saved and resumed.

use super::params::Params;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`AdamW`] (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Gradients with a larger Euclidean norm are scaled down to it; 0 for no clipping.
    pub clip: f64,
    /// Largest decay of the moving average; it grows as (1 + step) / (10 + step) before. 0 for none.
    pub ema: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        AdamWOptions { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, clip: 1.0, ema: 0.9995 }
    }
}

/// Moments and moving average of every parameter.
struct State {
    m: Tensor,
    v: Tensor,
    ema: Tensor,
}

/// The optimizer of a network's variables.
pub struct AdamW {
    options: AdamWOptions,
    step: u64,
    states: BTreeMap<String, State>,
}

/// The factors of one update, the same for every parameter.
#[derive(Clone, Copy)]
struct Factors {
    lr: f64,
    clip: f64,
    correct1: f64,
    correct2: f64,
    ema: f64,
}

impl AdamW {
    /// Fresh moments; the moving average starts at the parameters.
    pub fn new(params: &Params, options: AdamWOptions) -> Result<AdamW> {
        let state = |t: &Tensor| -> Result<State> {
            Ok(State { m: t.zeros_like()?, v: t.zeros_like()?, ema: t.copy()?.detach() })
        };
        let states = params.vars().iter().map(|(k, v)| Ok((k.clone(), state(v)?))).collect::<Result<_>>()?;
        Ok(AdamW { options, step: 0, states })
    }

    /// Updates every variable that has a gradient. Returns the gradients' norm before clipping.
    pub fn step(&mut self, params: &Params, grads: &BTreeMap<String, Tensor>, lr: f64) -> Result<f64> {
        self.step += 1;
        let o = self.options;
        let norm = norm(grads)?;
        let warm = (1 + self.step) as f64 / (10 + self.step) as f64;
        let f = Factors {
            lr,
            clip: if o.clip > 0.0 && norm > o.clip { o.clip / norm } else { 1.0 },
            correct1: 1.0 - o.beta1.powi(self.step as i32),
            correct2: 1.0 - o.beta2.powi(self.step as i32),
            ema: if o.ema > 0.0 { o.ema.min(warm) } else { 0.0 },
        };
        let work: Vec<_> = self.states.iter_mut().collect();
        work.into_par_iter().try_for_each(|(name, state)| -> Result<()> {
            let (var, Some(grad)) = (&params.vars()[name], grads.get(name)) else { return Ok(()) };
            let updated = match var.device() {
                Device::Cpu => update_cpu(&o, f, var, grad, state)?,
                _ => update_tensors(&o, f, var, grad, state)?,
            };
            var.set(&updated)
        })?;
        Ok(norm)
    }

    /// The moving average of every parameter.
    pub fn ema(&self) -> BTreeMap<String, Tensor> {
        self.states.iter().map(|(k, s)| (k.clone(), s.ema.clone())).collect()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Everything needed to go on: tensors named `m.`, `v.` and `ema.` before the parameter's name.
    pub fn save(&self, out: &mut BTreeMap<String, Tensor>) {
        for (name, s) in &self.states {
            out.insert(format!("m.{name}"), s.m.clone());
            out.insert(format!("v.{name}"), s.v.clone());
            out.insert(format!("ema.{name}"), s.ema.clone());
        }
    }

    /// Takes up what [`AdamW::save`] wrote after `step` steps.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>, step: u64) -> anyhow::Result<()> {
        for (name, s) in &mut self.states {
            for (kind, slot) in [("m", &mut s.m), ("v", &mut s.v), ("ema", &mut s.ema)] {
                let key = format!("{kind}.{name}");
                let t = tensors.get(&key).ok_or_else(|| anyhow::anyhow!("the saved state has no tensor {key}"))?;
                anyhow::ensure!(t.dims() == slot.dims(), "saved {key} has shape {:?}, not {:?}", t.dims(), slot.dims());
                *slot = t.to_device(slot.device())?;
            }
        }
        self.step = step;
        Ok(())
    }
}

/// Euclidean norm of all gradients, summed in the order of the names.
fn norm(grads: &BTreeMap<String, Tensor>) -> Result<f64> {
    let squares: Vec<_> = grads.values().collect::<Vec<_>>().into_par_iter().map(|g| g.sqr()?.sum_all()).collect();
    let mut total = 0.0;
    for s in squares {
        total += f64::from(s?.to_scalar::<f32>()?);
    }
    Ok(total.sqrt())
}

/// One pass over the values; the same arithmetic as [`update_tensors`].
fn update_cpu(o: &AdamWOptions, f: Factors, p: &Tensor, g: &Tensor, s: &mut State) -> Result<Tensor> {
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let (mut pv, gv, mut m, mut v, mut ema) = (flat(p)?, flat(g)?, flat(&s.m)?, flat(&s.v)?, flat(&s.ema)?);
    let (b1, b2) = (o.beta1 as f32, o.beta2 as f32);
    let (c1, c2, eps) = (f.correct1 as f32, f.correct2 as f32, o.eps as f32);
    let (lr, decay, clip, e) = (f.lr as f32, (f.lr * o.weight_decay) as f32, f.clip as f32, f.ema as f32);
    for i in 0..pv.len() {
        let g = gv[i] * clip;
        m[i] = m[i] * b1 + g * (1.0 - b1);
        v[i] = v[i] * b2 + g * g * (1.0 - b2);
        pv[i] -= pv[i] * decay + lr * (m[i] / c1) / ((v[i] / c2).sqrt() + eps);
        ema[i] = ema[i] * e + pv[i] * (1.0 - e);
    }
    let tensor = |v: Vec<f32>| Tensor::from_vec(v, p.shape(), p.device());
    (s.m, s.v, s.ema) = (tensor(m)?, tensor(v)?, tensor(ema)?);
    tensor(pv)
}

/// The update in candle's ops, on the parameter's device.
fn update_tensors(o: &AdamWOptions, f: Factors, p: &Tensor, g: &Tensor, s: &mut State) -> Result<Tensor> {
    let g = (g.detach() * f.clip)?;
    s.m = ((&s.m * o.beta1)? + (&g * (1.0 - o.beta1))?)?;
    s.v = ((&s.v * o.beta2)? + (g.sqr()? * (1.0 - o.beta2))?)?;
    let step = ((&s.m / f.correct1)? / ((&s.v / f.correct2)?.sqrt()? + o.eps)?)?;
    let p = p.detach();
    let p = (&p - ((&p * (f.lr * o.weight_decay))? + (step * f.lr)?)?)?;
    s.ema = ((&s.ema * f.ema)? + (&p * (1.0 - f.ema))?)?;
    Ok(p)
}
