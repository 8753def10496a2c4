//! Inputs of the benchmarks: the same numbers in every run.

use fewstep_core::sampler::noise::{normals, philox4x32};

/// Numbers from a counter.
#[derive(Debug, Default)]
pub struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        philox4x32([self.0, 0, 0, 0], [0x6265_6e63, 0x6873])[0]
    }

    /// Uniform over all int8 values.
    pub fn i8s(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| (self.next() >> 24) as i8).collect()
    }

    /// Uniform over all int16 values.
    pub fn i16s(&mut self, len: usize) -> Vec<i16> {
        (0..len).map(|_| (self.next() >> 16) as i16).collect()
    }

    /// Uniform in -127 ..= 127.
    pub fn weights(&mut self, len: usize) -> Vec<i8> {
        self.i8s(len).into_iter().map(|v| v.max(-127)).collect()
    }

    /// Normal with this standard deviation.
    pub fn normals(&mut self, len: usize, deviation: f32) -> Vec<f32> {
        self.0 += 1;
        let stream = self.0;
        (0..len.div_ceil(4) as u32)
            .flat_map(|block| normals(0, stream, block))
            .take(len)
            .map(|v| v * deviation)
            .collect()
    }

    /// Uniform in (bound / 2, bound): scales.
    pub fn scales(&mut self, len: usize, bound: f32) -> Vec<f32> {
        (0..len).map(|_| bound * (0.5 + 0.5 * ((self.next() >> 8) as f32 / 16_777_216.0))).collect()
    }
}
