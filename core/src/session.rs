//! Sampling: whole pictures, step by step, or operation by operation.

use core::f32::consts::FRAC_PI_2;
use core::fmt;

use crate::ENLARGES;
use crate::arch::Backend;
use crate::arena::{self, typed, views};
use crate::enlarge;
use crate::error::{ArenaError, RequestError};
use crate::execute::{Class, execute, execute_embed};
use crate::format::info::Direction;
use crate::math::sincos;
use crate::model::Model;
use crate::prepared::Panels;
#[cfg(not(target_os = "none"))]
use crate::prepared::Prepared;
use crate::sampler::schedule;

/// How a step moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Sampler {
    /// Rotate straight to the next angle.
    #[default]
    Deterministic,
    /// Rotate twice as far, then add noise back (Meng et al., On Distillation of Guided Diffusion Models): more
    /// variety for more steps.
    Stochastic,
}

/// What to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Request {
    /// The noise: the same seed gives the same picture on every target.
    pub seed: u64,
    /// The class, below [`Info::classes`](crate::Info::classes).
    pub class: u16,
    /// Guidance strength, 0 = unguided, within [`Info::w_min`](crate::Info::w_min) and
    /// [`Info::w_max`](crate::Info::w_max).
    pub w: f32,
    /// Denoising steps; must divide the image's own, 0 = the image's own.
    pub steps: u16,
    /// Deterministic or stochastic.
    pub sampler: Sampler,
}

/// Bit of the noise streams of details: those of the picture that is enlarged, which may have the same seed, are without.
const DETAILS: u32 = 1 << 30;

/// Bit of the noise stream that takes a picture back for another pass.
const BACK: u32 = 1 << 31;

/// Most passes of a step, [`Inpaint::passes`].
pub const MAX_PASSES: u16 = 64;

/// A picture of which a part is kept and the rest drawn anew: for [`Session::begin_inpaint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inpaint<'p> {
    /// [height][width][channels], bytes.
    pub picture: &'p [u8],
    /// [height][width]: 0 keeps the pixel, any other value draws it anew.
    pub mask: &'p [u8],
    /// 0 draws from noise alone; later steps keep a trace of what the picture has under the mask.
    pub start_step: u16,
    /// How often each step but the first is done, from 1 to [`MAX_PASSES`]: between two passes noise takes the picture
    /// back to the step's angle (RePaint; Lugmayr et al., 2022), so that what is drawn and what is kept grow together.
    pub passes: u16,
}

/// The second end of a way between two pictures: for [`Session::begin_morph`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Morph {
    /// Noise of the second end.
    pub seed: u64,
    /// Class of the second end.
    pub class: u16,
    /// Share of the way, 0 (the request's picture) to 1 (the second end's).
    pub at: f32,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Progress {
    /// Step `step` (from 0) of `steps` is next or under way.
    Running {
        /// Steps done.
        step: u16,
        /// Steps of the request.
        steps: u16,
    },
    /// The picture is ready for [`Session::finish`] (or nothing was begun).
    Done,
}

/// The part of a step that [`Session::step_op`] runs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// The embedding of step, class and w.
    Embed,
    /// This operation of the image.
    Op(u16),
    /// The sampler's move of z; before the last band of an image that computes in bands, the way to the next.
    Update,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    request: Request,
    class: Class,
    /// Pixels that are kept.
    inpaint: Option<Inpaint<'a>>,
    /// The picture that is enlarged.
    base: Option<&'a [u8]>,
    /// Steps of this run; divides the image's.
    steps: u16,
    /// Steps done.
    step: u16,
    /// Passes of this step done.
    pass: u16,
    /// Bands of this step done; there is one where nothing is enlarged.
    band: u16,
    /// Next stage of this step: 0 = embedding, 1 + i = operation i, last = update.
    stage: u16,
}

impl<'a> Run<'a> {
    fn new(request: &Request, steps: u16, step: u16) -> Self {
        let class = Class { first: request.class, second: request.class, share: 0.0 };
        Self { request: *request, class, inpaint: None, base: None, steps, step, pass: 0, band: 0, stage: 0 }
    }

