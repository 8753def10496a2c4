//! Seeded noise for training and sampling: the core's counter-based generator, so that a seed gives the same
//! numbers here and on a device.

use fewstep_core::sampler::noise::{normals_of, philox4x32};
use rayon::prelude::*;

/// What a stream of random numbers is for; streams of different purposes never share a counter.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Purpose {
    /// Noise of a sample, by stream (start, re-noising); the device's own counters.
    Sample = 0,
    Init = 1,
    Shuffle = 2,
    TrainNoise = 3,
    TrainScalars = 4,
    /// A second noise for pictures that are noised twice.
    TrainRenoise = 5,
    /// The noise and the strengths of trajectories that students learn from.
    Trajectories = 6,
    /// The noise of the pictures that running moments begin with.
    Matching = 7,
}

/// A stream of a seed: numbers are addressed by index, so any of them can be made alone.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    seed: u64,
    stream: u32,
    step: u32,
    purpose: Purpose,
}

impl Stream {
    /// Stream `stream` of `seed` for `purpose`, at training step `step` (0 outside training).
    pub fn new(seed: u64, purpose: Purpose, step: u32, stream: u32) -> Stream {
        Stream { seed, stream, step, purpose }
    }

    fn block(&self, index: u32) -> [u32; 4] {
        philox4x32([index, self.stream, self.step, self.purpose as u32], [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// Standard normal values; value `i` is lane `i % 4` of block `i / 4`.
    pub fn normals(&self, out: &mut [f32]) {
        for (i, four) in out.chunks_mut(4).enumerate() {
            let n = normals_of(self.block(i as u32));
            four.copy_from_slice(&n[..four.len()]);
        }
    }

    /// Four uniform values in [0, 1).
    pub fn uniforms(&self, index: u32) -> [f32; 4] {
        self.block(index).map(|v| (v >> 8) as f32 / (1 << 24) as f32)
    }

    /// A uniform 64-bit number.
    pub fn u64(&self, index: u32) -> u64 {
        let b = self.block(index);
        u64::from(b[0]) << 32 | u64::from(b[1])
    }
}

/// Noise stream `stream` of pictures `seed`, `seed + 1`, ...: 0 is the start, 1 + i re-noises after step i.
pub fn sample_noise(seed: u64, stream: u32, picture_len: usize, out: &mut [f32]) {
    out.par_chunks_mut(picture_len).enumerate().for_each(|(i, picture)| {
        Stream::new(seed.wrapping_add(i as u64), Purpose::Sample, 0, stream).normals(picture);
    });
}
