//! The operations of a student, one a file. Each is a readable scalar function over plain slices and **is the
//! specification** of its arithmetic: every other backend gives the same bits.
//!
//! Activations are [height][width][channels] (channels innermost), quantized as value = (q - zero point) * scale.
//! f32 expressions are evaluated as written, never fused. Scales never appear by themselves: the exporter writes the
//! ratios that an operation needs, per step, as [`Params`](crate::format::step::Params).
//!
//! The functions expect slices of the lengths their parameters state and may panic otherwise; a parsed
//! [`Model`](crate::Model) has only such.

pub mod attention;
pub mod blocks;
pub mod conv;
pub mod embed;
pub mod int4;
pub mod norm_act;
pub mod pool;
pub mod quantize;
pub mod upsample;
pub mod weights;

pub use attention::{Attention, attention};
pub use conv::{Conv, ConvIn, ConvOut, conv, conv_blocks};
pub use embed::{Embed, embed};
pub use int4::Int4;
pub use norm_act::{NormAct, NormOut, norm_act};
pub use pool::{Pool, avg_pool2};
pub use quantize::quantize;
pub use upsample::{Upsample, upsample_add};
pub use weights::Weights;

#[cfg(test)]
pub(crate) mod testing {
    use crate::sampler::noise::philox4x32;

    /// Repeatable test numbers.
    pub struct Numbers(pub u32);

    impl Numbers {
        fn next(&mut self) -> u32 {
            self.0 += 1;
            philox4x32([self.0, 0, 0, 1], [0, 0])[0]
        }

        /// Whole range, with the extremes frequent.
        pub fn i8s(&mut self, n: usize) -> Vec<i8> {
            (0..n)
                .map(|_| match self.next() {
                    x if x % 16 == 0 => [-128, 127][(x >> 8) as usize % 2],
                    x => (x >> 8) as i8,
                })
                .collect()
        }

        /// Whole range, with the extremes frequent.
        pub fn i16s(&mut self, n: usize) -> Vec<i16> {
            (0..n)
                .map(|_| match self.next() {
                    x if x % 16 == 0 => [-32768, 32767][(x >> 8) as usize % 2],
                    x => (x >> 8) as i16,
                })
                .collect()
        }

        /// Uniform in -bound ..= bound.
        pub fn f32s(&mut self, n: usize, bound: f32) -> Vec<f32> {
            (0..n).map(|_| (self.next() as i32 as f32) / 2_147_483_648.0 * bound).collect()
        }
    }
}
