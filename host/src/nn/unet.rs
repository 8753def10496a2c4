//! The guided U-Net: predicts v from a noisy picture, the angle, the class and, once distilled, the guidance w.
//!
//! A residual stream per level: encoder blocks, average pooling and a 1x1 convolution down; blocks with optional
//! attention at the lowest level; a 1x1 convolution, doubling and an addition up; decoder blocks. Nothing is
//! concatenated, so a device keeps one stream a level. The embedding of (angle, class, w) scales and shifts the
//! second normalization of every block.
//!
//! A network with a base learns the details of a picture twice the size of the base ([`crate::enlarge`]). It has one
//! level, sees the base through a 1x1 convolution, and normalizes every cell by itself: nothing it computes depends on
//! cells farther than its 3x3 convolutions reach, so that a device computes it in bands of rows.

use super::kernels::GROUP;
use super::ops;
use super::params::{Init, Params};
use crate::data::{MAX_CLASSES, MAX_SIDE};
use candle_core::{Device, Result, Tensor};
use fewstep_core::ops::norm_act::MAX_GROUP;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sines and cosines of the angle.
pub const TIME_FEATURES: usize = 16;
/// Sines and cosines of the guidance strength.
pub const GUIDANCE_FEATURES: usize = 8;
/// Largest guidance strength that a student is trained for.
pub const MAX_GUIDANCE: f64 = 4.0;
/// The film vectors of fewer pictures are computed among zero rows: candle sums small matrix products in another
/// order, and a picture must not depend on how many are drawn with it.
const MIN_FILM_ROWS: usize = 32;

/// Largest number of parameters of a network.
pub const MAX_PARAMETERS: u64 = 1 << 26;

/// Shape of a network; lies in its checkpoint and, for a student, in its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arch {
    /// Picture height, width and channels.
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub classes: usize,
    /// Side of the squares that space-to-depth moves into channels.
    pub patch: usize,
    /// Channels per level, multiples of 8.
    pub widths: Vec<usize>,
    /// Residual blocks before going down, per level but the lowest.
    pub encoder: Vec<usize>,
    /// Residual blocks at the lowest level.
    pub middle: usize,
    /// Residual blocks after coming up, per level but the lowest.
    pub decoder: Vec<usize>,
    /// Heads of the attention block after the first half of the middle blocks; 0 for none.
    pub attention_heads: usize,
    /// Width of the embedding.
    pub embed: usize,
    /// Channels of the picture whose details are drawn, of the same height and width; 0 for pictures from noise alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// One stage of the network, in the order of evaluation. Names are those of the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Residual block `name` on level `level`; its film row starts at `film`.
    Block { name: String, level: usize, film: usize },
    /// Attention on the lowest level.
    Attention,
    /// Pooling and 1x1 convolution from `level` to the next.
    Down { level: usize },
    /// 1x1 convolution and doubling from level + 1, added to `level`.
    Up { level: usize },
}

impl Stage {
    fn is_block(&self) -> bool {
        matches!(self, Stage::Block { .. })
    }

    /// The name of a block's parameter.
    fn parameter(&self, part: &str) -> String {
        match self {
            Stage::Block { name, .. } => format!("{name}.{part}"),
            _ => unreachable!("only blocks have parameters of their own"),
        }
    }
}

impl Arch {
    /// The default network for pictures of this shape: about 38 M multiplications at 28x28, 60 M at 32x32x3 and at
    /// 64x64x3, which it folds twice as far.
    pub fn for_pictures(height: usize, width: usize, channels: usize, classes: usize) -> Arch {
        Arch {
            height,
            width,
            channels,
            classes,
            patch: if height.min(width) < 64 { 2 } else { 4 },
            widths: vec![32, 64],
            encoder: vec![2],
            middle: 5,
            decoder: vec![3],
            attention_heads: 1,
            embed: 64,
            base: 0,
        }
    }

