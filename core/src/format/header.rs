//! The header at offset 0 and its section table.

use super::bytes::{put, u16_at, u32_at};
use super::crc::crc32c_append;
use super::limits::{MAX_FILE_BYTES, MAX_SECTIONS};
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};

/// First eight bytes of every student image.
pub const MAGIC: [u8; 8] = *b"fewstep\0";
/// A reader rejects any other major version.
pub const VERSION_MAJOR: u16 = 1;
/// A higher minor version adds optional sections only.
pub const VERSION_MINOR: u16 = 0;
/// Bytes of the header without the section table.
pub const HEADER_LEN: usize = 32;
/// Bytes of a record of the section table.
pub const SECTION_LEN: usize = 16;
/// Sections whose kind has this bit may be skipped by readers that do not know them.
pub const OPTIONAL: u32 = 0x8000_0000;

/// Kinds of sections.
pub mod kind {
    /// One info record.
    pub const INFO: u32 = 1;
    /// Operation records in execution order.
    pub const OPS: u32 = 2;
    /// The memory plan: buffer records.
    pub const BUFFERS: u32 = 3;
    /// Tensor records.
    pub const TENSORS: u32 = 4;
    /// Per-step rows.
    pub const STEPS: u32 = 5;
    /// Tensor values.
    pub const DATA: u32 = 6;
    /// Key and value strings.
    pub const PROVENANCE: u32 = 7;
    /// How a picture is enlarged, band by band; only images that enlarge have it.
    pub const BANDS: u32 = 8;
    /// Names of the operations, in order.
    pub const NAMES: u32 = super::OPTIONAL | 1;
}

mod field {
    pub const MAGIC: usize = 0;
    pub const MAJOR: usize = 8;
    pub const MINOR: usize = 10;
    pub const SECTIONS: usize = 12;
    pub const FILE_BYTES: usize = 16;
    pub const CRC: usize = 28;
}

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRepr {
    /// Format version of the file (major, minor).
    pub version: (u16, u16),
    /// Number of records in the section table.
    pub sections: u16,
    /// Bytes of the whole file.
    pub file_bytes: u32,
}

impl HeaderRepr {
    /// Reads and checks the header and its checksum. Returns it with the section table.
    ///
    /// # Errors
    /// Too short, another magic or version, a count or length out of range, a wrong checksum.
    pub fn parse(file: &[u8]) -> Result<(Self, &[[u8; SECTION_LEN]]), ParseError> {
        let fail = |problem| Err(ParseError::new(Place::Header, problem));
        let have = file.len();
        let Some((header, rest)) = file.split_first_chunk::<HEADER_LEN>() else {
            return fail(Problem::TooShort { need: HEADER_LEN, have });
        };
        if header[field::MAGIC..field::MAJOR] != MAGIC {
            return fail(Problem::BadMagic);
        }
        let version = (u16_at(header, field::MAJOR), u16_at(header, field::MINOR));
        if version.0 != VERSION_MAJOR {
            return fail(Problem::Version { found: version.0, known: VERSION_MAJOR });
        }
        let sections = u16_at(header, field::SECTIONS);
        if sections == 0 || sections > MAX_SECTIONS {
            let found = u64::from(sections);
            return fail(Problem::OutOfRange { what: "number of sections", found, min: 1, max: MAX_SECTIONS.into() });
        }
        let table_bytes = usize::from(sections) * SECTION_LEN;
        let Some(table) = rest.get(..table_bytes) else {
            return fail(Problem::TooShort { need: HEADER_LEN + table_bytes, have });
        };
        let stored = u32_at(header, field::CRC);
        let computed = checksum(header, table);
        if stored != computed {
            return fail(Problem::Crc { stored, computed });
        }
        let file_bytes = u32_at(header, field::FILE_BYTES);
        if file_bytes > MAX_FILE_BYTES {
            let (found, max) = (u64::from(file_bytes), u64::from(MAX_FILE_BYTES));
            return fail(Problem::OutOfRange { what: "file length", found, min: 0, max });
        }
        Ok((Self { version, sections, file_bytes }, table.as_chunks().0))
    }

    /// Writes the header, with the checksum over itself and `table`.
    pub fn emit(&self, table: &[u8], out: &mut [u8; HEADER_LEN]) {
        out.fill(0);
        put(out, field::MAGIC, &MAGIC);
        put(out, field::MAJOR, &self.version.0.to_le_bytes());
        put(out, field::MINOR, &self.version.1.to_le_bytes());
        put(out, field::SECTIONS, &self.sections.to_le_bytes());
        put(out, field::FILE_BYTES, &self.file_bytes.to_le_bytes());
        let crc = checksum(out, table);
        put(out, field::CRC, &crc.to_le_bytes());
    }
}

/// CRC-32C of the header before its checksum field, then the section table.
fn checksum(header: &[u8; HEADER_LEN], table: &[u8]) -> u32 {
    crc32c_append(crc32c_append(0, &header[..field::CRC]), table)
}

/// A record of the section table. Sections follow each other without gaps, each a multiple of 16 bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRepr {
    /// One of [`kind`].
    pub kind: u32,
    /// First byte, from the start of the file.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// CRC-32C of these bytes.
    pub crc: u32,
}

impl SectionRepr {
    /// Reads and checks a record; `expected` is the offset at which the section must start.
    ///
    /// # Errors
    /// A gap, an overlap, or a length that is not a multiple of 16.
    pub fn parse(record: &[u8; SECTION_LEN], expected: u32) -> Result<Self, ParseError> {
        let section = Self {
            kind: u32_at(record, 0),
            offset: u32_at(record, 4),
            len: u32_at(record, 8),
            crc: u32_at(record, 12),
        };
        let fail = |problem| Err(ParseError::new(Place::Section(section.kind), problem));
        if section.offset != expected {
            let (expected, found) = (u64::from(expected), u64::from(section.offset));
            return fail(Problem::Mismatch { what: "offset", expected, found });
        }
        if !section.len.is_multiple_of(IMAGE_ALIGN as u32) {
            let found = u64::from(section.len);
            return fail(Problem::Mismatch { what: "length", expected: found.next_multiple_of(16), found });
        }
        Ok(section)
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; SECTION_LEN]) {
        put(out, 0, &self.kind.to_le_bytes());
        put(out, 4, &self.offset.to_le_bytes());
        put(out, 8, &self.len.to_le_bytes());
        put(out, 12, &self.crc.to_le_bytes());
    }
}
