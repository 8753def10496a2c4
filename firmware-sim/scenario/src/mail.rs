//! What a programmer writes and what a sender sends.

use fewstep_core::slots::{Manifest, head};

use crate::file::{Change, Scenario, Update};
use crate::signing::SigningKey;

/// The manifest of an image, signed if there is a key.
fn manifest(image: &[u8], version: u32, signer: Option<&SigningKey>) -> Manifest {
    match signer {
        Some(signer) => signer.manifest(image, version),
        None => Manifest::of(image, version),
    }
}

/// The bytes of a slot that boots `image` at once, as `fewstep flash` writes them; `None` when the flash's write size has
/// no slots.
pub fn slot(
    image: &[u8],
    version: u32,
    sequence: u32,
    signer: Option<&SigningKey>,
    write_size: usize,
) -> Option<Vec<u8>> {
    let head = head::confirmed(&manifest(image, version, signer), sequence, write_size)?;
    Some([&head[..], image].concat())
}

/// Manifest and image as they arrive.
pub fn update(scenario: &Scenario, update: &Update) -> Result<Vec<u8>, String> {
    let mut image = scenario.images[&update.image].clone();
    let mut manifest = manifest(&image, update.version, update.sign.as_ref().map(|key| &scenario.signers[key]));
    change(&mut image, &update.forge)?;
    if !update.forge.is_empty() {
        // The signature stays what it was.
        manifest.crc = Manifest::of(&image, update.version).crc;
    }
    change(&mut image, &update.damage)?;
    image.truncate(update.bytes.map_or(usize::MAX, |bytes| bytes as usize));
    Ok([&manifest.emit()[..], &image].concat())
}

fn change(image: &mut [u8], changes: &[Change]) -> Result<(), String> {
    let length = image.len();
    for change in changes {
        let byte = image.get_mut(change.at as usize);
        *byte.ok_or_else(|| format!("at = {}: the image has {length} bytes", change.at))? ^= change.xor;
    }
    Ok(())
}
