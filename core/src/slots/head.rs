//! The records at the start of a slot. Each is written once, by one write, and has a checksum of its own.
//!
//! A slot is claimed by one record of 128 bytes. What happens to it afterwards is a row of cells, each for one event:
//! the image is complete, a trial boot started, the firmware confirmed it, so many bytes have arrived. A cell carries
//! the checksum of the claim that it belongs to. A cell that a power cut spoilt is skipped; there are several of each.

use core::ops::Range;

use super::error::ManifestError;
use crate::format::crc::crc32c;
use crate::part::part_mut;

/// Bytes of the head; the image follows.
pub const HEAD_BYTES: usize = 1024;
/// Bytes of a [`Manifest`].
pub const MANIFEST_BYTES: usize = 96;
/// Largest write size of a flash.
pub const MAX_WORD: usize = 64;
/// Bytes of a claim.
pub const CLAIM_BYTES: usize = 128;
/// Where the cells start.
pub const CELLS_AT: usize = CLAIM_BYTES;
/// Bytes of a cell; a flash with longer words takes one word for each.
pub const CELL_BYTES: usize = 16;
/// First four bytes of a manifest.
pub const MAGIC: [u8; 4] = *b"FSU\x01";

/// What flash holds after an erase.
pub(super) const BLANK: u8 = 0xff;
/// The first cell of the marks of progress; they go on to the end of the head.
pub(super) const FIRST_MARK: usize = 7;

/// Bytes from one cell to the next.
pub(super) const fn pitch(write_size: usize) -> usize {
    if write_size > CELL_BYTES { write_size } else { CELL_BYTES }
}

/// Number of cells.
pub(super) const fn cells(write_size: usize) -> usize {
    (HEAD_BYTES - CELLS_AT) / pitch(write_size)
}

/// What a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The image is complete and checked: from here on it is the current one.
    Ready,
    /// A boot tried it.
    Trial,
    /// The firmware found it good.
    Confirmed,
    /// So many bytes of it are in flash.
    Mark,
}

impl Event {
    const fn tag(self) -> u32 {
        u32::from_le_bytes(match self {
            Event::Ready => *b"redy",
            Event::Trial => *b"tria",
            Event::Confirmed => *b"conf",
            Event::Mark => *b"mark",
        })
    }

    /// The cells that may say it.
    pub(super) const fn cells(self, write_size: usize) -> Range<usize> {
        match self {
            Event::Ready => 0..2,
            Event::Trial => 2..5,
            Event::Confirmed => 5..FIRST_MARK,
            Event::Mark => FIRST_MARK..cells(write_size),
        }
    }
}

/// What a sender says of an image before its bytes; also the first part of a claim.
///
/// ```text
///         0       2       4       6       8      10      12      14
///    0  | magic "FSU\1" | version       | bytes         | CRC-32C       |
///   16  | signed, 0 or 1| 0             | signature, 64 bytes, or 0 ...
///   80  | ... to byte 87                | 0             | CRC of 0 to 91|
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Given by the maker; higher is newer.
    pub version: u32,
    /// Bytes of the image.
    pub bytes: u32,
    /// CRC-32C of the image.
    pub crc: u32,
    /// Ed25519 signature over the [signed prefix](super::Slots) and the image.
    pub signature: Option<[u8; 64]>,
}

impl Manifest {
    /// Without signature.
    pub fn of(image: &[u8], version: u32) -> Self {
        Self { version, bytes: image.len() as u32, crc: crc32c(image), signature: None }
    }

    /// Reads a manifest from the first [`MANIFEST_BYTES`] bytes.
    ///
    /// # Errors
    /// The bytes are no manifest, or a damaged one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let record: &[u8; MANIFEST_BYTES] = bytes.first_chunk().ok_or(ManifestError::TooShort)?;
        if record[..4] != MAGIC {
            return Err(ManifestError::Magic);
        }
        if crc32c(&record[..92]) != u32_at(record, 92) {
            return Err(ManifestError::Crc);
        }
        let signed = u32_at(record, 16);
        let mut signature = [0; 64];
        signature.copy_from_slice(&record[24..88]);
        if signed > 1 || u32_at(record, 20) != 0 || u32_at(record, 88) != 0 || (signed == 0 && signature != [0; 64]) {
            return Err(ManifestError::Reserved);
        }
        Ok(Self {
            version: u32_at(record, 4),
            bytes: u32_at(record, 8),
            crc: u32_at(record, 12),
            signature: (signed == 1).then_some(signature),
        })
    }

    /// The bytes that [`Manifest::parse`] reads.
    pub fn emit(&self) -> [u8; MANIFEST_BYTES] {
        let mut record = [0; MANIFEST_BYTES];
        record[..4].copy_from_slice(&MAGIC);
        for (at, value) in
            [(4, self.version), (8, self.bytes), (12, self.crc), (16, u32::from(self.signature.is_some()))]
        {
            put(&mut record, at, value);
        }
        if let Some(signature) = &self.signature {
            record[24..88].copy_from_slice(signature);
        }
        let crc = crc32c(&record[..92]);
        put(&mut record, 92, crc);
        record
    }
}

/// The record that takes a slot for an image: a manifest, then 96 number of the update, 100 zeros, 124 CRC-32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub manifest: Manifest,
    /// One more than that of the image before; the newer of two slots wins.
    pub sequence: u32,
}

