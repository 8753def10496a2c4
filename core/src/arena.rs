//! The caller's memory: aligned storage, and disjoint typed views into it.

use crate::error::ArenaError;

/// Alignment in bytes that student images and arenas need in memory.
pub const IMAGE_ALIGN: usize = 16;

/// Puts a value at a multiple of 16 bytes, for student images linked into a program:
///
/// ```ignore
/// static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!("student.fsw"));
/// let model = Model::parse(&IMAGE.0)?;
/// ```
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Aligned<T: ?Sized>(pub T);

/// `N` bytes of aligned memory for a [`Session`](crate::Session).
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct Arena<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    /// Zeroed memory; `const`, so that it can be a `static`.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// The memory, to hand to [`Session::new`](crate::Session::new).
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks size and alignment and returns the first `need` bytes.
pub(crate) fn claim(bytes: &mut [u8], need: usize) -> Result<&mut [u8], ArenaError> {
    let have = bytes.len();
    if !(bytes.as_ptr() as usize).is_multiple_of(IMAGE_ALIGN) {
        return Err(ArenaError::NotAligned { need: IMAGE_ALIGN });
    }
    bytes.get_mut(..need).ok_or(ArenaError::TooSmall { need, have })
}
