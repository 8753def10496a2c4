//! Room for intermediate results on the stack, without the time to clear it: it was a twentieth of a step.

use core::mem::MaybeUninit;

/// The room, holding anything: whoever takes it writes before it reads.
///
/// # Safety
///
/// Every pattern of bits is a `T`.
#[inline(always)]
pub(super) unsafe fn uncleared<T>(room: &mut MaybeUninit<T>) -> &mut T {
    if cfg!(debug_assertions) || cfg!(target_arch = "wasm32") {
        // Tests see what is read too early: nothing is made of such numbers that could be right. Stable Rust has no
        // assembly for WebAssembly.
        let byte = if cfg!(debug_assertions) { 0xa5 } else { 0 };
        // SAFETY: `room` is writable, and every pattern of bits is a `T`.
        unsafe { room.as_mut_ptr().write_bytes(byte, 1) };
    }
    #[cfg(not(target_arch = "wasm32"))]
    // SAFETY: there is no instruction. To the compiler the assembly writes bytes that it knows nothing about, which
    // initializes them.
    unsafe {
        core::arch::asm!("/* {0} */", in(reg) room.as_mut_ptr(), options(nostack, preserves_flags))
    };
    // SAFETY: as the caller says, and above.
    unsafe { room.assume_init_mut() }
}
