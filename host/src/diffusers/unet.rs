//! diffusers' `UNet2DModel`: the same parameters under the same names, and the same sums.
//!
//! Activations are [B, C, H, W]. A level is residual blocks, each followed by attention where the level has it, then a
//! convolution of stride 2; on the way up blocks take the streams of the way down by concatenation.

use super::config::{Level, UNetConfig};
use crate::nn::Params;
use candle_core::{Result, Tensor};

/// The network.
#[derive(Clone)]
pub struct UNet2D {
    pub config: UNetConfig,
    pub params: Params,
}

/// Largest period of the time's sines (get_timestep_embedding).
const MAX_PERIOD: f32 = 10_000.0;

impl UNetConfig {
    /// Width of the embedding of time and class.
    fn embed(&self) -> usize {
        4 * self.levels[0].width
    }

    /// Groups of the normalization before an attention; None without one.
    fn attention_groups(&self, middle: bool) -> Option<usize> {
        match (middle, self.attn_norm_num_groups, self.scale_shift) {
            (true, Some(groups), _) => Some(groups),
            (true, None, true) => None,
            _ => Some(self.norm_num_groups),
        }
    }

    /// The blocks of the way up, from the lowest level: name, level, input channels.
    fn up_blocks(&self) -> Vec<(String, usize, Vec<usize>)> {
        let last = self.levels.len() - 1;
        let width = |level: usize| self.levels[level].width;
        (0..=last)
            .map(|i| {
                let level = last - i;
                let inputs = (0..=self.layers_per_block).map(|k| {
                    let before = if k == 0 { width((level + 1).min(last)) } else { width(level) };
                    let skip = if k == self.layers_per_block { width(level.saturating_sub(1)) } else { width(level) };
                    before + skip
                });
                (format!("up_blocks.{i}"), level, inputs.collect())
            })
            .collect()
    }

    /// Name and shape of every parameter.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            all.push((format!("{name}.weight"), shape.to_vec()));
            all.push((format!("{name}.bias"), vec![shape[0]]));
        };
        let (first, e) = (self.levels[0].width, self.embed());
        let block = |add: &mut dyn FnMut(String, &[usize]), name: &str, from: usize, to: usize| {
            add(format!("{name}.norm1"), &[from]);
            add(format!("{name}.conv1"), &[to, from, 3, 3]);
            add(format!("{name}.time_emb_proj"), &[if self.scale_shift { 2 * to } else { to }, e]);
            add(format!("{name}.norm2"), &[to]);
            add(format!("{name}.conv2"), &[to, to, 3, 3]);
            if from != to {
                add(format!("{name}.conv_shortcut"), &[to, from, 1, 1]);
            }
        };
        let attention = |add: &mut dyn FnMut(String, &[usize]), name: &str, width: usize, normed: bool| {
            if normed {
                add(format!("{name}.group_norm"), &[width]);
            }
            for part in ["to_q", "to_k", "to_v", "to_out.0"] {
                add(format!("{name}.{part}"), &[width, width]);
            }
        };
        add("conv_in".into(), &[first, self.channels, 3, 3]);
        add("time_embedding.linear_1".into(), &[e, first]);
        add("time_embedding.linear_2".into(), &[e, e]);
        let mut from = first;
        let last = self.levels.len() - 1;
        for (i, level) in self.levels.iter().enumerate() {
            for k in 0..self.layers_per_block {
                block(&mut add, &format!("down_blocks.{i}.resnets.{k}"), from, level.width);
                from = level.width;
                if level.down_attention {
                    attention(&mut add, &format!("down_blocks.{i}.attentions.{k}"), level.width, true);
                }
            }
            if i < last {
                add(format!("down_blocks.{i}.downsamplers.0.conv"), &[level.width, level.width, 3, 3]);
            }
        }
        block(&mut add, "mid_block.resnets.0", from, from);
        block(&mut add, "mid_block.resnets.1", from, from);
        if self.add_attention {
            attention(&mut add, "mid_block.attentions.0", from, self.attention_groups(true).is_some());
        }
        for (name, level, inputs) in self.up_blocks() {
            let Level { width, up_attention, .. } = self.levels[level];
            for (k, from) in inputs.into_iter().enumerate() {
                block(&mut add, &format!("{name}.resnets.{k}"), from, width);
                if up_attention {
                    attention(&mut add, &format!("{name}.attentions.{k}"), width, true);
                }
            }
            if level > 0 {
                add(format!("{name}.upsamplers.0.conv"), &[width, width, 3, 3]);
            }
        }
        add("conv_norm_out".into(), &[first]);
        add("conv_out".into(), &[self.channels, first, 3, 3]);
        if let Some(classes) = self.num_class_embeds {
            all.push(("class_embedding.weight".into(), vec![classes, e]));
        }
        all
    }
}

