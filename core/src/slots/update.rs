//! The streaming writer: an image arrives in chunks of any size, from any transport.

use embedded_storage::nor_flash::NorFlash;

use super::error::SlotError;
use super::head::{BLANK, Claim, Event, HEAD_BYTES, MAX_WORD, Manifest};
use super::layout::block;
use super::verify::Head;
use super::{Slot, Slots};
use crate::part::{part, part_mut, rest_mut};

/// An update under way. Offsets are from the start of the slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    slot: Slot,
    manifest: Manifest,
    /// Ties cells to the claim.
    tag: u32,
    /// The end of what is in flash, a multiple of the write size.
    written: u32,
    /// The end of what was erased.
    erased: u32,
    /// Bytes that do not fill a word yet.
    word: [u8; MAX_WORD],
    filled: usize,
    /// The image was found complete when the update was resumed.
    ready: bool,
}

impl Update {
    /// Bytes of the image received.
    fn position(&self) -> u32 {
        if self.ready {
            return self.manifest.bytes;
        }
        // The last word may be longer than what was left for it.
        (self.written - HEAD_BYTES as u32 + self.filled as u32).min(self.manifest.bytes)
    }

    fn missing(&self) -> u32 {
        self.manifest.bytes - self.position()
    }
}

impl<F: NorFlash> Slots<F> {
    /// Starts an update from its first byte, in the slot beside the running image. What was there is given up.
    ///
    /// # Errors
    /// The image is too large, too old or unsigned, the flash refuses, or the running image is on trial and the other
    /// slot holds the one to go back to.
    pub fn begin(&mut self, manifest: &Manifest) -> Result<(), SlotError<F::Error>> {
        self.update = None;
        self.admit(manifest)?;
        let slot = self.target();
        let sequence = match self.head(slot.other()) {
            Some(kept) => kept.claim.sequence.wrapping_add(1),
            None => 1,
        };
        let claim = Claim { manifest: *manifest, sequence };
        let block = block::<F>();
        let mut erased = block;
        // An old image must not survive a cut erase of its head: its second block goes first.
        if self.head(slot).is_some_and(|old| old.ready && old.claim.manifest.bytes > block - HEAD_BYTES as u32)
            && self.layout.bytes > block
        {
            self.erase(slot, block)?;
            erased += block;
        }
        self.erase(slot, 0)?;
        self.flash.write(self.layout.start(slot), &claim.emit()).map_err(SlotError::Flash)?;
        if self.head(slot).is_none_or(|head| head.claim != claim) {
            return Err(SlotError::Worn);
        }
        self.update = Some(Update {
            slot,
            manifest: *manifest,
            tag: claim.tag(),
            written: HEAD_BYTES as u32,
            erased,
            word: [BLANK; MAX_WORD],
            filled: 0,
            ready: false,
        });
        Ok(())
    }

    /// Goes on with the update that a reset interrupted, if it was one of the same image; begins it otherwise. The
    /// bytes wanted next start at [`Slots::position`].
    ///
    /// # Errors
    /// As [`Slots::begin`].
    pub fn resume(&mut self, manifest: &Manifest) -> Result<(), SlotError<F::Error>> {
        self.update = None;
        self.admit(manifest)?;
        let slot = self.target();
        let goes_on = |head: &Head| head.claim.manifest == *manifest && !head.tried && !head.spent;
        let Some(head) = self.head(slot).filter(goes_on) else {
            return self.begin(manifest);
        };
        // Not the leftover of an image from before the running one.
        if self.head(slot.other()).is_some_and(|kept| !head.claim.newer(&kept.claim)) {
            return self.begin(manifest);
        }
        let image_end = (HEAD_BYTES as u32 + manifest.bytes).next_multiple_of(F::WRITE_SIZE as u32);
        let usable = head.written.is_multiple_of(self.layout.segment::<F>()) && head.written <= image_end;
        if !head.ready && (head.written == 0 || !usable) {
            return self.begin(manifest);
        }
        self.update = Some(Update {
            slot,
            manifest: *manifest,
            tag: head.claim.tag(),
            written: head.written,
            // What follows the mark may have been cut while it was written.
            erased: head.written,
            word: [BLANK; MAX_WORD],
            filled: 0,
            ready: head.ready,
        });
        Ok(())
    }

    /// Bytes of the image received so far; `None` without an update.
    pub fn position(&self) -> Option<u32> {
        self.update.as_ref().map(Update::position)
    }

