//! The training loop.

use super::batch::{Batch, Batches};
use super::live::Live;
use super::objective::Objective;
use super::run_dir::RunDir;
use crate::data::Dataset;
use crate::nn::{AdamW, AdamWOptions, Params, Query, UNet, read_tensors, write_tensors};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A running phase saves its state this often, at a line of statistics; FEWSTEP_SAVE_SECONDS changes it.
const SAVE_SECONDS: u64 = 60;
/// Pictures between two lines of statistics, at most.
const LOG_EVERY: u64 = 12_800;
/// Lines of statistics in a phase, at least.
const LOG_LINES: u64 = 20;

fn save_interval() -> Result<Duration> {
    match std::env::var("FEWSTEP_SAVE_SECONDS") {
        Ok(s) => Ok(Duration::from_secs(s.parse().context("FEWSTEP_SAVE_SECONDS must be a number of seconds")?)),
        Err(_) => Ok(Duration::from_secs(SAVE_SECONDS)),
    }
}

/// Length and learning rate of a phase: constant, then linear to 0 (tied to pictures, never to the clock).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub pictures: u64,
    pub batch: usize,
    pub lr: f64,
    /// Share of the phase before the rate falls.
    pub constant: f64,
}

impl Schedule {
    /// Updates in the phase.
    pub fn steps(&self) -> u64 {
        self.pictures.div_ceil(self.batch as u64)
    }

    /// Learning rate of update `step`.
    pub fn rate(&self, step: u64) -> f64 {
        let done = step as f64 / self.steps() as f64;
        self.lr * ((1.0 - done) / (1.0 - self.constant).max(1e-9)).min(1.0)
    }
}

/// One phase of a run.
pub struct Phase<'a> {
    /// Name in statistics and of the saved state.
    pub name: &'a str,
    pub net: UNet,
    pub schedule: Schedule,
    pub optimizer: AdamWOptions,
    pub seed: u64,
    pub data: &'a Dataset,
    pub device: &'a Device,
    pub run: &'a RunDir,
}

/// A batch is split into this many parts on the CPU. Threads take them as they come, and their gradients are added in
/// order, so the number of threads changes nothing but the time.
const SHARDS: usize = 4;

/// Loss and gradients of one shard, scaled by its share of the batch.
fn shard_gradient(
    net: &UNet,
    live: &Live,
    objective: &dyn Objective,
    shard: &Batch,
    batch: usize,
) -> Result<(Tensor, GradStore)> {
    let t = objective.targets(shard, live)?;
    let query = Query { z: &t.z, phi: &t.phi, class: &t.class, w: t.w.as_deref() };
    let mut loss = (net.forward(&query)? - t.v.detach())?.sqr()?;
    if let Some(weight) = &t.weight {
        loss = loss.broadcast_mul(&Tensor::from_slice(weight, (weight.len(), 1, 1, 1), loss.device())?)?;
    }
    let loss = loss.mean_all()?;
    let loss = (loss * (shard.class.len() as f64 / batch as f64))?;
    let grads = loss.backward()?;
    Ok((loss.detach(), grads))
}

/// The one place where gradients are summed: over shards, in their order.
fn sum_gradients(params: &Params, shards: &[(Tensor, GradStore)]) -> Result<BTreeMap<String, Tensor>> {
    let vars: Vec<_> = params.vars().iter().collect();
    vars.into_par_iter()
        .filter_map(|(name, var)| {
            let mut parts = shards.iter().filter_map(|(_, g)| g.get(var));
            let first = parts.next()?.clone();
            let sum = parts.try_fold(first, |sum, g| sum + g);
            Some(sum.map(|s| (name.clone(), s)).map_err(anyhow::Error::from))
        })
        .collect()
}

#[derive(Serialize)]
struct Stats<'a> {
    phase: &'a str,
    pictures: u64,
    loss: f64,
    grad_norm: f64,
    lr: f64,
    seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    phase: String,
    step: u64,
    seconds: f64,
}

