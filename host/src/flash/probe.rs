//! Straight to a chip, through the debug probe that is attached.

use super::{Region, Target};
use anyhow::{Context, Result};

/// What probe-rs calls the chip of a target.
fn chip(target: &Target) -> Result<&str> {
    let name = &target.name;
    target.probe.as_deref().with_context(|| {
        format!("{name} names no chip for a debug probe: write a file with --out, or use a target file with `probe`")
    })
}

/// Whether [`write`] can begin.
///
/// # Errors
/// The target names no chip, probe-rs does not know it, or is no part of this program, or no probe is attached.
pub fn check(target: &Target) -> Result<()> {
    Ok(fewstep_probe::check(chip(target)?)?)
}

/// Writes `region` to the chip, erasing the blocks that it covers, and reads it back.
///
/// # Errors
/// As [`check`]; the probe or the chip does not answer, or the flash reads back differently.
pub fn write(region: &Region, target: &Target) -> Result<()> {
    Ok(fewstep_probe::write(region.address, &region.bytes, chip(target)?)?)
}
