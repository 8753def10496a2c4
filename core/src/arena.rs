//! The caller's memory: aligned storage, and disjoint typed views into it.

use core::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::ArenaError;

/// Alignment in bytes that student images and arenas need in memory.
pub const IMAGE_ALIGN: usize = 16;

/// Puts a value at a multiple of 16 bytes, for student images linked into a program:
///
/// ```
/// use fewstep_core::Aligned;
///
/// // In a program: &Aligned(*include_bytes!("student.fsw")).
/// static IMAGE: &Aligned<[u8]> = &Aligned(*b"fewstep");
/// assert_eq!(IMAGE.0.as_ptr() as usize % 16, 0);
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

/// Three parts of `arena`; where fewer are needed, an empty one shares bytes with none. `None` when two of them do, or one
/// lies outside, which a parsed model excludes for buffers that live at the same time.
#[inline(never)]
pub(crate) fn views(arena: &mut [u8], parts: [Range<usize>; 3]) -> Option<[&mut [u8]; 3]> {
    arena.get_disjoint_mut(parts).ok()
}

/// `bytes` as elements; a parsed model's buffers are aligned and of whole elements.
#[inline(never)]
pub(crate) fn typed<T: AnyBitPattern + NoUninit>(bytes: &mut [u8]) -> &mut [T] {
    bytemuck::try_cast_slice_mut(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_need_size_and_alignment() {
        let mut arena = Arena::<64>::new();
        assert_eq!(claim(arena.bytes(), 48).map(|b| b.len()), Ok(48));
        assert_eq!(claim(arena.bytes(), 65), Err(ArenaError::TooSmall { need: 65, have: 64 }));
        assert_eq!(claim(&mut arena.bytes()[1..], 16), Err(ArenaError::NotAligned { need: 16 }));
    }

    #[test]
    fn views_that_share_bytes_are_refused() {
        // Eight f32.
        let buffer = |offset: usize| offset..offset + 32;
        let mut arena = Arena::<64>::new();
        let [a, b, none] = views(arena.bytes(), [buffer(0), buffer(32), 0..0]).unwrap();
        assert!(none.is_empty());
        assert_eq!((typed::<f32>(a).len(), typed::<i16>(b).len()), (8, 16));
        assert!(views(arena.bytes(), [buffer(0), buffer(16), 0..0]).is_none());
        assert!(views(arena.bytes(), [buffer(48), 0..0, 0..0]).is_none());
        assert!(views(arena.bytes(), [buffer(0), buffer(32), 48..64]).is_none());
    }
}