impl UNet2D {
    fn p(&self, name: &str) -> Result<&Tensor> {
        self.params.get(name)
    }

    /// The model's output for pictures x [B, C, H, W] at timesteps t, which may lie between whole ones. `class` holds
    /// rows of the class table; networks without one ignore it.
    pub fn forward(&self, x: &Tensor, t: &[f32], class: &[u32]) -> Result<Tensor> {
        let c = &self.config;
        let x = if c.center_input_sample { ((x * 2.0)? - 1.0)? } else { x.clone() };
        let time = Tensor::from_vec(self.time_features(t), (t.len(), c.levels[0].width), x.device())?;
        let mut embedding =
            self.linear("time_embedding.linear_2", &self.linear("time_embedding.linear_1", &time)?.silu()?)?;
        if c.num_class_embeds.is_some() {
            let rows = Tensor::from_slice(class, class.len(), x.device())?;
            embedding = (embedding + self.p("class_embedding.weight")?.index_select(&rows, 0)?)?;
        }
        let embedding = embedding.silu()?;
        let block = |name: String, x: &Tensor, factor: f64| self.block(&name, x, &embedding, factor);

        let mut x = self.conv("conv_in", &x, 1, 1)?;
        let mut streams = vec![x.clone()];
        let last = c.levels.len() - 1;
        for (i, level) in c.levels.iter().enumerate() {
            for k in 0..c.layers_per_block {
                x = block(format!("down_blocks.{i}.resnets.{k}"), &x, 1.0)?;
                if level.down_attention {
                    x =
                        self.attention(&format!("down_blocks.{i}.attentions.{k}"), &x, c.attention_groups(false), 1.0)?;
                }
                streams.push(x.clone());
            }
            if i < last {
                if c.downsample_padding == 0 {
                    x = x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?;
                }
                x = self.conv(&format!("down_blocks.{i}.downsamplers.0.conv"), &x, c.downsample_padding, 2)?;
                streams.push(x.clone());
            }
        }
        let factor = c.mid_block_scale_factor;
        x = block("mid_block.resnets.0".into(), &x, factor)?;
        if c.add_attention {
            x = self.attention("mid_block.attentions.0", &x, c.attention_groups(true), factor)?;
        }
        x = block("mid_block.resnets.1".into(), &x, factor)?;
        for (name, level, inputs) in c.up_blocks() {
            for k in 0..inputs.len() {
                let Some(stream) = streams.pop() else { candle_core::bail!("a stream for every block on the way up") };
                x = block(format!("{name}.resnets.{k}"), &Tensor::cat(&[&x, &stream], 1)?, 1.0)?;
                if c.levels[level].up_attention {
                    x = self.attention(&format!("{name}.attentions.{k}"), &x, c.attention_groups(false), 1.0)?;
                }
            }
            if level > 0 {
                let (_, _, h, w) = x.dims4()?;
                x = self.conv(&format!("{name}.upsamplers.0.conv"), &x.upsample_nearest2d(2 * h, 2 * w)?, 1, 1)?;
            }
        }
        let x = self.group_norm("conv_norm_out", &x, c.norm_num_groups)?.silu()?;
        self.conv("conv_out", &x, 1, 1)
    }

