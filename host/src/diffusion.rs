//! The diffusion process in angles, guidance, and the samplers of float networks.
//!
//! Variance preserving with the cosine schedule: phi = (pi/2) t, z = cos(phi) x + sin(phi) eps,
//! v = cos(phi) eps - sin(phi) x (Salimans & Ho 2022). A DDIM step from phi to phi - d is the rotation
//! z' = cos(d) z - sin(d) v. Guidance of strength w (Ho & Salimans 2022, Meng et al. 2023):
//! v_w = (1 + w) v_class - w v_null; w = 0 is no guidance.

use crate::enlarge;
use crate::nn::{Arch, Kind, Query, UNet};
use crate::noise;
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use fewstep_core::Direction;
use rayon::prelude::*;
use std::f64::consts::FRAC_PI_2;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pictures evaluated at once by a thread while sampling.
pub const SAMPLE_BATCH: usize = 32;

/// The angle of step boundary `i` of `steps`: pi/2 (noise) at 0, 0 (picture) at `steps`.
pub fn angle(i: usize, steps: usize) -> f64 {
    FRAC_PI_2 * (1.0 - i as f64 / steps as f64)
}

/// The angle of step boundary `i` of `steps` on the way of a student ([`angle`]) or an encoder (0 first).
pub fn angle_towards(direction: Direction, i: usize, steps: usize) -> f64 {
    match direction {
        Direction::ToPicture => angle(i, steps),
        Direction::ToNoise => FRAC_PI_2 * (i as f64 / steps as f64),
    }
}

/// [H, W, C] values to [H/p, W/p, p*p*C]; channels of a patch ordered (row, column, channel).
pub fn space_to_depth(arch: &Arch, picture: &[f32], out: &mut [f32]) {
    for_patches(arch, |from, to, len| out[to..to + len].copy_from_slice(&picture[from..from + len]));
}

/// The inverse of [`space_to_depth`].
pub fn depth_to_space(arch: &Arch, z: &[f32], out: &mut [f32]) {
    for_patches(arch, |picture, depth, len| out[picture..picture + len].copy_from_slice(&z[depth..depth + len]));
}

/// Calls `f(index in picture, index in patches, length)` for every run of values.
fn for_patches(arch: &Arch, mut f: impl FnMut(usize, usize, usize)) {
    let (p, c, w) = (arch.patch, arch.channels, arch.width);
    for y in 0..arch.height {
        for px in 0..w / p {
            let cell = (y / p) * (w / p) + px;
            f((y * w + px * p) * c, cell * arch.patch_channels() + (y % p) * p * c, p * c);
        }
    }
}

/// 0..=255 to [-1, 1].
pub fn to_signed(v: u8) -> f32 {
    f32::from(v) / 127.5 - 1.0
}

/// [-1, 1] to 0..=255, rounded; values outside saturate.
pub fn to_byte(v: f32) -> u8 {
    ((v + 1.0) * 127.5 + 0.5).floor().clamp(0.0, 255.0) as u8
}

/// `a[i] * x[i] + b[i] * y[i]` for every picture i of a batch.
pub fn mix(a: &[f32], x: &Tensor, b: &[f32], y: &Tensor) -> candle_core::Result<Tensor> {
    let column = |v: &[f32]| Tensor::from_slice(v, (v.len(), 1, 1, 1), x.device());
    x.broadcast_mul(&column(a)?)? + y.broadcast_mul(&column(b)?)?
}

/// DDIM steps of a batch: picture i turns by `d[i]`, towards noise where that is negative.
pub fn rotate(z: &Tensor, v: &Tensor, d: &[f32]) -> candle_core::Result<Tensor> {
    let cos: Vec<f32> = d.iter().map(|d| d.cos()).collect();
    let sin: Vec<f32> = d.iter().map(|d| -d.sin()).collect();
    mix(&cos, z, &sin, v)
}

/// What is asked for v: the project's network, or a teacher from elsewhere.
pub trait Denoise: Send + Sync {
    /// Whether it takes the strength w as an input.
    fn guided(&self) -> bool;

    /// The class that stands for none. Without one a network that does not take w has no guidance: w changes nothing.
    fn null_class(&self) -> Option<u16>;

    /// v [B, H/p, W/p, p*p*C] of a batch in space-to-depth form.
    ///
    /// # Errors
    /// The query does not fit the network.
    fn v(&self, q: &Query) -> candle_core::Result<Tensor>;
}

