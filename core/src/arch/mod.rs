//! The function table through which a session calls the operations.
//!
//! To add a backend: write `arch/<architecture>/` with the same file names as [`ops`](crate::ops), each function
//! taking the same parameters and giving the same bits; a static [`Kernels`] with those it has and the scalar ones
//! for the rest; and name it in [`Backend::all`]. Whether the CPU can run it is found out there, once. The
//! differential tests run every backend of that list against the scalar one.

/// Leaves the function where the lengths that assembly relies on are not there. A parsed model has them; where debug
/// assertions are on that is asserted. A firmware has no panic.
#[allow(unused_macros, reason = "the kernels of firmware's CPUs use it")]
macro_rules! require {
    ($condition:expr $(, $otherwise:expr)?) => {
        if !($condition) {
            debug_assert!(false, stringify!($condition));
            return $($otherwise)?;
        }
    };
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[allow(unsafe_code)]
mod aarch64;
mod all;
#[cfg(any(all(arm_dsp, not(arm_mve)), test))]
mod arm;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod generic;
#[cfg(arm_mve)]
mod helium;
#[cfg(any(target_arch = "riscv32", test))]
mod riscv32;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
#[allow(unsafe_code)]
mod room;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[allow(unsafe_code)]
mod wasm32;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86_64;

use crate::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample};

/// One function per operation; parameters and results as in [`ops`](crate::ops).
#[derive(Debug)]
pub struct Kernels {
    /// Short name, such as `scalar`.
    pub name: &'static str,
    /// [`ops::quantize`](crate::ops::quantize()).
    pub quantize: fn(f32, &[f32], &mut [i16]),
    /// [`ops::conv`](crate::ops::conv()), with bytes it may use as it likes: aligned to
    /// [`IMAGE_ALIGN`](crate::IMAGE_ALIGN), of any length (an image grants what its exporter planned), or none.
    pub conv: fn(&Conv<'_>, ConvIn<'_>, ConvOut<'_>, &mut [u8]),
    /// The same with the weights in [blocks](crate::ops::blocks).
    pub conv_blocks: fn(&Conv<'_>, ConvIn<'_>, ConvOut<'_>, &mut [u8]),
    /// [`ops::norm_act`](crate::ops::norm_act()).
    pub norm_act: fn(&NormAct<'_>, &[i16], NormOut<'_>),
    /// [`ops::avg_pool2`](crate::ops::avg_pool2).
    pub avg_pool2: fn(&Pool, &[i16], &mut [i16]),
    /// [`ops::upsample_add`](crate::ops::upsample_add).
    pub upsample_add: fn(&Upsample, &[i16], &mut [i16]),
    /// [`ops::attention`](crate::ops::attention()).
    pub attention: fn(&Attention, &[i8], &mut [f32], &mut [i8]),
    /// [`ops::embed`](crate::ops::embed()).
    pub embed: fn(&Embed<'_>, &mut [f32], &mut [f32], &mut [f32]),
    /// Where weights may be prepared. Firmware has no room for them.
    #[cfg(not(target_os = "none"))]
    pub preparing: Option<Preparing>,
}

/// Convolutions whose weights are prepared once.
#[cfg(not(target_os = "none"))]
#[derive(Clone, Copy, Debug)]
pub struct Preparing {
    /// Writes the prepared weights of a layer of int8 inputs to memory that is long enough, or none of them, and returns their
    /// length: 0 for layers that take theirs as they are. Whether they lie in [blocks](crate::ops::blocks) comes second.
    pub prepare: fn(&Conv<'_>, bool, &mut [i32]) -> usize,
    /// [`ops::conv`](crate::ops::conv()) with weights that `prepare` made for the layer, and perhaps some words more.
    pub conv: fn(&Conv<'_>, &[i32], ConvIn<'_>, ConvOut<'_>),
}

/// A set of kernels. All of them give the same bits; they differ in speed.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    kernels: &'static Kernels,
}

impl Backend {
    /// The scalar functions of [`ops`](crate::ops), the specification. Always there.
    pub const fn scalar() -> Self {
        Self { kernels: &all::KERNELS }
    }

    /// Every backend that this CPU can run, the fastest first; scalar is the last.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = x86_64::backends();
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        let fast = aarch64::backends();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        let fast = wasm32::backends();
        #[cfg(arm_mve)]
        let fast = core::iter::once(Self { kernels: &helium::KERNELS });
        #[cfg(all(arm_dsp, not(arm_mve)))]
        let fast = core::iter::once(Self { kernels: &arm::KERNELS });
        #[cfg(target_arch = "riscv32")]
        let fast = core::iter::once(Self { kernels: &riscv32::KERNELS });
        #[cfg(not(any(
            target_arch = "x86_64",
            target_arch = "riscv32",
            all(target_arch = "aarch64", target_feature = "neon"),
            all(target_arch = "wasm32", target_feature = "simd128"),
            arm_dsp,
            arm_mve
        )))]
        let fast = core::iter::empty();
        fast.chain(core::iter::once(Self::scalar()))
    }

    /// What a backend chooses among by cost, each as a backend of its own.
    #[cfg(test)]
    fn methods() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let methods = x86_64::methods();
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        let methods = aarch64::methods();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        let methods = wasm32::methods();
        #[cfg(not(any(
            target_arch = "x86_64",
            all(target_arch = "aarch64", target_feature = "neon"),
            all(target_arch = "wasm32", target_feature = "simd128")
        )))]
        let methods = core::iter::empty();
        methods
    }

    /// The fastest backend that this CPU can run.
    pub fn best() -> Self {
        Self::all().next().unwrap_or(Self::scalar())
    }

    /// Short name, such as `scalar`.
    pub const fn name(&self) -> &'static str {
        self.kernels.name
    }

    /// The functions.
    pub const fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
}

/// Name of the kernels that [`Session::new`](crate::Session::new) uses on this CPU.
pub fn backend() -> &'static str {
    Backend::best().name()
}
