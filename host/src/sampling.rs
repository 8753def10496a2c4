//! Drawing pictures from any of the project's files: a student image through the core, or a checkpoint in float.

use crate::diffusers::Imported;
use crate::diffusion::{self, SampleRequest, Sampler};
use crate::enlarge;
use crate::files::{self, AlignedBytes};
use crate::nn::{Checkpoint, Kind};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use fewstep_core::format::header::MAGIC;
use fewstep_core::{ArenaError, Backend, Model, Prepared, Request, Session};
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A file that can draw.
pub enum Source {
    Image(StudentImage),
    Checkpoint(Box<Checkpoint>),
    /// A teacher from elsewhere.
    Imported(Box<Imported>),
}

/// A student image that was checked once.
pub struct StudentImage {
    bytes: AlignedBytes,
    /// For messages.
    pub name: String,
}

impl StudentImage {
    /// Reads and checks an image.
    pub fn open(path: &Path) -> Result<StudentImage> {
        let bytes = files::read_aligned(path)?;
        let name = path.display().to_string();
        Model::parse(&bytes).map_err(|e| {
            anyhow::anyhow!("{name}: {e}; give an undamaged student image, or export the student again")
        })?;
        Ok(StudentImage { bytes, name })
    }

    /// The model; parsing was checked by [`StudentImage::open`].
    pub fn model(&self) -> Result<Model<'_>> {
        Model::parse(&self.bytes).map_err(|e| anyhow::anyhow!("{}: {e}", self.name))
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What to draw: picture i has seed `seed + i` and class `classes[i]`.
#[derive(Clone, Debug)]
pub struct Job {
    pub seed: u64,
    pub classes: Vec<u16>,
    pub w: f32,
    /// The image's own, where None; a checkpoint of a student has its own too.
    pub steps: Option<usize>,
    pub sampler: Sampler,
    /// "auto", "scalar" or another backend's name.
    pub backend: String,
    /// What a file that enlarges enlarges, [count, H/2, W/2, C]; empty for one that draws from noise alone.
    pub bases: Vec<u8>,
}

impl Job {
    /// Step by step without fresh noise, from noise alone, by the best kernels.
    pub fn new(seed: u64, classes: Vec<u16>, w: f32, steps: Option<usize>) -> Job {
        Job { seed, classes, w, steps, sampler: Sampler::Deterministic, backend: "auto".into(), bases: Vec::new() }
    }

    /// The same, asked of a float network.
    fn request(&self, steps: usize) -> SampleRequest {
        let Job { seed, w, sampler, .. } = *self;
        SampleRequest { steps, seed, classes: self.classes.clone(), w, sampler, bases: self.bases.clone() }
    }
}

/// Pictures and what they cost.
pub struct Drawn {
    /// [count, H, W, C].
    pub pictures: Vec<u8>,
    /// Height, width, channels.
    pub shape: (usize, usize, usize),
    pub steps: usize,
    /// Network evaluations per picture.
    pub evaluations: usize,
    pub seconds: f64,
    pub backend: String,
}

impl Drawn {
    /// The pictures one by one.
    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.pictures.chunks_exact(self.shape.0 * self.shape.1 * self.shape.2)
    }
}

