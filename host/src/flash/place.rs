//! What is written where: an image, with the head of its slot, at the slot's address.

use super::{Region, Target};
use anyhow::{Context, Result, bail};
use fewstep_core::slots::{HEAD_BYTES, Manifest, head};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SlotName {
    A,
    B,
}

/// The bytes of a slot that boots `image` at once, without a trial.
///
/// # Errors
/// The target has no such slot, or the image does not fit into it.
pub fn plan(image: &[u8], target: &Target, slot: SlotName, version: u32, sequence: u32) -> Result<Region> {
    let name = &target.name;
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
            "the image has {} bytes, a slot of {name} holds {room}; `fewstep fit --target {name}` says what would make it fit",
            image.len()
        );
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + image.len());
    if target.slots.head {
        let head = head::confirmed(&Manifest::of(image, version), sequence, target.flash.write as usize)
            .with_context(|| format!("{name}: flash.write = {} has no slots; correct it", target.flash.write))?;
        bytes.extend_from_slice(&head);
    }
    bytes.extend_from_slice(image);
    // Whole words: some flash tools refuse a shorter last one.
    bytes.resize(bytes.len().next_multiple_of(target.flash.write as usize), 0xff);
    Ok(Region { address, bytes })
}