    /// The picture that is enlarged.
    fn base(&self) -> Option<&'a [u8]> {
        self.base.filter(|_| ENLARGES)
    }

    /// Whether the step that was done is done again. The first starts from noise alone: a second pass of it would know
    /// nothing of the first.
    fn again(&self) -> bool {
        self.step > 0 && self.inpaint.is_some_and(|inpaint| self.pass + 1 < inpaint.passes)
    }
}

/// A model with its memory. Runs one request at a time: [`Session::sample`], or [`Session::begin`], then
/// [`Session::step`] or [`Session::step_op`] until [`Progress::Done`], then [`Session::finish`]. An encoder's:
/// [`Session::encode`], or [`Session::begin_encode`], steps, [`Session::finish_noise`].
pub struct Session<'a> {
    model: &'a Model<'a>,
    arena: &'a mut [u8],
    backend: Backend,
    panels: Panels<'a>,
    run: Option<Run<'a>>,
}

impl fmt::Debug for Session<'_> {
    /// The model and the run; not the arena's bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("model", self.model).field("run", &self.run).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Binds `model` to `arena` (at least [`Model::arena_bytes`], 16-byte aligned; more is allowed), with the
    /// fastest kernels of this CPU.
    ///
    /// # Errors
    /// The arena is too small or not aligned.
    pub fn new(model: &'a Model<'_>, arena: &'a mut [u8]) -> Result<Self, ArenaError> {
        Self::with_backend(model, arena, Backend::best())
    }

    /// As [`Session::new`], with the kernels of `backend`.
    ///
    /// # Errors
    /// The arena is too small or not aligned.
    pub fn with_backend(model: &'a Model<'_>, arena: &'a mut [u8], backend: Backend) -> Result<Self, ArenaError> {
        let arena = arena::claim(arena, model.arena_bytes())?;
        Ok(Self { model, arena, backend, panels: Panels::default(), run: None })
    }

    /// With the model and the kernels of `prepared`, and weights that are ready for them.
    ///
    /// # Errors
    /// The arena is too small or not aligned.
    #[cfg(not(target_os = "none"))]
    pub fn with_prepared(prepared: &Prepared<'a>, arena: &'a mut [u8]) -> Result<Self, ArenaError> {
        Ok(Self { panels: prepared.panels, ..Self::with_backend(prepared.model, arena, prepared.backend)? })
    }

    /// The kernels in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The model.
    pub fn model(&self) -> &'a Model<'a> {
        self.model
    }

    /// Enlarges `base` ([`Model::base_bytes`] bytes) into `out` ([`Model::output_bytes`] bytes), twice as high and wide:
    /// [`Session::begin_enlarge`] to [`Session::finish`].
    ///
    /// # Errors
    /// The image does not enlarge, the request does not fit it, or a picture has another length.
    pub fn enlarge(&mut self, request: &Request, base: &'a [u8], out: &mut [u8]) -> Result<(), RequestError> {
        self.check_output(out)?;
        self.begin_enlarge(request, base)?;
        while self.step() != Progress::Done {}
        self.finish(out)
    }

    /// Draws one picture into `out` ([`Model::output_bytes`] bytes: height x width x channels).
    ///
    /// # Errors
    /// The request does not fit the image, or `out` has another length.
    pub fn sample(&mut self, request: &Request, out: &mut [u8]) -> Result<(), RequestError> {
        self.check_output(out)?;
        self.begin(request)?;
        while self.step() != Progress::Done {}
        self.finish(out)
    }

    /// The noise of `picture` into `noise` (a value for each of its bytes), with an encoder image: a student that
    /// begins with it ([`Session::begin_noise`]) under the same class draws the picture again, under another restyles it.
    ///
    /// # Errors
    /// The image is no encoder, the request does not fit it, or `picture` or `noise` has another length.
    pub fn encode(&mut self, request: &Request, picture: &[u8], noise: &mut [f32]) -> Result<(), RequestError> {
        self.begin_encode(request, picture)?;
        self.check_noise(noise)?;
        while self.step() != Progress::Done {}
        self.finish_noise(noise)
    }

    /// Starts a picture from noise. A run under way is dropped.
    ///
    /// # Errors
    /// The request does not fit the image.
    pub fn begin(&mut self, request: &Request) -> Result<(), RequestError> {
        let steps = self.check_request(request)?;
        let geometry = self.model.geometry();
        geometry.fill_noise(self.z(), request.seed, 0);
        self.run = Some(Run::new(request, steps, 0));
        Ok(())
    }

    /// Starts a picture from this noise (height x width x channels values), in place of the seed's. A run under way is
    /// dropped.
    ///
    /// # Errors
    /// The request does not fit the image, or the noise has another length.
    pub fn begin_noise(&mut self, request: &Request, noise: &[f32]) -> Result<(), RequestError> {
        let steps = self.check_request(request)?;
        self.check_noise(noise)?;
        let geometry = self.model.geometry();
        geometry.arrange(noise, self.z());
        self.run = Some(Run::new(request, steps, 0));
        Ok(())
    }

    /// Starts on the way from `picture` (height x width x channels bytes) to its noise, with an encoder image, as a
    /// picture of the request's class drawn with its strength w. Nothing is random on this way: the request's seed and
    /// sampler have no meaning. A run under way is dropped.
    ///
    /// # Errors
    /// The image is no encoder, the request does not fit it, or the picture has another length.
    pub fn begin_encode(&mut self, request: &Request, picture: &[u8]) -> Result<(), RequestError> {
        self.check_direction(Direction::ToNoise)?;
        let steps = self.check_values(request)?;
        self.check_picture(picture)?;
        let geometry = self.model.geometry();
        geometry.load(picture, 1.0, self.z());
        self.run = Some(Run::new(&Request { sampler: Sampler::Deterministic, ..*request }, steps, 0));
        Ok(())
    }

    /// Starts from `picture` (height x width x channels bytes), noised to the angle of step `start_step`: image to
    /// image. Step 0 forgets the picture, later steps keep more of it. A run under way is dropped.
    ///
    /// # Errors
    /// The request does not fit the image, the picture has another length, or `start_step` is not below the
    /// request's steps.
    pub fn begin_from(&mut self, request: &Request, picture: &[u8], start_step: u16) -> Result<(), RequestError> {
        let steps = self.check_request(request)?;
        self.start_from(request, steps, picture, start_step)?;
        self.run = Some(Run::new(request, steps, start_step));
        Ok(())
    }

    /// Starts a picture of which `inpaint` keeps a part: [`Session::finish`] gives the kept pixels back byte for byte.
    /// Picture and mask are read until then; a session for one picture costs nothing. A run under way is dropped.
    ///
    /// # Errors
    /// The request does not fit the image, the picture or the mask has another length, `start_step` is not below the
    /// request's steps, or the passes are not from 1 to [`MAX_PASSES`].
    pub fn begin_inpaint(&mut self, request: &Request, inpaint: Inpaint<'a>) -> Result<(), RequestError> {
        let steps = self.check_request(request)?;
        let info = self.model.image().info();
        let expected = usize::from(info.height) * usize::from(info.width);
        if inpaint.mask.len() != expected {
            return Err(RequestError::MaskLength { found: inpaint.mask.len(), expected });
        }
        if !(1..=MAX_PASSES).contains(&inpaint.passes) {
            return Err(RequestError::Passes { found: inpaint.passes });
        }
        self.start_from(request, steps, inpaint.picture, inpaint.start_step)?;
        self.run = Some(Run { inpaint: Some(inpaint), ..Run::new(request, steps, inpaint.start_step) });
        Ok(())
    }

    /// Starts a picture between the request's and `morph`'s: noise on the arc between their noises, class between the
    /// embeddings of their classes. At the ends it is [`Session::begin`], bit for bit. A run under way is dropped.
    ///
    /// # Errors
    /// The request does not fit the image, neither does the other class, or the share is not within 0 and 1.
    pub fn begin_morph(&mut self, request: &Request, morph: &Morph) -> Result<(), RequestError> {
        let steps = self.check_request(request)?;
        self.check_class(morph.class)?;
        // Not a number is in no range.
        if !(0.0..=1.0).contains(&morph.at) {
            return Err(RequestError::Share { found: morph.at });
        }
        let geometry = self.model.geometry();
        let z = self.z();
        geometry.fill_noise(z, request.seed, 0);
        // Equal noises are not independent: there is no arc between them.
        if morph.seed != request.seed {
            let [first, second] = schedule::between(morph.at);
            geometry.add_noise(z, first, second, morph.seed, 0);
        }
        let class = Class { first: request.class, second: morph.class, share: morph.at };
        self.run = Some(Run { class, ..Run::new(request, steps, 0) });
        Ok(())
    }

    /// Starts the details of a picture twice as high and wide as `base` ([`Model::base_bytes`] bytes), which is read until
    /// [`Session::finish`]. A run under way is dropped.
    ///
    /// # Errors
    /// The image does not enlarge, the request does not fit it, or the base has another length.
    pub fn begin_enlarge(&mut self, request: &Request, base: &'a [u8]) -> Result<(), RequestError> {
        let expected = self.model.base_bytes().ok_or(RequestError::NoEnlarger)?;
        let steps = self.check_values(request)?;
        if base.len() != expected {
            return Err(RequestError::PictureLength { found: base.len(), expected });
        }
        let geometry = self.model.geometry();
        geometry.fill_noise(self.z(), request.seed, DETAILS);
        self.run = Some(Run { base: Some(base), ..Run::new(request, steps, 0) });
        Ok(())
    }

    /// z <- `picture`, noised to the angle of step `start_step`; noise alone at step 0.
    fn start_from(
        &mut self,
        request: &Request,
        steps: u16,
        picture: &[u8],
        start_step: u16,
    ) -> Result<(), RequestError> {
        self.check_picture(picture)?;
        if start_step >= steps {
            return Err(RequestError::StartStep { found: start_step, steps });
        }
        let (sin, cos) = sincos(self.phi(start_step, steps));
        let geometry = self.model.geometry();
        let z = self.z();
        if start_step == 0 {
            geometry.fill_noise(z, request.seed, 0);
        } else {
            geometry.load(picture, cos, z);
            geometry.add_noise(z, 1.0, sin, request.seed, 0);
        }
        Ok(())
    }

    /// Runs the rest of the current denoising step.
    pub fn step(&mut self) -> Progress {
        let before = self.run.map(|run| run.step);
        loop {
            let progress = self.step_op();
            if progress == Progress::Done || self.run.map(|run| run.step) != before {
                return progress;
            }
        }
    }

    /// Runs one stage of the current denoising step: the embedding, one operation, or the update of z. On a
    /// microcontroller that is some milliseconds.
    pub fn step_op(&mut self) -> Progress {
        let (Some(stage), Some(run)) = (self.stage(), &self.run) else { return Progress::Done };
        let (image, kernels) = (self.model.image(), self.backend.kernels());
        let (class, w, row) = (run.class, run.request.w, self.row(run.step, run.steps));
        // A parsed model leaves nothing to fail, so the `None` of a missing part is never met.
        let window = run.base().and_then(|base| enlarge::prepare(image, base, run.band, stage, self.arena));
        let (window, more_bands) = (window.unwrap_or(0), run.band + 1 < image.rounds());
        match stage {
            Stage::Embed => _ = execute_embed(image, kernels, row, class, w, self.arena),
            Stage::Op(op) => _ = execute(image, kernels, self.panels, row, op.into(), window, self.arena),
            Stage::Update if more_bands => {}
            Stage::Update => _ = self.run.and_then(|run| self.update(&run)),
        }
        let Some(run) = &mut self.run else { return Progress::Done };
        match stage {
            Stage::Update if more_bands => (run.band, run.stage) = (run.band + 1, 1),
            Stage::Update if run.again() => (run.pass, run.stage) = (run.pass + 1, 0),
            Stage::Update => (run.step, run.pass, run.band, run.stage) = (run.step + 1, 0, 0, 0),
            _ => run.stage += 1,
        }
        match run.step < run.steps {
            true => Progress::Running { step: run.step, steps: run.steps },
            false => Progress::Done,
        }
    }

    /// What [`Session::step_op`] runs next; `None` when no run is under way.
    pub fn stage(&self) -> Option<Stage> {
        let run = self.run.as_ref().filter(|run| run.step < run.steps)?;
        let ops = self.model.image().info().counts.ops;
        Some(match run.stage {
            0 => Stage::Embed,
            stage if stage <= ops => Stage::Op(stage - 1),
            _ => Stage::Update,
        })
    }

    /// Guidance strength from the next step on: a knob that may be turned while the picture is drawn. The step under way
    /// keeps its own, unless its embedding is still to come. Nothing happens when no run is under way.
    ///
    /// # Errors
    /// The image was not trained for `w`.
    pub fn set_guidance(&mut self, w: f32) -> Result<(), RequestError> {
        self.check_guidance(w)?;
        if let Some(run) = &mut self.run {
            run.request.w = w;
        }
        Ok(())
    }

    /// Writes the picture ([`Model::output_bytes`] bytes). May be called again until the next `begin`.
    ///
    /// # Errors
    /// Steps are left, or `out` has another length.
    pub fn finish(&mut self, out: &mut [u8]) -> Result<(), RequestError> {
        self.check_output(out)?;
        self.check_direction(Direction::ToPicture)?;
        self.check_finished()?;
        let geometry = self.model.geometry();
        match self.run.as_ref().and_then(Run::base) {
            Some(base) => geometry.enlarge(base, self.z(), out),
            None => geometry.store(self.z(), out),
        }
        if let Some(inpaint) = self.run.as_ref().and_then(|run| run.inpaint) {
            geometry.keep(inpaint.picture, inpaint.mask, out);
        }
        Ok(())
    }

    /// Writes row `y` of the picture, from 0 at the top ([`Model::row_bytes`] bytes: width x channels). The rows together
    /// are what [`Session::finish`] writes; a display or a serial line that takes them one by one needs memory for a row
    /// and not for the picture. In any order, as often as wanted, until the next `begin`.
    ///
    /// ```no_run
    /// # fn send(_: &[u8]) {}
    /// # fn show(session: &mut fewstep_core::Session<'_>) -> Result<(), fewstep_core::RequestError> {
    /// let mut row = [0; 28]; // model.row_bytes()
    /// for y in 0..session.model().info().height {
    ///     session.finish_row(y, &mut row)?;
    ///     send(&row);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Steps are left, there is no row `y`, or `row` has another length.
    pub fn finish_row(&mut self, y: u16, row: &mut [u8]) -> Result<(), RequestError> {
        let (height, expected) = (self.model.output_shape().0 as u16, self.model.row_bytes());
        if row.len() != expected {
            return Err(RequestError::RowLength { found: row.len(), expected });
        }
        if y >= height {
            return Err(RequestError::Row { found: y, height });
        }
        self.check_direction(Direction::ToPicture)?;
        self.check_finished()?;
        let geometry = self.model.geometry();
        match self.run.as_ref().and_then(Run::base) {
            Some(base) => geometry.enlarge_row(base, self.z(), y.into(), row),
            None => geometry.store_row(self.z(), y.into(), row),
        }
        if let Some(inpaint) = self.run.as_ref().and_then(|run| run.inpaint) {
            geometry.keep_row(inpaint.picture, inpaint.mask, y.into(), row);
        }
        Ok(())
    }

    /// Writes the noise that an encoder found ([`Model::output_bytes`] values). May be called again until the next
    /// `begin`.
    ///
    /// # Errors
    /// The image is no encoder, steps are left, or `noise` has another length.
    pub fn finish_noise(&mut self, noise: &mut [f32]) -> Result<(), RequestError> {
        self.check_noise(noise)?;
        self.check_direction(Direction::ToNoise)?;
        self.check_finished()?;
        let geometry = self.model.geometry();
        geometry.disarrange(self.z(), noise);
        Ok(())
    }

    fn check_finished(&self) -> Result<(), RequestError> {
        match &self.run {
            Some(run) if run.step >= run.steps => Ok(()),
            Some(run) => Err(RequestError::NotFinished { step: run.step, steps: run.steps }),
            None => Err(RequestError::NotFinished { step: 0, steps: 0 }),
        }
    }

    /// The sampler's move of z after the operations of a step.
    fn update(&mut self, run: &Run<'_>) -> Option<()> {
        let image = self.model.image();
        let (from, to) = (self.phi(run.step, run.steps), self.phi(run.step + 1, run.steps));
        let step = match run.request.sampler {
            Sampler::Deterministic => schedule::deterministic(from, to),
            Sampler::Stochastic => schedule::stochastic(from, to),
        };
        let (z, v) = (image.buffer(image.info().roles.z).ok()?, image.buffer(image.info().roles.v).ok()?);
        let [z, v, _] = views(self.arena, [z.range(), v.range(), 0..0])?;
        let (z, v) = (typed::<f32>(z), typed::<f32>(v));
        let geometry = self.model.geometry();
        if let Some(inpaint) = &run.inpaint {
            geometry.know(inpaint.picture, inpaint.mask, sincos(from), z, v);
        }
        for (z, &mut v) in z.iter_mut().zip(v) {
            *z = step.keep * *z - step.turn * v;
        }
        // Stream 1 + i is the noise after step i, with the pass above it.
        let own = run.base().map_or(0, |_| DETAILS);
        let stream = u32::from(run.pass) << 16 | (u32::from(run.step) + 1) | own;
        if let Some(renoise) = step.renoise {
            geometry.add_noise(z, renoise.rescale, renoise.noise, run.request.seed, stream);
        }
        if run.again() {
            let back = schedule::back(to, from);
            geometry.add_noise(z, back.rescale, back.noise, run.request.seed, stream | BACK);
        }
        Some(())
    }

    /// The image's step that belongs to step `step` of `steps`.
    fn row(&self, step: u16, steps: u16) -> usize {
        let stride = self.model.image().info().steps / steps.max(1);
        usize::from(step) * usize::from(stride)
    }

    /// Angle at which step `step` of `steps` starts; after the last the picture's, 0, or an encoder's noise's.
    fn phi(&self, step: u16, steps: u16) -> f32 {
        let image = self.model.image();
        match (step < steps, image.info().direction) {
            (true, _) => image.phi(self.row(step, steps)),
            (false, Direction::ToPicture) => 0.0,
            (false, Direction::ToNoise) => FRAC_PI_2,
        }
    }

    fn z(&mut self) -> &mut [f32] {
        let image = self.model.image();
        let z = image.buffer(image.info().roles.z).ok();
        let bytes = z.and_then(|z| self.arena.get_mut(z.range()));
        typed(bytes.unwrap_or_default())
    }

    fn check_output(&self, out: &[u8]) -> Result<(), RequestError> {
        let expected = self.model.output_bytes();
        match out.len() == expected {
            true => Ok(()),
            false => Err(RequestError::OutputLength { found: out.len(), expected }),
        }
    }

    fn check_picture(&self, picture: &[u8]) -> Result<(), RequestError> {
        let expected = self.model.output_bytes();
        match picture.len() == expected {
            true => Ok(()),
            false => Err(RequestError::PictureLength { found: picture.len(), expected }),
        }
    }

    fn check_noise(&self, noise: &[f32]) -> Result<(), RequestError> {
        let expected = self.model.output_bytes();
        match noise.len() == expected {
            true => Ok(()),
            false => Err(RequestError::NoiseLength { found: noise.len(), expected }),
        }
    }

    fn check_direction(&self, needed: Direction) -> Result<(), RequestError> {
        let image = self.model.image().info().direction;
        match image == needed {
            true => Ok(()),
            false => Err(RequestError::Direction { image }),
        }
    }

    fn check_class(&self, class: u16) -> Result<(), RequestError> {
        let classes = self.model.image().info().classes;
        match class < classes {
            true => Ok(()),
            false => Err(RequestError::Class { found: class, classes }),
        }
    }

    fn check_guidance(&self, w: f32) -> Result<(), RequestError> {
        let info = self.model.image().info();
        // Not a number is in no range.
        match (info.w_min..=info.w_max).contains(&w) {
            true => Ok(()),
            false => Err(RequestError::Guidance { found: w, min: info.w_min, max: info.w_max }),
        }
    }

    /// Checks a request for a picture from noise and returns its number of steps.
    fn check_request(&self, request: &Request) -> Result<u16, RequestError> {
        self.check_direction(Direction::ToPicture)?;
        match self.model.base_bytes() {
            None => self.check_values(request),
            Some(_) => Err(RequestError::NeedsBase),
        }
    }

    /// Checks class, strength and steps, and returns the number of steps.
    fn check_values(&self, request: &Request) -> Result<u16, RequestError> {
        let info = self.model.image().info();
        self.check_class(request.class)?;
        self.check_guidance(request.w)?;
        let steps = if request.steps == 0 { info.steps } else { request.steps };
        if !info.steps.is_multiple_of(steps) {
            return Err(RequestError::Steps { found: steps, image: info.steps });
        }
        Ok(steps)
    }
}
