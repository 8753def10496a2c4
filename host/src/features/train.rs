//! Trains a classifier: cross-entropy, AdamW, shifted pictures, the moving average of the weights.

use super::arch::FeatureArch;
use super::net::Classifier;
use crate::data::Dataset;
use crate::nn::{AdamW, AdamWOptions, Params, read_tensors, write_tensors};
use crate::noise::{Purpose, Stream};
use crate::progress::Progress;
use crate::train::{Schedule, save_interval, sum_gradients};
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A batch is split into this many parts, whose gradients are added in order.
const SHARDS: usize = 4;
/// Pictures between two reported losses.
const REPORT_EVERY: u64 = 6400;

/// How a classifier is trained. Everything random is a function of (seed, step).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Pictures to train on, repeats counted.
    pub images: u64,
    pub batch: usize,
    /// Largest learning rate; linear to 0 after the first half.
    pub lr: f64,
    pub weight_decay: f64,
    /// Largest decay of the moving average of the weights.
    pub ema: f64,
    /// Share of the dense layer's inputs that a step leaves out.
    pub dropout: f32,
    /// Pictures are moved by up to this many pixels each way; what comes in repeats the edge.
    pub shift: usize,
    pub seed: u64,
}

impl Training {
    /// The settings that a picture of this height is trained with.
    pub fn for_height(height: usize, images: u64, seed: u64) -> Training {
        Training {
            images,
            batch: 128,
            lr: 2e-3,
            weight_decay: 0.05,
            ema: 0.999,
            dropout: 0.3,
            shift: height / 28,
            seed,
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule { pictures: self.images, batch: self.batch, lr: self.lr, constant: 0.5 }
    }
}

/// A part of a training step's batch.
struct Shard {
    /// Number of the shard in its batch.
    index: u32,
    pictures: Vec<u8>,
    labels: Vec<u16>,
}

/// Pictures and labels of a training step.
struct Batches<'a> {
    data: &'a Dataset,
    training: &'a Training,
    pass: Option<u64>,
    order: Vec<u32>,
}

impl Batches<'_> {
    /// Index of picture `position` of the endless sequence of shuffled passes.
    fn index(&mut self, position: u64) -> usize {
        let n = self.data.len() as u64;
        let pass = position / n;
        if self.pass != Some(pass) {
            self.order = (0..n as u32).collect();
            let random = Stream::new(self.training.seed, Purpose::Shuffle, pass as u32, 0);
            for i in (1..n).rev() {
                self.order.swap(i as usize, (random.u64(i as u32) % (i + 1)) as usize);
            }
            self.pass = Some(pass);
        }
        self.order[(position % n) as usize] as usize
    }

    /// Shards of step `step`: moved pictures and their labels.
    fn get(&mut self, step: u64) -> Vec<Shard> {
        let (n, d) = (self.training.batch, self.data);
        let picks: Vec<usize> = (0..n).map(|i| self.index(step * n as u64 + i as u64)).collect();
        let scalars = Stream::new(self.training.seed, Purpose::TrainScalars, step as u32, 0);
        let mut shards = Vec::new();
        for s in 0..SHARDS.min(n) {
            let part = s * n / SHARDS.min(n)..(s + 1) * n / SHARDS.min(n);
            let mut pictures = Vec::with_capacity(part.len() * d.picture_bytes());
            for i in part.clone() {
                let [a, b, ..] = scalars.uniforms(i as u32);
                let span = (2 * self.training.shift + 1) as f32;
                let offset = |u: f32| (u * span) as isize - self.training.shift as isize;
                push_shifted(d, picks[i], offset(a), offset(b), &mut pictures);
            }
            shards.push(Shard { index: s as u32, pictures, labels: part.map(|i| d.labels[picks[i]]).collect() });
        }
        shards
    }
}

