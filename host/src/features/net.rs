//! The classifier: forward pass, and features of pictures.

use super::arch::FeatureArch;
use crate::diffusion::to_signed;
use crate::nn::{Init, Params, ops};
use anyhow::Result;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Pictures that a thread passes through the network at once.
const BATCH: usize = 50;

/// A network: shape and parameters.
#[derive(Clone)]
pub struct Classifier {
    pub arch: FeatureArch,
    pub params: Params,
    /// Features are multiplied by it on the way out, so that those of any data set have one size; 1 in training.
    pub scale: f32,
}

/// What the classifier makes of pictures.
pub struct Extracted {
    /// [n, width], row-major.
    pub features: Vec<f32>,
    pub width: usize,
    /// [n]: the most probable class.
    pub class: Vec<u16>,
}

impl Classifier {
    /// Seeded initial parameters: He-scaled convolutions, zero biases, a dense layer of zeros.
    pub fn init(arch: &FeatureArch, seed: u64) -> Result<BTreeMap<String, Tensor>> {
        let mut init = Init { seed, device: &Device::Cpu, tensors: BTreeMap::new() };
        for (name, cin, cout) in arch.convolutions() {
            init.normal(&format!("{name}.weight"), &[cout, 3, 3, cin], (2.0 / (9 * cin) as f32).sqrt())?;
            init.constant(&format!("{name}.bias"), &[cout], 0.0)?;
            init.constant(&format!("{name}.scale"), &[cout], 1.0)?;
            init.constant(&format!("{name}.shift"), &[cout], 0.0)?;
        }
        init.normal("hidden.weight", &[arch.features, arch.flat()], (2.0 / arch.flat() as f32).sqrt())?;
        init.constant("hidden.bias", &[arch.features], 0.0)?;
        init.constant("dense.weight", &[arch.classes, arch.features], 0.0)?;
        init.constant("dense.bias", &[arch.classes], 0.0)?;
        Ok(init.tensors)
    }

    /// Pictures [n, H, W, C] as bytes to the network's input [n, H/p, W/p, p*p*C] in [-1, 1].
    pub fn input(&self, pictures: &[u8]) -> Result<Tensor> {
        let a = &self.arch;
        let n = pictures.len() / a.picture_len();
        let values: Vec<f32> = pictures.iter().map(|v| to_signed(*v)).collect();
        Ok(self.patches(&Tensor::from_vec(values, (n, a.height, a.width, a.channels), &Device::Cpu)?)?)
    }

    /// Pictures [n, H, W, C] in [-1, 1] to the network's input.
    pub fn patches(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (a, n, p) = (&self.arch, x.dim(0)?, self.arch.patch);
        let (h, w) = (a.height / p, a.width / p);
        let x = x.reshape((n * h, p, w, p * a.channels))?;
        x.transpose(1, 2)?.contiguous()?.reshape((n, h, w, a.patch_channels()))
    }

    /// Features [n, F] and logits [n, classes] of an [`input`](Classifier::input). In training the dense layer's input
    /// [n, flat] is multiplied by `mask`.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<(Tensor, Tensor)> {
        let n = x.dim(0)?;
        let p = |name: String| self.params.get(&name);
        let mut x = x.clone();
        for (l, level) in self.arch.levels.iter().enumerate() {
            for i in 0..level.convolutions {
                let name = format!("conv.{l}.{i}");
                x = ops::conv(&x, p(format!("{name}.weight"))?, p(format!("{name}.bias"))?)?;
                let row = |t: &Tensor| t.unsqueeze(0)?.broadcast_as((n, level.width))?.contiguous();
                let (scale, shift) = (row(p(format!("{name}.scale"))?)?, row(p(format!("{name}.shift"))?)?);
                x = ops::norm_act(&x, &scale, &shift, true)?;
            }
            if level.pool {
                x = ops::avg_pool2(&x)?;
            }
        }
        let x = x.flatten_from(1)?;
        let x = mask.map_or(Ok(x.clone()), |mask| x * mask)?;
        let features = x.matmul(&p("hidden.weight".into())?.t()?)?.broadcast_add(p("hidden.bias".into())?)?.silu()?;
        let logits = self.logits(&features)?;
        Ok((features, logits))
    }

    /// Logits [n, classes] of features [n, F] that are not scaled.
    pub fn logits(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        features.matmul(&self.params.get("dense.weight")?.t()?)?.broadcast_add(self.params.get("dense.bias")?)
    }

    /// Features and classes of pictures [n, H, W, C]; the number of threads changes nothing but the time.
    pub fn extract(&self, pictures: &[u8]) -> Result<Extracted> {
        let width = self.arch.features;
        let parts: Vec<(Vec<f32>, Vec<u16>)> = pictures
            .par_chunks(BATCH * self.arch.picture_len())
            .map(|part| {
                let (features, logits) = self.forward(&self.input(part)?, None)?;
                let class = logits.argmax(1)?.to_vec1::<u32>()?.into_iter().map(|c| c as u16).collect();
                let features = (features * f64::from(self.scale))?;
                Ok((features.flatten_all()?.to_vec1()?, class))
            })
            .collect::<Result<_>>()?;
        let (features, class): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok(Extracted { features: features.concat(), width, class: class.concat() })
    }
}
