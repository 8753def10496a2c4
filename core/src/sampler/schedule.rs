//! Angles. With phi = pi/2 * t, a noised picture is cos(phi) x + sin(phi) eps, and a step is a rotation of
//! (z, v) by the difference of two angles.

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
    let (sin_to, cos_to) = sincos(to);
    let (sin_below, cos_below) = sincos(below);
    let rescale = cos_to / cos_below;
    let noise = sqrt(sin_to * sin_to - (rescale * rescale) * (sin_below * sin_below));
    Move { keep, turn, renoise: Some(Renoise { rescale, noise }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f32::consts::FRAC_PI_2;

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
}
