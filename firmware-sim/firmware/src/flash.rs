//! What lies in flash beside the firmware.

use core::slice::from_raw_parts;

use crate::board::{IMAGE_ADDRESS, IMAGE_BYTES, REQUEST_ADDRESS};

/// The slot of the student image, 16-byte aligned; the image may be shorter.
pub fn image() -> &'static [u8] {
    // SAFETY: the board file puts IMAGE_BYTES bytes of flash there, which the linker script keeps free of code and
    // data, and which nothing writes while the firmware runs.
    unsafe { from_raw_parts(IMAGE_ADDRESS as *const u8, IMAGE_BYTES) }
}

/// The request's bytes.
pub fn request() -> &'static [u8] {
    // SAFETY: as in `image`; the board file reserves at least this many bytes.
    unsafe { from_raw_parts(REQUEST_ADDRESS as *const u8, fewstep_wire::Request::BYTES) }
}

/// The bytes of a scenario's commands, in the place of a request.
#[cfg(feature = "scenario")]
pub fn script() -> &'static [u8] {
    const _: () = assert!(crate::board::storage::REQUEST >= fewstep_wire::Script::MAX_BYTES);
    // SAFETY: as in `request`.
    unsafe { from_raw_parts(REQUEST_ADDRESS as *const u8, fewstep_wire::Script::MAX_BYTES) }
}

/// What the request has with it; `None` if that is more than the slot of the image, or damaged.
pub fn attached(attached: &fewstep_wire::Attached) -> Option<&'static [u8]> {
    let start = image().len().checked_sub(attached.room() as usize)?;
    let bytes = image().get(start..)?.get(..attached.bytes as usize)?;
    (fewstep_wire::Crc32c::new().update(bytes).value() == attached.crc).then_some(bytes)
}
