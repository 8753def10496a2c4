//! What edits and inpaintings are measured by: likeness to the input, and seams.

use super::student::Shape;

/// Sums of |difference| of neighbouring values, by where the pair of pixels lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradients {
    seam: (f64, u64),
    inside: (f64, u64),
}

impl Gradients {
    /// Adds a picture ([height][width][channels]): neighbours of which the mask keeps one are at the seam, neighbours
    /// of which it keeps none are inside.
    pub fn add(&mut self, picture: &[u8], mask: &[u8], (height, width, channels): Shape) {
        for y in 0..height {
            for x in 0..width {
                let here = y * width + x;
                let right = (x + 1 < width).then_some(here + 1);
                let below = (y + 1 < height).then_some(here + width);
                for there in [right, below].into_iter().flatten() {
                    let place = match (mask[here] != 0, mask[there] != 0) {
                        (true, true) => &mut self.inside,
                        (false, false) => continue,
                        _ => &mut self.seam,
                    };
                    for c in 0..channels {
                        let (a, b) = (picture[here * channels + c], picture[there * channels + c]);
                        place.0 += f64::from(a.abs_diff(b));
                        place.1 += 1;
                    }
                }
            }
        }
    }

    /// Mean |difference| across the seam; not a number without one.
    pub fn seam(&self) -> f64 {
        self.seam.0 / self.seam.1 as f64
    }

    /// Mean |difference| inside the mask; not a number where it has no neighbours.
    pub fn inside(&self) -> f64 {
        self.inside.0 / self.inside.1 as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 0 0 9 9 with the right half drawn: 9 across the seam, nothing inside.
    #[test]
    fn steps_are_found_where_they_are() {
        let picture = [0, 0, 9, 9].repeat(3);
        let mask = [0, 0, 1, 1].repeat(3);
        let mut g = Gradients::default();
        g.add(&picture, &mask, (3, 4, 1));
        assert_eq!((g.seam(), g.inside()), (9.0, 0.0));
        // Two channels are pixels of two values.
        let picture: Vec<u8> = [0, 0, 9, 9].repeat(3).iter().flat_map(|&v| [v, 2 * v]).collect();
        let mut g = Gradients::default();
        g.add(&picture, &[1; 12], (3, 4, 2));
        assert!(g.seam().is_nan());
        // Of 9 + 8 pairs three differ, by 9 and 18.
        assert!((g.inside() - 3.0 * 27.0 / 34.0).abs() < 1e-12);
    }
}
