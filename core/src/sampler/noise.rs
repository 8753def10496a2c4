//! Counter-based noise: a seed and a position give the value, in any order, on any target.

use crate::math;

/// Philox 4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, 2011).
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// Generator with the key (low word, high word) of `seed`.
    pub fn new(seed: u64) -> Philox {
        Philox { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// Four random words for a counter.
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut k0, mut k1] = self.key;
        let mut c = counter;
        for _ in 0..10 {
            let p0 = u64::from(c[0]) * 0xD251_1F53;
            let p1 = u64::from(c[2]) * 0xCD9E_8D57;
            c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        c
    }
}

/// Four standard normal values from a block, by the Box-Muller transform of words (0, 1) and (2, 3).
pub fn normals(block: [u32; 4]) -> [f32; 4] {
    const SCALE: f32 = 1.0 / 16_777_216.0;
    let pair = |a: u32, b: u32| {
        let u = ((a >> 8) + 1) as f32 * SCALE; // (0, 1]
        let v = (b >> 8) as f32 * SCALE; // [0, 1)
        let radius = math::sqrt(-2.0 * math::ln(u));
        let (sin, cos) = math::sin_cos(v * core::f32::consts::TAU);
        (radius * cos, radius * sin)
    };
    let ((a, b), (c, d)) = (pair(block[0], block[1]), pair(block[2], block[3]));
    [a, b, c, d]
}
