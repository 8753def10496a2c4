//! The request: what to draw, at a fixed place in flash.

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::crc::Crc32c;

const MAGIC: u32 = u32::from_le_bytes(*b"FSRQ");
const VERSION: u16 = 1;

/// How a step moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// Straight to the next angle.
    #[default]
    Deterministic,
    /// Twice as far, then noise back.
    Stochastic,
}

/// What to draw.
///
/// ```text
///  0  magic "FSRQ"   4  version u16   6  sampler u16   8  seed u64
/// 16  class u16     18  steps u16    20  w f32        24  zero, 36 bytes   60  CRC-32C of the first 60
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
            let request = Self {
                seed,
                class: reader.u16()?,
                steps: reader.u16()?,
                w: reader.f32()?,
                sampler: Sampler::Deterministic,
            };
            Some((magic, version, sampler, request))
        };
        let (magic, version, sampler, request) = read().ok_or(RequestError::NotARequest)?;
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
        Ok(Self { sampler, ..request })
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

    const REQUEST: Request =
        Request { seed: 0x0123_4567_89ab_cdef, class: 7, w: 1.5, steps: 2, sampler: Sampler::Stochastic };

    #[test]
    fn comes_back() {
        assert_eq!(Request::parse(&REQUEST.emit()), Ok(REQUEST));
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