    /// Takes the next bytes of the image.
    ///
    /// # Errors
    /// No update, more bytes than missing (none is taken), or the flash refused: [`Slots::resume`] then.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), SlotError<F::Error>> {
        let mut update = self.update.take().ok_or(SlotError::NoUpdate)?;
        let missing = update.missing();
        if chunk.len() > missing as usize {
            self.update = Some(update);
            return Err(SlotError::TooMany { pushed: chunk.len(), missing });
        }
        self.take(&mut update, chunk)?;
        self.update = Some(update);
        Ok(())
    }

    /// Reads the whole image back and checks it; then one record makes it the image of the next [`Slots::boot`].
    ///
    /// # Errors
    /// Bytes are missing (the update goes on), the image in flash is not the one announced (the update is dropped), or
    /// the flash refused.
    pub fn finish(&mut self) -> Result<(), SlotError<F::Error>> {
        let mut update = self.update.take().ok_or(SlotError::NoUpdate)?;
        let missing = update.missing();
        if missing > 0 {
            self.update = Some(update);
            return Err(SlotError::Incomplete { missing });
        }
        if update.filled > 0 {
            rest_mut(&mut update.word, update.filled).fill(BLANK);
            self.write_word(&mut update)?;
        }
        if let Err(fault) = self.verify(update.slot, &update.manifest) {
            // The claim goes too, or resuming would end here again.
            self.erase(update.slot, 0)?;
            return Err(SlotError::Damaged(fault));
        }
        if update.ready || self.note(update.slot, Event::Ready, update.tag, 0).map_err(SlotError::Flash)? {
            return Ok(());
        }
        self.erase(update.slot, 0)?;
        Err(SlotError::Worn)
    }

    fn admit(&mut self, manifest: &Manifest) -> Result<(), SlotError<F::Error>> {
        if !self.booted {
            return Err(SlotError::NotBooted);
        }
        let capacity = self.layout.capacity();
        if manifest.bytes == 0 || manifest.bytes > capacity {
            return Err(SlotError::Length { bytes: manifest.bytes, capacity });
        }
        let running = self.running.filter(|_| !self.rules.may_go_down).map_or(0, |running| running.version);
        let lowest = running.max(self.rules.lowest_version);
        if manifest.version < lowest {
            return Err(SlotError::Version { found: manifest.version, lowest });
        }
        #[cfg(feature = "signed")]
        if self.rules.public_key.is_some() && manifest.signature.is_none() {
            return Err(SlotError::Unsigned);
        }
        let trial = self.running.filter(|running| running.trial);
        if trial.is_some_and(|running| self.holds_image(running.slot.other())) {
            return Err(SlotError::NotConfirmed);
        }
        Ok(())
    }

    fn holds_image(&mut self, slot: Slot) -> bool {
        let head = self.head(slot).filter(|head| head.ready);
        head.is_some_and(|head| self.verify(slot, &head.claim.manifest).is_ok())
    }

    /// Where an update goes: never over the running image. Without one, over the older slot.
    fn target(&mut self) -> Slot {
        if let Some(running) = self.running {
            return running.slot.other();
        }
        match (self.head(Slot::A), self.head(Slot::B)) {
            (Some(a), Some(b)) if !a.claim.newer(&b.claim) => Slot::A,
            (Some(_), _) => Slot::B,
            _ => Slot::A,
        }
    }

    fn erase(&mut self, slot: Slot, at: u32) -> Result<(), SlotError<F::Error>> {
        let from = self.layout.start(slot) + at;
        self.flash.erase(from, from + block::<F>()).map_err(SlotError::Flash)
    }

    fn take(&mut self, update: &mut Update, mut chunk: &[u8]) -> Result<(), SlotError<F::Error>> {
        let word = F::WRITE_SIZE;
        while !chunk.is_empty() {
            if update.filled > 0 || chunk.len() < word {
                let (now, rest) = chunk.split_at(chunk.len().min(word - update.filled));
                part_mut(&mut update.word, update.filled, now.len())
                    .iter_mut()
                    .zip(now)
                    .for_each(|(to, &byte)| *to = byte);
                update.filled += now.len();
                chunk = rest;
                if update.filled == word {
                    self.write_word(update)?;
                }
            } else {
                // Whole words straight from the caller's memory, up to the block's end.
                let room = (block::<F>() - update.written % block::<F>()) as usize;
                let (now, rest) = chunk.split_at((chunk.len() - chunk.len() % word).min(room));
                self.write(update, now)?;
                chunk = rest;
            }
        }
        Ok(())
    }

    fn write_word(&mut self, update: &mut Update) -> Result<(), SlotError<F::Error>> {
        let word = update.word;
        update.filled = 0;
        self.write(update, part(&word, 0, F::WRITE_SIZE))
    }

    /// Writes whole words within one block, erases the block before its first and marks progress after its last.
    fn write(&mut self, update: &mut Update, words: &[u8]) -> Result<(), SlotError<F::Error>> {
        if update.written >= update.erased {
            self.erase(update.slot, update.written)?;
            update.erased = update.written + block::<F>();
        }
        let at = self.layout.start(update.slot) + update.written;
        self.flash.write(at, words).map_err(SlotError::Flash)?;
        update.written += words.len() as u32;
        if update.written.is_multiple_of(self.layout.segment::<F>()) {
            // Without a cell left the update goes on, only resuming starts further back.
            self.note(update.slot, Event::Mark, update.tag, update.written).map_err(SlotError::Flash)?;
        }
        Ok(())
    }
}
