//! Built with probe-rs.

use probe_rs::config::Registry;
use probe_rs::flashing::DownloadOptions;
use probe_rs::probe::DebugProbeInfo;
use probe_rs::probe::list::Lister;
use probe_rs::{MemoryInterface, Permissions};

use crate::ProbeError;

/// The one probe that is attached.
fn the_probe() -> Result<DebugProbeInfo, ProbeError> {
    let mut probes = Lister::new().list_all();
    if probes.len() > 1 {
        let names: Vec<String> = probes.iter().map(ToString::to_string).collect();
        let (count, names) = (names.len(), names.join("; "));
        return Err(ProbeError::new(format!("there are {count} debug probes ({names}): leave one attached")));
    }
    let none = "no debug probe is attached: connect one by USB (on Linux its udev rule lets you open it), or write a file \
                with --out";
    probes.pop().ok_or_else(|| ProbeError::new(none))
}

/// Whether [`write`] can begin: probe-rs knows the chip, and one probe is attached.
///
/// # Errors
/// Says what is missing.
pub fn check(chip: &str) -> Result<(), ProbeError> {
    let unknown = format!("probe-rs does not know the chip {chip:?}: correct `probe` in the target file");
    Registry::from_builtin_families().get_target_by_name(chip).map_err(ProbeError::because(unknown))?;
    the_probe().map(drop)
}

/// Writes `bytes` at `address` of the chip's flash, erasing the blocks that they cover, and reads them back.
///
/// # Errors
/// As [`check`]; probe or chip do not answer; the flash reads back differently.
pub fn write(address: u32, bytes: &[u8], chip: &str) -> Result<(), ProbeError> {
    check(chip)?;
    let shut = "the debug probe does not open; does another program use it?";
    let probe = the_probe()?.open().map_err(ProbeError::because(shut))?;
    let silent = format!("no {chip} answers at the debug probe; check cable and power");
    let mut session = probe.attach(chip, Permissions::default()).map_err(ProbeError::because(silent))?;
    let mut loader = session.target().flash_loader();
    let no_flash = format!("{address:#x} is no flash of {chip}");
    loader.add_data(address.into(), bytes).map_err(ProbeError::because(no_flash))?;
    let mut options = DownloadOptions::default();
    // What shares an erase block with the slot is another's.
    options.keep_unwritten_bytes = true;
    let half = "the flash was not written to its end: write the slot anew";
    loader.commit(&mut session, options).map_err(ProbeError::because(half))?;
    let mut back = vec![0; bytes.len()];
    let unread = "the flash cannot be read back";
    let mut core = session.core(0).map_err(ProbeError::because(unread))?;
    core.read(address.into(), &mut back).map_err(ProbeError::because(unread))?;
    if back != bytes {
        return Err(ProbeError::new("the flash reads back differently; it may be worn or protected"));
    }
    Ok(())
}
