//! Where the slots are.

use embedded_storage::nor_flash::NorFlash;

use super::error::LayoutProblem;
use super::head::{CELL_BYTES, CELLS_AT, FIRST_MARK, HEAD_BYTES, MAX_WORD};
use super::{Slot, head};

/// Two places of the same size in a flash, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Layout {
    /// Start of slot A.
    pub a: u32,
    /// Start of slot B.
    pub b: u32,
    /// Bytes of each, head included.
    pub bytes: u32,
}

impl Layout {
    /// Start of a slot.
    pub const fn start(&self, slot: Slot) -> u32 {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// Bytes that an image may have.
    pub const fn capacity(&self) -> u32 {
        self.bytes.saturating_sub(HEAD_BYTES as u32)
    }

    pub(super) fn check<F: NorFlash>(&self, flash_bytes: usize) -> Result<(), LayoutProblem> {
        if F::WRITE_SIZE == 0
            || !MAX_WORD.is_multiple_of(F::WRITE_SIZE)
            || F::READ_SIZE == 0
            || !CELL_BYTES.is_multiple_of(F::READ_SIZE)
        {
            return Err(LayoutProblem::Word);
        }
        let block = block::<F>();
        if F::ERASE_SIZE == 0
            || !block.is_multiple_of(F::ERASE_SIZE as u32)
            || !block.is_multiple_of(HEAD_BYTES as u32)
            || !block.is_multiple_of(F::WRITE_SIZE as u32)
        {
            return Err(LayoutProblem::Block);
        }
        if [self.a, self.b, self.bytes].iter().any(|at| !at.is_multiple_of(block)) {
            return Err(LayoutProblem::Alignment);
        }
        if self.capacity() == 0 {
            return Err(LayoutProblem::TooSmall);
        }
        for start in [self.a, self.b] {
            if u64::from(start) + u64::from(self.bytes) > flash_bytes as u64 {
                return Err(LayoutProblem::Outside);
            }
        }
        if self.a.abs_diff(self.b) < self.bytes {
            return Err(LayoutProblem::Overlap);
        }
        Ok(())
    }

    /// Bytes between two marks of progress: whole blocks, so few that the marks suffice, with some to spare for those
    /// that a power cut spoils.
    pub(super) fn segment<F: NorFlash>(&self) -> u32 {
        let (block, marks) = (block::<F>(), head::cells(F::WRITE_SIZE) - FIRST_MARK);
        let usual = (marks - marks / 4).max(1) as u32;
        (self.bytes / block).div_ceil(usual).max(1) * block
    }
}

/// Bytes erased at once: an erase block of the flash, or as many as the head has.
pub(super) const fn block<F: NorFlash>() -> u32 {
    if F::ERASE_SIZE < HEAD_BYTES { HEAD_BYTES as u32 } else { F::ERASE_SIZE as u32 }
}

const _: () = assert!(CELLS_AT.is_multiple_of(MAX_WORD) && HEAD_BYTES.is_multiple_of(MAX_WORD));
