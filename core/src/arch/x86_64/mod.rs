//! x86-64. The algorithms are those of [`generic`](super::generic); a file here is an instruction set.

mod avx2;
mod avx2_vnni;
mod avx512_vnni;
mod detect;
mod embed;

use super::Backend;

/// What this CPU runs, the fastest first.
pub(super) fn backends() -> impl Iterator<Item = Backend> {
    [avx512_vnni::backend(), avx2_vnni::backend(), avx2::backend()].into_iter().flatten()
}

/// Ways that a test takes one by one.
#[cfg(test)]
pub(super) fn methods() -> impl Iterator<Item = Backend> {
    avx2::methods()
}
