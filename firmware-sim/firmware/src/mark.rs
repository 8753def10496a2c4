//! Marks for the instruction counter: hints that do nothing on a Cortex-M and that the emulator's plugin sees.

use core::arch::asm;

/// Runs `work` as one counted region.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an unallocated hint executes as NOP (Armv7-M, A5.2.5). No `nomem`: nothing moves across it.
    unsafe { asm!(".inst.n 0xbf90") };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!(".inst.n 0xbfa0") };
    result
}

/// A denoising step is done.
pub fn step() {
    // SAFETY: as in `counted`.
    unsafe { asm!(".inst.n 0xbff0") };
}
