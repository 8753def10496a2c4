//! The state z as a picture: space-to-depth order, noise, bytes.
//!
//! A picture (height, width, channels) is kept as [height/p][width/p][p * p * channels], the channels of a cell in
//! order (dy, dx, channel).

use super::noise;

/// Rows and columns around a drawn pixel in which kept ones correct it, [`Geometry::know`].
const SEAM: usize = 3;

/// Details are so many times the coefficients of the wavelet, whose spread in pictures is smaller than the noise's.
pub const DETAIL_SCALE: f32 = 4.0;

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
        let mut element = 0;
        for y in 0..self.height {
            for x in 0..self.width {
                let place = self.place(y, x);
                for c in 0..self.channels {
                    visit(element, place + c);
                    element += 1;
                }
            }
        }
    }

    /// Place in z of a pixel's first channel. One copy for its many callers: firmware is counted in bytes.
    #[inline(never)]
    fn place(&self, y: usize, x: usize) -> usize {
        let p = self.patch.max(1);
        let cell = (y / p) * (self.width / p) + x / p;
        cell * p * p * self.channels + ((y % p) * p + x % p) * self.channels
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

    /// z <- values in picture order.
    pub fn arrange(&self, values: &[f32], z: &mut [f32]) {
        self.for_each(|element, place| {
            if let (Some(&value), Some(z)) = (values.get(element), z.get_mut(place)) {
                *z = value;
            }
        });
    }

    /// Values of z in picture order.
    pub fn disarrange(&self, z: &[f32], values: &mut [f32]) {
        self.for_each(|element, place| {
            if let (Some(&z), Some(value)) = (z.get(place), values.get_mut(element)) {
                *value = z;
            }
        });
    }

    /// Puts what is known of v into the network's: for the pixels that `mask` (a byte a pixel) keeps, those with 0, v is
    /// known with the picture, and what the network got wrong of them is taken off the drawn pixels near by, so that
    /// there is no seam.
    ///
    /// From z = cos x + sin eps and v = cos eps - sin x follows v = (cos z - x) / sin. A drawn pixel's correction is the
    /// mean of (known v - v) of the kept pixels within `SEAM` rows and columns, each weighing 1 / d^4 at distance d,
    /// and of a zero that weighs 1/4.
    pub fn know(&self, picture: &[u8], mask: &[u8], (sin, cos): (f32, f32), z: &[f32], v: &mut [f32]) {
        let known = |element: usize, place: usize| {
            let (&byte, &z) = (picture.get(element)?, z.get(place)?);
            Some((cos * z - (f32::from(byte) / 127.5 - 1.0)) / sin)
        };
        let kept = |y: usize, x: usize| mask.get(y * self.width + x) == Some(&0);
        // Drawn pixels first: they look at the network's v of the kept ones.
        for y in 0..self.height {
            for x in (0..self.width).filter(|&x| !kept(y, x)) {
                let rows = y.saturating_sub(SEAM)..(y + SEAM + 1).min(self.height);
                let columns = x.saturating_sub(SEAM)..(x + SEAM + 1).min(self.width);
                for c in 0..self.channels {
                    let (mut sum, mut weights) = (0.0, 0.25);
                    for near_y in rows.clone() {
                        for near_x in columns.clone().filter(|&x| kept(near_y, x)) {
                            let (dy, dx) = (near_y.abs_diff(y), near_x.abs_diff(x));
                            let square = (dy * dy + dx * dx) as f32;
                            let weight = 1.0 / (square * square);
                            let place = self.place(near_y, near_x) + c;
                            let element = (near_y * self.width + near_x) * self.channels + c;
                            if let (Some(known), Some(&v)) = (known(element, place), v.get(place)) {
                                sum += weight * (known - v);
                                weights += weight;
                            }
                        }
                    }
                    if let Some(v) = v.get_mut(self.place(y, x) + c) {
                        *v += sum / weights;
                    }
                }
            }
        }
        self.for_each(|element, place| {
            if mask.get(element / self.channels.max(1)) == Some(&0)
                && let (Some(known), Some(v)) = (known(element, place), v.get_mut(place))
            {
                *v = known;
            }
        });
    }

    /// Copies the pixels that `mask` keeps from `picture` to `out`.
    pub fn keep(&self, picture: &[u8], mask: &[u8], out: &mut [u8]) {
        for (y, row) in self.rows(out) {
            self.keep_row(picture, mask, y, row);
        }
    }

    /// Copies the pixels of row `y` that `mask` keeps from `picture` to `row`.
    pub fn keep_row(&self, picture: &[u8], mask: &[u8], y: usize, row: &mut [u8]) {
        let (width, channels) = (self.width.max(1), self.channels.max(1));
        let mask = mask.chunks_exact(width).nth(y).unwrap_or_default();
        let picture = picture.chunks_exact(width * channels).nth(y).unwrap_or_default();
        let pixels = row.chunks_exact_mut(channels).zip(picture.chunks_exact(channels)).zip(mask);
        for ((out, picture), _) in pixels.filter(|(_, mask)| **mask == 0) {
            out.copy_from_slice(picture);
        }
    }

    /// The picture of twice the size whose 2x2 squares have the pixels of `base` as means and z as details, all bytes of
    /// `out`, as [`Geometry::enlarge_row`].
    pub fn enlarge(&self, base: &[u8], z: &[f32], out: &mut [u8]) {
        let row = 2 * self.width * (self.channels / 3);
        for (y, row) in out.chunks_exact_mut(row.max(1)).enumerate() {
            self.enlarge_row(base, z, y, row);
        }
    }

    /// Row `y` of the picture of twice the size. z has three values a channel c of the base: z[c] right from left,
    /// z[C + c] below from above, z[2 C + c] the one diagonal from the other, each [`DETAIL_SCALE`] times the coefficient
    /// of the Haar wavelet:
    ///
    /// ```text
    /// above left  = base + (z0 + z1 + z2) / 4    above right = base + (-z0 + z1 - z2) / 4
    /// below left  = base + (z0 - z1 - z2) / 4    below right = base + (-z0 - z1 + z2) / 4
    /// ```
    ///
    /// Where one of the four would leave the range of bytes, all differences of the square shrink alike, so that its
    /// mean stays the base's.
    pub fn enlarge_row(&self, base: &[u8], z: &[f32], y: usize, row: &mut [u8]) {
        let colours = (self.channels / 3).max(1);
        for (x, square) in row.chunks_exact_mut((2 * colours).max(1)).enumerate() {
            let (place, pixel) = (self.place(y / 2, x), (y / 2 * self.width + x) * colours);
            for c in 0..colours {
                let detail = |i: usize| z.get(place + i * colours + c).map_or(0.0, |z| z / DETAIL_SCALE);
                let (h, v, d) = (detail(0), detail(1), detail(2));
                let mean = base.get(pixel + c).map_or(0.0, |&b| f32::from(b) / 127.5 - 1.0);
                let differences = [h + v + d, v - h - d, h - v - d, d - h - v];
                let share = differences.into_iter().fold(1.0f32, |share, difference| {
                    let room = if difference > 0.0 { 1.0 - mean } else { 1.0 + mean };
                    share.min(room / difference.abs().max(f32::MIN_POSITIVE))
                });
                for (byte, difference) in square.iter_mut().skip(c).step_by(colours).zip(&differences[y % 2 * 2..]) {
                    *byte = ((mean + share * difference + 1.0) * 127.5 + 0.5) as u8;
                }
            }
        }
    }

    /// Bytes of z, as [`Geometry::store_row`].
    pub fn store(&self, z: &[f32], picture: &mut [u8]) {
        for (y, row) in self.rows(picture) {
            self.store_row(z, y, row);
        }
    }

    /// The rows of a picture with their numbers.
    fn rows<'p>(&self, picture: &'p mut [u8]) -> impl Iterator<Item = (usize, &'p mut [u8])> + use<'p> {
        picture.chunks_exact_mut((self.width * self.channels).max(1)).enumerate()
    }

    /// Bytes of row `y` of z: clamp(floor((z + 1) * 127.5 + 0.5)) to 0 ..= 255.
    pub fn store_row(&self, z: &[f32], y: usize, row: &mut [u8]) {
        for (x, pixel) in row.chunks_exact_mut(self.channels.max(1)).enumerate() {
            let z = z.get(self.place(y, x)..).unwrap_or_default();
            for (byte, &z) in pixel.iter_mut().zip(z) {
                // The cast truncates, which is floor for what is not negative, and saturates; NaN gives 0.
                *byte = ((z + 1.0) * 127.5 + 0.5) as u8;
            }
        }
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
        for (from, to) in [(1.55f32, 1.2f32), (1.2, 0.8), (0.4, 0.0)] {
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
                if mask[element / 3] == 0 {
                    let got = (from - to).cos() * z[place] - (from - to).sin() * v[place];
                    assert!((got - expected[place]).abs() < 1e-5, "{got} {}", expected[place]);
                }
            });
        }
        // A network that is right of the kept pixels is not corrected.
        let mut right = [9.0; 72];
        RGB.know(&picture, &[0; 24], (1.0, 0.0), &[0.0; 72], &mut right);
        RGB.for_each(|element, place| right[place] = if mask[element / 3] == 0 { right[place] } else { 5.0 });
        let before = right;
        RGB.know(&picture, &mask, (1.0, 0.0), &[0.0; 72], &mut right);
        assert_eq!(right, before);
        let mut out = [7; 72];
        RGB.keep(&picture, &mask, &mut out);
        for (i, &byte) in out.iter().enumerate() {
            assert_eq!(byte, if mask[i / 3] == 0 { picture[i] } else { 7 });
        }
    }

    /// One row of one kept pixel, drawn ones after it: the error of the first spreads by the fourth power of the distance.
    #[test]
    fn errors_of_kept_pixels_are_taken_off_their_neighbours() {
        let row = Geometry { height: 1, width: 6, channels: 1, patch: 1 };
        let mut v = [0.0; 6];
        // At a right angle the known v is -x = 1; the network says 0 everywhere.
        row.know(&[0; 6], &[0, 1, 1, 1, 1, 1], (1.0, 0.0), &[0.0; 6], &mut v);
        let spread = |d: f64| d.powi(-4) / (d.powi(-4) + 0.25);
        for (i, want) in [1.0, spread(1.0), spread(2.0), spread(3.0), 0.0, 0.0].into_iter().enumerate() {
            assert!((f64::from(v[i]) - want).abs() < 1e-6, "pixel {i}: {} instead of {want}", v[i]);
        }
    }
}
