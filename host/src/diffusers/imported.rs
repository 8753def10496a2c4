//! A teacher made of a `UNet2DModel` and its scheduler: what the distiller and the samplers ask.

use super::config::UNetConfig;
use super::scheduler::{Prediction, Scheduler};
use super::unet::UNet2D;
use crate::diffusion::{Denoise, SAMPLE_BATCH, SampleRequest, Sampler};
use crate::files;
use crate::nn::{MAX_CHECKPOINT_BYTES, Params, Query, read_tensors, write_tensors};
use crate::noise;
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest JSON file that is read.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// An imported teacher.
#[derive(Clone)]
pub struct Imported {
    pub net: UNet2D,
    pub scheduler: Scheduler,
    /// Row of the class table that stands for no class; without one there is no guidance.
    null: Option<usize>,
    /// Names of the classes; one name for an unconditional network.
    pub class_names: Vec<String>,
    /// Where it came from: short keys and values.
    pub provenance: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    unet: UNetConfig,
    scheduler: Scheduler,
    null: Option<usize>,
    class_names: Vec<String>,
    provenance: BTreeMap<String, String>,
}

/// Reads a folder that `save_pretrained` of a diffusers pipeline wrote: `unet/` with its configuration and safetensors,
/// `scheduler/` with its configuration. `null` is the row of the class table that was trained as no class.
///
/// # Errors
/// Something is missing, damaged or not supported.
pub fn import(folder: &Path, null: Option<usize>) -> Result<Imported> {
    let read = |name: &str| {
        let path = folder.join(name);
        files::read_file(&path, MAX_JSON_BYTES)
            .with_context(|| format!("{}: give the folder that a pipeline's save_pretrained wrote", folder.display()))
    };
    let show = |name: &str| folder.join(name).display().to_string();
    let (unet, scheduler) = ("unet/config.json", "scheduler/scheduler_config.json");
    let config = UNetConfig::parse(&show(unet), &read(unet)?)?;
    let scheduler = Scheduler::parse(&show(scheduler), &read(scheduler)?)?;
    let weights = folder.join("unet/diffusion_pytorch_model.safetensors");
    ensure!(
        weights.exists(),
        "{}: is missing; save the pipeline with safe_serialization=True, in one file",
        weights.display()
    );
    let bytes = files::read_file(&weights, MAX_CHECKPOINT_BYTES)?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .with_context(|| format!("{}: is no safetensors file", weights.display()))?;
    let tensors = tensors
        .into_iter()
        .map(|(name, t)| Ok((name_of_today(&name), t.to_dtype(DType::F32)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let classes = config.num_class_embeds.map_or(1, |n| n - usize::from(null.is_some()));
    let imported = Imported {
        class_names: match config.num_class_embeds {
            None => vec!["picture".into()],
            Some(_) => (0..classes).map(|class| format!("class {class}")).collect(),
        },
        net: UNet2D { config, params: Params::frozen(tensors) },
        scheduler,
        null,
        provenance: BTreeMap::from([("imported".to_string(), "diffusers UNet2DModel".to_string())]),
    };
    imported.check().map_err(|e| anyhow!("{}: {e}", folder.display()))?;
    Ok(imported)
}

/// Attention's projections had other names before diffusers 0.17.
fn name_of_today(name: &str) -> String {
    let mut name = name.to_string();
    if name.contains(".attentions.") {
        for (old, new) in [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")] {
            name = name.replace(&format!(".{old}."), &format!(".{new}."));
        }
    }
    name
}

impl Imported {
    /// Says what does not fit.
    fn check(&self) -> std::result::Result<(), String> {
        let config = &self.net.config;
        config.check()?;
        let wanted: BTreeMap<String, Vec<usize>> = config.parameters().into_iter().collect();
        let found = self.net.params.tensors();
        for (name, shape) in &wanted {
            match found.get(name) {
                Some(t) if t.dims() == shape => {}
                Some(t) => return Err(format!("tensor {name} has shape {:?}, its network needs {shape:?}", t.dims())),
                None => return Err(format!("tensor {name} is missing")),
            }
        }
        if let Some(name) = found.keys().find(|name| !wanted.contains_key(*name)) {
            return Err(format!("tensor {name} is not supported: its network has no place for it"));
        }
        match (self.null, config.num_class_embeds) {
            (Some(_), None) => return Err("the network is unconditional, so it has no null class".into()),
            (Some(null), Some(n)) if null >= n || n < 2 => {
                return Err(format!("null class {null}: the network has {n} embedded classes, 0 to {}", n - 1));
            }
            _ => {}
        }
        if self.class_names.len() != self.classes() {
            return Err(format!("{} class names for {} classes", self.class_names.len(), self.classes()));
        }
        Ok(())
    }

    /// Height, width and channels of a picture.
    pub fn shape(&self) -> (usize, usize, usize) {
        let c = &self.net.config;
        (c.height, c.width, c.channels)
    }

    /// Number of classes without the null class; 1 for an unconditional network.
    pub fn classes(&self) -> usize {
        self.net.config.num_class_embeds.map_or(1, |n| n - usize::from(self.null.is_some()))
    }

    /// Whether its pictures have classes.
    pub fn conditional(&self) -> bool {
        self.net.config.num_class_embeds.is_some()
    }

    /// Row of the class table.
    fn row(&self, class: u16) -> u32 {
        match self.null {
            Some(null) if usize::from(class) == self.classes() => null as u32,
            Some(null) => u32::from(class) + u32::from(usize::from(class) >= null),
            None => class.into(),
        }
    }

    /// Writes the teacher, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            unet: self.net.config.clone(),
            scheduler: self.scheduler.clone(),
            null: self.null,
            class_names: self.class_names.clone(),
            provenance: self.provenance.clone(),
        };
        let tensors = self.net.params.tensors().iter().map(|(k, t)| Ok((k.clone(), t.to_device(&Device::Cpu)?)));
        write_tensors(path, &tensors.collect::<Result<_>>()?, serde_json::to_string(&header)?)
    }

    /// Reads what [`Imported::save`] wrote; None where the file is another of the project's checkpoints.
    ///
    /// # Errors
    /// The file is none of the project's, or damaged.
    pub fn open(path: &Path, device: &Device) -> Result<Option<Imported>> {
        let (tensors, header) = read_tensors(path, device)?;
        let damaged = || format!("{}: the teacher's description is damaged; import it again", path.display());
        let header: serde_json::Value = serde_json::from_str(&header).with_context(damaged)?;
        if header.get("unet").is_none() {
            return Ok(None);
        }
        let header: Header = serde_json::from_value(header).with_context(damaged)?;
        let imported = Imported {
            net: UNet2D { config: header.unet, params: Params::frozen(tensors) },
            scheduler: header.scheduler,
            null: header.null,
            class_names: header.class_names,
            provenance: header.provenance,
        };
        imported.check().map_err(|e| anyhow!("{}: {e}", path.display()))?;
        Ok(Some(imported))
    }

    /// The network's output, guided: z [B, C, H, W] at timestep `t`.
    fn output(&self, z: &Tensor, t: f32, class: &[u16], w: f32) -> candle_core::Result<Tensor> {
        let n = class.len();
        let rows: Vec<u32> = class.iter().map(|c| self.row(*c)).collect();
        match self.null {
            Some(null) if w != 0.0 => {
                let rows = [rows, vec![null as u32; n]].concat();
                let both = self.net.forward(&Tensor::cat(&[z, z], 0)?, &vec![t; 2 * n], &rows)?;
                (both.narrow(0, 0, n)? * f64::from(1.0 + w))? - (both.narrow(0, n, n)? * f64::from(w))?
            }
            _ => self.net.forward(z, &vec![t; n], &rows),
        }
    }

    /// The scheduler's DDIM from noise z [B, C, H, W] in `steps` steps.
    ///
    /// # Errors
    /// The schedule has no such number of steps.
    pub fn ddim(&self, mut z: Tensor, steps: usize, class: &[u16], w: f32) -> Result<Tensor> {
        for t in self.scheduler.timesteps(steps)? {
            let out = self.output(&z, t as f32, class, w)?;
            z = self.scheduler.step(&z, &out, t, steps)?;
        }
        Ok(z)
    }

    /// Draws pictures: values [count, H, W, C] in about [-1, 1]. `progress` hears how many are done.
    ///
    /// # Errors
    /// The request asks for what this teacher has not.
    pub fn sample(&self, r: &SampleRequest, progress: impl Fn(usize) + Sync) -> Result<Vec<f32>> {
        if r.sampler == Sampler::Stochastic {
            bail!("an imported teacher draws by its scheduler's DDIM; leave --sampler stochastic out");
        }
        ensure!(
            self.null.is_some() || r.w == 0.0,
            "--guidance {}: this teacher has no null class, so there is no guidance; give --guidance 0",
            r.w
        );
        self.scheduler.timesteps(r.steps)?;
        let (h, w, c) = self.shape();
        let len = h * w * c;
        let done = AtomicUsize::new(0);
        let batches: Vec<Vec<f32>> = r
            .classes
            .par_chunks(SAMPLE_BATCH)
            .enumerate()
            .map(|(batch, class)| {
                let n = class.len();
                let mut flat = vec![0.0; n * len];
                noise::sample_noise(r.seed.wrapping_add((batch * SAMPLE_BATCH) as u64), 0, len, &mut flat);
                let z = Tensor::from_vec(flat, (n, h, w, c), &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()?;
                let x = self.ddim(z, r.steps, class, r.w)?;
                progress(done.fetch_add(n, Ordering::Relaxed) + n);
                Ok(x.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1::<f32>()?)
            })
            .collect::<Result<_>>()?;
        Ok(batches.concat())
    }
}

/// Factors of a picture, [B, 1, 1, 1].
fn column(values: &[f64], like: &Tensor) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(values, (like.dim(0)?, 1, 1, 1), like.device())
}

impl Denoise for Imported {
    fn guided(&self) -> bool {
        false
    }

    fn null_class(&self) -> Option<u16> {
        self.null.map(|_| self.classes() as u16)
    }

    /// v at any angle. The timestep is the angle's, between two of the scheduler's; above their range the picture is
    /// predicted as at its end, where an epsilon network's would otherwise be divided by 0. Predicted pictures are held
    /// within the scheduler's bound, and v follows: the noise is what is left of z (as DDIM does it in Glide).
    fn v(&self, q: &Query) -> candle_core::Result<Tensor> {
        let (n, h, w, depth) = q.z.dims4()?;
        let channels = self.net.config.channels;
        let side = self.net.config.height / h.max(1);
        if q.w.is_some() || depth != side * side * channels || (h * side, w * side) != (self.shape().0, self.shape().1)
        {
            candle_core::bail!("an imported teacher takes its own pictures, and no w");
        }
        // From space-to-depth form, whatever its patch.
        let z = q.z.reshape((n, h, w, side, side, channels))?.permute([0, 5, 1, 3, 2, 4])?;
        let z = z.contiguous()?.reshape((n, channels, h * side, w * side))?;

        let (least, most) = self.scheduler.range();
        let phi: Vec<f64> = q.phi.iter().map(|phi| f64::from(*phi)).collect();
        let t: Vec<f32> = phi.iter().map(|phi| self.scheduler.timestep(*phi) as f32).collect();
        let rows: Vec<u32> = q.class.iter().map(|c| self.row(*c)).collect();
        let out = self.net.forward(&z, &t, &rows)?;
        let of = |f: &dyn Fn(f64) -> f64| column(&phi.iter().map(|phi| f(*phi)).collect::<Vec<_>>(), &z);
        let (cos, sin) = (of(&|phi| phi.min(most).cos())?, of(&|phi| phi.min(most).sin())?);
        let (x, eps) = match self.scheduler.prediction() {
            Prediction::Epsilon => (z.sub(&out.broadcast_mul(&sin)?)?.broadcast_div(&cos)?, out),
            Prediction::VPrediction => (
                z.broadcast_mul(&cos)?.sub(&out.broadcast_mul(&sin)?)?,
                out.broadcast_mul(&cos)?.add(&z.broadcast_mul(&sin)?)?,
            ),
        };
        let mut v = eps.broadcast_mul(&of(&f64::cos)?)?.sub(&x.broadcast_mul(&of(&f64::sin)?)?)?;
        if let Some(c) = self.scheduler.clip() {
            let beyond = x.sub(&x.clamp(-c, c)?)?;
            v = v.add(&beyond.broadcast_div(&of(&|phi| phi.max(least).sin())?)?)?;
        }
        let v = v.reshape((n, channels, h, side, w, side))?.permute([0, 2, 4, 3, 5, 1])?;
        v.contiguous()?.reshape((n, h, w, depth))
    }
}
