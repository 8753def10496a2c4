//! A checked student image.

use crate::error::ParseError;
use crate::format::info::{Direction, Normalisation, Profile};
use crate::format::{Image, OpRepr, check};
use crate::sampler::picture::Geometry;

/// What an image says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Info {
    /// Format version (major, minor).
    pub version: (u16, u16),
    /// Height in pixels of what noise becomes: the picture, or, where one is enlarged, its details before that.
    pub height: u16,
    /// Width of the same.
    pub width: u16,
    /// Channels of the same, interleaved; three details for every channel of a picture that is enlarged.
    pub channels: u16,
    /// Meaning of a pixel's byte.
    pub normalisation: Normalisation,
    /// Number of classes; a request's class is below it.
    pub classes: u16,
    /// Steps N.
    pub steps: u16,
    /// Which way they go: a student draws, an encoder finds the noise of a picture.
    pub direction: Direction,
    /// Smallest guidance strength the student was trained for.
    pub w_min: f32,
    /// Largest guidance strength the student was trained for.
    pub w_max: f32,
    /// Multiply-accumulates of one step: convolutions, attention and embedding.
    pub macs_per_step: u64,
    /// Operations of one step, without embedding and update.
    pub ops: u16,
    /// The machine the weights are laid out for.
    pub profile: Profile,
    /// Bytes of the whole image.
    pub file_bytes: u32,
    /// Bytes of memory a session needs.
    pub arena_bytes: u32,
    /// Bytes of the buffers that live at the stage with the most.
    pub peak_bytes: u32,
    /// That stage: 0 = embedding, 1 + i = operation i, then the update.
    pub peak_stage: u16,
    /// Bytes of the arena granted to kernels as scratch.
    pub scratch_bytes: u32,
}

/// A student image in which everything was checked: using it cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    image: Image<'a>,
}

impl<'a> Model<'a> {
    /// Checks `bytes` (16-byte aligned, used in place; bytes after the image's end are ignored).
    ///
    /// # Errors
    /// Any deviation from the format, with its place.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let model = Self { image: Image::parse(bytes)? };
        check::check(&model.image)?;
        Ok(model)
    }

    /// Shape, classes, steps, ranges, cost.
    pub fn info(&self) -> Info {
        let (info, header) = (self.image.info(), self.image.header());
        Info {
            version: header.version,
            height: info.height,
            width: info.width,
            channels: info.channels,
            normalisation: info.normalisation,
            classes: info.classes,
            steps: info.steps,
            direction: info.direction,
            w_min: info.w_min,
            w_max: info.w_max,
            macs_per_step: info.macs_per_step,
            ops: info.counts.ops,
            profile: info.profile,
            file_bytes: header.file_bytes,
            arena_bytes: info.arena_bytes,
            peak_bytes: info.peak_bytes,
            peak_stage: info.peak_stage,
            scratch_bytes: info.scratch_bytes,
        }
    }

    /// Bytes of memory a [`Session`](crate::Session) needs, 16-byte aligned.
    pub fn arena_bytes(&self) -> usize {
        self.image.info().arena_bytes as usize
    }

    /// Height, width and channels of the pictures it makes: the image's own, or twice the base's.
    pub fn output_shape(&self) -> (usize, usize, usize) {
        let info = self.image.info();
        match self.image.bands() {
            Some(bands) => (2 * usize::from(info.height), 2 * usize::from(info.width), bands.base_channels.into()),
            None => (info.height.into(), info.width.into(), info.channels.into()),
        }
    }

    /// Bytes of a picture: height x width x channels.
    pub fn output_bytes(&self) -> usize {
        let (height, width, channels) = self.output_shape();
        height * width * channels
    }

    /// Bytes of the picture that it enlarges, height x width x channels; none where it draws from noise alone.
    pub fn base_bytes(&self) -> Option<usize> {
        self.image.bands().map(|_| self.output_bytes() / 4)
    }

    /// Bytes of a row of the picture: width x channels.
    pub fn row_bytes(&self) -> usize {
        let (_, width, channels) = self.output_shape();
        width * channels
    }

    /// Number of operations of one network evaluation, without embedding and update.
    pub fn op_count(&self) -> usize {
        self.image.info().counts.ops.into()
    }

    /// Operation `index`, below [`Model::op_count`].
    pub fn op(&self, index: usize) -> Option<OpRepr> {
        self.image.op(index).ok()
    }

    /// Name of operation `index`, where the image has names.
    pub fn op_name(&self, index: usize) -> Option<&'a str> {
        self.image.op_name(index)
    }

    /// Multiply-accumulates of operation `index`.
    pub fn op_macs(&self, index: usize) -> u64 {
        self.image.op_macs(index)
    }

    /// Where the image comes from: key and value strings such as `teacher`, `run`.
    pub fn provenance(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.image.provenance()
    }

    /// The sections and records underneath.
    pub fn image(&self) -> &Image<'a> {
        &self.image
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let info = self.image.info();
        Geometry {
            height: info.height.into(),
            width: info.width.into(),
            channels: info.channels.into(),
            patch: info.patch.into(),
        }
    }
}
