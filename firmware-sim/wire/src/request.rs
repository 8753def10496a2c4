//! The request: what to draw, at a fixed place in flash.

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::crc::Crc32c;

const MAGIC: u32 = u32::from_le_bytes(*b"FSRQ");
const VERSION: u16 = 2;

/// How a step moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// Straight to the next angle.
    #[default]
    Deterministic,
    /// Twice as far, then noise back.
    Stochastic,
}

/// What is done with seed and class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Task {
    /// A picture from noise.
    #[default]
    Sample,
    /// A picture from the attached one, noised to the angle of a step.
    Edit {
        /// First step.
        start_step: u16,
    },
    /// The attached picture, drawn anew where the attached mask says so.
    Inpaint {
        /// First step.
        start_step: u16,
        /// Passes of each step.
        passes: u16,
    },
    /// A picture between two.
    Morph {
        /// Noise of the second.
        seed: u64,
        /// Class of the second.
        class: u16,
        /// Share of the way.
        at: f32,
    },
    /// The attached picture, of one class, drawn as the request's: the encoder image behind the student's finds its
    /// noise.
    Restyle {
        /// Class that the picture has.
        class: u16,
        /// Guidance strength of encoding.
        w: f32,
    },
    /// The attached picture at twice its size, by an image that enlarges.
    Enlarge,
}

/// Bytes that lie in flash before the request: a picture, then a mask of a byte a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// How many; they end at the request, rounded up to a multiple of 16 bytes.
    pub bytes: u32,
    /// CRC-32C of them.
    pub crc: u32,
}

impl Attached {
    /// Bytes of flash that they take.
    pub const fn room(&self) -> u32 {
        self.bytes.saturating_add(15) & !15
    }
}

/// What to draw.
///
/// ```text
///  0  magic "FSRQ"   4  version u16   6  sampler u16   8  seed u64
/// 16  class u16     18  steps u16    20  w f32        24  task u16   26  start step u16   28  passes u16
/// 30  other class u16   32  other seed u64   40  share or other w f32   44  attached bytes u32   48  CRC-32C of them
/// 52  zero, 8 bytes     60  CRC-32C of the first 60
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    /// The noise.
    pub seed: u64,
    /// The class.
    pub class: u16,
    /// Guidance strength.
    pub w: f32,
    /// Denoising steps, 0 = the image's own.
    pub steps: u16,
    /// Deterministic or stochastic.
    pub sampler: Sampler,
    /// What is done.
    pub task: Task,
    /// The picture and mask that it needs.
    pub attached: Attached,
}

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not a request, or fewer than [`Request::BYTES`] bytes.
    NotARequest,
    /// Written by another version.
    Version(u16),
    /// The checksum does not fit.
    Crc,
    /// No such sampler.
    Sampler(u16),
    /// No such task.
    Task(u16),
}

impl Request {
    /// Size in flash.
    pub const BYTES: usize = 64;

