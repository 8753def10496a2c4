//! Training kernels, one picture at a time and channels last, forward and backward: convolution, attention, fused
//! GroupNorm + affine + SiLU. [`crate::nn::ops`] turns them into candle custom ops that run pictures in parallel.
//!
//! Five engines compute the same convolutions: in f32 [`Engine::Portable`] through `matrixmultiply`, [`Engine::Avx2`] and
//! [`Engine::Avx512F32`], and with bf16 operands and f32 accumulators [`Engine::Avx512`] and [`Engine::Amx`]. Everything
//! outside the matrix products stays f32. A result depends on the engine, never on the number of threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attention;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bf16;
mod conv;
#[cfg(target_arch = "x86_64")]
mod fma;
#[cfg(target_arch = "x86_64")]
mod lines;
mod norm_act;
mod portable;
mod rows;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod wide;

pub use attention::{Attention, AttentionScratch};
pub use conv::{ConvShape, Engine, Precision, Scratch, WeightGradient, Weights};
pub use norm_act::{NormAct, NormScratch};
pub use rows::{add_to_rows, channel_sums, fill_rows};

/// Channels in one GroupNorm group.
pub const GROUP: usize = 8;
/// Added to a group's variance.
pub const GROUPNORM_EPS: f64 = 1e-5;
