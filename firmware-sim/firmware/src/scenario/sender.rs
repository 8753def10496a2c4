//! An update that arrives in pieces.

use fewstep_core::slots::{MANIFEST_BYTES, Manifest, Slots};
use fewstep_wire::Verdict;

use super::storage::Storage;
use super::verdict;

/// What is still to come of an image.
pub struct Sender {
    /// The image as far as the connection lasts.
    image: &'static [u8],
    /// Most bytes of a piece.
    chunk: usize,
    /// How the update failed.
    failed: Option<Verdict>,
}

impl Sender {
    /// The manifest has arrived: begins an update, or goes on with one that was interrupted.
    ///
    /// # Errors
    /// It is none, or the slots refuse it.
    pub fn connect(slots: &mut Slots<Storage>, mail: &'static [u8], chunk: u32) -> Result<Self, Verdict> {
        let manifest = Manifest::parse(mail).map_err(|_| Verdict::BadManifest)?;
        slots.resume(&manifest).map_err(|error| verdict(&error))?;
        let image = mail.get(MANIFEST_BYTES..).unwrap_or_default();
        Ok(Self { image, chunk: (chunk as usize).max(1), failed: None })
    }

    /// Hands the next piece over; `false` when there is none.
    pub fn send(&mut self, slots: &mut Slots<Storage>) -> bool {
        let Some(position) = slots.position().filter(|_| self.failed.is_none()) else { return false };
        let rest = self.image.get(position as usize..).unwrap_or_default();
        let piece = &rest[..rest.len().min(self.chunk)];
        if piece.is_empty() {
            return false;
        }
        self.failed = slots.push(piece).err().map(|error| verdict(&error));
        self.failed.is_none()
    }

    /// The connection has ended: how, and how much of the image is there.
    pub fn finish(self, slots: &mut Slots<Storage>) -> (Verdict, u32) {
        let position = slots.position().unwrap_or(0);
        let ended = match self.failed {
            Some(failed) => failed,
            None => slots.finish().map_or_else(|error| verdict(&error), |()| Verdict::Done),
        };
        (ended, position)
    }
}
