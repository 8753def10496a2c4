//! Armv7E-M and Armv8-M Mainline with the DSP extension: Cortex-M4, M7, M33.
//!
//! Convolutions are int16 matrix products by SMLAD. 3x3 layers with enough scratch run as the exact integer Winograd
//! convolution ([`winograd`]), everything else from panels of columns ([`direct`], [`gemm`]); without scratch for
//! a panel the sums run over the tensors as they lie ([`bare`]). Which one, [`conv`] decides by sizes alone.
//!
//! On other targets this module compiles for tests only, with the instructions written in Rust, so that the algebra is
//! tested there; the instructions themselves are tested in the emulator.

#![allow(unsafe_code)]

/// The first on Arm, the second elsewhere.
macro_rules! portable_or {
    ($arm:block, $model:expr) => {{
        #[cfg(arm_dsp)]
        {
            $arm
        }
        #[cfg(not(arm_dsp))]
        {
            $model
        }
    }};
}

/// First line of every function that is all assembly: link-time optimization reads it without the target's features, and
/// Armv8-M has not always DSP instructions.
#[cfg(arm_dsp)]
macro_rules! cpu {
    () => {
        if_armv8m!(".cpu cortex-m33", "")
    };
}

/// The same for functions that use the FPU.
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
macro_rules! cpu_and_fpu {
    () => {
        if_armv8m!(".cpu cortex-m33\n.fpu fpv5-sp-d16", ".fpu fpv4-sp-d16")
    };
}

#[cfg(all(arm_dsp, armv8m))]
macro_rules! if_armv8m {
    ($armv8m:literal, $armv7em:literal) => {
        $armv8m
    };
}
#[cfg(all(arm_dsp, not(armv8m)))]
macro_rules! if_armv8m {
    ($armv8m:literal, $armv7em:literal) => {
        $armv7em
    };
}

/// The same instruction for several values: its operands one after the other.
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
macro_rules! each {
    ($op:literal; $(($($operand:literal),+))+) => {
        concat!($($op, " ", each!(@ $($operand),+), "\n"),+)
    };
    (@ $first:literal $(, $rest:literal)*) => { concat!($first $(, ", ", $rest)*) };
}

mod attention;
mod bare;
mod conv;
mod direct;
mod embed;
mod gemm;
mod int4;
mod norm_act;
mod panel;
mod simd;
mod store;
mod winograd;

use super::Kernels;
use crate::ops;

pub(super) static KERNELS: Kernels = Kernels {
    name: "arm-dsp",
    quantize: ops::quantize,
    conv: conv::conv,
    conv_blocks: super::all::conv_blocks,
    norm_act: norm_act::norm_act,
    avg_pool2: ops::avg_pool2,
    upsample_add: ops::upsample_add,
    attention: attention::attention,
    embed: embed::embed,
    #[cfg(not(target_os = "none"))]
    preparing: None,
};

#[cfg(test)]
mod tests;