    /// The default network for the details of pictures twice the size of this base: about 19 M multiplications for a
    /// base of 32x32x3, 78 M for one of 64x64x3.
    pub fn for_enlarging(height: usize, width: usize, channels: usize, classes: usize) -> Arch {
        Arch {
            channels: 3 * channels,
            base: channels,
            patch: 2,
            widths: vec![32],
            encoder: Vec::new(),
            middle: 3,
            decoder: Vec::new(),
            attention_heads: 0,
            ..Arch::for_pictures(height, width, channels, classes)
        }
    }

    /// Height, width and channels of the pictures of its data: those of the drawn ones, or twice the base's.
    pub fn data_shape(&self) -> (usize, usize, usize) {
        match self.base {
            0 => (self.height, self.width, self.channels),
            base => (2 * self.height, 2 * self.width, base),
        }
    }

    /// The shape of the base in space-to-depth form: [H/p][W/p][p * p * base].
    pub fn base_shape(&self) -> Arch {
        Arch { channels: self.base, base: 0, ..self.clone() }
    }

    /// Rows of cells that the network's output looks up and down: one for each 3x3 convolution.
    pub fn reach(&self) -> usize {
        2 + 2 * self.middle
    }

    /// Says what is wrong with the shape, if anything.
    pub fn check(&self) -> std::result::Result<(), String> {
        let levels = self.widths.len();
        // With these limits nothing below overflows, also for a description from a damaged file.
        let blocks = [&self.encoder[..], &self.decoder[..], &[self.middle]].concat();
        for (what, value, most) in [
            ("levels", levels, 8),
            ("a patch side", self.patch, 64),
            ("a picture side", self.height.max(self.width), MAX_SIDE),
            ("channels", self.channels, 64),
            ("classes", self.classes, MAX_CLASSES),
            ("a width", self.widths.iter().copied().max().unwrap_or(0), 4096),
            ("blocks", blocks.iter().copied().max().unwrap_or(0), 256),
            ("the embedding's width", self.embed, 4096),
        ] {
            if value > most {
                return Err(format!("{what} of {value} is more than the {most} that are supported"));
            }
        }
        let step = self.patch << (levels.max(1) - 1);
        if levels == 0 || self.encoder.len() != levels - 1 || self.decoder.len() != levels - 1 {
            return Err(format!("{levels} widths need {} encoder and decoder counts each", levels.max(1) - 1));
        }
        if self.patch == 0
            || self.height == 0
            || self.width == 0
            || !self.height.is_multiple_of(step)
            || !self.width.is_multiple_of(step)
        {
            return Err(format!(
                "pictures of {}x{} do not halve {} times after {}x{} patches; sides must be multiples of {step}",
                self.height,
                self.width,
                levels - 1,
                self.patch,
                self.patch
            ));
        }
        if self.base > 0 && (levels != 1 || self.attention_heads > 0 || self.channels != 3 * self.base) {
            return Err(
                "a network that enlarges has one level, no attention, and three details for every channel".into()
            );
        }
        if self.base > 0 && self.widths[0] > MAX_GROUP {
            return Err(format!("width {} is more than the {MAX_GROUP} of a network that enlarges", self.widths[0]));
        }
        if let Some(w) = self.widths.iter().find(|w| **w == 0 || !w.is_multiple_of(GROUP)) {
            return Err(format!("width {w} is not a positive multiple of 8"));
        }
        let low = self.widths[levels - 1];
        if self.attention_heads > 0 && !low.is_multiple_of(self.attention_heads) {
            return Err(format!("{low} channels do not divide into {} heads", self.attention_heads));
        }
        if self.middle == 0 || self.embed == 0 || self.classes == 0 || self.channels == 0 {
            return Err("middle blocks, embedding width, classes and channels must be at least 1".into());
        }
        let convolutions: u64 =
            self.widths.iter().enumerate().map(|(l, w)| self.blocks(l) as u64 * 18 * (*w as u64).pow(2)).sum();
        let embedding = (self.film_len() + self.classes + self.embed) as u64 * self.embed as u64;
        if convolutions + embedding > MAX_PARAMETERS {
            return Err(format!(
                "its {} million parameters are more than the {} million that are supported",
                (convolutions + embedding) / 1_000_000,
                MAX_PARAMETERS / 1_000_000
            ));
        }
        Ok(())
    }

