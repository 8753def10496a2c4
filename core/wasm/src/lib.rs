//! fewstep-core for a page in the browser: a boundary of plain functions over numbers and memory, [`boundary`].
//!
//! One instance of the module holds one student; another student is another instance, so memory is taken and never
//! given back, and neither std nor an allocator is needed. Compiled with and without simd128 by
//! `FEWSTEP_WRITE=1 ./check page`.

#![cfg_attr(all(target_arch = "wasm32", not(test)), no_std)]
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(target_arch = "wasm32")]
pub mod boundary;
mod describe;
mod memory;
mod student;

pub use describe::{Text, describe};
pub use memory::room;
pub use student::Student;
