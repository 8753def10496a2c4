//! A network that is trained, with its optimizer.

use super::live::frozen;
use crate::nn::{AdamW, AdamWOptions, Params, UNet};
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

pub struct Learner {
    /// What its tensors' names in a saved state begin with.
    prefix: &'static str,
    /// Its parameters are variables.
    pub net: UNet,
    optimizer: AdamW,
    averaged: bool,
}

impl Learner {
    /// Starts at the values of `net`.
    pub fn new(prefix: &'static str, net: &UNet, options: AdamWOptions) -> Result<Learner> {
        let params = Params::trainable(net.params.tensors().clone())?;
        let optimizer = AdamW::new(&params, options)?;
        Ok(Learner { prefix, net: UNet { arch: net.arch.clone(), params }, optimizer, averaged: options.ema > 0.0 })
    }

    /// One update; returns the gradients' norm.
    pub fn update(&mut self, grads: &BTreeMap<String, Tensor>, lr: f64) -> Result<f64> {
        Ok(self.optimizer.step(&self.net.params, grads, lr)?)
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The network as it stands; it follows the updates.
    pub fn current(&self) -> UNet {
        frozen(&self.net)
    }

    /// The network with the moving average of its parameters, or the parameters themselves where the options keep
    /// none.
    pub fn average(&self) -> UNet {
        if !self.averaged {
            return self.current();
        }
        UNet { arch: self.net.arch.clone(), params: Params::frozen(self.optimizer.ema()) }
    }

    /// Adds everything needed to go on.
    pub fn save(&self, out: &mut BTreeMap<String, Tensor>) {
        let mut tensors = BTreeMap::new();
        self.optimizer.save(&mut tensors);
        tensors.extend(self.net.params.tensors().iter().map(|(k, t)| (format!("p.{k}"), t.clone())));
        out.extend(tensors.into_iter().map(|(k, t)| (format!("{}{k}", self.prefix), t)));
    }

    /// Takes up what [`Learner::save`] wrote after `updates` updates.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        let own: BTreeMap<String, Tensor> =
            tensors.iter().filter_map(|(k, t)| Some((k.strip_prefix(self.prefix)?.to_string(), t.clone()))).collect();
        for (name, var) in self.net.params.vars() {
            let t = own.get(&format!("p.{name}")).with_context(|| format!("it lacks {}{name}", self.prefix))?;
            var.set(t).with_context(|| format!("{}{name} has another shape", self.prefix))?;
        }
        self.optimizer.load(&own, updates)
    }
}