    /// Channels after space-to-depth.
    pub fn patch_channels(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// Height and width of a level.
    pub fn level_size(&self, level: usize) -> (usize, usize) {
        ((self.height / self.patch) >> level, (self.width / self.patch) >> level)
    }

    /// Values in a picture.
    pub fn picture_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The stages between conv_in and the output, in order.
    pub fn stages(&self) -> Vec<Stage> {
        let lowest = self.widths.len() - 1;
        let mut stages = Vec::new();
        let mut film = 0;
        let mut block = |stages: &mut Vec<Stage>, name: String, level: usize| {
            stages.push(Stage::Block { name, level, film });
            film += 2 * self.widths[level];
        };
        for level in 0..lowest {
            for i in 0..self.encoder[level] {
                block(&mut stages, format!("enc.{level}.{i}"), level);
            }
            stages.push(Stage::Down { level });
        }
        for i in 0..self.middle {
            block(&mut stages, format!("mid.{i}"), lowest);
            if self.attention_heads > 0 && i + 1 == self.middle.div_ceil(2) {
                stages.push(Stage::Attention);
            }
        }
        for level in (0..lowest).rev() {
            stages.push(Stage::Up { level });
            for i in 0..self.decoder[level] {
                block(&mut stages, format!("dec.{level}.{i}"), level);
            }
        }
        stages
    }

    /// Residual blocks on a level.
    fn blocks(&self, level: usize) -> usize {
        match self.encoder.get(level) {
            Some(e) => e + self.decoder[level],
            None => self.middle,
        }
    }

    /// Length of the film vector: scale and shift of every block.
    pub fn film_len(&self) -> usize {
        self.widths.iter().enumerate().map(|(l, w)| 2 * w * self.blocks(l)).sum()
    }
}

/// `[sin(k phi), cos(k phi)]`, k = 1..=8: [B] angles to [B, 16].
pub fn time_features(phi: &[f32]) -> Vec<f32> {
    features(phi, TIME_FEATURES / 2, 1.0)
}

/// `[sin(k u), cos(k u)]`, k = 1..=4, u = (pi/2) w / 4: [B] strengths to [B, 8].
pub fn guidance_features(w: &[f32]) -> Vec<f32> {
    features(w, GUIDANCE_FEATURES / 2, std::f64::consts::FRAC_PI_2 / MAX_GUIDANCE)
}

fn features(values: &[f32], frequencies: usize, unit: f64) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() * 2 * frequencies);
    for v in values {
        let angle = |k: usize| k as f64 * f64::from(*v) * unit;
        out.extend((1..=frequencies).map(|k| angle(k).sin() as f32));
        out.extend((1..=frequencies).map(|k| angle(k).cos() as f32));
    }
    out
}

/// One-hot rows of class numbers; `classes` itself is the null class: [B] to [B, classes + 1].
pub fn class_features(class: &[u16], classes: usize) -> Vec<f32> {
    let mut out = vec![0.0; class.len() * (classes + 1)];
    for (row, c) in out.chunks_exact_mut(classes + 1).zip(class) {
        row[usize::from(*c).min(classes)] = 1.0;
    }
    out
}

/// A network: shape and parameters. `guided` ones take w as an input.
#[derive(Clone)]
pub struct UNet {
    pub arch: Arch,
    pub params: Params,
}

/// What a network is asked: `z` in space-to-depth form [B, H/p, W/p, p*p*C] and one angle, class and, for
/// networks that take it, w for every picture.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    pub z: &'a Tensor,
    pub phi: &'a [f32],
    pub class: &'a [u16],
    pub w: Option<&'a [f32]>,
    /// For networks that enlarge, the pictures that are enlarged, in space-to-depth form [B, H/p, W/p, p*p*base].
    pub base: Option<&'a Tensor>,
}

