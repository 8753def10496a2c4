//! The operations over a small vector trait, for every architecture that implements it.
//!
//! The algorithms are safe code: a value of a [`Simd`] type is the proof that the CPU has its instructions. They are
//! all `inline(always)`, because their instructions become single ones only inside a function compiled for that CPU,
//! which is the one in the architecture's folder.

pub(super) mod attention;
pub(super) mod conv;
pub(super) mod embed;
pub(super) mod entry;
pub(super) mod norm_act;
pub(super) mod panel;
mod patch;
pub(super) mod pool;
pub(super) mod quantize;
#[cfg(not(target_arch = "aarch64"))]
mod splat;
pub(super) mod tile;
pub(super) mod upsample;
pub(super) mod vector;
pub(super) mod winograd;

#[cfg(not(target_arch = "wasm32"))]
pub(super) use panel::{Products, Rows};
#[cfg(target_arch = "x86_64")]
pub(super) use splat::Bytes;
#[cfg(not(target_arch = "aarch64"))]
pub(super) use splat::Words;
pub(super) use vector::{Simd, padded, put};
