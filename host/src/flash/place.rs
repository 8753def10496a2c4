//! What is written where: an image, with the head of its slot, at the slot's address.

use super::{Region, Target};
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::slots::{HEAD_BYTES, Manifest, head};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SlotName {
    A,
    B,
}

/// The bytes of a slot that boots `image` at once, without a trial. `manifest` is the image's.
///
/// # Errors
/// The target has no such slot, no place for a signature, or the image does not fit.
pub fn plan(image: &[u8], manifest: &Manifest, target: &Target, slot: SlotName, sequence: u32) -> Result<Region> {
    let name = &target.name;
    ensure!(
        target.slots.head || manifest.signature.is_none(),
        "the slots of {name} have no head, which is where a signature goes: leave --sign out, or use a target file with slots.head"
    );
    let address = match slot {
        SlotName::A => target.slots.a,
        SlotName::B => target
            .slots
            .b
            .with_context(|| format!("{name} has one slot; use --slot a, or a target file with slots.b"))?,
    };
    let room = target.image_bytes();
    if image.len() > room as usize {
        bail!(
            "the image has {} bytes, a slot of {name} holds {room}; `fewstep fit FILE --target {name}` says what would make it fit",
            image.len()
        );
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + image.len());
    if target.slots.head {
        let head = head::confirmed(manifest, sequence, target.flash.write as usize)
            .with_context(|| format!("{name}: flash.write = {} has no slots; correct it", target.flash.write))?;
        bytes.extend_from_slice(&head);
    }
    bytes.extend_from_slice(image);
    // Whole words: some flash tools refuse a shorter last one.
    bytes.resize(bytes.len().next_multiple_of(target.flash.write as usize), 0xff);
    Ok(Region { address, bytes })
}
