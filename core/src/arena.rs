//! The caller's memory: aligned storage, and disjoint typed views into it.

use core::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::ArenaError;
use crate::format::BufferRepr;

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

/// The bytes of `buffers` in `arena`. `None` when two of them share bytes or one lies outside, which a parsed model
/// excludes for buffers that live at the same time.
pub(crate) fn views<'a, const N: usize>(arena: &'a mut [u8], buffers: [&BufferRepr; N]) -> Option<[&'a mut [u8]; N]> {
    let mut ranges = [const { 0..0 }; 3];
    for (range, buffer) in ranges.iter_mut().zip(buffers) {
        *range = bytes_of(buffer);
    }
    let mut parts = disjoint(arena, ranges)?;
    parts.first_chunk_mut::<N>().map(|parts| parts.each_mut().map(core::mem::take))
}

fn bytes_of(buffer: &BufferRepr) -> Range<usize> {
    buffer.offset as usize..buffer.end() as usize
}

/// Parts of the arena. Empty ones share bytes with none.
#[inline(never)]
fn disjoint(arena: &mut [u8], ranges: [Range<usize>; 3]) -> Option<[&mut [u8]; 3]> {
    arena.get_disjoint_mut(ranges).ok()
}

/// The bytes of two buffers, and the `scratch` that lies beside all buffers.
pub(crate) fn views_and_scratch<'a>(
    arena: &'a mut [u8],
    buffers: [&BufferRepr; 2],
    scratch: Range<usize>,
) -> Option<([&'a mut [u8]; 2], &'a mut [u8])> {
    let [a, b] = buffers;
    let [a, b, scratch] = disjoint(arena, [bytes_of(a), bytes_of(b), scratch])?;
    Some(([a, b], scratch))
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
        let buffer = |offset| BufferRepr {
            offset,
            first: 0,
            last: 1,
            height: 1,
            width: 1,
            channels: 8,
            element: crate::format::Element::F32,
        };
        let mut arena = Arena::<64>::new();
        let [a, b] = views(arena.bytes(), [&buffer(0), &buffer(32)]).unwrap();
        assert_eq!((typed::<f32>(a).len(), typed::<i16>(b).len()), (8, 16));
        assert!(views(arena.bytes(), [&buffer(0), &buffer(16)]).is_none());
        assert!(views(arena.bytes(), [&buffer(48)]).is_none());
        let ([_, _], scratch) = views_and_scratch(arena.bytes(), [&buffer(0), &buffer(32)], 0..0).unwrap();
        assert!(scratch.is_empty());
        assert!(views_and_scratch(arena.bytes(), [&buffer(0), &buffer(32)], 48..64).is_none());
    }
}
