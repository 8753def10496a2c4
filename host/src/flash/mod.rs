//! From a student image to a board: targets as data, what is written where, and the file formats of flash tools.
//!
//! [`Target`] says what a chip has; [`plan`] puts an image into one of its slots; a [`Format`] writes the bytes at their
//! address and reads them back.

mod c_array;
pub mod counts;
pub mod elf;
mod enlarging;
pub mod fit;
mod format;
pub mod hex;
mod place;
pub mod probe;
mod remedies;
pub mod target;
pub mod uf2;

pub use format::{Format, write_checked};
pub use place::{SlotName, plan};
pub use target::Target;

/// Bytes at their address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub address: u32,
    pub bytes: Vec<u8>,
}