impl Denoise for UNet {
    fn guided(&self) -> bool {
        UNet::guided(self)
    }

    fn null_class(&self) -> Option<u16> {
        Some(self.arch.classes as u16)
    }

    fn v(&self, q: &Query) -> candle_core::Result<Tensor> {
        self.forward(q)
    }
}

/// The guided v of a network: one evaluation where w is an input, else one with and one without the class
/// (equation 1 of Meng et al.), both in one batch.
pub fn guided_v(net: &dyn Denoise, q: &Query) -> candle_core::Result<Tensor> {
    if net.guided() {
        return net.v(q);
    }
    let (null, w) = match (net.null_class(), q.w) {
        (Some(null), Some(w)) if w.iter().any(|w| *w != 0.0) => (null, w),
        _ => return net.v(&Query { w: None, ..*q }),
    };
    let n = q.phi.len();
    let both = net.v(&Query {
        z: &Tensor::cat(&[q.z, q.z], 0)?,
        phi: &[q.phi, q.phi].concat(),
        class: &[q.class, &vec![null; n]].concat(),
        w: None,
        base: q.base.map(|base| Tensor::cat(&[base, base], 0)).transpose()?.as_ref(),
    })?;
    let with: Vec<f32> = w.iter().map(|w| 1.0 + w).collect();
    let without: Vec<f32> = w.iter().map(|w| -w).collect();
    mix(&with, &both.narrow(0, 0, n)?, &without, &both.narrow(0, n, n)?)
}

/// How a sampler goes from one angle to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sampler {
    /// DDIM
    Deterministic,
    /// steps of double length with fresh noise after each but the last (Meng et al., section 3.3)
    Stochastic,
}

/// What to draw: picture i has seed `seed + i` and class `classes[i]`.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    pub steps: usize,
    pub seed: u64,
    pub classes: Vec<u16>,
    pub w: f32,
    pub sampler: Sampler,
    /// What a network that enlarges enlarges, bytes [count, H, W, C]; empty for any other.
    pub bases: Vec<u8>,
}

/// Factors of the stochastic sampler between two angles: z' = scale * z + sigma * eps takes phi_s back up to phi_k.
pub fn renoise_factors(phi_s: f64, phi_k: f64) -> (f64, f64) {
    let scale = phi_k.cos() / phi_s.cos();
    (scale, (phi_k.sin().powi(2) - scale.powi(2) * phi_s.sin().powi(2)).max(0.0).sqrt())
}

/// Bit of the noise streams of details, as in the core.
const DETAILS: u32 = 1 << 30;

/// Start noise of pictures as a batch in space-to-depth form.
pub fn start(arch: &Arch, seed: u64, count: usize, device: &Device) -> Result<Tensor> {
    noise_batch(arch, seed, 0, count, device)
}

fn noise_batch(arch: &Arch, seed: u64, stream: u32, count: usize, device: &Device) -> Result<Tensor> {
    let len = arch.picture_len();
    let mut flat = vec![0.0; count * len];
    noise::sample_noise(seed, stream, len, &mut flat);
    to_batch(arch, &flat, device)
}

/// Pictures [B, H, W, C] as values to a batch [B, H/p, W/p, p*p*C].
pub fn to_batch(arch: &Arch, pictures: &[f32], device: &Device) -> Result<Tensor> {
    let len = arch.picture_len();
    let mut z = vec![0.0; pictures.len()];
    for (p, z) in pictures.chunks_exact(len).zip(z.chunks_exact_mut(len)) {
        space_to_depth(arch, p, z);
    }
    let (h, w) = arch.level_size(0);
    Ok(Tensor::from_vec(z, (pictures.len() / len, h, w, arch.patch_channels()), device)?)
}

/// The inverse of [`to_batch`].
pub fn from_batch(arch: &Arch, z: &Tensor) -> Result<Vec<f32>> {
    Ok(to_pictures(arch, &z.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?))
}

/// [`depth_to_space`] of states one behind the other.
pub fn to_pictures(arch: &Arch, z: &[f32]) -> Vec<f32> {
    let (mut out, len) = (vec![0.0; z.len()], arch.picture_len());
    for (z, p) in z.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        depth_to_space(arch, z, p);
    }
    out
}

