//! The classifier's shape, as data.

use crate::data::{Dataset, MAX_CLASSES, MAX_SIDE};
use crate::nn::kernels::GROUP;
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

/// Most levels, convolutions of a level, and channels of one.
const MAX_LEVELS: usize = 8;
const MAX_CONVOLUTIONS: usize = 16;
const MAX_WIDTH: usize = 1024;
/// Most weights of the dense layer.
const MAX_DENSE: usize = 1 << 24;

/// Convolutions of 3x3, each normalized and passed through SiLU, then the 2x2 mean where `pool` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Channels, a multiple of 8.
    pub width: usize,
    pub convolutions: usize,
    pub pool: bool,
}

/// A classifier: space-to-depth, levels, a dense layer with SiLU over all positions (the features), a dense layer.
/// Features see where something lies, not only that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureArch {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub classes: usize,
    /// Side of the patches that become channels at the input.
    pub patch: usize,
    pub levels: Vec<Level>,
    /// Number of features.
    pub features: usize,
}

impl FeatureArch {
    /// The default classifier of pictures of this shape: 128 features; 5 M multiplications at 28x28. Odd sides are
    /// not pooled, nor sides below 8.
    pub fn for_pictures(height: usize, width: usize, channels: usize, classes: usize) -> FeatureArch {
        let patch = if height.is_multiple_of(2) && width.is_multiple_of(2) { 2 } else { 1 };
        let (mut h, mut w) = (height / patch, width / patch);
        let mut levels = Vec::new();
        for convolution_width in [32, 64, 96] {
            let pool = h.is_multiple_of(2) && w.is_multiple_of(2) && h.min(w) >= 8;
            if levels.len() == 2 && !pool {
                break;
            }
            levels.push(Level { width: convolution_width, convolutions: 2, pool });
            if pool {
                (h, w) = (h / 2, w / 2);
            }
        }
        FeatureArch { height, width, channels, classes, patch, levels, features: 128 }
    }

    /// The default classifier of a data set.
    ///
    /// # Errors
    /// There is none for pictures of this shape.
    pub fn for_data(data: &Dataset) -> Result<FeatureArch> {
        let arch = FeatureArch::for_pictures(data.height, data.width, data.channels, data.classes());
        arch.check().map_err(|e| anyhow!("no classifier can be made: {e}; use another data set"))?;
        Ok(arch)
    }

    /// Says what is wrong with the shape, if anything.
    pub fn check(&self) -> std::result::Result<(), String> {
        let side = |v: usize| (1..=MAX_SIDE).contains(&v);
        if !side(self.height) || !side(self.width) || !matches!(self.channels, 1 | 3) {
            return Err(format!("pictures of {}x{}x{} are not supported", self.height, self.width, self.channels));
        }
        if !(2..=MAX_CLASSES).contains(&self.classes) {
            return Err(format!("{} classes: a classifier tells 2 to {MAX_CLASSES} apart", self.classes));
        }
        let divides = |v: usize| self.patch > 0 && v.is_multiple_of(self.patch);
        if self.patch > 16 || !divides(self.height) || !divides(self.width) {
            return Err(format!("patches of {} do not divide the picture", self.patch));
        }
        if !(1..=MAX_LEVELS).contains(&self.levels.len()) {
            return Err(format!("{} levels where 1 to {MAX_LEVELS} are supported", self.levels.len()));
        }
        let (mut h, mut w) = (self.height / self.patch, self.width / self.patch);
        for level in &self.levels {
            if !(1..=MAX_CONVOLUTIONS).contains(&level.convolutions) {
                return Err(format!("{} convolutions in a level", level.convolutions));
            }
            if !(1..=MAX_WIDTH).contains(&level.width) || !level.width.is_multiple_of(GROUP) {
                return Err(format!("a width of {} is not a multiple of {GROUP} up to {MAX_WIDTH}", level.width));
            }
            if level.pool {
                if !h.is_multiple_of(2) || !w.is_multiple_of(2) {
                    return Err(format!("{h}x{w} positions cannot be halved"));
                }
                (h, w) = (h / 2, w / 2);
            }
        }
        if !(1..=MAX_WIDTH).contains(&self.features) {
            return Err(format!("{} features where 1 to {MAX_WIDTH} are supported", self.features));
        }
        if h * w * self.flat_channels() * self.features > MAX_DENSE {
            return Err(format!(
                "{h}x{w} positions of {} channels are too many for a dense layer",
                self.flat_channels()
            ));
        }
        Ok(())
    }

    /// Channels after space-to-depth.
    pub fn patch_channels(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// Values in a picture.
    pub fn picture_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn flat_channels(&self) -> usize {
        self.levels.last().map_or(0, |l| l.width)
    }

    /// Values of the last level: the dense layer's input.
    pub fn flat(&self) -> usize {
        let halvings = self.levels.iter().filter(|l| l.pool).count();
        let side = |v: usize| (v / self.patch) >> halvings;
        side(self.height) * side(self.width) * self.flat_channels()
    }

    /// Name, input and output channels of every convolution, in order.
    pub fn convolutions(&self) -> Vec<(String, usize, usize)> {
        let mut cin = self.patch_channels();
        let mut all = Vec::new();
        for (l, level) in self.levels.iter().enumerate() {
            for i in 0..level.convolutions {
                all.push((format!("conv.{l}.{i}"), cin, level.width));
                cin = level.width;
            }
        }
        all
    }

    /// Multiplications of one picture.
    pub fn multiplications(&self) -> usize {
        let (mut cin, mut positions) = (self.patch_channels(), self.height * self.width / self.patch.pow(2));
        let mut sum = 0;
        for level in &self.levels {
            for _ in 0..level.convolutions {
                sum += positions * 9 * cin * level.width;
                cin = level.width;
            }
            positions /= if level.pool { 4 } else { 1 };
        }
        sum + (self.flat() + self.classes) * self.features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_fits_the_data_sets_of_the_project_and_odd_ones() {
        for (h, w, c, n) in [(28, 28, 1, 10), (32, 32, 3, 12), (64, 64, 3, 40), (8, 12, 3, 3), (27, 5, 1, 2)] {
            let arch = FeatureArch::for_pictures(h, w, c, n);
            arch.check().unwrap();
            assert!(arch.flat() >= 128, "{arch:?}");
        }
        let arch = FeatureArch::for_pictures(28, 28, 1, 10);
        assert_eq!(arch.levels.iter().map(|l| l.pool).collect::<Vec<_>>(), [true, false]);
        assert_eq!(arch.flat(), 7 * 7 * 64);
        assert_eq!(
            arch.multiplications(),
            196 * 9 * (4 * 32 + 32 * 32) + 49 * 9 * (32 * 64 + 64 * 64) + (3136 + 10) * 128
        );
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let good = FeatureArch::for_pictures(28, 28, 1, 10);
        let bad = |change: fn(&mut FeatureArch)| {
            let mut arch = good.clone();
            change(&mut arch);
            arch.check().unwrap_err()
        };
        assert!(bad(|a| a.classes = 1).contains("classes"));
        assert!(bad(|a| a.patch = 0).contains("patches"));
        assert!(bad(|a| a.patch = 3).contains("patches"));
        assert!(bad(|a| a.channels = 2).contains("28x28x2"));
        assert!(bad(|a| a.levels.clear()).contains("levels"));
        assert!(bad(|a| a.levels[1].width = 12).contains("width"));
        assert!(bad(|a| a.levels[1].convolutions = 0).contains("convolutions"));
        assert!(bad(|a| a.levels[1].pool = true).contains("7x7"));
    }
}
