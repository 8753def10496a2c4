//! Memory that is taken once and kept.

/// `len` zeros that nobody else has, aligned as an image and an arena have to be; None where there are none left.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
pub fn room(len: usize) -> Option<&'static mut [u8]> {
    const PAGE: usize = 1 << 16;
    let before = core::arch::wasm32::memory_grow(0, len.div_ceil(PAGE));
    if before == usize::MAX {
        return None;
    }
    // SAFETY: `memory_grow` answers with the old size in pages; from there on it added at least `len` bytes, zeroed,
    // which no part of the program knows of. They start at a multiple of 64 KiB, not at 0 since the stack and the
    // program's data come first, and stay for the life of the instance.
    Some(unsafe { core::slice::from_raw_parts_mut((before * PAGE) as *mut u8, len) })
}

/// As in WebAssembly, for tests on the host.
#[cfg(not(target_arch = "wasm32"))]
pub fn room(len: usize) -> Option<&'static mut [u8]> {
    use fewstep_core::IMAGE_ALIGN;
    let mut memory = Vec::new();
    memory.try_reserve_exact(len.checked_add(IMAGE_ALIGN)?).ok()?;
    memory.resize(len + IMAGE_ALIGN, 0);
    let memory = memory.leak();
    let start = memory.as_ptr().align_offset(IMAGE_ALIGN);
    memory.get_mut(start..start + len)
}
