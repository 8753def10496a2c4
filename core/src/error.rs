//! Everything that can go wrong, typed: a file ([`ParseError`]), the memory given ([`ArenaError`]), a request
//! ([`RequestError`]). Each message says what, where, and what was expected.

use core::fmt;

use crate::format::info::Direction;

/// Why bytes are not a usable student image: where, and what is wrong there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ParseError {
    /// The part of the file that is wrong.
    pub place: Place,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A part of a student image. Indices count records of that section from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Place {
    /// The byte slice as a whole.
    File,
    /// The fixed header at offset 0.
    Header,
    /// A section, by its kind number (see `docs/format.md`).
    Section(u32),
    /// A field of the info section.
    Info,
    /// A record of the ops section.
    Op(usize),
    /// A record of the buffers section (the memory plan).
    Buffer(usize),
    /// A record of the tensors section, or its values.
    Tensor(usize),
    /// A row of the steps section.
    Step(usize),
    /// The parameters of operation `op` at step `step`.
    StepOp {
        /// Row of the steps section.
        step: usize,
        /// Record of the ops section.
        op: usize,
    },
    /// A record of the provenance section.
    Provenance(usize),
}

/// What is wrong at a [`Place`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Problem {
    /// Fewer bytes than needed.
    TooShort {
        /// Bytes needed.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// The bytes do not start at a multiple of 16 in memory: copy them, or place them with [`Aligned`](crate::Aligned).
    NotAligned {
        /// Alignment needed in bytes.
        need: usize,
    },
    /// Not a student image.
    BadMagic,
    /// A format version this reader does not know.
    Version {
        /// Major version of the file.
        found: u16,
        /// Major version this reader knows.
        known: u16,
    },
    /// The stored checksum does not fit the bytes: the file is damaged.
    Crc {
        /// CRC-32C in the file.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// A value outside its allowed range.
    OutOfRange {
        /// The value's name.
        what: &'static str,
        /// The value found.
        found: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// A value that disagrees with another part of the file.
    Mismatch {
        /// The value's name.
        what: &'static str,
        /// The value that would fit.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// An enumeration value this reader does not know.
    Unknown {
        /// The enumeration's name.
        what: &'static str,
        /// The value found.
        found: u32,
    },
    /// A form of weights that this program was built without.
    LeftOut {
        /// The core's cargo feature that has it.
        feature: &'static str,
    },
    /// A number that is not finite, or outside the range in which the arithmetic is defined.
    BadNumber {
        /// The number's name.
        what: &'static str,
        /// The number found.
        found: f32,
    },
    /// Two parts that must not share bytes do.
    Overlap {
        /// Index of the other part.
        with: usize,
    },
    /// A part that must be there exactly once is missing or there twice.
    Count {
        /// The part's name.
        what: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A buffer is read before anything was written to it, or used outside its live range.
    NotLive {
        /// The buffer's index.
        buffer: usize,
    },
    /// Text that is not UTF-8.
    NotUtf8,
}

impl ParseError {
    pub(crate) const fn new(place: Place, problem: Problem) -> Self {
        Self { place, problem }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Place::File => f.write_str("student image"),
            Place::Header => f.write_str("header"),
            Place::Section(kind) => write!(f, "section of kind {kind}"),
            Place::Info => f.write_str("info section"),
            Place::Op(i) => write!(f, "op {i}"),
            Place::Buffer(i) => write!(f, "buffer {i}"),
            Place::Tensor(i) => write!(f, "tensor {i}"),
            Place::Step(i) => write!(f, "step {i}"),
            Place::StepOp { step, op } => write!(f, "parameters of op {op} at step {step}"),
            Place::Provenance(i) => write!(f, "provenance record {i}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Problem::TooShort { need, have } => write!(f, "needs {need} bytes, has {have}"),
            Problem::NotAligned { need } => {
                write!(f, "must start at a multiple of {need} bytes in memory; copy it to an aligned place")
            }
            Problem::BadMagic => f.write_str("does not start with the .fsw magic"),
            Problem::Version { found, known } => {
                write!(f, "has format version {found}, this reader knows {known}; export it again")
            }
            Problem::Crc { stored, computed } => {
                write!(f, "is damaged: checksum {stored:08x} stored, {computed:08x} computed")
            }
            Problem::OutOfRange { what, found, min, max } => {
                write!(f, "{what} is {found}, allowed are {min} to {max}")
            }
            Problem::Mismatch { what, expected, found } => write!(f, "{what} is {found}, expected {expected}"),
            Problem::Unknown { what, found } => write!(f, "unknown {what} {found}"),
            Problem::LeftOut { feature } => {
                write!(f, "has a form of weights for which fewstep-core needs its feature `{feature}`")
            }
            Problem::BadNumber { what, found } => write!(f, "{what} is {found}, which is not usable"),
            Problem::Overlap { with } => write!(f, "shares bytes with number {with}"),
            Problem::Count { what, found } => write!(f, "has {found} of {what}, expected 1"),
            Problem::NotLive { buffer } => write!(f, "uses buffer {buffer}, which holds no value there"),
            Problem::NotUtf8 => f.write_str("is not UTF-8 text"),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl core::error::Error for ParseError {}

/// Why memory cannot serve as a session's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ArenaError {
    /// Fewer bytes than [`Model::arena_bytes`](crate::Model::arena_bytes).
    TooSmall {
        /// Bytes needed.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// The memory does not start at a multiple of 16 bytes; use [`Arena`](crate::Arena).
    NotAligned {
        /// Alignment needed in bytes.
        need: usize,
    },
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ArenaError::TooSmall { need, have } => {
                write!(f, "arena of {have} bytes is too small, this image needs {need}")
            }
            ArenaError::NotAligned { need } => {
                write!(f, "arena must start at a multiple of {need} bytes; use fewstep_core::Arena")
            }
        }
    }
}

impl core::error::Error for ArenaError {}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RequestError {
    /// The class is not below the image's number of classes.
    Class {
        /// Class asked for.
        found: u16,
        /// Number of classes.
        classes: u16,
    },
    /// The guidance strength is not a number within the range the student was trained for.
    Guidance {
        /// Strength asked for.
        found: f32,
        /// Smallest allowed.
        min: f32,
        /// Largest allowed.
        max: f32,
    },
    /// The number of steps does not divide the image's own.
    Steps {
        /// Steps asked for.
        found: u16,
        /// Steps of the image.
        image: u16,
    },
    /// The first step is not below the number of steps.
    StartStep {
        /// First step asked for.
        found: u16,
        /// Steps of this request.
        steps: u16,
    },
    /// The output slice has not exactly [`Model::output_bytes`](crate::Model::output_bytes) bytes.
    OutputLength {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The output slice has not exactly [`Model::row_bytes`](crate::Model::row_bytes) bytes.
    RowLength {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The picture has no such row.
    Row {
        /// Row asked for.
        found: u16,
        /// Rows of the picture.
        height: u16,
    },
    /// The start picture has not exactly [`Model::output_bytes`](crate::Model::output_bytes) bytes.
    PictureLength {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The noise has not exactly [`Model::output_bytes`](crate::Model::output_bytes) values.
    NoiseLength {
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
    /// The image goes the other way: an encoder cannot draw, a student that draws cannot encode.
    Direction {
        /// The image's way.
        image: Direction,
    },
    /// The mask has not exactly one byte a pixel.
    MaskLength {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// Passes of a step are not between 1 and [`MAX_PASSES`](crate::MAX_PASSES).
    Passes {
        /// Passes asked for.
        found: u16,
    },
    /// The share of the way from one picture to another is not a number from 0 to 1.
    Share {
        /// Share asked for.
        found: f32,
    },
    /// The image enlarges pictures and draws none from noise alone: [`Session::begin_enlarge`](crate::Session::begin_enlarge).
    NeedsBase,
    /// The image draws pictures and enlarges none.
    NoEnlarger,
    /// `finish` before the last step was done (`step` of `steps`; 0 of 0 when nothing was begun).
    NotFinished {
        /// Steps done.
        step: u16,
        /// Steps of the request.
        steps: u16,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RequestError::Class { found, classes } => {
                write!(
                    f,
                    "class {found} is not one of the image's {classes} classes (0 to {})",
                    classes.saturating_sub(1)
                )
            }
            RequestError::Guidance { found, min, max } => {
                write!(f, "guidance strength w = {found} is outside the image's range {min} to {max}")
            }
            RequestError::Steps { found, image } => {
                write!(f, "{found} steps do not divide the image's {image}; 0 asks for all of them")
            }
            RequestError::StartStep { found, steps } => {
                write!(f, "start step {found} is not below the request's {steps} steps")
            }
            RequestError::OutputLength { found, expected } => {
                write!(f, "output holds {found} bytes, a picture has {expected}")
            }
            RequestError::RowLength { found, expected } => {
                write!(f, "output holds {found} bytes, a row has {expected}")
            }
            RequestError::Row { found, height } => {
                write!(f, "row {found} is not one of the picture's {height} rows (0 to {})", height.saturating_sub(1))
            }
            RequestError::PictureLength { found, expected } => {
                write!(f, "start picture has {found} bytes, expected {expected}")
            }
            RequestError::NoiseLength { found, expected } => {
                write!(f, "noise has {found} values, expected {expected}")
            }
            RequestError::Direction { image: Direction::ToPicture } => f.write_str(
                "the image draws pictures from noise; finding the noise of a picture takes an encoder image",
            ),
            RequestError::Direction { image: Direction::ToNoise } => {
                f.write_str("the image is an encoder, from pictures to noise; drawing takes a student image")
            }
            RequestError::MaskLength { found, expected } => {
                write!(f, "mask has {found} bytes, expected {expected}: one a pixel")
            }
            RequestError::Passes { found } => {
                write!(f, "{found} passes of a step, allowed are 1 to {}", crate::MAX_PASSES)
            }
            RequestError::Share { found } => write!(f, "share {found} of the way is not between 0 and 1"),
            RequestError::NeedsBase => f.write_str("this image enlarges pictures: begin with the picture to enlarge"),
            RequestError::NoEnlarger => f.write_str("this image draws pictures and enlarges none"),
            RequestError::NotFinished { step, steps } => {
                write!(f, "finish after {step} of {steps} steps; begin and step until Progress::Done first")
            }
        }
    }
}

impl core::error::Error for RequestError {}
