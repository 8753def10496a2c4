//! Error bars by resampling blocks of consecutive pictures.
//!
//! Pictures cycle through the classes, so a block holds every class alike and resampling blocks keeps the design of
//! the sample. A statistic that is not linear has a bias in resamples; the interval is therefore the spread of the
//! resamples, moved to the figure itself.

use crate::noise::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Most blocks of a set.
pub const BLOCKS: usize = 100;
/// Resamples of an interval.
const RESAMPLES: u32 = 200;
/// Share of resamples below, and above, the interval.
const TAIL: f64 = 0.025;

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Figure {
    /// `value` with the spread of `statistic` over resamples of `blocks` blocks. The statistic gets how often each
    /// block is taken.
    pub fn resampled(value: f64, blocks: usize, seed: u64, mut statistic: impl FnMut(&[u32]) -> f64) -> Figure {
        let mut counts = vec![0; blocks];
        let mut all: Vec<f64> = (0..RESAMPLES)
            .map(|r| {
                counts.fill(0);
                let random = Stream::new(seed, Purpose::Shuffle, r, 1);
                for i in 0..blocks {
                    counts[(random.u64(i as u32) % blocks as u64) as usize] += 1;
                }
                statistic(&counts)
            })
            .collect();
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize] - mean;
        Figure { value, low: value + at(TAIL), high: value + at(1.0 - TAIL) }
    }

    /// The mean of values, one a picture.
    pub fn mean(values: &[f64], seed: u64) -> Figure {
        let blocks = blocks(values.len());
        let sums: Vec<(f64, f64)> =
            blocks.iter().map(|b| (values[b.clone()].iter().sum::<f64>(), b.len() as f64)).collect();
        let value = values.iter().sum::<f64>() / values.len() as f64;
        Figure::resampled(value, blocks.len(), seed, |counts| {
            let (sum, n) = counts.iter().zip(&sums).fold((0.0, 0.0), |(sum, n), (count, block)| {
                (sum + f64::from(*count) * block.0, n + f64::from(*count) * block.1)
            });
            sum / n
        })
    }
}

/// `n` pictures in nearly equal blocks.
pub fn blocks(n: usize) -> Vec<std::ops::Range<usize>> {
    let count = BLOCKS.min(n);
    (0..count).map(|i| i * n / count..(i + 1) * n / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;

    #[test]
    fn blocks_cover_everything_once() {
        for n in [1, 7, 100, 101, 1234] {
            let all: Vec<usize> = blocks(n).into_iter().flatten().collect();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_two_standard_errors_wide() {
        let mut normals = vec![0f32; 4000];
        Stream::new(5, Purpose::Init, 0, 0).normals(&mut normals);
        let values: Vec<f64> = normals.iter().map(|v| 3.0 + f64::from(*v)).collect();
        let f = Figure::mean(&values, 1);
        let error = 1.0 / 4000f64.sqrt();
        assert!((f.value - 3.0).abs() < 3.0 * error);
        for width in [f.high - f.value, f.value - f.low] {
            assert!((1.2 * error..3.0 * error).contains(&width), "{f:?}");
        }
        assert_eq!(Figure::mean(&values, 1), f);
        assert_eq!(Figure::mean(&[0.25; 50], 1), Figure { value: 0.25, low: 0.25, high: 0.25 });
    }
}