/// Hears the name and output of every operation, and says with what to go on: the output itself, or what stands for it.
type Observer<'a> = dyn FnMut(&str, Tensor) -> Result<Tensor> + 'a;

impl UNet {
    /// Seeded initial parameters: He-scaled convolutions, the last one of every residual branch zero.
    pub fn init(arch: &Arch, seed: u64, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let mut init = Init { seed, device, tensors: BTreeMap::new() };
        let e = arch.embed;
        let conv = |init: &mut Init, name: &str, cout: usize, k: usize, cin: usize, gain: f32| -> Result<()> {
            let std = gain / ((k * k * cin) as f32).sqrt();
            init.normal(&format!("{name}.weight"), &[cout, k, k, cin], std)?;
            init.constant(&format!("{name}.bias"), &[cout], 0.0)
        };
        let norm = |init: &mut Init, name: &str, c: usize| -> Result<()> {
            init.constant(&format!("{name}.scale"), &[c], 1.0)?;
            init.constant(&format!("{name}.shift"), &[c], 0.0)
        };
        let lowest = arch.widths.len() - 1;
        conv(&mut init, "conv_in", arch.widths[0], 3, arch.patch_channels(), 1.0)?;
        if arch.base > 0 {
            conv(&mut init, "conv_base", arch.widths[0], 1, arch.base_shape().patch_channels(), 1.0)?;
        }
        for stage in arch.stages() {
            match stage {
                Stage::Block { name, level, .. } => {
                    let c = arch.widths[level];
                    norm(&mut init, &format!("{name}.norm1"), c)?;
                    conv(&mut init, &format!("{name}.conv1"), c, 3, c, 1.5)?;
                    norm(&mut init, &format!("{name}.norm2"), c)?;
                    conv(&mut init, &format!("{name}.conv2"), c, 3, c, 0.0)?;
                }
                Stage::Attention => {
                    let c = arch.widths[lowest];
                    norm(&mut init, "attn.norm", c)?;
                    conv(&mut init, "attn.qkv", 3 * c, 1, c, 1.0)?;
                    conv(&mut init, "attn.proj", c, 1, c, 0.0)?;
                }
                Stage::Down { level } => {
                    conv(&mut init, &format!("down.{level}"), arch.widths[level + 1], 1, arch.widths[level], 1.0)?;
                }
                Stage::Up { level } => {
                    conv(&mut init, &format!("up.{level}"), arch.widths[level], 1, arch.widths[level + 1], 1.0)?;
                }
            }
        }
        norm(&mut init, "norm_out", arch.widths[0])?;
        conv(&mut init, "conv_out", arch.patch_channels(), 3, arch.widths[0], 0.0)?;
        let root = |n: usize| 1.0 / (n as f32).sqrt();
        init.normal("embed.time.weight", &[e, TIME_FEATURES], root(TIME_FEATURES / 2))?;
        init.constant("embed.time.bias", &[e], 0.0)?;
        init.normal("embed.class", &[arch.classes + 1, e], 1.0)?;
        init.normal("embed.hidden.weight", &[e, e], 1.5 * root(e))?;
        init.constant("embed.hidden.bias", &[e], 0.0)?;
        init.normal("embed.film.weight", &[arch.film_len(), e], 0.3 * root(e))?;
        init.constant("embed.film.bias", &[arch.film_len()], 0.0)?;
        Ok(init.tensors)
    }

    /// Adds the input w to a network without it, with zero weights: the network computes what it did.
    pub fn add_guidance_input(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.params.tensors().clone();
        let like = self.params.get("embed.time.weight")?;
        let zero = Tensor::zeros((self.arch.embed, GUIDANCE_FEATURES), like.dtype(), like.device())?;
        tensors.entry("embed.guidance".into()).or_insert(zero);
        Ok(tensors)
    }

