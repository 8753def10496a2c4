//! Seeded batches of a data set.

use crate::data::Dataset;
use crate::enlarge;
use crate::nn::{Arch, Query};
use crate::noise::{Purpose, Stream};
use anyhow::Result;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Pictures with their noise, in space-to-depth form [B, H/p, W/p, p*p*C], and random numbers for the objective.
pub struct Batch {
    /// Pictures in [-1, 1].
    pub x: Tensor,
    /// Standard normal noise.
    pub eps: Tensor,
    /// What is enlarged, in space-to-depth form, for networks that do so; `x` are its details.
    pub base: Option<Tensor>,
    pub class: Vec<u16>,
    /// Uniform in [0, 1), spread evenly over the batch: one in each B-th part.
    pub t: Vec<f32>,
    /// Two more uniform numbers per picture.
    pub u: Vec<[f32; 2]>,
    pub address: Address,
}

/// Where the random numbers of a batch lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    pub seed: u64,
    pub step: u64,
    /// Number of the first picture in the whole batch.
    pub first: usize,
}

impl Batch {
    /// A number below `count` for each picture, the highest first. t is spread evenly over [0, 1): so are the numbers,
    /// however few they are.
    pub fn spread(&self, count: usize) -> Vec<usize> {
        let last = count - 1;
        self.t.iter().map(|t| last - ((f64::from(*t) * count as f64) as usize).min(last)).collect()
    }

    /// These pictures of the batch; their random numbers stay theirs, but for fresh noise.
    pub fn part(&self, rows: &[u32]) -> candle_core::Result<Batch> {
        let index = Tensor::from_slice(rows, rows.len(), self.eps.device())?;
        let of = |t: &Tensor| t.index_select(&index, 0);
        let rows = || rows.iter().map(|i| *i as usize);
        Ok(Batch {
            x: of(&self.x)?,
            eps: of(&self.eps)?,
            base: self.base.as_ref().map(of).transpose()?,
            class: rows().map(|i| self.class[i]).collect(),
            t: rows().map(|i| self.t[i]).collect(),
            u: rows().map(|i| self.u[i]).collect(),
            address: self.address,
        })
    }

    /// What a network is asked of these pictures at states `z` and angles, with strengths `w`.
    pub fn query<'a>(&'a self, z: &'a Tensor, phi: &'a [f32], w: &'a [f32]) -> Query<'a> {
        Query { z, phi, class: &self.class, w: Some(w), base: self.base.as_ref() }
    }

    /// Standard normal noise that is independent of `eps`, of its shape.
    pub fn fresh_noise(&self) -> candle_core::Result<Tensor> {
        let Address { seed, step, first } = self.address;
        let len = self.eps.elem_count() / self.class.len();
        let mut eps = vec![0.0; self.eps.elem_count()];
        for (i, eps) in eps.chunks_mut(len).enumerate() {
            Stream::new(seed, Purpose::TrainRenoise, step as u32, (first + i) as u32).normals(eps);
        }
        Tensor::from_vec(eps, self.eps.shape(), self.eps.device())
    }
}

/// Endless batches: shuffled passes over a data set, fresh noise every time, all a function of (seed, step).
pub struct Batches<'a> {
    data: &'a Dataset,
    arch: &'a Arch,
    seed: u64,
    size: usize,
    device: &'a Device,
    pass: Option<u64>,
    order: Vec<u32>,
}

impl<'a> Batches<'a> {
    pub fn new(data: &'a Dataset, arch: &'a Arch, seed: u64, size: usize, device: &'a Device) -> Batches<'a> {
        Batches { data, arch, seed, size, device, pass: None, order: Vec::new() }
    }

    /// Index of picture `position` of the endless sequence.
    fn index(&mut self, position: u64) -> usize {
        let n = self.data.len() as u64;
        let pass = position / n;
        if self.pass != Some(pass) {
            self.order = (0..n as u32).collect();
            let random = Stream::new(self.seed, Purpose::Shuffle, pass as u32, 0);
            for i in (1..n).rev() {
                // Fisher-Yates; the bias of the modulus is below 2^-44.
                self.order.swap(i as usize, (random.u64(i as u32) % (i + 1)) as usize);
            }
            self.pass = Some(pass);
        }
        self.order[(position % n) as usize] as usize
    }

    /// The batch of training step `step`, in `parts` nearly equal parts. The split does not change the pictures.
    pub fn get(&mut self, step: u64, parts: usize) -> Result<Vec<Batch>> {
        let (n, len) = (self.size, self.arch.picture_len());
        let picks: Vec<usize> = (0..n).map(|i| self.index(step * n as u64 + i as u64)).collect();
        let small = self.arch.base_shape();
        let (mut x, mut eps) = (vec![0.0; n * len], vec![0.0; n * len]);
        // One value a picture where there is no base, so that there are as many chunks as pictures.
        let base_len = small.picture_len().max(1);
        let mut base = vec![0.0; n * base_len];
        x.par_chunks_mut(len)
            .zip(eps.par_chunks_mut(len))
            .zip(base.par_chunks_mut(base_len))
            .zip(&picks)
            .enumerate()
            .for_each(|(i, (((x, eps), base), pick))| {
                enlarge::load(self.arch, self.data.picture(*pick), x, base);
                Stream::new(self.seed, Purpose::TrainNoise, step as u32, i as u32).normals(eps);
            });
        let scalars = Stream::new(self.seed, Purpose::TrainScalars, step as u32, 0);
        let (mut t, mut u) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            let [a, b, c, _] = scalars.uniforms(i as u32);
            t.push((i as f32 + a) / n as f32);
            u.push([b, c]);
        }
        let (h, w) = self.arch.level_size(0);
        let part = |from: usize, to: usize| -> Result<Batch> {
            let shape = (to - from, h, w, self.arch.patch_channels());
            let tensor = |v: &[f32]| Tensor::from_slice(&v[from * len..to * len], shape, self.device);
            Ok(Batch {
                x: tensor(&x)?,
                eps: tensor(&eps)?,
                base: (self.arch.base > 0)
                    .then(|| {
                        let shape = (to - from, h, w, small.patch_channels());
                        Tensor::from_slice(&base[from * base_len..to * base_len], shape, self.device)
                    })
                    .transpose()?,
                class: picks[from..to].iter().map(|i| self.data.labels[*i]).collect(),
                t: t[from..to].to_vec(),
                u: u[from..to].to_vec(),
                address: Address { seed: self.seed, step, first: from },
            })
        };
        let parts = parts.min(n);
        (0..parts).map(|i| part(i * n / parts, (i + 1) * n / parts)).collect()
    }
}
