//! Parts of slices without a way to panic: a firmware has no use for one, and the checks cost the same.
//!
//! What a parsed model guarantees is asserted where debug assertions are on, as in the tests; elsewhere a part that is not
//! there is empty.

/// `len` elements from `from` on.
#[inline(always)]
pub(crate) fn part<T>(slice: &[T], from: usize, len: usize) -> &[T] {
    debug_assert!(from + len <= slice.len(), "{len} from {from} of {}", slice.len());
    slice.get(from..from.wrapping_add(len)).unwrap_or_default()
}

/// As [`part`], to be written.
#[inline(always)]
pub(crate) fn part_mut<T>(slice: &mut [T], from: usize, len: usize) -> &mut [T] {
    debug_assert!(from + len <= slice.len(), "{len} from {from} of {}", slice.len());
    slice.get_mut(from..from.wrapping_add(len)).unwrap_or_default()
}

/// Everything from `from` on.
#[inline(always)]
pub(crate) fn rest<T>(slice: &[T], from: usize) -> &[T] {
    debug_assert!(from <= slice.len(), "from {from} of {}", slice.len());
    slice.get(from..).unwrap_or_default()
}

/// As [`rest`], to be written.
#[inline(always)]
pub(crate) fn rest_mut<T>(slice: &mut [T], from: usize) -> &mut [T] {
    debug_assert!(from <= slice.len(), "from {from} of {}", slice.len());
    slice.get_mut(from..).unwrap_or_default()
}

/// The first `len` elements, and the others.
#[inline(always)]
pub(crate) fn cut<T>(slice: &mut [T], len: usize) -> (&mut [T], &mut [T]) {
    debug_assert!(len <= slice.len(), "{len} of {}", slice.len());
    slice.split_at_mut_checked(len).unwrap_or_default()
}

/// Element `index`; 0 or the like where there is none.
#[inline(always)]
pub(crate) fn at<T: Copy + Default>(slice: &[T], index: usize) -> T {
    debug_assert!(index < slice.len(), "{index} of {}", slice.len());
    slice.get(index).copied().unwrap_or_default()
}

/// Writes element `index`.
#[inline(always)]
pub(crate) fn put<T>(slice: &mut [T], index: usize, value: T) {
    debug_assert!(index < slice.len(), "{index} of {}", slice.len());
    if let Some(place) = slice.get_mut(index) {
        *place = value;
    }
}
