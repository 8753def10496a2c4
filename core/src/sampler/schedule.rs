//! Angles. With phi = pi/2 * t, a noised picture is cos(phi) x + sin(phi) eps, and a step is a rotation of
//! (z, v) by the difference of two angles.

use core::f32::consts::FRAC_PI_2;

use crate::math::{sincos, sqrt};

/// The move of one step: z <- keep * z - turn * v, then z <- rescale * z + noise * eps when there is noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// Cosine of the rotation.
    pub keep: f32,
    /// Sine of the rotation.
    pub turn: f32,
    /// Factor of z and of fresh noise after the rotation.
    pub renoise: Option<Renoise>,
}

/// Noise added back after a rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renoise {
    /// Factor of z.
    pub rescale: f32,
    /// Standard deviation of the noise.
    pub noise: f32,
}

/// Rotation from angle `from` straight to `to`.
pub fn deterministic(from: f32, to: f32) -> Move {
    let (turn, keep) = sincos(from - to);
    Move { keep, turn, renoise: None }
}

/// Rotation by twice the difference, to `from - 2 (from - to)`, then back to `to` with fresh noise (Meng et al., On
/// Distillation of Guided Diffusion Models, 2023). A last step (`to` = 0) rotates straight.
pub fn stochastic(from: f32, to: f32) -> Move {
    if to <= 0.0 {
        return deterministic(from, to);
    }
    let d = from - to;
    let below = from - (d + d);
    let below = if below > 0.0 { below } else { 0.0 };
    let (turn, keep) = sincos(from - below);
    Move { keep, turn, renoise: Some(back(below, to)) }
}

/// Noise that takes a picture at angle `low` back up to angle `high`, 0 <= low < high < pi/2.
pub fn back(low: f32, high: f32) -> Renoise {
    let (sin_high, cos_high) = sincos(high);
    let (sin_low, cos_low) = sincos(low);
    let rescale = cos_high / cos_low;
    let noise = sqrt(sin_high * sin_high - (rescale * rescale) * (sin_low * sin_low));
    Renoise { rescale, noise }
}

/// Factors of two independent noises at share `at` (0 to 1) of the way from the first to the second, on the quarter
/// circle between them: the sum keeps the variance, and the ends are exactly one noise each.
pub fn between(at: f32) -> [f32; 2] {
    // Each half from its own end: the sine of 0 is exactly 0, the cosine of pi/2 in f32 is not.
    if at <= 0.5 {
        let (second, first) = sincos(FRAC_PI_2 * at);
        [first, second]
    } else {
        let (first, second) = sincos(FRAC_PI_2 * (1.0 - at));
        [first, second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deterministic_is_a_rotation() {
        let m = deterministic(FRAC_PI_2, 0.0);
        assert!(m.keep.abs() < 1e-7 && (m.turn - 1.0).abs() < 1e-7 && m.renoise.is_none());
        let m = deterministic(1.2, 0.7);
        assert!((f64::from(m.turn) - 0.5f64.sin()).abs() < 2e-7);
        assert!((m.keep * m.keep + m.turn * m.turn - 1.0).abs() < 1e-6);
    }

    /// After the move, signal and noise must have the factors that belong to angle `to`.
    #[test]
    fn stochastic_lands_on_the_angle() {
        for n in [2u8, 4, 8] {
            for i in 0..n - 1 {
                let phi = |i: u8| FRAC_PI_2 * (1.0 - f32::from(i) / f32::from(n));
                let (from, to) = (phi(i), phi(i + 1));
                let m = stochastic(from, to);
                let r = m.renoise.unwrap();
                let below = 2.0 * to - from;
                let below = below.max(0.0);
                assert!((r.rescale * below.cos() - to.cos()).abs() < 1e-6);
                let variance = (r.rescale * below.sin()).powi(2) + r.noise * r.noise;
                assert!((variance - to.sin().powi(2)).abs() < 1e-5, "{n} {i}");
            }
            assert!(stochastic(FRAC_PI_2 / f32::from(n), 0.0).renoise.is_none());
        }
    }

    #[test]
    fn back_lands_on_the_angle_from_a_clean_picture_too() {
        for (low, high) in [(0.0, 0.4), (0.0, 1.2), (0.4, 0.8), (0.8, 1.5)] {
            let r = back(low, high);
            assert!((r.rescale * low.cos() - high.cos()).abs() < 1e-6);
            let variance = (r.rescale * low.sin()).powi(2) + r.noise * r.noise;
            assert!((variance - high.sin().powi(2)).abs() < 1e-5, "{low} {high}");
        }
    }

    #[test]
    fn between_keeps_the_variance_and_its_ends() {
        assert_eq!((between(0.0), between(1.0)), ([1.0, 0.0], [0.0, 1.0]));
        for i in 0..=100u8 {
            let at = f32::from(i) / 100.0;
            let [a, b] = between(at);
            assert!((a * a + b * b - 1.0).abs() < 1e-6 && a >= 0.0 && b >= 0.0, "{at}");
            let [c, d] = between(1.0 - at);
            assert!((a - d).abs() < 1e-6 && (b - c).abs() < 1e-6, "{at}");
        }
    }
}