    /// Whether the network takes w as an input.
    pub fn guided(&self) -> bool {
        self.params.tensors().contains_key("embed.guidance")
    }

    /// Film vectors [B, film_len].
    fn film(&self, q: &Query) -> Result<Tensor> {
        let p = |name: &str| self.params.get(name);
        let (n, device) = (q.phi.len(), q.z.device());
        let rows = n.max(MIN_FILM_ROWS);
        let upload = |mut v: Vec<f32>, width: usize| {
            v.resize(rows * width, 0.0);
            Tensor::from_vec(v, (rows, width), device)
        };
        let time = upload(time_features(q.phi), TIME_FEATURES)?;
        let class = upload(class_features(q.class, self.arch.classes), self.arch.classes + 1)?;
        let mut e = (time.matmul(&p("embed.time.weight")?.t()?)?.broadcast_add(p("embed.time.bias")?)?
            + class.matmul(p("embed.class")?)?)?;
        match (q.w, self.guided()) {
            (Some(w), true) => {
                let w = upload(guidance_features(w), GUIDANCE_FEATURES)?;
                e = (e + w.matmul(&p("embed.guidance")?.t()?)?)?;
            }
            (None, false) => {}
            (Some(_), false) => candle_core::bail!("this network has no input w"),
            (None, true) => candle_core::bail!("this network needs w"),
        }
        let e = silu(&e)?.matmul(&p("embed.hidden.weight")?.t()?)?.broadcast_add(p("embed.hidden.bias")?)?;
        silu(&e)?.matmul(&p("embed.film.weight")?.t()?)?.broadcast_add(p("embed.film.bias")?)?.narrow(0, 0, n)
    }

    /// Predicts v [B, H/p, W/p, p*p*C].
    pub fn forward(&self, q: &Query) -> Result<Tensor> {
        self.evaluate(q, None)
    }

    /// Predicts v, operation by operation; `see` is handed every operation's output under its name and gives back what
    /// to go on with. Names are those of the parameters, `down.L.pool`, `up.L.add` and `attn.mix` for what has none;
    /// `z` is the state, `base` the picture that is enlarged, `film` the embedding's scales and shifts. A residual
    /// convolution's output is the stream after the addition.
    pub fn forward_observed(&self, q: &Query, see: &mut Observer) -> Result<Tensor> {
        self.evaluate(q, Some(see))
    }

    /// Scales and shifts of a run of blocks, as [`ops::res_blocks`] takes them.
    fn affine(&self, film: &Tensor, run: &[Stage]) -> Result<Tensor> {
        let Stage::Block { level, film: at, .. } = &run[0] else { unreachable!("a run of blocks") };
        let c = self.arch.widths[*level];
        let parts = ["norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift"];
        let norms = run.iter().flat_map(|s| parts.map(|part| self.params.get(&s.parameter(part))));
        let norms = Tensor::cat(&norms.collect::<Result<Vec<_>>>()?, 0)?;
        ops::affine(&film.narrow(1, *at, 2 * c * run.len())?, &norms, c)
    }

    /// Weights and biases of a block's convolutions.
    fn block_weights(&self, block: &Stage) -> Result<[&Tensor; 4]> {
        let p = |part: &str| self.params.get(&block.parameter(part));
        Ok([p("conv1.weight")?, p("conv1.bias")?, p("conv2.weight")?, p("conv2.bias")?])
    }

