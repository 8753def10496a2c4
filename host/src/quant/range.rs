//! Static ranges of activations and weights: the scale (and zero point) of least squared rounding error.

/// How far a 16-bit range reaches beyond the largest value seen; 16 bits have room to spare.
const HEADROOM: f32 = 1.5;
/// Candidate ranges tried for an 8-bit tensor, as shares of the range seen.
const SHRINK: [f32; 12] = [1.0, 0.97, 0.94, 0.9, 0.86, 0.82, 0.78, 0.73, 0.68, 0.62, 0.56, 0.5];
/// Values kept of one tensor at one step.
const KEEP: usize = 1 << 15;

/// Values of one tensor seen during calibration: exact extremes, and an even sample for the search.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    min: f32,
    max: f32,
    sample: Vec<f32>,
    offered: usize,
}

impl Seen {
    /// Adds one batch's values. A sample of every batch is kept, evenly spread over it.
    pub fn add(&mut self, values: &[f32], batches: usize) {
        for v in values {
            self.min = self.min.min(*v);
            self.max = self.max.max(*v);
        }
        let stride = (values.len() * batches).div_ceil(KEEP).max(1);
        // The start moves from batch to batch, so that the stride does not keep the same channels.
        self.sample.extend(values.iter().skip(self.offered % stride).step_by(stride));
        self.offered += 1;
    }

    /// Largest magnitude.
    pub fn peak(&self) -> f32 {
        self.max.max(-self.min).max(1e-6)
    }

    /// Scale of a signed 16-bit tensor.
    pub fn scale_i16(&self) -> f32 {
        self.peak() * HEADROOM / 32767.0
    }

    /// Scale of a symmetric signed 8-bit tensor (zero point 0).
    pub fn scale_i8(&self) -> f32 {
        let candidates = SHRINK.iter().map(|s| (self.peak() * s / 127.0, 0));
        self.best(candidates).0
    }

    /// Scale and zero point of an 8-bit tensor.
    pub fn affine_i8(&self) -> (f32, i8) {
        let (min, max) = (self.min.min(0.0), self.max.max(0.0).max(self.min + 1e-6));
        let candidates = SHRINK.iter().flat_map(|high| {
            [1.0f32, 0.9, 0.75].into_iter().map(move |low| {
                let (lo, hi) = (min * low, max * high);
                let scale = ((hi - lo) / 255.0).max(1e-8);
                (scale, (-128.0 - lo / scale).round().clamp(-128.0, 127.0) as i8)
            })
        });
        self.best(candidates)
    }

    fn best(&self, candidates: impl Iterator<Item = (f32, i8)>) -> (f32, i8) {
        let error = |scale: f32, zero: i8| -> f64 {
            let inverse = 1.0 / scale;
            let zero = f32::from(zero);
            let square = |v: &f32| {
                let q = ((v * inverse).round_ties_even() + zero).clamp(-128.0, 127.0) - zero;
                f64::from((q * scale - v).powi(2))
            };
            self.sample.iter().map(square).sum()
        };
        let mut best = (f64::INFINITY, (1.0, 0));
        for (scale, zero) in candidates {
            let e = error(scale, zero);
            if e < best.0 {
                best = (e, (scale, zero));
            }
        }
        best.1
    }
}

/// Symmetric weights of one output channel, -limit to limit (127 for 8 bits): the scale of least squared error, and
/// the rounded values.
pub fn quantize_row(row: &[f32], limit: i8) -> (f32, Vec<i8>) {
    let limit = f32::from(limit);
    let peak = row.iter().fold(0f32, |m, v| m.max(v.abs()));
    if peak < 1e-12 {
        return (1e-12, vec![0; row.len()]);
    }
    let round = |scale: f32, v: &f32| (v / scale).round_ties_even().clamp(-limit, limit);
    let error = |scale: f32| row.iter().map(|v| f64::from((round(scale, v) * scale - v).powi(2))).sum::<f64>();
    let scale = (0..=20)
        .map(|i| peak / limit * (1.0 - 0.01 * i as f32))
        .map(|s| (error(s), s))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(peak / limit, |b| b.1);
    (scale, row.iter().map(|v| round(scale, v) as i8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_what_was_seen_and_spend_no_level_on_what_was_not() {
        let mut seen = Seen::default();
        let values: Vec<f32> = (0..1000).map(|i| -0.28 + 6.0 * i as f32 / 999.0).collect();
        seen.add(&values, 1);
        let (scale, zero) = seen.affine_i8();
        assert!((scale - 6.0 / 255.0).abs() < 0.1 * scale, "{scale}");
        assert!((f32::from(zero) + 128.0 - 0.28 / scale).abs() <= 1.0, "{zero}");
        assert!(seen.scale_i16() * 32767.0 > 5.72 * 1.49);
    }

    #[test]
    fn an_8_bit_scale_gives_up_a_lone_value_where_the_others_gain_more() {
        let mut values: Vec<f32> = (0..30_000).map(|i| (i as f32 * 0.37).sin()).collect();
        values.push(1.12);
        let mut seen = Seen::default();
        seen.add(&values, 1);
        let (whole, chosen) = (1.12 / 127.0, seen.scale_i8());
        assert!(chosen < whole * 0.95, "{chosen}");
        let error = |scale: f32| -> f32 {
            values.iter().map(|v| ((v / scale).round_ties_even().clamp(-128.0, 127.0) * scale - v).powi(2)).sum()
        };
        assert!(error(chosen) < error(whole));
    }

    #[test]
    fn rounded_weights_are_within_half_a_step_or_clipped_for_a_smaller_error() {
        let row: Vec<f32> = (0..97).map(|i| (i as f32 * 1.3).cos() * 0.2).collect();
        let (scale, q) = quantize_row(&row, 127);
        let error: f32 = row.iter().zip(&q).map(|(v, q)| (v - f32::from(*q) * scale).powi(2)).sum();
        let plain = 0.2f32 / 127.0;
        let plain_error: f32 = row.iter().map(|v| (v - (v / plain).round_ties_even() * plain).powi(2)).sum();
        assert!(error <= plain_error * 1.001);
        assert_eq!(quantize_row(&[0.0; 5], 127).1, vec![0; 5]);
    }
}
