//! The state z as a picture: space-to-depth order, noise, bytes.
//!
//! A picture (height, width, channels) is kept as [height/p][width/p][p * p * channels], the channels of a cell in
//! order (dy, dx, channel).

use super::noise;

/// Shape of a picture and its patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Picture height in pixels, a multiple of `patch`.
    pub height: usize,
    /// Picture width in pixels, a multiple of `patch`.
    pub width: usize,
    /// Picture channels.
    pub channels: usize,
    /// Side of the square that becomes one cell.
    pub patch: usize,
}

impl Geometry {
    /// Calls `visit(picture element, place in z)` for every element in (height, width, channel) order.
    fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        let p = self.patch.max(1);
        let depth = p * p * self.channels;
        let row_cells = self.width / p;
        let mut element = 0;
        for y in 0..self.height {
            for x in 0..self.width {
                let cell = (y / p) * row_cells + x / p;
                let place = cell * depth + ((y % p) * p + x % p) * self.channels;
                for c in 0..self.channels {
                    visit(element, place + c);
                    element += 1;
                }
            }
        }
    }

    /// z <- rescale * z + factor * noise of `stream`.
    pub fn add_noise(&self, z: &mut [f32], rescale: f32, factor: f32, seed: u64, stream: u32) {
        let mut lanes = [0.0; 4];
        self.for_each(|element, place| {
            if element % 4 == 0 {
                lanes = noise::normals(seed, stream, (element / 4) as u32);
            }
            if let Some(z) = z.get_mut(place) {
                *z = rescale * *z + factor * lanes[element % 4];
            }
        });
    }

    /// z <- noise of `stream`.
    pub fn fill_noise(&self, z: &mut [f32], seed: u64, stream: u32) {
        z.fill(0.0);
        self.add_noise(z, 1.0, 1.0, seed, stream);
    }

    /// z <- factor * picture, bytes 0 to 255 standing for -1 to 1.
    pub fn load(&self, picture: &[u8], factor: f32, z: &mut [f32]) {
        self.for_each(|element, place| {
            if let (Some(&byte), Some(z)) = (picture.get(element), z.get_mut(place)) {
                *z = (f32::from(byte) / 127.5 - 1.0) * factor;
            }
        });
    }

    /// v of the pixels that `mask` (a byte a pixel) keeps, those with 0: it is known with the picture.
    ///
    /// From z = cos x + sin eps and v = cos eps - sin x follows v = (cos z - x) / sin, so one move serves all pixels.
    pub fn know(&self, picture: &[u8], mask: &[u8], (sin, cos): (f32, f32), z: &[f32], v: &mut [f32]) {
        self.for_each(|element, place| {
            if let (Some(&byte), Some(0)) = (picture.get(element), mask.get(element / self.channels.max(1)))
                && let (Some(&z), Some(v)) = (z.get(place), v.get_mut(place))
            {
                *v = (cos * z - (f32::from(byte) / 127.5 - 1.0)) / sin;
            }
        });
    }

    /// Copies the pixels that `mask` keeps from `picture` to `out`.
    pub fn keep(&self, picture: &[u8], mask: &[u8], out: &mut [u8]) {
        let channels = self.channels.max(1);
        let pixels = out.chunks_exact_mut(channels).zip(picture.chunks_exact(channels)).zip(mask);
        for ((out, picture), _) in pixels.filter(|(_, mask)| **mask == 0) {
            out.copy_from_slice(picture);
        }
    }

    /// Bytes of z: clamp(floor((z + 1) * 127.5 + 0.5)) to 0 ..= 255.
    pub fn store(&self, z: &[f32], picture: &mut [u8]) {
        self.for_each(|element, place| {
            if let (Some(&z), Some(byte)) = (z.get(place), picture.get_mut(element)) {
                // The cast truncates, which is floor for what is not negative, and saturates; NaN gives 0.
                *byte = ((z + 1.0) * 127.5 + 0.5) as u8;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RGB: Geometry = Geometry { height: 4, width: 6, channels: 3, patch: 2 };

    #[test]
    fn every_element_has_its_place() {
        let mut seen = [false; 4 * 6 * 3];
        RGB.for_each(|element, place| {
            assert!(!seen[place]);
            seen[place] = true;
            let (y, x, c) = (element / 18, element / 3 % 6, element % 3);
            assert_eq!(place, ((y / 2 * 3 + x / 2) * 4 + (y % 2 * 2 + x % 2)) * 3 + c);
        });
        assert!(seen.iter().all(|&s| s));
    }

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        let picture: Vec<u8> = (0..72).map(|i| (i * 255 / 71) as u8).collect();
        let (mut z, mut back) = (vec![0.0; 72], vec![0; 72]);
        RGB.load(&picture, 1.0, &mut z);
        assert!(z.iter().all(|z| (-1.0..=1.0).contains(z)));
        RGB.store(&z, &mut back);
        assert_eq!(picture, back);
    }

    #[test]
    fn bytes_saturate() {
        let g = Geometry { height: 1, width: 5, channels: 1, patch: 1 };
        let mut out = [9; 5];
        g.store(&[-2.0, 2.0, f32::NAN, -1.0, 1.0], &mut out);
        assert_eq!(out, [0, 255, 0, 0, 255]);
        g.store(&[f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.997, -0.995], &mut out);
        assert_eq!(out, [255, 0, 128, 0, 1]);
    }

    #[test]
    fn noise_goes_by_picture_element() {
        let mut z = [0.0; 72];
        RGB.fill_noise(&mut z, 5, 3);
        RGB.for_each(|element, place| {
            assert_eq!(z[place], noise::normals(5, 3, (element / 4) as u32)[element % 4]);
        });
    }

    /// A move with the known v lands on the noised picture: cos x + sin eps with the same x and eps.
    #[test]
    fn known_pixels_move_as_the_noised_picture_does() {
        let picture: Vec<u8> = (0..72).map(|i| (i * 37 % 256) as u8).collect();
        let mask: Vec<u8> = (0..24).map(|i| u8::from(i % 3 == 0)).collect();
        for (from, to) in [(1.5707964f32, 1.1780972f32), (1.1780972, 0.7853982), (0.3926991, 0.0)] {
            let mut eps = [0.0; 72];
            RGB.fill_noise(&mut eps, 5, 0);
            let noised = |phi: f32| {
                let mut z = [0.0; 72];
                RGB.load(&picture, phi.cos(), &mut z);
                z.iter_mut().zip(&eps).for_each(|(z, e)| *z += phi.sin() * e);
                z
            };
            let (z, mut v) = (noised(from), [9.0; 72]);
            RGB.know(&picture, &mask, from.sin_cos(), &z, &mut v);
            let expected = noised(to);
            RGB.for_each(|element, place| {
                if mask[element / 3] != 0 {
                    assert_eq!(v[place], 9.0, "drawn anew");
                } else {
                    let got = (from - to).cos() * z[place] - (from - to).sin() * v[place];
                    assert!((got - expected[place]).abs() < 1e-5, "{got} {}", expected[place]);
                }
            });
        }
        let mut out = [7; 72];
        RGB.keep(&picture, &mask, &mut out);
        for (i, &byte) in out.iter().enumerate() {
            assert_eq!(byte, if mask[i / 3] == 0 { picture[i] } else { 7 });
        }
    }
}
