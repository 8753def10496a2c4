//! Armv8.1-M with Helium (MVE): Cortex-M55, M85.
//!
//! The compiler has no intrinsics for it, and crashes when it is told that the CPU has it: everything here is assembly on
//! top of Armv8-M Mainline, chosen by `--cfg arm_mve`. It runs in the emulator, where a firmware compares it with the
//! scalar functions (`firmware-sim/firmware/src/compare.rs`).
//!
//! **Denormal numbers.** Helium's f32 operations are IEEE's, each rounded to nearest even, but for one thing: they take
//! denormal operands and results for zero. Where the result is rounded to an integer at the end, that changes nothing as
//! long as no factor on the way is huge, because a sum that could have noticed 2^-95 is so small that it rounds to 0 with
//! and without. Each file says which bound it checks; beyond it, and for f32 results, the scalar function runs.

#![allow(unsafe_code)]

/// Functions that are all assembly do not know the CPU they are compiled for.
macro_rules! cpu {
    () => {
        ".arch armv8.1-m.main\n.arch_extension mve.fp\n.arch_extension lob"
    };
}

mod attention;
mod bare;
mod conv;
mod embed;
mod int4;
mod norm_act;
mod pack;
mod pool;
mod quantize;
mod store;
mod tile;
mod upsample;

use super::Kernels;

pub(super) static KERNELS: Kernels = Kernels {
    name: "helium",
    quantize: quantize::quantize,
    conv: conv::conv,
    conv_blocks: super::all::conv_blocks,
    norm_act: norm_act::norm_act,
    avg_pool2: pool::avg_pool2,
    upsample_add: upsample::upsample_add,
    attention: attention::attention,
    embed: embed::embed,
    #[cfg(not(target_os = "none"))]
    preparing: None,
};