impl Claim {
    pub(super) fn parse(record: &[u8; CLAIM_BYTES]) -> Option<Self> {
        if crc32c(&record[..124]) != u32_at(record, 124) || record[100..124] != [0; 24] {
            return None;
        }
        Some(Self { manifest: Manifest::parse(record).ok()?, sequence: u32_at(record, 96) })
    }

    pub(super) fn emit(&self) -> [u8; CLAIM_BYTES] {
        let mut record = [0; CLAIM_BYTES];
        record[..MANIFEST_BYTES].copy_from_slice(&self.manifest.emit());
        put(&mut record, 96, self.sequence);
        let crc = crc32c(&record[..124]);
        put(&mut record, 124, crc);
        record
    }

    /// What ties cells to this claim.
    pub(super) fn tag(&self) -> u32 {
        u32_at(&self.emit(), 124)
    }

    /// Whether this update came after `other`; the numbers may wrap.
    pub(super) fn newer(&self, other: &Self) -> bool {
        self.sequence.wrapping_sub(other.sequence) as i32 > 0
    }
}

/// One event: 0 kind, 4 tag of the claim, 8 value, 12 CRC-32C of bytes 0 to 11; blank up to the word's end.
pub(super) fn emit_cell(event: Event, tag: u32, value: u32) -> [u8; MAX_WORD] {
    let mut cell = [BLANK; MAX_WORD];
    for (at, value) in [(0, event.tag()), (4, tag), (8, value)] {
        put(&mut cell, at, value);
    }
    let crc = crc32c(&cell[..12]);
    put(&mut cell, 12, crc);
    cell
}

/// What is in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Blank,
    Says(u32),
    /// Cut while it was written, or of another claim.
    Spoilt,
}

pub(super) fn parse_cell(bytes: &[u8], event: Event, tag: u32) -> Cell {
    if bytes.iter().all(|&b| b == BLANK) {
        return Cell::Blank;
    }
    let Some(record) = bytes.first_chunk::<CELL_BYTES>() else { return Cell::Spoilt };
    if u32_at(record, 12) == crc32c(&record[..12]) && u32_at(record, 0) == event.tag() && u32_at(record, 4) == tag {
        return Cell::Says(u32_at(record, 8));
    }
    Cell::Spoilt
}

/// The head of a slot whose image is complete and confirmed, as a flash tool writes it. `write_size` is the flash's;
/// `None` when no head exists for it.
pub fn confirmed(manifest: &Manifest, sequence: u32, write_size: usize) -> Option<[u8; HEAD_BYTES]> {
    if write_size == 0 || !MAX_WORD.is_multiple_of(write_size) {
        return None;
    }
    let claim = Claim { manifest: *manifest, sequence };
    let mut head = [BLANK; HEAD_BYTES];
    head[..CLAIM_BYTES].copy_from_slice(&claim.emit());
    for event in [Event::Ready, Event::Confirmed] {
        let at = CELLS_AT + event.cells(write_size).start * pitch(write_size);
        head[at..at + CELL_BYTES].copy_from_slice(&emit_cell(event, claim.tag(), 0)[..CELL_BYTES]);
    }
    Some(head)
}

/// Reads what [`confirmed`] wrote: manifest and number of the update of a complete, confirmed slot.
pub fn parse_confirmed(head: &[u8], write_size: usize) -> Option<(Manifest, u32)> {
    let head: &[u8; HEAD_BYTES] = head.first_chunk()?;
    let claim = Claim::parse(head.first_chunk()?)?;
    let says = |event: Event| {
        event.cells(write_size).any(|i| {
            let at = CELLS_AT + i * pitch(write_size);
            head.get(at..at + CELL_BYTES).is_some_and(|c| matches!(parse_cell(c, event, claim.tag()), Cell::Says(_)))
        })
    };
    (says(Event::Ready) && says(Event::Confirmed)).then_some((claim.manifest, claim.sequence))
}

fn u32_at<const N: usize>(record: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

fn put<const N: usize>(record: &mut [u8; N], at: usize, value: u32) {
    part_mut(record, at, 4).iter_mut().zip(value.to_le_bytes()).for_each(|(to, byte)| *to = byte);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_come_back() {
        for signature in [None, Some([7; 64])] {
            let manifest = Manifest { version: 9, bytes: 77, crc: 0x1234_5678, signature };
            let mut record = manifest.emit();
            assert_eq!(Manifest::parse(&record), Ok(manifest));
            for bit in 0..MANIFEST_BYTES * 8 {
                record[bit / 8] ^= 1 << (bit % 8);
                assert!(Manifest::parse(&record).is_err(), "bit {bit}");
                record[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(Manifest::parse(&record[..95]), Err(ManifestError::TooShort));
        }
    }

    #[test]
    fn a_flash_tools_head_is_read() {
        let manifest = Manifest::of(b"image", 3);
        for write_size in [1, 2, 4, 8, 16, 32, 64] {
            let head = confirmed(&manifest, 1, write_size).unwrap();
            assert_eq!(parse_confirmed(&head, write_size), Some((manifest, 1)));
            assert!(cells(write_size) > FIRST_MARK + 4);
        }
        assert_eq!(confirmed(&manifest, 1, 0), None);
        assert_eq!(confirmed(&manifest, 1, 48), None);
    }

    #[test]
    fn later_numbers_win_across_the_wrap() {
        let claim = |sequence| Claim { manifest: Manifest::of(b"", 0), sequence };
        assert!(claim(1).newer(&claim(0)) && claim(0).newer(&claim(u32::MAX)) && !claim(5).newer(&claim(5)));
    }
}
