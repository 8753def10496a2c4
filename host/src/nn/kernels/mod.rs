//! Training kernels, one picture at a time and channels last: convolution forward and backward, fused
//! GroupNorm + affine + SiLU. [`crate::nn::ops`] turns them into candle custom ops that run pictures in parallel.
//!
//! Three engines compute the same convolutions: [`Engine::Portable`] in f32 through `matrixmultiply`, and with bf16
//! operands and f32 accumulators [`Engine::Avx512`] and [`Engine::Amx`]. Everything outside the matrix products stays
//! f32. A result depends on the engine, never on the number of threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bf16;
mod conv;
mod norm_act;
mod portable;
mod wide;

pub use conv::{ConvShape, Engine, Precision, Scratch, WeightGradient, Weights};
pub use norm_act::{NormAct, NormScratch};

/// Channels in one GroupNorm group.
pub const GROUP: usize = 8;
/// Added to a group's variance.
pub const GROUPNORM_EPS: f64 = 1e-5;
