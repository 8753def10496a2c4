//! Built without probe-rs.

use crate::ProbeError;

/// Says how to get the library.
///
/// # Errors
/// Always.
pub fn check(_chip: &str) -> Result<(), ProbeError> {
    Err(ProbeError::new(
        "this program was built without probe-rs: build it with `cargo build --release --features probe`, or write a file \
         with --out and give it to your programmer",
    ))
}

/// As [`check`].
///
/// # Errors
/// Always.
pub fn write(_address: u32, _bytes: &[u8], chip: &str) -> Result<(), ProbeError> {
    check(chip)
}
