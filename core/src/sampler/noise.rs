//! Counter-based normal noise: Philox 4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011)
//! and Box-Muller. A picture element's noise depends on seed, stream and its index only.

use crate::math::{ln, sincos_turn, sqrt};

/// Ten rounds of Philox 4x32 on `counter` under `key`.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        let p0 = u64::from(c[0]) * 0xd251_1f53;
        let p1 = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
    }
    c
}

/// Two standard normals from two uniform words (Box-Muller): (radius cos, radius sin).
fn box_muller(radius: u32, angle: u32) -> [f32; 2] {
    // Uniform in (0, 1], 24 bits.
    let u = ((radius >> 8) + 1) as f32 * (1.0 / 16_777_216.0);
    let r = sqrt(-2.0 * ln(u));
    let (sin, cos) = sincos_turn(angle);
    [r * cos, r * sin]
}

/// The four normals of block `block` of stream `stream`: picture elements 4 * block .. 4 * block + 4 in (height,
/// width, channel) order. Stream 0 is the start noise, stream 1 + i the noise added after step i.
pub fn normals(seed: u64, stream: u32, block: u32) -> [f32; 4] {
    normals_of(philox4x32([block, stream, 0, 0], [seed as u32, (seed >> 32) as u32]))
}

/// Four normals of four uniform words.
pub fn normals_of(words: [u32; 4]) -> [f32; 4] {
    let [a, b] = box_muller(words[0], words[1]);
    let [c, d] = box_muller(words[2], words[3]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors that Random123 publishes (kat_vectors, philox4x32 10).
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut moments = [0.0f64; 4];
        let mut within_one = 0u32;
        let blocks = 250_000;
        for block in 0..blocks {
            for x in normals(7, 0, block) {
                let x = f64::from(x);
                assert!(x.abs() < 6.0);
                for (k, m) in moments.iter_mut().enumerate() {
                    *m += x.powi(k as i32 + 1);
                }
                within_one += u32::from(x.abs() < 1.0);
            }
        }
        let n = f64::from(blocks) * 4.0;
        // Five standard errors: sqrt(1, 2, 15, 96) / 1000.
        assert!((moments[0] / n).abs() < 0.005);
        assert!((moments[1] / n - 1.0).abs() < 0.0071);
        assert!((moments[2] / n).abs() < 0.02);
        assert!((moments[3] / n - 3.0).abs() < 0.05);
        assert!((f64::from(within_one) / n - 0.6827).abs() < 0.0025);
    }

    #[test]
    fn streams_and_seeds_differ() {
        let base = normals(1, 0, 0);
        assert_ne!(base, normals(1, 1, 0));
        assert_ne!(base, normals(1 << 32, 0, 0));
        assert_ne!(base, normals(1, 0, 1));
        assert_eq!(base, normals(1, 0, 0));
    }

    #[test]
    fn extreme_words_stay_finite() {
        for a in [0, 255, 256, u32::MAX] {
            for b in [0, 1 << 29, 1 << 30, 1 << 31, u32::MAX] {
                assert!(box_muller(a, b).iter().all(|x| x.is_finite() && x.abs() < 6.0));
            }
        }
    }
}
