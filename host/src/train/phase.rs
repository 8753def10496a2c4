//! The training loop.

use super::batch::{Batch, Batches};
use super::learner::Learner;
use super::live::{Live, Turn};
use super::objective::Objective;
use super::run_dir::RunDir;
use super::snapshot;
use crate::data::Dataset;
use crate::nn::{AdamWOptions, Kind, Params, Query, UNet, read_tensors, write_tensors};
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

pub(crate) fn save_interval() -> Result<Duration> {
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
    /// What the network becomes: how snapshots are drawn.
    pub kind: Kind,
    /// A second network, which the objective gives turns to; its pictures count too.
    pub auxiliary: Option<UNet>,
    pub schedule: Schedule,
    /// Of each network by itself.
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
    let query = Query { z: &t.z, phi: &t.phi, class: &t.class, w: t.w.as_deref(), base: shard.base.as_ref() };
    let mut loss = (objective.predict(net, &query)? - t.v.detach())?.sqr()?;
    if let Some(weight) = &t.weight {
        loss = loss.broadcast_mul(&Tensor::from_slice(weight, (weight.len(), 1, 1, 1), loss.device())?)?;
    }
    let loss = loss.mean_all()?;
    let loss = (loss * (shard.class.len() as f64 / batch as f64))?;
    let grads = loss.backward()?;
    Ok((loss.detach(), grads))
}

/// The one place where gradients are summed: over shards, in their order.
pub(crate) fn sum_gradients(params: &Params, shards: &[(Tensor, GradStore)]) -> Result<BTreeMap<String, Tensor>> {
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
    loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auxiliary_loss: Option<f64>,
    grad_norm: f64,
    lr: f64,
    seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    phase: String,
    step: u64,
    /// Updates of the networks, the student's first; none stands for one network that had every update.
    #[serde(default)]
    updates: Vec<u64>,
    seconds: f64,
}

/// Losses since the last line of statistics. They stay on the device until they are reported.
#[derive(Default)]
struct Losses {
    parts: Vec<Tensor>,
    updates: usize,
}

impl Losses {
    /// Mean over the updates, none where there were none; empties the list.
    fn take(&mut self) -> Result<Option<f64>> {
        let sum: f64 = self.parts.iter().map(|l| Ok(f64::from(l.to_scalar::<f32>()?))).sum::<Result<f64>>()?;
        let mean = (self.updates > 0).then(|| sum / self.updates as f64);
        *self = Losses::default();
        Ok(mean)
    }
}

