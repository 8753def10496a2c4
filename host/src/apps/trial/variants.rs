//! Classical augmentation: a picture turned, scaled, moved and mirrored a little.

use crate::data::Dataset;
use crate::noise::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// How far a variant may differ from its picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variants {
    /// Largest turn either way, in degrees.
    pub turn: f32,
    /// Largest change of size, as a share.
    pub scale: f32,
    /// Largest move along each axis, as a share of the side.
    pub shift: f32,
    /// Whether half of the variants are mirror images.
    pub mirror: bool,
}

impl Variants {
    /// Up to 10 degrees, a tenth in size, a fourteenth of the side (two pixels of 28).
    pub fn usual(mirror: bool) -> Variants {
        Variants { turn: 10.0, scale: 0.1, shift: 1.0 / 14.0, mirror }
    }

    /// `count` variants of the pictures in turn; variant i is a function of (seed, i).
    pub fn of(&self, data: &Dataset, count: usize, seed: u64) -> (Vec<u8>, Vec<u16>) {
        let random = Stream::new(seed, Purpose::TrainScalars, 0, 1);
        let mut pictures = Vec::with_capacity(count * data.picture_bytes());
        let mut labels = Vec::with_capacity(count);
        for i in 0..count {
            let of = i % data.len();
            let warp = self.warp(random.uniforms(2 * i as u32), random.uniforms(2 * i as u32 + 1));
            push_warped(data, of, &warp, &mut pictures);
            labels.push(data.labels[of]);
        }
        (pictures, labels)
    }

    fn warp(&self, [turn, scale, dy, dx]: [f32; 4], [mirror, ..]: [f32; 4]) -> Warp {
        let centred = |u: f32| 2.0 * u - 1.0;
        let (sin, cos) = (self.turn * centred(turn)).to_radians().sin_cos();
        let size = 1.0 + self.scale * centred(scale);
        let sign = if self.mirror && mirror < 0.5 { -1.0 } else { 1.0 };
        Warp {
            across: [sign * cos / size, sign * sin / size],
            down: [-sin / size, cos / size],
            shift: [self.shift * centred(dy), self.shift * centred(dx)],
        }
    }
}

/// Where a pixel of the result comes from, about the middle of the picture.
struct Warp {
    /// Source x of a step to the right and of a step down.
    across: [f32; 2],
    /// Source y of a step to the right and of a step down.
    down: [f32; 2],
    /// Shares of height and width.
    shift: [f32; 2],
}

/// Appends picture `i` warped: bilinear between pixels, edges repeated.
fn push_warped(data: &Dataset, i: usize, warp: &Warp, out: &mut Vec<u8>) {
    let (h, w, c) = (data.height, data.width, data.channels);
    let picture = data.picture(i);
    let (mid_y, mid_x) = ((h - 1) as f32 / 2.0, (w - 1) as f32 / 2.0);
    // Neighbours along an axis and the share of the second.
    let between = |at: f32, side: usize| {
        let at = at.clamp(0.0, (side - 1) as f32);
        let first = at as usize;
        (first, (first + 1).min(side - 1), at - first as f32)
    };
    for y in 0..h {
        for x in 0..w {
            let (v, u) = (y as f32 - mid_y, x as f32 - mid_x);
            let from_y = mid_y + warp.down[0] * u + warp.down[1] * v - warp.shift[0] * h as f32;
            let from_x = mid_x + warp.across[0] * u + warp.across[1] * v - warp.shift[1] * w as f32;
            let ((y0, y1, sy), (x0, x1, sx)) = (between(from_y, h), between(from_x, w));
            for channel in 0..c {
                let at = |y: usize, x: usize| f32::from(picture[(y * w + x) * c + channel]);
                let upper = at(y0, x0) + sx * (at(y0, x1) - at(y0, x0));
                let lower = at(y1, x0) + sx * (at(y1, x1) - at(y1, x0));
                out.push((upper + sy * (lower - upper)).round() as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        Dataset {
            height: 3,
            width: 4,
            channels: 1,
            class_names: vec!["a".into(), "b".into()],
            pictures: (0..24).map(|v| v * 10).collect(),
            labels: vec![1, 0],
        }
    }

    #[test]
    fn no_change_gives_the_picture_and_mirroring_its_mirror_image() {
        let none = Variants { turn: 0.0, scale: 0.0, shift: 0.0, mirror: false };
        let (pictures, labels) = none.of(&data(), 3, 5);
        assert_eq!(labels, [1, 0, 1]);
        assert_eq!(pictures[..24], data().pictures);
        assert_eq!(pictures[24..], data().pictures[..12]);

        let (pictures, _) = Variants { mirror: true, ..none }.of(&data(), 40, 5);
        let mirrored: Vec<u8> = data().pictures[..12].chunks(4).flat_map(|row| row.iter().rev().copied()).collect();
        let firsts: Vec<&[u8]> = pictures.chunks(12).step_by(2).collect();
        assert!(firsts.iter().all(|p| **p == mirrored || **p == data().pictures[..12]));
        assert!(firsts.iter().any(|p| **p == mirrored) && firsts.iter().any(|p| **p != mirrored));
    }

    #[test]
    fn a_picture_moves_by_its_shift() {
        let mut out = Vec::new();
        push_warped(&data(), 0, &Warp { across: [1.0, 0.0], down: [0.0, 1.0], shift: [1.0 / 3.0, -0.25] }, &mut out);
        assert_eq!(out, [10, 20, 30, 30, 10, 20, 30, 30, 50, 60, 70, 70]);
    }

    #[test]
    fn variants_repeat_with_their_seed() {
        let usual = Variants::usual(true);
        assert_eq!(usual.of(&data(), 9, 1), usual.of(&data(), 9, 1));
        assert_ne!(usual.of(&data(), 9, 1), usual.of(&data(), 9, 2));
    }
}