    /// Sines and cosines of the timestep, in f32 as diffusers computes them: [B] to [B, width].
    fn time_features(&self, t: &[f32]) -> Vec<f32> {
        let c = &self.config;
        let width = c.levels[0].width;
        let half = width / 2;
        let frequency = |i: usize| (-MAX_PERIOD.ln() * i as f32 / (half as f32 - c.freq_shift as f32)).exp();
        let mut out = Vec::with_capacity(t.len() * width);
        for t in t {
            let sines = (0..half).map(|i| (t * frequency(i)).sin());
            let cosines = (0..half).map(|i| (t * frequency(i)).cos());
            match c.flip_sin_to_cos {
                true => out.extend(cosines.chain(sines)),
                false => out.extend(sines.chain(cosines)),
            }
            out.extend(std::iter::repeat_n(0.0, width % 2));
        }
        out
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weights = self.p(&format!("{name}.weight"))?.t()?;
        x.broadcast_matmul(&weights)?.broadcast_add(self.p(&format!("{name}.bias"))?)
    }

    fn conv(&self, name: &str, x: &Tensor, padding: usize, stride: usize) -> Result<Tensor> {
        let bias = self.p(&format!("{name}.bias"))?;
        let y = x.contiguous()?.conv2d(self.p(&format!("{name}.weight"))?, padding, stride, 1, 1)?;
        y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?)
    }

    fn group_norm(&self, name: &str, x: &Tensor, groups: usize) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let grouped = x.contiguous()?.reshape((n, groups, c / groups * h * w))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(2)? + self.config.norm_eps)?.sqrt()?;
        let column = |part: &str| self.p(&format!("{name}.{part}"))?.reshape((1, c, 1, 1));
        let normal = centred.broadcast_div(&deviation)?.reshape((n, c, h, w))?;
        normal.broadcast_mul(&column("weight")?)?.broadcast_add(&column("bias")?)
    }

    /// `ResnetBlock2D`; `embedding` is past its SiLU.
    fn block(&self, name: &str, x: &Tensor, embedding: &Tensor, factor: f64) -> Result<Tensor> {
        let groups = self.config.norm_num_groups;
        let part = |part: &str| format!("{name}.{part}");
        let y = self.group_norm(&part("norm1"), x, groups)?.silu()?;
        let y = self.conv(&part("conv1"), &y, 1, 1)?;
        let time = self.linear(&part("time_emb_proj"), embedding)?.unsqueeze(2)?.unsqueeze(3)?;
        let y = if self.config.scale_shift {
            let c = y.dim(1)?;
            let (scale, shift) = (time.narrow(1, 0, c)?, time.narrow(1, c, c)?);
            let y = self.group_norm(&part("norm2"), &y, groups)?;
            y.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(&shift)?
        } else {
            self.group_norm(&part("norm2"), &y.broadcast_add(&time)?, groups)?
        };
        let y = self.conv(&part("conv2"), &y.silu()?, 1, 1)?;
        let x = match x.dim(1)? == y.dim(1)? {
            true => x.clone(),
            false => self.conv(&part("conv_shortcut"), x, 0, 1)?,
        };
        (x + y)? / factor
    }

    /// `Attention` over a picture's places.
    fn attention(&self, name: &str, x: &Tensor, groups: Option<usize>, factor: f64) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let head = self.config.attention_head_dim.unwrap_or(c);
        let y = match groups {
            Some(groups) => self.group_norm(&format!("{name}.group_norm"), x, groups)?,
            None => x.clone(),
        };
        let y = y.reshape((n, c, h * w))?.transpose(1, 2)?.contiguous()?;
        let part = |part: &str| -> Result<Tensor> {
            let y = self.linear(&format!("{name}.{part}"), &y)?;
            y.reshape((n, h * w, c / head, head))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (part("to_q")?, part("to_k")?, part("to_v")?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (head as f64).sqrt())?;
        let e = scores.broadcast_sub(&scores.max_keepdim(3)?)?.exp()?;
        let mixed = e.broadcast_div(&e.sum_keepdim(3)?)?.matmul(&v)?;
        let y = self.linear(&format!("{name}.to_out.0"), &mixed.transpose(1, 2)?.reshape((n, h * w, c))?)?;
        (x + y.transpose(1, 2)?.reshape((n, c, h, w))?)? / factor
    }
}