impl Phase<'_> {
    /// Trains to the end of the budget, from the saved state if there is one; returns the network with the moving
    /// average of its parameters (the parameters themselves where the options keep none).
    pub fn run(self, objective: &dyn Objective) -> Result<UNet> {
        let mut learners = vec![Learner::new("", &self.net, self.optimizer)?];
        if let Some(net) = &self.auxiliary {
            learners.push(Learner::new("auxiliary.", net, self.optimizer)?);
        }
        let (start, mut seconds) = self.resume(&mut learners, objective)?;
        let batch_size = self.schedule.batch as u64;
        let total = self.schedule.steps();
        let mut batches = Batches::new(self.data, &self.net.arch, self.seed, self.schedule.batch, self.device);
        let mut progress = Progress::new(self.name, total * batch_size, "pictures");
        progress.start_at(start * batch_size);
        let (mut saved, mut clock) = (Instant::now(), Instant::now());
        let log_steps = (LOG_EVERY / batch_size).min(total / LOG_LINES).max(1);
        let save_every = save_interval()?;
        let mut losses = [Losses::default(), Losses::default()];
        let student = learners[0].current();
        let auxiliary = learners.get(1).map(Learner::current);
        let mut live = Live { average: student.clone(), student, auxiliary, turn: Turn::Student };
        for step in start..total {
            let shards = batches.get(step, if self.device.is_cpu() { SHARDS } else { 1 })?;
            live.average = learners[0].average();
            live.turn = objective.turn(step);
            objective.begin(&live)?;
            let turn = live.turn as usize;
            let learner = learners.get_mut(turn).context("an objective with turns needs a second network")?;
            let gradient = |b: Batch| shard_gradient(&learner.net, &live, objective, &b, self.schedule.batch);
            let shards: Vec<(Tensor, GradStore)> = shards.into_par_iter().map(gradient).collect::<Result<_>>()?;
            let grads = sum_gradients(&learner.net.params, &shards)?;
            let lr = self.schedule.rate(step);
            let grad_norm = learner.update(&grads, lr)?;
            losses[turn].parts.extend(shards.into_iter().map(|(loss, _)| loss));
            losses[turn].updates += 1;
            let done = step + 1;
            if done % log_steps == 0 || done == total {
                let pictures = done * batch_size;
                let (loss, auxiliary_loss) = (losses[0].take()?, losses[1].take()?);
                ensure!(
                    loss.iter().chain(&auxiliary_loss).all(|l| l.is_finite()),
                    "{}: the loss is not finite after {pictures} pictures; lower --lr",
                    self.name,
                );
                seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                self.run.log(&Stats { phase: self.name, pictures, loss, auxiliary_loss, grad_norm, lr, seconds })?;
                let shown = loss.or(auxiliary_loss).unwrap_or_default();
                progress.set(pictures, &format!("loss {shown:.4}"));
                if done * snapshot::COUNT / total > (done - done.min(log_steps)) * snapshot::COUNT / total
                    || done == total
                {
                    let net = learners[0].average();
                    snapshot::take(&self, &net, pictures)?;
                    self.run.report();
                    // Training is timed alone.
                    clock = Instant::now();
                }
                // State is saved where the sum of losses is empty, so that resumed statistics are the same too.
                if saved.elapsed() >= save_every && done < total {
                    self.save(&learners, objective, done, seconds)?;
                    saved = Instant::now();
                }
            }
        }
        progress.finish(&format!("{seconds:.0} s of training in all"));
        Ok(learners[0].average())
    }

    fn save(&self, learners: &[Learner], objective: &dyn Objective, step: u64, seconds: f64) -> Result<()> {
        let mut tensors = BTreeMap::new();
        learners.iter().for_each(|l| l.save(&mut tensors));
        objective.save(&mut tensors)?;
        let updates = learners.iter().map(Learner::updates).collect();
        let saved = Saved { phase: self.name.into(), step, updates, seconds };
        write_tensors(&self.run.path("state.safetensors"), &tensors, serde_json::to_string(&saved)?)
    }

    /// Takes up the saved state of this phase; returns the step to go on with and the seconds spent so far.
    fn resume(&self, learners: &mut [Learner], objective: &dyn Objective) -> Result<(u64, f64)> {
        let path = self.run.path("state.safetensors");
        let mut from = (0, 0.0);
        if path.exists() {
            let damaged =
                || format!("{}: the saved state is damaged; delete it to start the phase again", path.display());
            let (tensors, description) = read_tensors(&path, self.device).with_context(damaged)?;
            let mut saved: Saved = serde_json::from_str(&description).with_context(damaged)?;
            if saved.updates.is_empty() {
                saved.updates.push(saved.step);
            }
            if saved.phase == self.name {
                ensure!(saved.updates.len() == learners.len(), damaged());
                for (learner, updates) in learners.iter_mut().zip(&saved.updates) {
                    learner.load(&tensors, *updates).with_context(damaged)?;
                }
                objective.load(&tensors).with_context(damaged)?;
                from = (saved.step, saved.seconds);
                eprintln!("{}: going on after {} pictures", self.name, saved.step * self.schedule.batch as u64);
            }
        }
        self.run.rewind_log(self.name, from.0 * self.schedule.batch as u64)?;
        Ok(from)
    }
}