/// Appends picture `i` moved down by `dy` and right by `dx`.
fn push_shifted(data: &Dataset, i: usize, dy: isize, dx: isize, out: &mut Vec<u8>) {
    let (h, w, c) = (data.height as isize, data.width as isize, data.channels);
    let picture = data.picture(i);
    for y in 0..h {
        let row = (y - dy).clamp(0, h - 1);
        for x in 0..w {
            let at = (row * w + (x - dx).clamp(0, w - 1)) as usize * c;
            out.extend_from_slice(&picture[at..at + c]);
        }
    }
}

/// Mean cross-entropy of logits [n, classes].
fn cross_entropy(logits: &Tensor, labels: &[u16]) -> candle_core::Result<Tensor> {
    let (n, classes) = logits.dims2()?;
    let mut hot = vec![0f32; n * classes];
    for (row, label) in hot.chunks_exact_mut(classes).zip(labels) {
        row[usize::from(*label)] = 1.0;
    }
    let hot = Tensor::from_vec(hot, (n, classes), logits.device())?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let normal = shifted.exp()?.sum_keepdim(1)?.log()?;
    (normal.sum_all()? - (shifted * hot)?.sum_all()?)? / n as f64
}

/// 0 where an input is left out, elsewhere what keeps the sum: [n, len].
fn dropout_mask(training: &Training, step: u64, shard: u32, n: usize, len: usize) -> candle_core::Result<Tensor> {
    let random = Stream::new(training.seed, Purpose::TrainNoise, step as u32, shard);
    let keep = 1.0 / (1.0 - training.dropout);
    let values = (0..(n * len).div_ceil(4)).flat_map(|i| random.uniforms(i as u32));
    let mask = values.map(|u| if u < training.dropout { 0.0 } else { keep }).take(n * len).collect::<Vec<f32>>();
    Tensor::from_vec(mask, (n, len), &Device::Cpu)
}

#[derive(Serialize, Deserialize)]
struct Saved {
    training: Training,
    arch: FeatureArch,
    /// CRC-32C of the pictures.
    data: u32,
    step: u64,
}

/// Where a killed training goes on.
struct State<'a> {
    path: Option<PathBuf>,
    training: &'a Training,
    arch: &'a FeatureArch,
    data: u32,
}

