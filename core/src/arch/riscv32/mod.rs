//! RISC-V with multiplication and without a float unit: the scalar function's f32 arithmetic is calls of a library, each of
//! 40 to 100 instructions. So convolutions run in tiles of registers, and what becomes of an accumulator or of a value to be
//! normalised is estimated in integers with a bound of the error; only where that leaves two results possible, f32
//! decides. The bits are the scalar function's.
//!
//! But for one loop it is plain Rust: on other targets it compiles for tests.

#![allow(unsafe_code)]

mod attention;
mod conv;
mod fixed;
mod norm_act;
mod store;
mod winograd;

use super::Kernels;
use crate::ops;

pub(super) static KERNELS: Kernels = Kernels {
    name: "riscv32",
    quantize: ops::quantize,
    conv: conv::conv,
    conv_blocks: super::all::conv_blocks,
    norm_act: norm_act::norm_act,
    avg_pool2: ops::avg_pool2,
    upsample_add: ops::upsample_add,
    attention: attention::attention,
    embed: ops::embed,
    #[cfg(not(target_os = "none"))]
    preparing: None,
};

#[cfg(test)]
mod tests;