    /// The bytes to place in flash.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut writer = Writer(&mut bytes);
        writer.put(&MAGIC.to_le_bytes());
        writer.put(&VERSION.to_le_bytes());
        writer.put(&(self.sampler as u16).to_le_bytes());
        writer.put(&self.seed.to_le_bytes());
        writer.put(&self.class.to_le_bytes());
        writer.put(&self.steps.to_le_bytes());
        writer.put(&self.w.to_le_bytes());
        let (task, start_step, passes, class, seed, at) = match self.task {
            Task::Sample => (0u16, 0u16, 0u16, 0u16, 0u64, 0.0f32),
            Task::Edit { start_step } => (1, start_step, 0, 0, 0, 0.0),
            Task::Inpaint { start_step, passes } => (2, start_step, passes, 0, 0, 0.0),
            Task::Morph { seed, class, at } => (3, 0, 0, class, seed, at),
            Task::Restyle { class, w } => (5, 0, 0, class, 0, w),
            Task::Enlarge => (4, 0, 0, 0, 0, 0.0),
        };
        for value in [task, start_step, passes, class] {
            writer.put(&value.to_le_bytes());
        }
        writer.put(&seed.to_le_bytes());
        writer.put(&at.to_le_bytes());
        writer.put(&self.attached.bytes.to_le_bytes());
        writer.put(&self.attached.crc.to_le_bytes());
        let crc = Crc32c::new().update(&bytes[..60]).value();
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`Request::emit`] wrote.
    ///
    /// # Errors
    /// The bytes are not a request of this version, or are damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let bytes: &[u8; Self::BYTES] = bytes.first_chunk().ok_or(RequestError::NotARequest)?;
        let mut reader = Reader(bytes);
        let mut read = || {
            let magic = reader.u32()?;
            let version = reader.u16()?;
            let sampler = reader.u16()?;
            let seed = reader.u64()?;
            let (class, steps, w) = (reader.u16()?, reader.u16()?, reader.f32()?);
            let (task, start_step, passes) = (reader.u16()?, reader.u16()?, reader.u16()?);
            let other = (reader.u16()?, reader.u64()?, reader.f32()?);
            let attached = Attached { bytes: reader.u32()?, crc: reader.u32()? };
            let known = match task {
                0 => Ok(Task::Sample),
                1 => Ok(Task::Edit { start_step }),
                2 => Ok(Task::Inpaint { start_step, passes }),
                3 => Ok(Task::Morph { class: other.0, seed: other.1, at: other.2 }),
                5 => Ok(Task::Restyle { class: other.0, w: other.2 }),
                4 => Ok(Task::Enlarge),
                unknown => Err(unknown),
            };
            let request = Self { seed, class, steps, w, sampler: Sampler::Deterministic, task: Task::Sample, attached };
            Some((magic, version, sampler, known, request))
        };
        let (magic, version, sampler, task, request) = read().ok_or(RequestError::NotARequest)?;
        if magic != MAGIC {
            return Err(RequestError::NotARequest);
        }
        if version != VERSION {
            return Err(RequestError::Version(version));
        }
        let (body, crc) = bytes.split_at(60);
        if Crc32c::new().update(body).value().to_le_bytes() != crc {
            return Err(RequestError::Crc);
        }
        let sampler = match sampler {
            0 => Sampler::Deterministic,
            1 => Sampler::Stochastic,
            other => return Err(RequestError::Sampler(other)),
        };
        let task = task.map_err(RequestError::Task)?;
        Ok(Self { sampler, task, ..request })
    }
}

impl RequestError {
    /// What is wrong, without the numbers: for a firmware that formats nothing.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotARequest => "there is no request",
            Self::Version(_) => "the request is of another version",
            Self::Crc => "the request is damaged",
            Self::Sampler(_) => "the request names an unknown sampler",
            Self::Task(_) => "the request names an unknown task",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request {
        seed: 0x0123_4567_89ab_cdef,
        class: 7,
        w: 1.5,
        steps: 2,
        sampler: Sampler::Stochastic,
        task: Task::Morph { seed: 0xfedc_ba98_7654_3210, class: 3, at: 0.25 },
        attached: Attached { bytes: 785, crc: 0x1234_5678 },
    };

    #[test]
    fn comes_back() {
        for task in [
            REQUEST.task,
            Task::Sample,
            Task::Edit { start_step: 3 },
            Task::Inpaint { start_step: 1, passes: 5 },
            Task::Restyle { class: 6, w: 0.5 },
            Task::Enlarge,
        ] {
            let request = Request { task, ..REQUEST };
            assert_eq!(Request::parse(&request.emit()), Ok(request));
        }
        assert_eq!(REQUEST.attached.room(), 800);
    }

    #[test]
    fn unknown_tasks_are_refused() {
        let mut bytes = REQUEST.emit();
        bytes[24] = 9;
        let crc = Crc32c::new().update(&bytes[..60]).value();
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Request::parse(&bytes), Err(RequestError::Task(9)));
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        let bytes = REQUEST.emit();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Request::parse(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(Request::parse(&bytes[..63]), Err(RequestError::NotARequest));
        assert_eq!(Request::parse(&[0xff; 64]), Err(RequestError::NotARequest));
    }
}
