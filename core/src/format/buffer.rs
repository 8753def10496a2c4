//! The buffers section: the memory plan.

use core::ops::Range;

use super::bytes::{put, u16_at, u32_at};
use super::limits::{MAX_CHANNELS, MAX_FILM, MAX_SIDE};
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};

/// Bytes of a buffer record.
pub const BUFFER_LEN: usize = 16;

/// Element types, of buffers and tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    /// Signed bytes.
    I8 = 1,
    /// Signed 16-bit integers.
    I16 = 2,
    /// IEEE binary32.
    F32 = 3,
}

impl Element {
    pub(super) fn parse(byte: u8, place: Place) -> Result<Self, ParseError> {
        match byte {
            1 => Ok(Self::I8),
            2 => Ok(Self::I16),
            3 => Ok(Self::F32),
            other => Err(ParseError::new(place, Problem::Unknown { what: "element type", found: other.into() })),
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        // 1, 2, 4.
        1 << (self as u8 - 1)
    }
}

/// A buffer: its place in the arena, its shape, and the stages during which it holds a value.
///
/// Stage 0 is the embedding, stage 1 + i is operation i, the last stage is the sampler's update of z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferRepr {
    /// First byte in the arena, a multiple of 16.
    pub offset: u32,
    /// First stage that writes it.
    pub first: u16,
    /// Last stage that uses it.
    pub last: u16,
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Channels, innermost.
    pub channels: u16,
    /// Type of its elements.
    pub element: Element,
}

impl BufferRepr {
    /// Reads record number `index` and checks it by itself. `stages` is the number of stages.
    ///
    /// # Errors
    /// A dimension, offset or stage out of range.
    pub fn parse(record: &[u8; BUFFER_LEN], index: usize, stages: u16) -> Result<Self, ParseError> {
        let place = Place::Buffer(index);
        let buffer = Self {
            offset: u32_at(record, 0),
            first: u16_at(record, 4),
            last: u16_at(record, 6),
            height: u16_at(record, 8),
            width: u16_at(record, 10),
            channels: u16_at(record, 12),
            element: Element::parse(record[14], place)?,
        };
        // Vectors (film, scores) may be longer than a picture has channels.
        let row = buffer.height == 1 && buffer.width == 1;
        let ranges = [
            ("height", buffer.height, 1, MAX_SIDE),
            ("width", buffer.width, 1, MAX_SIDE),
            ("channels", buffer.channels, 1, if row { MAX_FILM } else { MAX_CHANNELS }),
            ("last stage", buffer.last, buffer.first, stages.saturating_sub(1)),
            ("reserved field", record[15].into(), 0, 0),
        ];
        for (what, found, min, max) in ranges {
            if found < min || found > max {
                let (found, min, max) = (found.into(), min.into(), max.into());
                return Err(ParseError::new(place, Problem::OutOfRange { what, found, min, max }));
            }
        }
        if !buffer.offset.is_multiple_of(IMAGE_ALIGN as u32) {
            let found = u64::from(buffer.offset);
            let expected = found.next_multiple_of(IMAGE_ALIGN as u64);
            return Err(ParseError::new(place, Problem::Mismatch { what: "offset", expected, found }));
        }
        Ok(buffer)
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; BUFFER_LEN]) {
        out.fill(0);
        put(out, 0, &self.offset.to_le_bytes());
        put(out, 4, &self.first.to_le_bytes());
        put(out, 6, &self.last.to_le_bytes());
        put(out, 8, &self.height.to_le_bytes());
        put(out, 10, &self.width.to_le_bytes());
        put(out, 12, &self.channels.to_le_bytes());
        out[14] = self.element as u8;
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.cells() * u64::from(self.channels)
    }

    /// Whether it has no elements (never, for a parsed one).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// height * width.
    pub fn cells(&self) -> u64 {
        (u32::from(self.height) * u32::from(self.width)).into()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.len() * self.element.bytes()
    }

    /// First byte after it in the arena.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + self.bytes()
    }

    /// Its bytes in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..self.end() as usize
    }

    /// Whether both hold values at some common stage.
    pub fn lives_with(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the bytes in the arena intersect.
    pub fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.offset) < other.end() && u64::from(other.offset) < self.end()
    }

    /// (height, width, channels).
    pub const fn shape(&self) -> (u16, u16, u16) {
        (self.height, self.width, self.channels)
    }
}
