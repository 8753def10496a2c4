//! A flash for the slots. The emulated board has none that a program may write to: this one is memory that behaves like
//! one, and refuses what a flash would not do.

use core::slice::{from_raw_parts, from_raw_parts_mut};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Behind the program's flash in the board's SSRAM1, which has 4 MB.
const BASE: usize = 0x0020_0000;
const BYTES: usize = 0x0010_0000;

/// The one flash; there is a single owner of what is written.
pub struct Nor(());

impl Nor {
    /// # Safety
    /// Called once.
    pub unsafe fn take() -> Self {
        Self(())
    }

    /// An image in it, as the CPU sees it. It must not be written while it is used, which [`fewstep_core::slots`] does not
    /// do with a running image. Empty, if it is not within the flash.
    pub fn mapped(offset: u32, bytes: u32) -> &'static [u8] {
        let within = (offset as usize).checked_add(bytes as usize).is_some_and(|end| end <= BYTES);
        if !within {
            return &[];
        }
        // SAFETY: memory of the board that neither memory.x nor anything else gives to Rust; not written meanwhile.
        unsafe { from_raw_parts((BASE + offset as usize) as *const u8, bytes as usize) }
    }

    fn memory(&mut self, offset: u32, bytes: usize) -> Option<&mut [u8]> {
        let offset = offset as usize;
        if offset.checked_add(bytes)? > BYTES {
            return None;
        }
        // SAFETY: as in `mapped`; there is one `Nor`, so this is the only mutable reference, and the bytes asked for are
        // those of no running image.
        Some(unsafe { from_raw_parts_mut((BASE + offset) as *mut u8, bytes) })
    }
}

/// What the flash refused.
#[derive(Debug)]
pub struct Refused(NorFlashErrorKind);

impl NorFlashError for Refused {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl ErrorType for Nor {
    type Error = Refused;
}

const OUTSIDE: Refused = Refused(NorFlashErrorKind::OutOfBounds);

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
        check_read(self, offset, bytes.len()).map_err(Refused)?;
        bytes.copy_from_slice(self.memory(offset, bytes.len()).ok_or(OUTSIDE)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = 32;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
        check_erase(self, from, to).map_err(Refused)?;
        self.memory(from, (to - from) as usize).ok_or(OUTSIDE)?.fill(0xff);
        Ok(())
    }

    /// Words are written once after an erase, as a flash with error correction wants it.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
        check_write(self, offset, bytes.len()).map_err(Refused)?;
        let memory = self.memory(offset, bytes.len()).ok_or(OUTSIDE)?;
        if memory.iter().any(|&byte| byte != 0xff) {
            return Err(Refused(NorFlashErrorKind::Other));
        }
        memory.copy_from_slice(bytes);
        Ok(())
    }
}