    fn evaluate(&self, q: &Query, mut see: Option<&mut Observer>) -> Result<Tensor> {
        let observed = see.is_some();
        let mut show = |name: &str, t: Tensor| match &mut see {
            Some(see) => see(name, t),
            None => Ok(t),
        };
        let p = |name: String| self.params.get(&name);
        let film = show("film", self.film(q)?)?;
        let n = q.phi.len();
        let rows = |t: &Tensor| t.unsqueeze(0)?.broadcast_as((n, t.elem_count()))?.contiguous();
        let conv = |name: &str, x: &Tensor| ops::conv(x, p(format!("{name}.weight"))?, p(format!("{name}.bias"))?);
        let z = show("z", q.z.clone())?;
        let mut x = show("conv_in", conv("conv_in", &z)?)?;
        match (q.base, self.arch.base) {
            (None, 0) => {}
            (Some(base), 1..) => {
                let base = show("base", base.clone())?;
                x = show("conv_base", (conv("conv_base", &base)? + x)?)?;
            }
            (Some(_), 0) => candle_core::bail!("this network enlarges no pictures"),
            (None, _) => candle_core::bail!("this network needs the pictures to enlarge"),
        }
        let per_cell = self.arch.base > 0;
        let mut streams = Vec::new();
        let stages = self.arch.stages();
        let whole = !observed && !per_cell;
        for run in stages.chunk_by(|a, b| whole && a.is_block() && b.is_block()) {
            match &run[0] {
                Stage::Block { .. } if whole => {
                    let weights: Vec<_> = run.iter().map(|s| self.block_weights(s)).collect::<Result<_>>()?;
                    x = ops::res_blocks(&x, &self.affine(&film, run)?, &weights)?;
                }
                block @ Stage::Block { name, level, .. } => {
                    let (affine, c) = (self.affine(&film, run)?, self.arch.widths[*level]);
                    let norm = |x: &Tensor, i: usize| {
                        let (scale, shift) = (affine.narrow(1, 2 * i * c, c)?, affine.narrow(1, (2 * i + 1) * c, c)?);
                        match per_cell {
                            true => ops::cell_norm_act(x, &scale, &shift, true),
                            false => ops::norm_act(x, &scale, &shift, true),
                        }
                    };
                    let [w1, b1, w2, b2] = self.block_weights(block)?;
                    let n1 = show(&format!("{name}.norm1"), norm(&x, 0)?)?;
                    let t = show(&format!("{name}.conv1"), ops::conv(&n1, w1, b1)?)?;
                    let n2 = show(&format!("{name}.norm2"), norm(&t, 1)?)?;
                    x = show(&format!("{name}.conv2"), (ops::conv(&n2, w2, b2)? + x)?)?;
                }
                Stage::Attention => {
                    let (scale, shift) = (p("attn.norm.scale".into())?, p("attn.norm.shift".into())?);
                    let y = show("attn.norm", ops::norm_act(&x, &rows(scale)?, &rows(shift)?, false)?)?;
                    let y = show("attn.qkv", conv("attn.qkv", &y)?)?;
                    let y = show("attn.mix", ops::attention(&y, self.arch.attention_heads)?)?;
                    x = show("attn.proj", (x + conv("attn.proj", &y)?)?)?;
                }
                Stage::Down { level } => {
                    let pooled = show(&format!("down.{level}.pool"), ops::avg_pool2(&x)?)?;
                    let name = format!("down.{level}");
                    let down = show(&name, conv(&name, &pooled)?)?;
                    streams.push(std::mem::replace(&mut x, down));
                }
                Stage::Up { level } => {
                    let name = format!("up.{level}");
                    let up = show(&name, conv(&name, &x)?)?;
                    let stream = streams.pop().expect("a level to come back to");
                    x = show(&format!("{name}.add"), ops::add_upsampled(&stream, &up)?)?;
                }
            }
        }
        let (scale, shift) = (p("norm_out.scale".into())?, p("norm_out.shift".into())?);
        let (scale, shift) = (rows(scale)?, rows(shift)?);
        let y = match per_cell {
            true => ops::cell_norm_act(&x, &scale, &shift, true)?,
            false => ops::norm_act(&x, &scale, &shift, true)?,
        };
        let y = show("norm_out", y)?;
        show("conv_out", conv("conv_out", &y)?)
    }
}

fn silu(x: &Tensor) -> Result<Tensor> {
    x.silu()
}
