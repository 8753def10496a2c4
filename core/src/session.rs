//! Sampling: whole pictures, step by step, or operation by operation.

use crate::arch::Backend;
use crate::arena;
use crate::error::{ArenaError, RequestError};
use crate::model::Model;

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
    /// The sampler's move of z.
    Update,
}

/// A model with its memory. See [`Model`] for what it needs.
pub struct Session<'a> {
    model: &'a Model<'a>,
    arena: &'a mut [u8],
    backend: Backend,
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
        Ok(Self { model, arena, backend })
    }

    /// The kernels in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Draws one picture into `out` ([`Model::output_bytes`] bytes: height x width x channels).
    ///
    /// # Errors
    /// The request does not fit the image, or `out` has another length.
    pub fn sample(&mut self, request: &Request, out: &mut [u8]) -> Result<(), RequestError> {
        self.begin(request)?;
        while self.step() != Progress::Done {}
        self.finish(out)
    }

    /// Starts a picture from noise.
    ///
    /// # Errors
    /// The request does not fit the image.
    pub fn begin(&mut self, request: &Request) -> Result<(), RequestError> {
        let _ = (request, &self.arena);
        Ok(())
    }

    /// Starts from `picture` (height x width x channels bytes), noised to the angle of step `start_step`: image to
    /// image. Step 0 forgets the picture, later steps keep more of it.
    ///
    /// # Errors
    /// The request does not fit the image, the picture has another length, or the step is not below the steps.
    pub fn begin_from(&mut self, request: &Request, picture: &[u8], start_step: u16) -> Result<(), RequestError> {
        let _ = (request, picture, start_step);
        Ok(())
    }

    /// Runs the rest of the current denoising step.
    pub fn step(&mut self) -> Progress {
        Progress::Done
    }

    /// Runs one operation (some milliseconds on a microcontroller).
    pub fn step_op(&mut self) -> Progress {
        Progress::Done
    }

    /// The part of the step that [`Session::step_op`] runs next; `None` when no run is under way.
    pub fn stage(&self) -> Option<Stage> {
        None
    }

    /// Writes the picture ([`Model::output_bytes`] bytes).
    ///
    /// # Errors
    /// Steps are left, or `out` has another length.
    pub fn finish(&mut self, out: &mut [u8]) -> Result<(), RequestError> {
        let expected = self.model.output_bytes();
        if out.len() != expected {
            return Err(RequestError::OutputLength { found: out.len(), expected });
        }
        Ok(())
    }
}
