//! Choosing the image to run, and confirming it.

use embedded_storage::nor_flash::NorFlash;

use super::error::SlotError;
use super::head::{Event, HEAD_BYTES};
use super::verify::Head;
use super::{Booted, Slot, Slots};

impl<F: NorFlash> Slots<F> {
    /// Chooses the image to run; each call is a boot, and ends an update that was under way in this object.
    ///
    /// The newest complete image comes first. One that was never confirmed is booted once, on trial; if the boot after
    /// finds it still unconfirmed, the image before is taken. Images whose checksum (or signature, or version) is wrong
    /// are passed over. Where no other image is left, one that failed its trial is tried again. `None`: there is no
    /// image; an update can be received.
    ///
    /// Reads the whole image; writes at most one record.
    pub fn boot(&mut self) -> Option<Booted> {
        self.update = None;
        self.running = self.choose();
        self.booted = true;
        self.running
    }

    fn choose(&mut self) -> Option<Booted> {
        let heads = [self.head(Slot::A), self.head(Slot::B)];
        let first = match &heads {
            [Some(a), Some(b)] if b.claim.newer(&a.claim) => Slot::B,
            _ => Slot::A,
        };
        let order = [first, first.other()];
        for slot in order {
            let Some(head) = heads[slot.index()].filter(|h| h.ready && (h.confirmed || !h.tried)) else { continue };
            if self.verify(slot, &head.claim.manifest).is_err() {
                continue;
            }
            // A trial that leaves no trace would be repeated for ever.
            if head.confirmed || matches!(self.note(slot, Event::Trial, head.claim.tag(), 0), Ok(true)) {
                return Some(self.booted(slot, &head));
            }
        }
        for slot in order {
            if let Some(head) = heads[slot.index()].filter(|h| h.ready)
                && self.verify(slot, &head.claim.manifest).is_ok()
            {
                return Some(self.booted(slot, &head));
            }
        }
        None
    }

    fn booted(&self, slot: Slot, head: &Head) -> Booted {
        let manifest = &head.claim.manifest;
        Booted {
            slot,
            offset: self.layout.start(slot) + HEAD_BYTES as u32,
            bytes: manifest.bytes,
            version: manifest.version,
            trial: !head.confirmed,
        }
    }

    /// The running image is good: no boot goes back from it any more.
    ///
    /// # Errors
    /// Nothing was booted, or the flash did not take the record; then the next boot goes back.
    pub fn confirm(&mut self) -> Result<(), SlotError<F::Error>> {
        let running = self.running.ok_or(SlotError::NotBooted)?;
        if !running.trial {
            return Ok(());
        }
        let head = self.head(running.slot).ok_or(SlotError::Worn)?;
        if !self.note(running.slot, Event::Confirmed, head.claim.tag(), 0).map_err(SlotError::Flash)? {
            return Err(SlotError::Worn);
        }
        self.running = Some(Booted { trial: false, ..running });
        Ok(())
    }
}
