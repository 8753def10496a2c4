//! AArch64 with NEON. The algorithms are those of [`generic`](super::generic); a file here is an instruction set, or what
//! all of them share: the vectors ([`token`]) and the products of int16 inputs ([`words`]).

mod detect;
mod neon;
mod neon_dotprod;
mod neon_i8mm;
mod token;
mod words;

use super::Backend;

/// What this CPU runs, the fastest first.
pub(super) fn backends() -> impl Iterator<Item = Backend> {
    [neon_i8mm::backend(), neon_dotprod::backend(), neon::backend()].into_iter().flatten()
}

/// Ways that a test takes one by one.
#[cfg(test)]
pub(super) fn methods() -> impl Iterator<Item = Backend> {
    neon::methods()
}
