//! Reading a slot: its head, and whether its image is whole.

use embedded_storage::nor_flash::NorFlash;

use super::error::Fault;
use super::head::{
    CELL_BYTES, CELLS_AT, CLAIM_BYTES, Cell, Claim, Event, HEAD_BYTES, MAX_WORD, Manifest, emit_cell, parse_cell, pitch,
};
use super::{Slot, Slots};
use crate::format::crc::crc32c_append;
use crate::part::{part, part_mut};

/// Bytes read from flash at once, on the stack.
const PIECE: usize = 256;

/// What a slot's head says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub claim: Claim,
    /// The image was complete and right once.
    pub ready: bool,
    /// A boot tried it.
    pub tried: bool,
    /// The firmware found it good.
    pub confirmed: bool,
    /// Bytes of the slot, from its start, known to be written.
    pub written: u32,
    /// Power cuts spoilt every cell of an event that is still to come: the image cannot become current and confirmed.
    pub spent: bool,
}

impl<F: NorFlash> Slots<F> {
    /// The head of a slot; `None` when nobody claimed it or it cannot be read.
    pub(super) fn head(&mut self, slot: Slot) -> Option<Head> {
        let mut record = [0; CLAIM_BYTES];
        self.flash.read(self.layout.start(slot), &mut record).ok()?;
        let claim = Claim::parse(&record)?;
        let tag = claim.tag();
        let mut row = |event: Event| {
            let (mut said, mut blank) = (None, false);
            for i in event.cells(F::WRITE_SIZE) {
                match self.cell(slot, i, event, tag) {
                    Cell::Says(value) => said = said.max(Some(value)),
                    Cell::Blank => blank = true,
                    Cell::Spoilt => {}
                }
            }
            (said, said.is_none() && !blank)
        };
        let (ready, trial, confirmed) = (row(Event::Ready), row(Event::Trial), row(Event::Confirmed));
        Some(Head {
            claim,
            ready: ready.0.is_some(),
            tried: trial.0.is_some(),
            confirmed: confirmed.0.is_some(),
            written: row(Event::Mark).0.unwrap_or(0),
            spent: ready.1 || trial.1 || confirmed.1,
        })
    }

    fn cell(&mut self, slot: Slot, index: usize, event: Event, tag: u32) -> Cell {
        let mut bytes = [0; MAX_WORD];
        let pitch = pitch(F::WRITE_SIZE);
        let at = self.layout.start(slot) + (CELLS_AT + index * pitch) as u32;
        match self.flash.read(at, part_mut(&mut bytes, 0, pitch)) {
            Ok(()) => parse_cell(part(&bytes, 0, pitch), event, tag),
            // Error correction found a word that was cut while it was written.
            Err(_) => Cell::Spoilt,
        }
    }

    /// Writes an event into its next blank cell and reads it back. `false` when no cell was left or none kept it.
    pub(super) fn note(&mut self, slot: Slot, event: Event, tag: u32, value: u32) -> Result<bool, F::Error> {
        let pitch = pitch(F::WRITE_SIZE);
        let cell = emit_cell(event, tag, value);
        for i in event.cells(F::WRITE_SIZE) {
            if self.cell(slot, i, event, tag) != Cell::Blank {
                continue;
            }
            let at = self.layout.start(slot) + (CELLS_AT + i * pitch) as u32;
            self.flash.write(at, part(&cell, 0, pitch))?;
            if self.cell(slot, i, event, tag) == Cell::Says(value) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the whole image of a slot and checks it against its manifest and the rules.
    pub(super) fn verify(&mut self, slot: Slot, manifest: &Manifest) -> Result<(), Fault> {
        if manifest.bytes == 0 || manifest.bytes > self.layout.capacity() {
            return Err(Fault::Length);
        }
        if manifest.version < self.rules.lowest_version {
            return Err(Fault::Version);
        }
        #[cfg(feature = "signed")]
        let mut signature = None;
        #[cfg(feature = "signed")]
        if let Some(key) = &self.rules.public_key {
            super::signature::Verifier::begin(&mut signature, key, manifest)?;
        }
        let start = self.layout.start(slot) + HEAD_BYTES as u32;
        let mut piece = [0; PIECE];
        let (mut at, mut crc) = (0, 0);
        while at < manifest.bytes {
            let len = (manifest.bytes - at).min(PIECE as u32) as usize;
            // Whole units of reading; they end within the slot.
            let units = len.next_multiple_of(CELL_BYTES);
            self.flash.read(start + at, part_mut(&mut piece, 0, units)).map_err(|_| Fault::Unreadable)?;
            crc = crc32c_append(crc, part(&piece, 0, len));
            #[cfg(feature = "signed")]
            if let Some(signature) = &mut signature {
                signature.absorb(part(&piece, 0, len));
            }
            at += len as u32;
        }
        if crc != manifest.crc {
            return Err(Fault::Crc { stated: manifest.crc, computed: crc });
        }
        #[cfg(feature = "signed")]
        if let Some(signature) = &signature {
            signature.finish()?;
        }
        Ok(())
    }
}