impl State<'_> {
    fn save(&self, net: &Classifier, optimizer: &AdamW) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut tensors = BTreeMap::new();
        optimizer.save(&mut tensors);
        tensors.extend(net.params.tensors().iter().map(|(k, t)| (format!("p.{k}"), t.clone())));
        let saved = Saved {
            training: self.training.clone(),
            arch: self.arch.clone(),
            data: self.data,
            step: optimizer.steps(),
        };
        write_tensors(path, &tensors, serde_json::to_string(&saved)?)
    }

    /// Takes up a state of the same training; returns the step to go on with.
    fn resume(&self, net: &Classifier, optimizer: &mut AdamW) -> Result<u64> {
        let Some(path) = self.path.as_ref().filter(|p| p.exists()) else { return Ok(0) };
        let damaged = || format!("{}: the saved state is damaged; delete it to start again", path.display());
        let (tensors, description) = read_tensors(path, &Device::Cpu).with_context(damaged)?;
        let saved: Saved = serde_json::from_str(&description).with_context(damaged)?;
        ensure!(
            saved.training == *self.training && saved.arch == *self.arch && saved.data == self.data,
            "{}: is the state of a training with other options or data; give the same ones, or delete it to start again",
            path.display()
        );
        for (name, var) in net.params.vars() {
            var.set(tensors.get(&format!("p.{name}")).with_context(damaged)?).with_context(damaged)?;
        }
        optimizer.load(&tensors, saved.step)?;
        Ok(saved.step)
    }

    fn remove(&self) {
        if let Some(path) = &self.path {
            // What is left behind is found and refused, or gone on with, by the next run.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Trains a classifier of `data`. With `state`, a file there lets a killed training go on; it is removed at the end.
///
/// # Errors
/// When the state is another training's, or the loss is no number.
pub fn train(data: &Dataset, arch: &FeatureArch, training: &Training, state: Option<&Path>) -> Result<Classifier> {
    let params = Params::trainable(Classifier::init(arch, training.seed)?)?;
    let net = Classifier { arch: arch.clone(), params, scale: 1.0 };
    let options =
        AdamWOptions { ema: training.ema, weight_decay: training.weight_decay, beta2: 0.999, ..Default::default() };
    let mut optimizer = AdamW::new(&net.params, options)?;
    let crc = fewstep_core::format::crc::crc32c(&data.pictures);
    let state = State { path: state.map(Path::to_path_buf), training, arch, data: crc };
    let start = state.resume(&net, &mut optimizer)?;
    let schedule = training.schedule();
    let (batch, total) = (training.batch as u64, schedule.steps());
    let mut batches = Batches { data, training, pass: None, order: Vec::new() };
    let mut progress = Progress::new("classifier", total * batch, "pictures");
    progress.start_at(start * batch);
    let (save_every, mut saved) = (save_interval()?, Instant::now());
    let mut losses: Vec<Tensor> = Vec::new();
    for step in start..total {
        let shards: Vec<(Tensor, GradStore)> = batches
            .get(step)
            .into_par_iter()
            .map(|Shard { index, pictures, labels }| {
                let mask = dropout_mask(training, step, index, labels.len(), arch.flat())?;
                let (_, logits) = net.forward(&net.input(&pictures)?, Some(&mask))?;
                let loss = (cross_entropy(&logits, &labels)? * (labels.len() as f64 / batch as f64))?;
                let grads = loss.backward()?;
                Ok((loss.detach(), grads))
            })
            .collect::<Result<_>>()?;
        let grads = sum_gradients(&net.params, &shards)?;
        optimizer.step(&net.params, &grads, schedule.rate(step))?;
        losses.extend(shards.into_iter().map(|(loss, _)| loss));
        let done = step + 1;
        if done % (REPORT_EVERY / batch).max(1) == 0 || done == total {
            let sum: f64 = losses.iter().map(|l| Ok(f64::from(l.to_scalar::<f32>()?))).sum::<Result<f64>>()?;
            let mean = sum * SHARDS.min(training.batch) as f64 / losses.len() as f64;
            ensure!(mean.is_finite(), "the loss is not finite after {} pictures; lower --lr", done * batch);
            losses.clear();
            progress.set(done * batch, &format!("loss {mean:.4}"));
        }
        if saved.elapsed() >= save_every && done < total {
            state.save(&net, &optimizer)?;
            saved = Instant::now();
        }
    }
    progress.finish("");
    state.remove();
    Ok(Classifier { arch: arch.clone(), params: Params::frozen(optimizer.ema()), scale: 1.0 })
}

/// Share of pictures whose most probable class is their label.
pub fn accuracy(net: &Classifier, data: &Dataset) -> Result<f64> {
    let seen = net.extract(&data.pictures)?;
    let right = seen.class.iter().zip(&data.labels).filter(|(a, b)| a == b).count();
    Ok(right as f64 / data.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_known_logits() {
        let logits = Tensor::new(&[[0f32, 0.0], [1.0, 3.0]], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &[0, 0]).unwrap().to_scalar::<f32>().unwrap();
        // (ln 2 + ln(1 + e^2)) / 2
        assert!((loss - 1.410_037_6).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn a_moved_picture_repeats_its_edge() {
        let data = Dataset {
            height: 2,
            width: 3,
            channels: 1,
            class_names: vec!["a".into(), "b".into()],
            pictures: vec![9; 6].into_iter().chain([1, 2, 3, 4, 5, 6]).collect(),
            labels: vec![0, 1],
        };
        let moved = |dy, dx| {
            let mut out = Vec::new();
            push_shifted(&data, 1, dy, dx, &mut out);
            out
        };
        assert_eq!(moved(0, 0), [1, 2, 3, 4, 5, 6]);
        assert_eq!(moved(1, 0), [1, 2, 3, 1, 2, 3]);
        assert_eq!(moved(0, -1), [2, 3, 3, 5, 6, 6]);
        assert_eq!(moved(-2, 5), [4, 4, 4, 4, 4, 4]);
    }
}
