//! The driver of the second flash: words are written once after an erase, whole and aligned; blocks are erased whole. The
//! power fails in the operation that the scenario names; nothing of the firmware runs after it.

use core::ptr::{copy_nonoverlapping, read_volatile, write_volatile};
use core::slice::from_raw_parts;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use fewstep_core::sampler::noise::philox4x32;
use fewstep_core::slots::Layout;
use fewstep_wire::{Cut, Status, Torn};

use crate::board::storage::{ADDRESS, ERASE, MAIL, SLOT, WRITE};
use crate::console;

/// Bytes of both slots.
const BYTES: usize = 2 * SLOT;
/// What an erase leaves.
const BLANK: u32 = u32::MAX;

const _: () = assert!(WRITE.is_multiple_of(4) && ERASE.is_multiple_of(4), "the driver writes words of 32 bits");

/// Where the slots are.
pub const LAYOUT: Layout = Layout { a: 0, b: SLOT as u32, bytes: SLOT as u32 };

/// The flash.
pub struct Storage {
    /// Words written and blocks erased since the power came on.
    pub operations: u32,
    /// The operation in which the power fails, counted likewise.
    cut: Option<Cut>,
}

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Broken {
    /// Not a whole number of words or blocks.
    NotAligned,
    /// Beyond the end.
    Outside,
    /// A word written twice without an erase.
    WrittenTwice,
}

impl NorFlashError for Broken {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::Outside => NorFlashErrorKind::OutOfBounds,
            Self::WrittenTwice => NorFlashErrorKind::Other,
        }
    }
}

impl Storage {
    /// The power comes on, and fails where `cut` says.
    pub fn power_on(cut: Option<Cut>) -> Self {
        Self { operations: 0, cut }
    }

    /// The power fails after so many operations from now on; `None` leaves what was said before.
    pub fn cut_next(&mut self, cut: Option<Cut>) {
        if let Some(cut) = cut {
            self.cut = Some(Cut { after: self.operations.saturating_add(cut.after), ..cut });
        }
    }

    /// Counts an operation; how far it gets, if the power fails in it.
    fn operate(&mut self) -> Option<Torn> {
        let now = self.operations;
        self.operations += 1;
        self.cut.filter(|cut| cut.after == now).map(|cut| cut.torn)
    }

    /// Other bits for each word of a cut operation, the same at each run.
    fn random(&self, word: usize) -> [u32; 4] {
        philox4x32([self.operations, word as u32, 0, 0], [5, 6])
    }

    /// A unit of `data` into blank words.
    fn write_unit(&mut self, at: usize, data: &[u8]) -> Result<(), Broken> {
        let words = at / 4..(at + WRITE) / 4;
        if words.clone().any(|word| read(word) != BLANK) {
            return Err(Broken::WrittenTwice);
        }
        let torn = self.operate();
        for (word, bytes) in words.zip(data.chunks_exact(4)) {
            let value = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            match torn {
                None | Some(Torn::Wholly) => write(word, value),
                Some(Torn::Not) => {}
                // Each bit by itself; one that is set stays set.
                Some(Torn::Partly) => write(word, value | self.random(word)[0]),
            }
        }
        fail_after(torn);
        Ok(())
    }

    fn erase_block(&mut self, at: usize) {
        let torn = self.operate();
        for word in at / 4..(at + ERASE) / 4 {
            match torn {
                None | Some(Torn::Wholly) => write(word, BLANK),
                Some(Torn::Not) => {}
                Some(Torn::Partly) => {
                    let [kind, bits, ..] = self.random(word);
                    match kind % 3 {
                        0 => write(word, BLANK),
                        1 => {}
                        _ => write(word, read(word) | bits),
                    }
                }
            }
        }
        fail_after(torn);
    }
}

/// Ends the power cycle if its last operation was one that was cut.
fn fail_after(torn: Option<Torn>) {
    if torn.is_some() {
        console::exit(Status::PowerCut);
    }
}

fn read(word: usize) -> u32 {
    assert!(word < BYTES / 4);
    // SAFETY: an aligned word of the storage, which the board file says is memory.
    unsafe { read_volatile((ADDRESS as *const u32).add(word)) }
}

fn write(word: usize, value: u32) {
    assert!(word < BYTES / 4);
    // SAFETY: an aligned word of the storage. The only references into it are those of `image`, to the running slot,
    // which `Slots` never writes.
    unsafe { write_volatile((ADDRESS as *mut u32).add(word), value) }
}

/// The bytes of an image in its slot; `None` if they are not within the slots.
pub fn image(offset: u32, bytes: u32) -> Option<&'static [u8]> {
    let (offset, bytes) = (offset as usize, bytes as usize);
    let inside = offset.checked_add(bytes).is_some_and(|end| end <= BYTES);
    // SAFETY: they lie in the storage, and nothing writes the running slot while the firmware runs.
    inside.then(|| unsafe { from_raw_parts((ADDRESS + offset) as *const u8, bytes) })
}

/// What a sender sends; `None` if it does not lie in the sender's memory.
pub fn mail(offset: u32, bytes: u32) -> Option<&'static [u8]> {
    let (offset, bytes) = (offset as usize, bytes as usize);
    let inside = offset.checked_add(bytes).is_some_and(|end| end <= MAIL);
    // SAFETY: the board file says that so many bytes lie behind the slots, and nothing writes them.
    inside.then(|| unsafe { from_raw_parts((ADDRESS + BYTES + offset) as *const u8, bytes) })
}

impl ErrorType for Storage {
    type Error = Broken;
}

impl ReadNorFlash for Storage {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Broken> {
        let offset = offset as usize;
        if offset.checked_add(out.len()).is_none_or(|end| end > BYTES) {
            return Err(Broken::Outside);
        }
        // SAFETY: within the storage, as was just checked; `out` is memory of the firmware's own.
        unsafe { copy_nonoverlapping((ADDRESS + offset) as *const u8, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Storage {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Broken> {
        let (from, to) = (from as usize, to as usize);
        if from > to || to > BYTES {
            return Err(Broken::Outside);
        }
        if !from.is_multiple_of(ERASE) || !to.is_multiple_of(ERASE) {
            return Err(Broken::NotAligned);
        }
        (from..to).step_by(ERASE).for_each(|at| self.erase_block(at));
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), Broken> {
        let at = offset as usize;
        if at.checked_add(data.len()).is_none_or(|end| end > BYTES) {
            return Err(Broken::Outside);
        }
        if !at.is_multiple_of(WRITE) || !data.len().is_multiple_of(WRITE) {
            return Err(Broken::NotAligned);
        }
        data.chunks_exact(WRITE).enumerate().try_for_each(|(i, unit)| self.write_unit(at + i * WRITE, unit))
    }
}
