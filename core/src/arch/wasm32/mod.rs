//! WebAssembly with simd128, where the module is compiled for it: there is nothing to ask at run time.

mod simd128;

use super::Backend;

/// What this module runs.
pub(super) fn backends() -> impl Iterator<Item = Backend> {
    simd128::backend().into_iter()
}
