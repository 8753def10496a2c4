//! Registers of the board.

use core::ptr::{read_volatile, write_volatile};

/// A peripheral's registers, by the address of the first.
#[derive(Clone, Copy)]
pub struct Registers(usize);

impl Registers {
    /// # Safety
    /// A peripheral lies at `base` whose registers neither read nor write memory that Rust knows, and every offset used
    /// with it is one of its registers.
    pub const unsafe fn at(base: usize) -> Self {
        Self(base)
    }

    pub fn write(self, offset: usize, value: u32) {
        // SAFETY: a register, as `at` was promised; the address is a multiple of four.
        unsafe { write_volatile((self.0 + offset) as *mut u32, value) }
    }

    pub fn read(self, offset: usize) -> u32 {
        // SAFETY: as in `write`.
        unsafe { read_volatile((self.0 + offset) as *const u32) }
    }
}
