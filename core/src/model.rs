//! A checked student image.

use crate::error::{ParseError, Place, Problem};
use crate::format::info::Profile;

/// What an image says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Info {
    /// Format version (major, minor).
    pub version: (u16, u16),
    /// Picture height in pixels.
    pub height: u16,
    /// Picture width in pixels.
    pub width: u16,
    /// Picture channels, interleaved.
    pub channels: u16,
    /// Number of classes; a request's class is below it.
    pub classes: u16,
    /// Denoising steps N.
    pub steps: u16,
    /// Smallest guidance strength the student was trained for.
    pub w_min: f32,
    /// Largest guidance strength the student was trained for.
    pub w_max: f32,
    /// Multiply-accumulates of one step: convolutions, attention and embedding.
    pub macs_per_step: u64,
    /// The machine the weights are laid out for.
    pub profile: Profile,
    /// Bytes of the whole image.
    pub file_bytes: u32,
    /// Bytes of memory a session needs.
    pub arena_bytes: u32,
}

/// A student image in which everything was checked: using it cannot fail.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    bytes: &'a [u8],
    info: Info,
}

impl<'a> Model<'a> {
    /// Checks `bytes` (16-byte aligned, used in place; trailing bytes after the image are ignored).
    ///
    /// # Errors
    /// Any deviation from the format, with its place.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Err(ParseError::new(Place::File, Problem::TooShort { need: 32, have: bytes.len() }))
    }

    /// Shape, classes, steps, ranges.
    pub fn info(&self) -> Info {
        self.info
    }

    /// Bytes of memory a [`Session`](crate::Session) needs, 16-byte aligned.
    pub fn arena_bytes(&self) -> usize {
        self.info.arena_bytes as usize
    }

    /// Bytes of a picture: height x width x channels.
    pub fn output_bytes(&self) -> usize {
        usize::from(self.info.height) * usize::from(self.info.width) * usize::from(self.info.channels)
    }

    /// Number of operations of one network evaluation.
    pub fn op_count(&self) -> usize {
        self.bytes.len() * 0
    }

    /// Where the image comes from: key and value strings such as `teacher`, `run`.
    pub fn provenance(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        core::iter::empty()
    }
}
