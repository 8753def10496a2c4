//! WebAssembly with simd128, where the module is compiled for it: there is nothing to ask at run time.

mod simd128;

use super::Backend;

/// What this module runs.
pub(super) fn backends() -> impl Iterator<Item = Backend> {
    simd128::backend().into_iter()
}

/// Ways that a test takes one by one.
#[cfg(test)]
pub(super) fn methods() -> impl Iterator<Item = Backend> {
    simd128::methods()
}