/// Checks a step count against what a network can do.
pub fn check_steps(kind: Kind, steps: usize, sampler: Sampler) -> Result<()> {
    if steps == 0 || steps > 4096 {
        bail!("--steps {steps}: give a number from 1 to 4096");
    }
    if let Kind::Encoder(_) = kind {
        bail!("an encoder goes from pictures to noise and cannot draw; restyle takes it");
    }
    if let Kind::Student(n) = kind
        && !n.is_multiple_of(steps)
    {
        bail!("--steps {steps}: this student was distilled for {n} steps; give a divisor of {n}");
    }
    if sampler == Sampler::Stochastic && steps < 2 {
        bail!("the stochastic sampler needs at least 2 steps");
    }
    Ok(())
}

/// Draws pictures with a float network: values [count, H, W, C] in about [-1, 1], or the details of `r.bases` where it
/// enlarges. `progress` hears how many are done.
pub fn sample(net: &UNet, r: &SampleRequest, device: &Device, progress: impl Fn(usize) + Sync) -> Result<Vec<f32>> {
    let (count, done) = (r.classes.len(), AtomicUsize::new(0));
    let batches: Vec<Vec<f32>> = (0..count.div_ceil(SAMPLE_BATCH))
        .into_par_iter()
        .map(|batch| {
            let pictures = batch * SAMPLE_BATCH..count.min((batch + 1) * SAMPLE_BATCH);
            let n = pictures.len();
            let z = trajectory(net, r, pictures, device, |_, _| Ok(()))?;
            progress(done.fetch_add(n, Ordering::Relaxed) + n);
            from_batch(&net.arch, &z)
        })
        .collect::<Result<_>>()?;
    Ok(batches.concat())
}

/// The way of these pictures of a request, as one batch, from noise to pictures; `visit` sees z before every step.
pub fn trajectory(
    net: &UNet,
    r: &SampleRequest,
    pictures: Range<usize>,
    device: &Device,
    mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
) -> Result<Tensor> {
    let (n, seed) = (pictures.len(), r.seed.wrapping_add(pictures.start as u64));
    let w = vec![r.w; n];
    let class = &r.classes[pictures.clone()];
    let base = match net.arch.base {
        0 => None,
        _ => {
            let len = net.arch.base_shape().picture_len();
            let bases = r.bases.get(pictures.start * len..pictures.end * len).context("a base for every picture")?;
            Some(enlarge::bases(&net.arch, bases, device)?)
        }
    };
    // Details have noise of their own: the picture that is enlarged may have the same seed.
    let own = if base.is_some() { DETAILS } else { 0 };
    let mut z = noise_batch(&net.arch, seed, own, n, device)?;
    for i in 0..r.steps {
        visit(i, &z)?;
        let phi = angle(i, r.steps);
        let d = phi - angle(i + 1, r.steps);
        let phis = vec![phi as f32; n];
        let v = guided_v(net, &Query { z: &z, phi: &phis, class, w: Some(&w), base: base.as_ref() })?;
        let last = i + 1 == r.steps;
        if r.sampler == Sampler::Deterministic || last {
            z = rotate(&z, &v, &vec![d as f32; n])?;
        } else {
            let (phi_s, phi_k) = (phi - 2.0 * d, phi - d);
            z = rotate(&z, &v, &vec![(2.0 * d) as f32; n])?;
            let (scale, sigma) = renoise_factors(phi_s, phi_k);
            let eps = noise_batch(&net.arch, seed, own | (1 + i as u32), n, device)?;
            z = mix(&vec![scale as f32; n], &z, &vec![sigma as f32; n], &eps)?;
        }
    }
    Ok(z)
}

/// The deterministic sampler's way of a batch from z, in `steps` steps: to pictures, or back to their noise (DDIM
/// inversion). Class and strength are the same all the way.
pub fn walk(
    net: &UNet,
    direction: Direction,
    steps: usize,
    mut z: Tensor,
    class: &[u16],
    w: f32,
) -> candle_core::Result<Tensor> {
    let n = class.len();
    for i in 0..steps {
        let phi = angle_towards(direction, i, steps);
        let d = phi - angle_towards(direction, i + 1, steps);
        let (phis, w) = (vec![phi as f32; n], vec![w; n]);
        let v = guided_v(net, &Query { z: &z, phi: &phis, class, w: Some(&w), base: None })?;
        z = rotate(&z, &v, &vec![d as f32; n])?;
    }
    Ok(z)
}