impl Phase<'_> {
    /// Trains to the end of the budget, from the saved state if there is one; returns the network with the moving
    /// average of its parameters (the parameters themselves where the options keep none).
    pub fn run(self, objective: &dyn Objective) -> Result<UNet> {
        let params = Params::trainable(self.net.params.tensors().clone())?;
        let net = UNet { arch: self.net.arch.clone(), params };
        let mut optimizer = AdamW::new(&net.params, self.optimizer)?;
        let (start, mut seconds) = self.resume(&net, &mut optimizer)?;
        let batch_size = self.schedule.batch as u64;
        let total = self.schedule.steps();
        let mut batches = Batches::new(self.data, &net.arch, self.seed, self.schedule.batch, self.device);
        let mut progress = Progress::new(self.name, total * batch_size, "pictures");
        progress.start_at(start * batch_size);
        let (mut saved, mut clock) = (Instant::now(), Instant::now());
        let log_steps = (LOG_EVERY / batch_size).min(total / LOG_LINES).max(1);
        let save_every = save_interval()?;
        // Losses stay on the device until they are reported.
        let mut losses: Vec<Tensor> = Vec::new();
        let mut log_window = 0;
        // Shares the values of the variables.
        let mut live = Live::of(&net);
        for step in start..total {
            let shards = batches.get(step, if self.device.is_cpu() { SHARDS } else { 1 })?;
            live.average.params = self.average(&net, &optimizer);
            let gradient = |b: Batch| shard_gradient(&net, &live, objective, &b, self.schedule.batch);
            let shards = shards.into_par_iter().map(gradient);
            let shards: Vec<(Tensor, GradStore)> = shards.collect::<Result<_>>()?;
            let grads = sum_gradients(&net.params, &shards)?;
            let lr = self.schedule.rate(step);
            let grad_norm = optimizer.step(&net.params, &grads, lr)?;
            losses.extend(shards.into_iter().map(|(loss, _)| loss));
            let done = step + 1;
            log_window += 1;
            if done % log_steps == 0 || done == total {
                let sum: f64 = losses.iter().map(|l| Ok(f64::from(l.to_scalar::<f32>()?))).sum::<Result<f64>>()?;
                let mean = sum / log_window as f64;
                losses.clear();
                log_window = 0;
                ensure!(
                    mean.is_finite(),
                    "{}: the loss is not finite after {} pictures; lower --lr",
                    self.name,
                    done * batch_size
                );
                seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                let pictures = done * batch_size;
                self.run.log(&Stats { phase: self.name, pictures, loss: mean, grad_norm, lr, seconds })?;
                progress.set(pictures, &format!("loss {mean:.4}"));
                // State is saved where the sum of losses is empty, so that resumed statistics are the same too.
                if saved.elapsed() >= save_every && done < total {
                    self.save(&net, &optimizer, seconds)?;
                    saved = Instant::now();
                }
            }
        }
        progress.finish(&format!("{seconds:.0} s of training in all"));
        let params = self.average(&net, &optimizer);
        Ok(UNet { arch: net.arch, params })
    }

    /// The moving average of the parameters, or the parameters themselves where the options keep none.
    fn average(&self, net: &UNet, optimizer: &AdamW) -> Params {
        Params::frozen(if self.optimizer.ema > 0.0 { optimizer.ema() } else { net.params.tensors().clone() })
    }

    fn save(&self, net: &UNet, optimizer: &AdamW, seconds: f64) -> Result<()> {
        let mut tensors = BTreeMap::new();
        optimizer.save(&mut tensors);
        tensors.extend(net.params.tensors().iter().map(|(k, t)| (format!("p.{k}"), t.clone())));
        let saved = Saved { phase: self.name.into(), step: optimizer.steps(), seconds };
        write_tensors(&self.run.path("state.safetensors"), &tensors, serde_json::to_string(&saved)?)
    }

    /// Takes up the saved state of this phase; returns the step to go on with and the seconds spent so far.
    fn resume(&self, net: &UNet, optimizer: &mut AdamW) -> Result<(u64, f64)> {
        let path = self.run.path("state.safetensors");
        let mut from = (0, 0.0);
        if path.exists() {
            let damaged =
                || format!("{}: the saved state is damaged; delete it to start the phase again", path.display());
            let (tensors, description) = read_tensors(&path, self.device).with_context(damaged)?;
            let saved: Saved = serde_json::from_str(&description).with_context(damaged)?;
            if saved.phase == self.name {
                for (name, var) in net.params.vars() {
                    let t = tensors
                        .get(&format!("p.{name}"))
                        .with_context(|| format!("{} lacks {name}", path.display()))?;
                    var.set(t).with_context(|| format!("{}: {name} has another shape", path.display()))?;
                }
                optimizer.load(&tensors, saved.step)?;
                from = (saved.step, saved.seconds);
                eprintln!("{}: going on after {} pictures", self.name, saved.step * self.schedule.batch as u64);
            }
        }
        self.run.rewind_log(self.name, from.0 * self.schedule.batch as u64)?;
        Ok(from)
    }
}