impl Source {
    /// Opens a student image or a checkpoint, whichever the file is.
    pub fn open(path: &Path) -> Result<Source> {
        let (mut file, length) = files::open_file(path)?;
        let mut head = [0; MAGIC.len()];
        if length >= MAGIC.len() as u64 {
            std::io::Read::read_exact(&mut file, &mut head)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        if head == MAGIC {
            Ok(Source::Image(StudentImage::open(path)?))
        } else {
            match Imported::open(path, &Device::Cpu)? {
                Some(imported) => Ok(Source::Imported(Box::new(imported))),
                None => Ok(Source::Checkpoint(Box::new(Checkpoint::open(path, &Device::Cpu)?))),
            }
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> Result<usize> {
        Ok(match self {
            Source::Image(i) => usize::from(i.model()?.info().classes),
            Source::Checkpoint(c) => c.net.arch.classes,
            Source::Imported(i) => i.classes(),
        })
    }

    /// Height, width and channels of a picture.
    pub fn shape(&self) -> Result<(usize, usize, usize)> {
        Ok(match self {
            Source::Image(i) => i.model()?.output_shape(),
            Source::Checkpoint(c) => c.net.arch.data_shape(),
            Source::Imported(i) => i.shape(),
        })
    }

    /// Whether it enlarges pictures, in place of drawing them from noise alone.
    pub fn enlarges(&self) -> Result<bool> {
        Ok(match self {
            Source::Image(i) => i.model()?.base_bytes().is_some(),
            Source::Checkpoint(c) => c.net.arch.base > 0,
            Source::Imported(_) => false,
        })
    }

    /// Rows of pixels of a band, where the file is computed in bands.
    pub fn band_rows(&self) -> Result<Option<usize>> {
        let Source::Image(i) = self else { return Ok(None) };
        let model = i.model()?;
        let (bands, patch) = (model.image().bands(), usize::from(model.image().info().patch));
        Ok(bands.filter(|bands| bands.halo > 0).map(|bands| 2 * usize::from(bands.band()) * patch))
    }

    /// The number of steps that it was distilled for; None where it draws in any number.
    pub fn own_steps(&self) -> Result<Option<usize>> {
        Ok(match self {
            Source::Image(i) => Some(i.model()?.info().steps.into()),
            Source::Checkpoint(c) => match c.kind {
                Kind::Student(n) | Kind::Encoder(n) => Some(n),
                Kind::Teacher | Kind::Guided => None,
            },
            Source::Imported(_) => None,
        })
    }

    /// Network evaluations of a denoising step at strength `w`: two where guidance is made of both.
    pub fn evaluations_per_step(&self, w: f32) -> usize {
        match self {
            Source::Checkpoint(c) if !c.net.guided() && w != 0.0 => 2,
            Source::Imported(_) if w != 0.0 => 2,
            _ => 1,
        }
    }

    /// Names of the classes, where the file has them.
    pub fn class_names(&self) -> Result<Vec<String>> {
        Ok(match self {
            Source::Image(_) => {
                let names = self.provenance("classes")?;
                names.map_or(Vec::new(), |n| n.split(", ").map(String::from).collect())
            }
            Source::Checkpoint(c) => c.class_names.clone(),
            Source::Imported(i) => i.class_names.clone(),
        })
    }

    /// What the file says under a key of its provenance.
    pub fn provenance(&self, key: &str) -> Result<Option<String>> {
        Ok(match self {
            Source::Image(i) => i.model()?.provenance().find(|(k, _)| *k == key).map(|(_, v)| v.to_string()),
            Source::Checkpoint(c) => c.provenance.get(key).cloned(),
            Source::Imported(i) => i.provenance.get(key).cloned(),
        })
    }

    /// Draws; `progress` hears how many pictures are done.
    pub fn draw(&self, job: &Job, progress: impl Fn(usize) + Sync) -> Result<Drawn> {
        let (height, width, channels) = self.shape()?;
        match (self.enlarges()?, job.bases.is_empty()) {
            (true, true) => {
                bail!("it enlarges pictures and draws none; give it as --upscale to sample or simulate")
            }
            (true, false) if job.bases.len() != height * width * channels / 4 * job.classes.len() => {
                bail!("it enlarges pictures of {}x{}x{channels} only", height / 2, width / 2)
            }
            (false, false) => {
                bail!("it draws pictures and enlarges none; give one that train-teacher --enlarge began")
            }
            _ => {}
        }
        let classes = self.classes()?;
        if let Some(c) = job.classes.iter().find(|c| usize::from(**c) >= classes) {
            bail!("--class {c}: the model has classes 0 to {}", classes - 1);
        }
        match self {
            Source::Image(image) => draw_image(image, job, progress),
            Source::Checkpoint(checkpoint) => draw_checkpoint(checkpoint, job, progress),
            Source::Imported(teacher) => draw_imported(self, teacher, job, progress),
        }
    }
}

/// The core's kernels by name.
pub fn backend(name: &str) -> Result<Backend> {
    match name {
        "auto" => Ok(Backend::best()),
        _ => Backend::all().find(|b| b.name() == name).with_context(|| {
            let names: Vec<_> = Backend::all().map(|b| b.name()).collect();
            format!("--backend {name}: this CPU has {}, or auto", names.join(", "))
        }),
    }
}

/// The core's picture for one request, in an arena of its own: drawn, or by an image that enlarges made of `base`.
pub fn draw_one(model: &Model, request: &Request, base: &[u8], backend: Backend) -> Result<Vec<u8>> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    draw_in(Session::with_backend(model, &mut arena, backend), request, base)
}

/// The same in a session of its own.
fn draw_in<'a>(session: Result<Session<'a>, ArenaError>, request: &Request, base: &'a [u8]) -> Result<Vec<u8>> {
    let mut session = session.map_err(|e| anyhow::anyhow!("{e}"))?;
    let model = session.model();
    let mut out = vec![0; model.output_bytes()];
    let done = match model.base_bytes() {
        None => session.sample(request, &mut out),
        Some(_) => session.enlarge(request, base, &mut out),
    };
    done.map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(out)
}

/// Pictures from which on weights are prepared: that takes time too, which a few do not earn back.
const PREPARE: usize = 32;

fn draw_image(image: &StudentImage, job: &Job, progress: impl Fn(usize) + Sync) -> Result<Drawn> {
    let model = image.model()?;
    let (info, backend) = (model.info(), backend(&job.backend)?);
    let own = usize::from(info.steps);
    let steps = job.steps.unwrap_or(own);
    diffusion::check_steps(Kind::Student(own), steps, job.sampler)?;
    if !(info.w_min..=info.w_max).contains(&job.w) {
        bail!("--guidance {}: {} was distilled for {} to {}", job.w, image.name, info.w_min, info.w_max);
    }
    let base_bytes = model.base_bytes().unwrap_or_default();
    let done = AtomicUsize::new(0);
    let began = Instant::now();
    let mut room;
    let prepared = if job.classes.len() < PREPARE {
        None
    } else {
        room = AlignedBytes::zeroed(Prepared::bytes(&model, backend));
        Some(Prepared::new(&model, backend, &mut room).map_err(|e| anyhow::anyhow!("{e}"))?)
    };
    let pictures = job.classes.par_iter().enumerate().map(|(i, class)| {
        let request = Request {
            seed: job.seed.wrapping_add(i as u64),
            class: *class,
            w: job.w,
            steps: steps as u16,
            sampler: match job.sampler {
                Sampler::Deterministic => fewstep_core::Sampler::Deterministic,
                Sampler::Stochastic => fewstep_core::Sampler::Stochastic,
            },
        };
        let base = &job.bases[i * base_bytes..(i + 1) * base_bytes];
        let mut arena = AlignedBytes::zeroed(model.arena_bytes());
        let session = match &prepared {
            Some(prepared) => Session::with_prepared(prepared, &mut arena),
            None => Session::with_backend(&model, &mut arena, backend),
        };
        let picture = draw_in(session, &request, base)?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(picture)
    });
    let pictures: Vec<Vec<u8>> = pictures.collect::<Result<_>>()?;
    Ok(Drawn {
        pictures: pictures.concat(),
        shape: model.output_shape(),
        steps,
        evaluations: steps,
        seconds: began.elapsed().as_secs_f64(),
        backend: backend.name().into(),
    })
}

fn draw_imported(source: &Source, teacher: &Imported, job: &Job, progress: impl Fn(usize) + Sync) -> Result<Drawn> {
    let steps = job.steps.context("an imported teacher draws in any number of steps: give --steps, 50 for example")?;
    ensure!(job.backend == "auto", "--backend {}: only student images have backends", job.backend);
    ensure!(
        job.w.is_finite() && job.w >= 0.0,
        "--guidance {}: give a strength from 0 to {}",
        job.w,
        crate::nn::MAX_GUIDANCE
    );
    let began = Instant::now();
    let values = teacher.sample(&job.request(steps), progress)?;
    Ok(Drawn {
        pictures: values.into_iter().map(diffusion::to_byte).collect(),
        shape: teacher.shape(),
        steps,
        evaluations: steps * source.evaluations_per_step(job.w),
        seconds: began.elapsed().as_secs_f64(),
        backend: "float, f32".into(),
    })
}

fn draw_checkpoint(checkpoint: &Checkpoint, job: &Job, progress: impl Fn(usize) + Sync) -> Result<Drawn> {
    let steps = match (job.steps, checkpoint.kind) {
        (Some(n), _) | (None, Kind::Student(n) | Kind::Encoder(n)) => n,
        (None, kind) => bail!("a {} draws in any number of steps: give --steps, 64 for example", kind.describe()),
    };
    if job.backend != "auto" {
        bail!("--backend {}: a checkpoint is drawn in float; only student images have backends", job.backend);
    }
    diffusion::check_steps(checkpoint.kind, steps, job.sampler)?;
    if !job.w.is_finite() || job.w < 0.0 || (checkpoint.net.guided() && f64::from(job.w) > crate::nn::MAX_GUIDANCE) {
        bail!("--guidance {}: give a strength from 0 to {}", job.w, crate::nn::MAX_GUIDANCE);
    }
    let began = Instant::now();
    let values = diffusion::sample(&checkpoint.net, &job.request(steps), &Device::Cpu, progress)?;
    let a = &checkpoint.net.arch;
    let pictures = match a.base {
        0 => values.into_iter().map(diffusion::to_byte).collect(),
        _ => enlarge::join(a, &job.bases, &values),
    };
    Ok(Drawn {
        pictures,
        shape: a.data_shape(),
        steps,
        evaluations: if checkpoint.net.guided() || job.w == 0.0 { steps } else { 2 * steps },
        seconds: began.elapsed().as_secs_f64(),
        backend: format!("float, {}", crate::nn::Engine::current().name()),
    })
}
