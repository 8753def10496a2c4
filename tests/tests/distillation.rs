//! The mathematics of guided distillation against a case with a known answer: data from a Gaussian mixture, whose
//! exact denoiser and exact guided v are known in closed form.
//!
//! Notation: phi the angle, alpha = cos(phi), sigma = sin(phi), z = alpha x + sigma eps, v = alpha eps - sigma x.

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use fewstep::diffusion::{Denoise, angle, angle_towards, from_batch, guided_v, mix, renoise_factors, rotate, to_byte};
use fewstep::nn::{Engine, MAX_GUIDANCE, Precision, Query, UNet};
use fewstep::noise::sample_noise;
use fewstep::train::{
    Address, Angles, Batch, Grid, Guidance, Halving, Jump, Live, Moments, Objective, Renoise, Segments, Strengths,
    Teacher, Trajectories, Turn, WayOptions, Ways, Weight, Widened, halving_target, temperature,
};
use fewstep_core::Direction;
use fewstep_core::sampler::schedule;
use fewstep_tests::{Folder, largest_difference, normals, random_net, tiny_arch, values};

/// Values of a picture: four, as 2x2 grey pixels.
const D: usize = 4;

/// A normal distribution with one standard deviation in every direction.
#[derive(Clone, Copy)]
struct Component {
    weight: f64,
    mean: [f64; D],
    std: f64,
}

/// A mixture of normal distributions; weights need not sum to 1.
#[derive(Clone)]
struct Mixture(Vec<Component>);

impl Mixture {
    /// Two components, a wide and a narrow one.
    fn class_a() -> Mixture {
        Mixture(vec![
            Component { weight: 0.7, mean: [0.6, -0.3, 0.1, 0.5], std: 0.25 },
            Component { weight: 0.3, mean: [-0.5, 0.4, 0.0, 0.7], std: 0.1 },
        ])
    }

    /// Three components.
    fn class_b() -> Mixture {
        Mixture(vec![
            Component { weight: 0.5, mean: [-0.6, -0.6, 0.2, -0.4], std: 0.2 },
            Component { weight: 0.25, mean: [0.0, 0.1, -0.8, -0.2], std: 0.15 },
            Component { weight: 0.25, mean: [0.3, 0.8, 0.4, -0.6], std: 0.3 },
        ])
    }

    /// Both classes, equally often: what a network with the null class sees.
    fn null() -> Mixture {
        Mixture([Mixture::class_a().0, Mixture::class_b().0].concat())
    }

    /// Density of z at angle `phi`, without the factor (2 pi)^(-D/2).
    fn density(&self, z: &[f64], phi: f64) -> f64 {
        self.0.iter().map(|c| weight_at(c, z, phi)).sum()
    }

    /// E[x | z] and E[eps | z]: of each component by linear regression, weighted by how likely it made z.
    fn posterior(&self, z: &[f64], phi: f64) -> ([f64; D], [f64; D]) {
        let (alpha, sigma) = (phi.cos(), phi.sin());
        let total = self.density(z, phi);
        let (mut x, mut eps) = ([0.0; D], [0.0; D]);
        for c in &self.0 {
            let share = weight_at(c, z, phi) / total;
            let variance = alpha * alpha * c.std * c.std + sigma * sigma;
            for i in 0..D {
                let r = (z[i] - alpha * c.mean[i]) / variance;
                x[i] += share * (c.mean[i] + alpha * c.std * c.std * r);
                eps[i] += share * sigma * r;
            }
        }
        (x, eps)
    }

    /// The exact v.
    fn v(&self, z: &[f64], phi: f64) -> [f64; D] {
        let (x, eps) = self.posterior(z, phi);
        std::array::from_fn(|i| phi.cos() * eps[i] - phi.sin() * x[i])
    }

    /// Mean and variance of every value.
    fn moments(&self) -> [(f64, f64); D] {
        let total: f64 = self.0.iter().map(|c| c.weight).sum();
        std::array::from_fn(|i| {
            let mean = self.0.iter().map(|c| c.weight * c.mean[i]).sum::<f64>() / total;
            let square = self.0.iter().map(|c| c.weight * (c.mean[i].powi(2) + c.std * c.std)).sum::<f64>() / total;
            (mean, square - mean * mean)
        })
    }
}

/// Weight of a component times its density at z, noised to `phi`.
fn weight_at(c: &Component, z: &[f64], phi: f64) -> f64 {
    let (alpha, sigma) = (phi.cos(), phi.sin());
    let variance = alpha * alpha * c.std * c.std + sigma * sigma;
    let distance: f64 = (0..D).map(|i| (z[i] - alpha * c.mean[i]).powi(2)).sum();
    c.weight * (-distance / (2.0 * variance)).exp() / variance.powf(D as f64 / 2.0)
}

/// The exact guided v of class a.
fn exact_guided(z: &[f64], phi: f64, w: f64) -> [f64; D] {
    let (with, without) = (Mixture::class_a().v(z, phi), Mixture::null().v(z, phi));
    std::array::from_fn(|i| (1.0 + w) * with[i] - w * without[i])
}

/// Pictures as a batch [n, 2, 2, 1].
fn batch(pictures: &[f32]) -> Tensor {
    Tensor::from_slice(pictures, (pictures.len() / D, 2, 2, 1), &Device::Cpu).unwrap()
}

/// A function of (picture, angle) applied to a batch.
fn apply(z: &Tensor, phi: &[f32], f: impl Fn(&[f64], f64) -> [f64; D]) -> candle_core::Result<Tensor> {
    let flat = values(z);
    let mut out = Vec::with_capacity(flat.len());
    for (z, phi) in flat.chunks_exact(D).zip(phi) {
        let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
        out.extend(f(&z, f64::from(*phi)).map(|v| v as f32));
    }
    Ok(batch(&out))
}

/// Some z at angle `phi`, near the data of both classes.
fn noised(seed: u64, count: usize, phi: f64) -> Vec<f32> {
    let noise = normals(seed, 2 * count * D);
    let components = Mixture::null().0;
    let value = |i: usize| {
        let c = &components[(i / D) % components.len()];
        phi.cos() * (c.mean[i % D] + c.std * f64::from(noise[i])) + phi.sin() * f64::from(noise[count * D + i])
    };
    (0..count * D).map(|i| value(i) as f32).collect()
}

/// Start noise, as the samplers take it.
fn start(seed: u64, count: usize) -> Tensor {
    let mut noise = vec![0.0; count * D];
    sample_noise(seed, 0, D, &mut noise);
    batch(&noise)
}

/// Mean and variance of every value of a batch.
fn measured(pictures: &Tensor) -> [(f64, f64); D] {
    let flat = values(pictures);
    let n = (flat.len() / D) as f64;
    std::array::from_fn(|i| {
        let mean = flat.iter().skip(i).step_by(D).map(|v| f64::from(*v)).sum::<f64>() / n;
        (mean, flat.iter().skip(i).step_by(D).map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n)
    })
}

fn assert_moments(pictures: &Tensor, want: &Mixture, tolerance: f64) {
    for (i, ((mean, variance), (want_mean, want_variance))) in
        measured(pictures).into_iter().zip(want.moments()).enumerate()
    {
        assert!((mean - want_mean).abs() < tolerance, "value {i}: mean {mean}, not {want_mean}");
        assert!((variance - want_variance).abs() < tolerance, "value {i}: variance {variance}, not {want_variance}");
    }
}

/// x^ = alpha z - sigma v and eps^ = sigma z + alpha v give back what v was made of, and z = alpha x^ + sigma eps^.
#[test]
fn v_converts_to_x_and_eps() {
    for phi in [0.0, 0.01, 0.4, 0.8, 1.2, 1.5, FRAC_PI_2] {
        let (alpha, sigma) = (phi.cos(), phi.sin());
        for z in noised(3, 8, phi).chunks_exact(D) {
            let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
            for m in [Mixture::class_a(), Mixture::class_b(), Mixture::null()] {
                let (v, (x, eps)) = (m.v(&z, phi), m.posterior(&z, phi));
                for i in 0..D {
                    assert!((alpha * z[i] - sigma * v[i] - x[i]).abs() < 1e-12);
                    assert!((sigma * z[i] + alpha * v[i] - eps[i]).abs() < 1e-12);
                    assert!((alpha * x[i] + sigma * eps[i] - z[i]).abs() < 1e-12);
                }
            }
        }
    }
}

/// The guided v belongs to the density p(z|c)^(1+w) / p(z)^w (Ho & Salimans): with its score s, by Tweedie's formula,
/// v = -(sigma/alpha) (z + s). The score is taken from the densities by differences, so no denoiser enters.
#[test]
fn guided_v_is_that_of_the_sharpened_density() {
    let (class, null) = (Mixture::class_a(), Mixture::null());
    for w in [0.0, 0.5, 1.0, 4.0] {
        for phi in [0.3, 0.7, 1.1, 1.4] {
            for z in noised(4, 6, phi).chunks_exact(D) {
                let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
                let log = |z: &[f64]| (1.0 + w) * class.density(z, phi).ln() - w * null.density(z, phi).ln();
                let got = exact_guided(&z, phi, w);
                for i in 0..D {
                    let at = |step: f64| {
                        let mut z = z.clone();
                        z[i] += step;
                        log(&z)
                    };
                    let score = (at(1e-5) - at(-1e-5)) / 2e-5;
                    let want = -phi.tan() * (z[i] + score);
                    assert!(
                        (got[i] - want).abs() < 1e-6 * (1.0 + want.abs()),
                        "w {w} phi {phi}: {} not {want}",
                        got[i]
                    );
                }
            }
        }
    }
}

/// With w = 0 the formula is the conditional v; strength s = 1 + w of the other convention would give the null one.
#[test]
fn strength_zero_is_the_conditional_v() {
    let z = [0.2, -0.4, 0.6, 0.1];
    let (class, null) = (Mixture::class_a().v(&z, 1.0), Mixture::null().v(&z, 1.0));
    assert_eq!(exact_guided(&z, 1.0, 0.0), class);
    for i in 0..D {
        assert!((exact_guided(&z, 1.0, -1.0)[i] - null[i]).abs() < 1e-12);
        assert!((exact_guided(&z, 1.0, 2.0)[i] - (class[i] + 2.0 * (class[i] - null[i]))).abs() < 1e-12);
    }
}

/// The same in a network that needs two evaluations, for several strengths in one batch.
#[test]
fn network_is_guided_by_the_same_formula() {
    Engine::select(Precision::F32).unwrap();
    let arch = tiny_arch();
    let net = random_net(&arch, false, 1);
    let z = Tensor::from_vec(normals(5, 3 * 64), (3, 4, 4, 4), &Device::Cpu).unwrap();
    let (phi, class, w) = ([0.3, 0.9, 1.5], [0, 1, 1], [0.0, 1.5, 4.0]);
    let evaluate =
        |class: &[u16]| values(&net.forward(&Query { z: &z, phi: &phi, class, w: None, base: None }).unwrap());
    let (with, without) = (evaluate(&class), evaluate(&[2; 3]));
    let got = values(&guided_v(&net, &Query { z: &z, phi: &phi, class: &class, w: Some(&w), base: None }).unwrap());
    let want: Vec<f32> = (0..got.len()).map(|i| (1.0 + w[i / 64]) * with[i] - w[i / 64] * without[i]).collect();
    assert!(largest_difference(&got, &want) < 1e-5);
    assert!(largest_difference(&got[..64], &with[..64]) < 1e-6, "w = 0 is the conditional v");
    assert!(largest_difference(&with[..64], &without[..64]) > 0.01, "the class matters, else this test shows nothing");
    let unguided = Query { z: &z, phi: &phi, class: &class, w: Some(&[0.0; 3]), base: None };
    assert_eq!(values(&guided_v(&net, &unguided).unwrap()), with);
}

/// Many DDIM steps along the exact v carry noise to the data's distribution.
#[test]
fn many_rotations_carry_noise_to_the_mixture() {
    let steps = 200;
    for (seed, class) in [Mixture::class_a(), Mixture::class_b()].iter().enumerate() {
        let count = 8192;
        let mut z = start(seed as u64, count);
        for i in 0..steps {
            let phi = angle(i, steps);
            let v = apply(&z, &vec![phi as f32; count], |z, phi| class.v(z, phi)).unwrap();
            z = rotate(&z, &v, &vec![(phi - angle(i + 1, steps)) as f32; count]).unwrap();
        }
        // The mean of 8192 values of spread 0.6 has a standard error of 0.007.
        assert_moments(&z, class, 0.03);
        // Not only the moments: each component gets its share of the pictures, counted by how likely it made them.
        let flat = values(&z);
        for c in &class.0 {
            let likely = |p: &[f32]| {
                let p: Vec<f64> = p.iter().map(|v| f64::from(*v)).collect();
                weight_at(c, &p, 0.0) / class.density(&p, 0.0)
            };
            let share = flat.chunks_exact(D).map(likely).sum::<f64>() / count as f64;
            assert!((share - c.weight).abs() < 0.02, "a share of {share} where {} is right", c.weight);
        }
    }
}

/// The stochastic sampler, too, ends in the data's distribution.
#[test]
fn stochastic_sampler_carries_noise_to_the_mixture() {
    let (steps, count, class) = (200, 8192, Mixture::class_a());
    let mut z = start(11, count);
    for i in 0..steps {
        let phi = angle(i, steps);
        let d = phi - angle(i + 1, steps);
        let v = apply(&z, &vec![phi as f32; count], |z, phi| class.v(z, phi)).unwrap();
        if i + 1 == steps {
            z = rotate(&z, &v, &vec![d as f32; count]).unwrap();
        } else {
            z = rotate(&z, &v, &vec![(2.0 * d) as f32; count]).unwrap();
            let (scale, sigma) = renoise_factors(phi - 2.0 * d, phi - d);
            let mut noise = vec![0.0; count * D];
            sample_noise(11, 1 + i as u32, D, &mut noise);
            z = mix(&vec![scale as f32; count], &z, &vec![sigma as f32; count], &batch(&noise)).unwrap();
        }
    }
    assert_moments(&z, &class, 0.03);
}

/// Re-noising takes signal and noise of angle phi_s to those of phi_k: signal factor, and variances of independent
/// noises added.
#[test]
fn renoising_lands_on_the_angle() {
    for steps in [2, 3, 4, 8, 64] {
        for i in 0..steps - 1 {
            let phi = angle(i, steps);
            let d = phi - angle(i + 1, steps);
            let (phi_s, phi_k) = ((phi - 2.0 * d).max(0.0), phi - d);
            let (scale, sigma) = renoise_factors(phi_s, phi_k);
            assert!((scale * phi_s.cos() - phi_k.cos()).abs() < 1e-12);
            assert!(((scale * phi_s.sin()).powi(2) + sigma * sigma - phi_k.sin().powi(2)).abs() < 1e-12);
            // Data of unit variance keeps it.
            let unit = (scale * phi_s.cos()).powi(2) + (scale * phi_s.sin()).powi(2) + sigma * sigma;
            assert!((unit - 1.0).abs() < 1e-12);
            // The device's factors are the same.
            let device = schedule::stochastic(phi as f32, phi_k as f32).renoise.unwrap();
            assert!((f64::from(device.rescale) - scale).abs() < 1e-5 && (f64::from(device.noise) - sigma).abs() < 1e-5);
        }
    }
    // By hand, two steps: after the double step the picture is clean, and half of its power is replaced.
    let (scale, sigma) = renoise_factors(0.0, FRAC_PI_2 / 2.0);
    assert!((scale - 0.5f64.sqrt()).abs() < 1e-12 && (sigma - 0.5f64.sqrt()).abs() < 1e-12);
}

/// A rotation is the DDIM step z_s = alpha_s x^ + sigma_s eps^, step by step.
#[test]
fn rotation_equals_the_alpha_sigma_form() {
    let count = 64;
    for steps in [1, 2, 4, 8] {
        let mut z = start(21, count);
        let mut other: Vec<f64> = values(&z).iter().map(|v| f64::from(*v)).collect();
        for i in 0..steps {
            let (phi, to) = (angle(i, steps), angle(i + 1, steps));
            let v = apply(&z, &vec![phi as f32; count], |z, phi| exact_guided(z, phi, 1.0)).unwrap();
            z = rotate(&z, &v, &vec![(phi - to) as f32; count]).unwrap();
            for z in other.chunks_exact_mut(D) {
                let v = exact_guided(z, phi, 1.0);
                for i in 0..D {
                    let (x, eps) = (phi.cos() * z[i] - phi.sin() * v[i], phi.sin() * z[i] + phi.cos() * v[i]);
                    z[i] = to.cos() * x + to.sin() * eps;
                }
            }
        }
        let other: Vec<f32> = other.iter().map(|v| *v as f32).collect();
        let difference = largest_difference(&values(&z), &other);
        assert!(difference < 1e-5, "{steps} steps: {difference}");
    }
}

/// One student step along the target ends where two teacher steps end, from every boundary of every round.
#[test]
fn one_step_along_the_target_equals_two_teacher_steps() {
    let count = 16;
    for steps in [1, 2, 4, 8] {
        for i in 0..steps {
            let (from, middle, to) = (angle(i, steps), angle(2 * i + 1, 2 * steps), angle(i + 1, steps));
            let z = batch(&noised(30 + i as u64, count, from));
            let phi = vec![from as f32; count];
            for w in [0.0, 1.0, 4.0] {
                let teacher = |z: &Tensor, phi: &[f32]| apply(z, phi, |z, phi| exact_guided(z, phi, w));
                let target = halving_target(Direction::ToPicture, steps, &z, &phi, teacher).unwrap();
                let once = rotate(&z, &target, &vec![(from - to) as f32; count]).unwrap();
                let half = rotate(&z, &teacher(&z, &phi).unwrap(), &vec![(from - middle) as f32; count]).unwrap();
                let v2 = teacher(&half, &vec![middle as f32; count]).unwrap();
                let twice = rotate(&half, &v2, &vec![(middle - to) as f32; count]).unwrap();
                let difference = largest_difference(&values(&once), &values(&twice));
                assert!(difference < 2e-6, "step {i} of {steps}, w {w}: {difference}");
            }
        }
    }
}

/// One target by hand, in plain numbers: one step, from noise, z = 0.3, a teacher that says 0.5 and then -0.2.
///
/// d = 90 degrees, h = 45 degrees. Two steps: 0.3 cos 45 - 0.5 sin 45 = -0.1414214, then
/// -0.1414214 cos 45 + 0.2 sin 45 = 0.0414214. One step from 90 to 0 degrees gives -v~, so v~ = -0.0414214.
#[test]
fn one_target_by_hand() {
    let z = batch(&[0.3; D]);
    let phi = [FRAC_PI_2 as f32];
    let calls = std::cell::RefCell::new(Vec::new());
    let target = halving_target(Direction::ToPicture, 1, &z, &phi, |z, phi| {
        calls.borrow_mut().push((values(z)[0], phi[0]));
        apply(z, phi, |_, phi| [if phi > 1.0 { 0.5 } else { -0.2 }; D])
    });
    for v in values(&target.unwrap()) {
        assert!((v + 0.041_421_36).abs() < 1e-6, "{v}");
    }
    let calls = calls.into_inner();
    let want = [(0.3, std::f32::consts::FRAC_PI_2), (-0.141_421_36, std::f32::consts::FRAC_PI_4)];
    assert_eq!(calls.len(), 2);
    for (got, want) in calls.iter().zip(want) {
        assert!(
            (got.0 - want.0).abs() < 1e-6 && (got.1 - want.1).abs() < 1e-6,
            "the teacher was asked for {got:?}, not {want:?}"
        );
    }
}

/// Data that is a single point has straight trajectories: the student's target is what the teacher says.
#[test]
fn target_of_straight_trajectories_is_the_teachers_v() {
    let point = Mixture(vec![Component { weight: 1.0, mean: [0.5, -0.25, 0.0, 1.0], std: 0.0 }]);
    let z = batch(&normals(40, 8 * D));
    for (steps, i) in [(1, 0), (2, 0), (2, 1), (8, 3), (8, 6)] {
        let phi = vec![angle(i, steps) as f32; 8];
        let teacher = |z: &Tensor, phi: &[f32]| apply(z, phi, |z, phi| point.v(z, phi));
        let target = halving_target(Direction::ToPicture, steps, &z, &phi, teacher).unwrap();
        let difference = largest_difference(&values(&target), &values(&teacher(&z, &phi).unwrap()));
        assert!(difference < 1e-5, "step {i} of {steps}: {difference}");
    }
}

/// Salimans & Ho (2022), appendix G: the target is x~ = (z'' - (sigma''/sigma) z) / (alpha'' - (sigma''/sigma) alpha),
/// with z'' after two DDIM steps of the teacher; as v, v = (alpha z - x~) / sigma.
#[test]
fn target_equals_progressive_distillations_formula() {
    let ddim = |z: &[f64], w: f64, phi: f64, to: f64| -> Vec<f64> {
        let v = exact_guided(z, phi, w);
        let step = |i: usize| {
            let (x, eps) = (phi.cos() * z[i] - phi.sin() * v[i], phi.sin() * z[i] + phi.cos() * v[i]);
            to.cos() * x + to.sin() * eps
        };
        (0..D).map(step).collect()
    };
    for steps in [1, 2, 4, 8] {
        for i in 0..steps {
            let (t, mid, end) = (angle(i, steps), angle(2 * i + 1, 2 * steps), angle(i + 1, steps));
            let flat = noised(50 + i as u64, 8, t);
            let want: Vec<f32> = flat
                .chunks_exact(D)
                .flat_map(|z| {
                    let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
                    let after = ddim(&ddim(&z, 2.0, t, mid), 2.0, mid, end);
                    let ratio = end.sin() / t.sin();
                    (0..D)
                        .map(move |i| {
                            let x = (after[i] - ratio * z[i]) / (end.cos() - ratio * t.cos());
                            ((t.cos() * z[i] - x) / t.sin()) as f32
                        })
                        .collect::<Vec<_>>()
                })
                .collect();
            let teacher = |z: &Tensor, phi: &[f32]| apply(z, phi, |z, phi| exact_guided(z, phi, 2.0));
            let got = halving_target(Direction::ToPicture, steps, &batch(&flat), &[t as f32; 8], teacher).unwrap();
            let difference = largest_difference(&values(&got), &want);
            assert!(difference < 2e-5, "step {i} of {steps}: {difference}");
        }
    }
}

/// A training batch of the tiny network's pictures with the random numbers given.
fn training_batch(t: &[f32], u: &[[f32; 2]]) -> Batch {
    let n = t.len();
    let tensor = |seed| Tensor::from_vec(normals(seed, n * 64), (n, 4, 4, 4), &Device::Cpu).unwrap();
    Batch {
        x: tensor(60),
        eps: tensor(61),
        base: None,
        class: (0..n as u16).map(|i| i % 2).collect(),
        t: t.to_vec(),
        u: u.to_vec(),
        address: Address::default(),
    }
}

/// For objectives that do not ask the network they train.
fn unused() -> Live {
    Live::of(&random_net(&tiny_arch(), true, 99))
}

/// What the teacher learns: z and v of the same picture, noise and angle; the null class below the dropout share.
#[test]
fn teachers_targets_are_the_definition() {
    let batch = training_batch(&[0.0, 0.25, 0.5, 0.999], &[[0.05, 0.0], [0.1, 0.0], [0.0999, 0.9], [0.99, 0.0]]);
    let targets = Teacher { classes: 2, dropout: 0.1 }.targets(&batch, &unused()).unwrap();
    assert_eq!(targets.class, [2, 1, 2, 1]);
    assert!(targets.w.is_none());
    let (x, eps, z, v) = (values(&batch.x), values(&batch.eps), values(&targets.z), values(&targets.v));
    for i in 0..x.len() {
        let phi = targets.phi[i / 64];
        assert!((phi - batch.t[i / 64] * FRAC_PI_2 as f32).abs() < 1e-6);
        assert!((z[i] - (phi.cos() * x[i] + phi.sin() * eps[i])).abs() < 1e-5);
        assert!((v[i] - (phi.cos() * eps[i] - phi.sin() * x[i])).abs() < 1e-5);
    }
}

/// Stage 1: the target is the guided v of two evaluations, at w uniform over [0, 4].
#[test]
fn stage_one_learns_the_guided_teacher() {
    Engine::select(Precision::F32).unwrap();
    let teacher = random_net(&tiny_arch(), false, 2);
    let batch = training_batch(&[0.1, 0.5, 0.9], &[[0.0, 0.5], [0.25, 0.5], [0.999, 0.5]]);
    let targets = Guidance { teacher: Arc::new(teacher.clone()), power: 1.0 }.targets(&batch, &unused()).unwrap();
    let w = targets.w.unwrap();
    for (w, u) in w.iter().zip(&batch.u) {
        assert!((f64::from(*w) - f64::from(u[0]) * MAX_GUIDANCE).abs() < 1e-6);
    }
    let low =
        Guidance { teacher: Arc::new(teacher.clone()), power: 3.0 }.targets(&batch, &unused()).unwrap().w.unwrap();
    assert!(low.iter().zip(&batch.u).all(|(w, u)| (w - 4.0 * u[0].powi(3)).abs() < 1e-5), "more of the low strengths");
    assert_eq!(targets.class, batch.class, "the student's class is never dropped");
    let evaluate = |class: &[u16]| {
        values(&teacher.forward(&Query { z: &targets.z, phi: &targets.phi, class, w: None, base: None }).unwrap())
    };
    let (with, without) = (evaluate(&batch.class), evaluate(&[2; 3]));
    let want: Vec<f32> = (0..with.len()).map(|i| (1.0 + w[i / 64]) * with[i] - w[i / 64] * without[i]).collect();
    assert!(largest_difference(&values(&targets.v), &want) < 1e-5);
}

/// Stage 2: only the angles of the student's own steps are trained, each of them equally often, and a student that
/// says the target takes one step where its teacher, with the same class and w, takes two.
#[test]
fn stage_two_learns_two_steps_of_its_teacher() {
    Engine::select(Precision::F32).unwrap();
    let teacher = random_net(&tiny_arch(), true, 3);
    for steps in [1, 2, 4, 8] {
        let n = 16;
        let t: Vec<f32> = (0..n).map(|i| (i as f32 + [0.0, 0.999][i % 2]) / n as f32).collect();
        let batch = training_batch(&t, &vec![[0.6, 0.0]; n]);
        let targets = Halving { teacher: teacher.clone(), steps, direction: Direction::ToPicture }
            .targets(&batch, &unused())
            .unwrap();
        for i in 0..steps {
            let hits = targets.phi.iter().filter(|p| (f64::from(**p) - angle(i, steps)).abs() < 1e-6).count();
            assert_eq!(hits, n / steps, "angle {i} of {steps} in {:?}", targets.phi);
        }
        let w = targets.w.clone().unwrap();
        assert!(w.iter().all(|w| (w - 2.4).abs() < 1e-6));
        let (x, eps, z) = (values(&batch.x), values(&batch.eps), values(&targets.z));
        for i in 0..z.len() {
            let phi = targets.phi[i / 64];
            assert!((z[i] - (phi.cos() * x[i] + phi.sin() * eps[i])).abs() < 1e-5);
        }
        let d = FRAC_PI_2 / steps as f64;
        let once = rotate(&targets.z, &targets.v, &vec![d as f32; n]).unwrap();
        let mut twice = targets.z.clone();
        for half in 0..2 {
            let phi: Vec<f32> = targets.phi.iter().map(|p| p - half as f32 * (d / 2.0) as f32).collect();
            let v = teacher.forward(&batch.query(&twice, &phi, &w)).unwrap();
            twice = rotate(&twice, &v, &vec![(d / 2.0) as f32; n]).unwrap();
        }
        let difference = largest_difference(&values(&once), &values(&twice));
        assert!(difference < 1e-5, "{steps} steps: {difference}");
    }
}

/// One rotation along the kernel's target ends where a teacher step and a jump end, in f64, from every place of every
/// segment; at the last place of a segment the target is the teacher's v.
#[test]
fn kernels_target_is_a_teacher_step_and_a_jump() {
    let count = 4;
    let teacher = |z: &[f64], phi: f64| exact_guided(z, phi, 1.5);
    // Any other field will do.
    let jump = |z: &[f64], phi: f64| std::array::from_fn(|i| (phi * 2.0).sin() * z[i] - 0.3 * z[(i + 1) % D]);
    let turn =
        |z: &[f64], v: [f64; D], d: f64| -> Vec<f64> { (0..D).map(|i| d.cos() * z[i] - d.sin() * v[i]).collect() };
    let cases = [(1, 1), (1, 16), (2, 8), (4, 8), (3, 5)];
    let directions = [Direction::ToPicture, Direction::ToNoise];
    for ((segments, fine), direction) in cases.into_iter().flat_map(|case| directions.map(|d| (case, d))) {
        let grid = Grid { segments, fine, direction };
        let angle = |i: usize, steps: usize| angle_towards(direction, i, steps);
        for place in 0..segments * fine {
            let (phi, end) = (grid.angle(place), angle(place / fine + 1, segments));
            assert!((phi - angle(place, segments * fine)).abs() < 1e-12);
            assert!((phi - grid.to_end(place) - end).abs() < 1e-12, "the segment of place {place} ends at {end}");
            let flat = noised(70 + place as u64, count, phi);
            let z = batch(&flat);
            let got = grid
                .target(&vec![place; count], &z, |z, phi| apply(z, phi, teacher), |z, phi| apply(z, phi, jump))
                .unwrap();
            let got = values(&got);
            let r = angle(place + 1, segments * fine);
            for (z, got) in flat.chunks_exact(D).zip(got.chunks_exact(D)) {
                let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
                let z_r = turn(&z, teacher(&z, phi), phi - r);
                let want = turn(&z_r, jump(&z_r, r), r - end);
                let landed = turn(&z, std::array::from_fn(|i| f64::from(got[i])), phi - end);
                for i in 0..D {
                    assert!((landed[i] - want[i]).abs() < 1e-5, "place {place} of {segments} x {fine}");
                }
                if place % fine == fine - 1 {
                    let v = teacher(&z, phi);
                    assert!((0..D).all(|i| (v[i] - f64::from(got[i])).abs() < 1e-4), "the last teacher step");
                }
            }
        }
    }
}

/// What the kernel is for: where the jump is the exact way to the segment's end, so is the target, the closer the
/// finer the teacher's steps are.
#[test]
fn exact_trajectories_are_the_kernels_fixed_point() {
    let field = |z: &[f64], phi: f64| exact_guided(z, phi, 1.0);
    // The v whose one rotation goes the whole way from phi to end, by many small steps.
    let exact = |z: &[f64], phi: f64, end: f64| -> [f64; D] {
        let mut y = z.to_vec();
        let steps = 2000;
        let d = (phi - end) / steps as f64;
        for k in 0..steps {
            // dz/dphi = v by the midpoint rule.
            let at = phi - k as f64 * d;
            let back = |y: &[f64], v: [f64; D], d: f64| -> Vec<f64> { (0..D).map(|i| y[i] - d * v[i]).collect() };
            let middle = back(&y, field(&y, at), d / 2.0);
            y = back(&y, field(&middle, at - d / 2.0), d);
        }
        let d = phi - end;
        std::array::from_fn(|i| (d.cos() * z[i] - y[i]) / d.sin())
    };
    let (segments, count) = (2, 3);
    let mut errors = Vec::new();
    for fine in [4, 16, 64] {
        let grid = Grid { segments, fine, direction: Direction::ToPicture };
        let mut worst = 0f64;
        for segment in 0..segments {
            let (place, end) = (segment * fine, angle(segment + 1, segments));
            let flat = noised(90, count, grid.angle(place));
            let ask = |z: &Tensor, phi: &[f32]| apply(z, phi, field);
            let jump = |z: &Tensor, phi: &[f32]| apply(z, phi, |z, phi| exact(z, phi, end));
            let got = values(&grid.target(&vec![place; count], &batch(&flat), ask, jump).unwrap());
            for (z, got) in flat.chunks_exact(D).zip(got.chunks_exact(D)) {
                let z: Vec<f64> = z.iter().map(|v| f64::from(*v)).collect();
                let want = exact(&z, grid.angle(place), end);
                worst = (0..D).map(|i| (want[i] - f64::from(got[i])).abs()).fold(worst, f64::max);
            }
        }
        errors.push(worst);
    }
    // One step of first order has an error of second order: a quarter of the length, a sixteenth of the error.
    assert!(errors[1] < errors[0] / 8.0 && errors[2] < errors[1] / 8.0, "{errors:?}");
}

/// With two teacher steps a segment, both by the last student, the kernel is progressive distillation.
#[test]
fn kernel_reduces_to_halving() {
    Engine::select(Precision::F32).unwrap();
    let last = random_net(&tiny_arch(), true, 4);
    let directions = [Direction::ToPicture, Direction::ToNoise];
    for (steps, direction) in [1, 2, 8].into_iter().flat_map(|steps| directions.map(|d| (steps, d))) {
        let t: Vec<f32> = (0..8).map(|i| (i as f32 + 0.4) / 8.0).collect();
        let batch = training_batch(&t, &[[0.3, 0.0]; 8]);
        let kernel = Segments {
            teacher: Arc::new(last.clone()),
            jump: Jump::Fixed(last.clone()),
            segments: steps,
            fine: 2,
            direction,
            angles: Angles::Start,
            weight: Weight::Even,
            power: 1.0,
        };
        let got = kernel.targets(&batch, &unused()).unwrap();
        let want = Halving { teacher: last.clone(), steps, direction }.targets(&batch, &unused()).unwrap();
        assert!(got.weight.is_none());
        assert_eq!((&got.class, &got.w), (&want.class, &want.w));
        assert!(largest_difference(&got.phi, &want.phi) < 1e-6);
        assert!(largest_difference(&values(&got.z), &values(&want.z)) < 1e-5);
        let difference = largest_difference(&values(&got.v), &values(&want.v));
        assert!(difference < 1e-5, "{steps} steps, {direction:?}: {difference}");
    }
}

/// Every method asks the networks that it should: the teacher's two evaluations or one, the jump by the student, by
/// its average or by a network that stays; every place equally often; weights are the sines of what is left.
#[test]
fn kernels_settings_choose_networks_places_and_weights() {
    Engine::select(Precision::F32).unwrap();
    let (guided, teacher) = (random_net(&tiny_arch(), true, 5), random_net(&tiny_arch(), false, 6));
    let live = Live { average: random_net(&tiny_arch(), true, 8), ..Live::of(&random_net(&tiny_arch(), true, 7)) };
    let fixed = random_net(&tiny_arch(), true, 9);
    let (segments, fine, n) = (2, 4, 16);
    let t: Vec<f32> = (0..n).map(|i| (i as f32 + 0.7) / n as f32).collect();
    let u: Vec<[f32; 2]> = (0..n).map(|i| [i as f32 / n as f32, 0.0]).collect();
    let batch = training_batch(&t, &u);
    let grid = Grid { segments, fine, direction: Direction::ToPicture };
    let mut seen = Vec::new();
    for (jump, jumper) in
        [(Jump::Average, &live.average), (Jump::Student, &live.student), (Jump::Fixed(fixed.clone()), &fixed)]
    {
        for net in [&guided, &teacher] {
            let objective = Segments {
                teacher: Arc::new(net.clone()),
                jump: jump.clone(),
                segments,
                fine,
                direction: Direction::ToPicture,
                angles: Angles::All,
                weight: Weight::Sine,
                power: 2.0,
            };
            let got = objective.targets(&batch, &live).unwrap();
            let places: Vec<usize> = (0..n).map(|i| 7 - i / 2).collect();
            let w = got.w.clone().unwrap();
            for i in 0..n {
                assert!((f64::from(got.phi[i]) - grid.angle(places[i])).abs() < 1e-6);
                assert!((w[i] - 4.0 * u[i][0] * u[i][0]).abs() < 1e-6);
                let weight = f64::from(got.weight.as_ref().unwrap()[i]);
                assert!((weight - grid.to_end(places[i]).sin()).abs() < 1e-6);
            }
            let ask = |net: &fewstep::nn::UNet, z: &Tensor, phi: &[f32]| guided_v(net, &batch.query(z, phi, &w));
            let want = grid.target(&places, &got.z, |z, phi| ask(net, z, phi), |z, phi| ask(jumper, z, phi)).unwrap();
            assert_eq!(values(&got.v), values(&want));
            seen.push(values(&got.v));
        }
    }
    for i in 0..seen.len() {
        for j in 0..i {
            assert!(largest_difference(&seen[i], &seen[j]) > 1e-3, "settings {i} and {j} ask the same networks");
        }
    }
}

/// What a landing looks like to the network once it is noised again: the regression target's mean, given z_s, is the
/// exact v of the data at phi_s. Tested by its being uncorrelated with functions of z_s.
#[test]
fn noised_landings_have_the_v_of_their_angle() {
    let class = Mixture::class_a();
    let count = 40_000;
    for (end, phi) in [(0.0, 0.5), (0.0, FRAC_PI_2), (0.4, 0.7), (0.8, 1.5), (1.2, FRAC_PI_2)] {
        let r = Renoise::new(end, phi);
        assert!((r.keep * r.keep + r.noise * r.noise - 1.0).abs() < 1e-12);
        assert!((r.keep * end.cos() - phi.cos()).abs() < 1e-12, "the signal is that of phi");
        let noise_power = (r.keep * end.sin()).powi(2) + r.noise.powi(2);
        assert!((noise_power - phi.sin().powi(2)).abs() < 1e-12, "and so is the noise");
        if end == 0.0 {
            assert!((r.kappa - 1.0).abs() < 1e-12);
        }
        let (pick, noise) = (normals(1, count), normals(2, 3 * count * D));
        // Sums of d, d^2 for d = (target - v) f(z_s), weighted as the loss is.
        let mut sums = [[0.0f64; 2]; 4];
        for i in 0..count {
            let n = |k: usize, j: usize| f64::from(noise[(3 * i + k) * D + j]);
            let c = &class.0[usize::from(f64::from(pick[i]) > 0.524_400_5)]; // 70 % below
            let landed: [f64; D] =
                std::array::from_fn(|j| end.cos() * (c.mean[j] + c.std * n(0, j)) + end.sin() * n(1, j));
            let z: [f64; D] = std::array::from_fn(|j| r.keep * landed[j] + r.noise * n(2, j));
            let v = class.v(&z, phi);
            for (k, f) in [1.0, z[0], (2.0 * z[1]).sin(), z[3] * z[3]].into_iter().enumerate() {
                let target = (r.keep * n(2, k) - r.noise * landed[k]) / r.kappa;
                let d = (target - v[k]) * f * r.kappa;
                sums[k][0] += d;
                sums[k][1] += d * d;
            }
        }
        for [sum, square] in sums {
            let (mean, error) = (sum / count as f64, (square / count as f64).sqrt() / (count as f64).sqrt());
            assert!(mean.abs() < 4.5 * error, "from {end} to {phi}: {mean}, standard error {error}");
        }
    }
}

/// The finishing stage's targets are the minima of its losses, written for expectations of z_e: the auxiliary network
/// is to say the mean of landing and teacher's expectation, and the student moves against the difference of the two
/// networks' expectations.
#[test]
fn moment_matching_is_its_two_losses() {
    Engine::select(Precision::F32).unwrap();
    let net = |seed| random_net(&tiny_arch(), true, seed);
    let (segments, n) = (4, 8);
    let objective =
        Moments { teacher: Arc::new(net(11)), start: net(12), anchor: 0.0, segments, power: 1.0, auxiliary_updates: 2 };
    let live = Live { auxiliary: Some(net(13)), ..Live::of(&net(14)) };
    assert_eq!([0, 1, 2, 3, 4, 5].map(|s| objective.turn(s) as usize), [1, 1, 0, 1, 1, 0]);
    let t: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
    let u: Vec<[f32; 2]> = (0..n).map(|i| [i as f32 / n as f32, (i * 5 % n) as f32 / n as f32]).collect();
    let batch = training_batch(&t, &u);
    let student = objective.targets(&batch, &live).unwrap();
    let auxiliary = objective.targets(&batch, &Live { turn: Turn::Auxiliary, ..live.clone() }).unwrap();
    let w = student.w.clone().unwrap();
    let d = FRAC_PI_2 / segments as f64;
    let ask = |net: &dyn Denoise, z: &Tensor, phi: &[f32]| guided_v(net, &batch.query(z, phi, &w)).unwrap();

    // Where the student's step lands, and noised again.
    let said = ask(&live.student, &student.z, &student.phi);
    let landed = values(&rotate(&student.z, &said, &vec![d as f32; n]).unwrap());
    let eps = values(&batch.fresh_noise().unwrap());
    let first_noise = values(&batch.eps);
    let correlation = eps.iter().zip(&first_noise).map(|(a, b)| a * b).sum::<f32>() / eps.len() as f32;
    assert!(correlation.abs() < 0.2, "the second noise is the first one: {correlation}");
    let len = landed.len() / n;
    let z_s = values(&auxiliary.z);
    let expect = |v: &Tensor| -> Vec<f64> {
        let v = values(v);
        (0..v.len())
            .map(|k| {
                let (end, phi) = ((f64::from(student.phi[k / len]) - d).max(0.0), f64::from(auxiliary.phi[k / len]));
                let r = Renoise::new(end, phi);
                r.keep * f64::from(z_s[k]) - r.noise * r.kappa * f64::from(v[k])
            })
            .collect()
    };
    for i in 0..n {
        let (from, end) = (f64::from(student.phi[i]), (f64::from(student.phi[i]) - d).max(0.0));
        assert!((from - angle(3 - i / 2, segments)).abs() < 1e-6, "every segment as often");
        let phi = f64::from(auxiliary.phi[i]);
        assert!(phi > end && phi <= from + 1e-6, "noised within the segment");
        let r = Renoise::new(end, phi);
        for k in i * len..(i + 1) * len {
            let want = r.keep * f64::from(landed[k]) + r.noise * f64::from(eps[k]);
            assert!((f64::from(z_s[k]) - want).abs() < 1e-5);
        }
    }
    let teacher = expect(&ask(&*objective.teacher, &auxiliary.z, &auxiliary.phi));
    let other = expect(&ask(live.auxiliary.as_ref().unwrap(), &auxiliary.z, &auxiliary.phi));
    let target = expect(&auxiliary.v);
    let (now, next) = (values(&said), values(&student.v));
    for k in 0..target.len() {
        let mean = (f64::from(landed[k]) + teacher[k]) / 2.0;
        assert!((target[k] - mean).abs() < 1e-4, "the auxiliary network is to say {mean}, not {}", target[k]);
        let gradient = -d.sin() * (other[k] - teacher[k]);
        let got = 2.0 * f64::from(now[k] - next[k]);
        assert!((got - gradient).abs() < 1e-4, "the student's gradient is {gradient}, not {got}");
    }

    // With an anchor the student is drawn back to what it was; without a difference nothing moves it.
    let still = Moments { teacher: Arc::new(net(13)), ..objective };
    let targets = still.targets(&batch, &live).unwrap();
    assert!(largest_difference(&values(&targets.v), &now) < 1e-6);
    let anchored = Moments { anchor: 0.5, ..still };
    let targets = anchored.targets(&batch, &live).unwrap();
    let was = values(&ask(&anchored.start, &student.z, &student.phi));
    let halfway: Vec<f32> = now.iter().zip(&was).map(|(a, b)| (a + b) / 2.0).collect();
    assert!(largest_difference(&values(&targets.v), &halfway) < 1e-5);
}

/// A widened student's steps land where the student as it was is after as many from noise of a higher temperature.
#[test]
fn widening_lands_where_wider_noise_does() {
    assert_eq!(temperature(0.0, 0.1), 1.0);
    assert!((temperature(1.0, 0.1) - 1.05).abs() < 1e-6 && (temperature(4.0, 0.1) - 1.08).abs() < 1e-6);
    Engine::select(Precision::F32).unwrap();
    let (steps, n) = (2, 8);
    let student = random_net(&tiny_arch(), true, 41);
    let live = Live::of(&random_net(&tiny_arch(), true, 42));
    let t: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
    let batch = training_batch(&t, &(0..n).map(|i| [i as f32 / n as f32, 0.0]).collect::<Vec<_>>());
    let objective = Widened { start: student.clone(), steps, widen: 0.5, power: 1.0 };
    let asked = objective.targets(&batch, &live).unwrap();
    let w = asked.w.clone().unwrap();
    let d = [(FRAC_PI_2 / steps as f64) as f32];
    for i in 0..n {
        let one = |t: &Tensor| t.narrow(0, i, 1).unwrap();
        let step = |net: &UNet, z: &Tensor, step: usize| {
            let phi = [angle(step, steps) as f32];
            let query = Query { z, phi: &phi, class: &batch.class[i..=i], w: Some(&w[i..=i]), base: None };
            rotate(z, &net.forward(&query).unwrap(), &d).unwrap()
        };
        let (noise, second) = (one(&batch.eps), i < n / 2);
        let wider = (&noise * f64::from(temperature(w[i], 0.5))).unwrap();
        let first = step(&student, &wider, 0);
        let landing = if second { step(&student, &first, 1) } else { first };
        let state = if second { step(&live.student, &noise, 0) } else { noise };
        let learned = rotate(&one(&asked.z), &one(&asked.v), &d).unwrap();
        assert!(largest_difference(&values(&one(&asked.z)), &values(&state)) < 1e-4, "picture {i}");
        assert!(largest_difference(&values(&learned), &values(&landing)) < 1e-4, "picture {i}");
    }
    // Without a difference there is nothing to learn.
    let still = Widened { start: student.clone(), widen: 0.0, ..objective };
    let asked = still.targets(&batch, &Live::of(&student)).unwrap();
    let query = Query { z: &asked.z, phi: &asked.phi, class: &asked.class, w: asked.w.as_deref(), base: None };
    assert!(largest_difference(&values(&asked.v), &values(&student.forward(&query).unwrap())) < 1e-4);
}

/// Trajectories of one strength end in the pictures that the guided teacher draws there.
#[test]
fn trajectories_of_one_strength_end_in_its_pictures() {
    Engine::select(Precision::F32).unwrap();
    let folder = Folder::new("trajectories-one");
    let (arch, teacher) = (tiny_arch(), random_net(&tiny_arch(), false, 21));
    let options = WayOptions { count: 1, places: 1, fine: 3, strengths: Strengths::One(1.5), seed: 5 };
    let ways = Ways::open(folder.path(), &arch, &teacher, options, &Device::Cpu).unwrap();
    let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
    let drawn = ways.pictures(&arch, &names);
    assert_eq!((drawn.len(), &drawn.class_names), (256, &names));
    assert!(drawn.labels.iter().enumerate().all(|(i, c)| usize::from(*c) == i % 2));

    let (n, len) = (256, arch.picture_len());
    let file = folder.join("00000.safetensors");
    let noise = fewstep::nn::read_tensors(&file, &Device::Cpu).unwrap().0.remove("0").unwrap();
    let (h, w) = arch.level_size(0);
    let mut z = noise.reshape((n, h, w, arch.patch_channels())).unwrap();
    for step in 0..3 {
        let phi = vec![angle(step, 3) as f32; n];
        let query = Query { z: &z, phi: &phi, class: &drawn.labels, w: Some(&vec![1.5; n]), base: None };
        z = rotate(&z, &guided_v(&teacher, &query).unwrap(), &vec![(FRAC_PI_2 / 3.0) as f32; n]).unwrap();
    }
    let expected = from_batch(&arch, &z).unwrap();
    let differ = |(a, b): (&u8, f32)| a.abs_diff(to_byte(b)) > 0;
    // Sums of other batches may round the other way.
    let differing = drawn.pictures.iter().zip(expected).filter(|(a, b)| differ((a, *b))).count();
    assert!(drawn.pictures.len() == n * len && differing < n * len / 1000, "{differing} of {}", n * len);
}

/// Trajectories are the guided teacher's DDIM steps from seeded noise; a step learns to land on the next place, from the
/// teacher's state or from the student's own; what a folder holds already is read, and nothing else.
#[test]
fn trajectories_are_the_teachers_way() {
    Engine::select(Precision::F32).unwrap();
    let folder = Folder::new("trajectories");
    let (arch, teacher) = (tiny_arch(), random_net(&tiny_arch(), false, 21));
    let options = WayOptions { count: 10, places: 4, fine: 2, strengths: Strengths::Power(2.0), seed: 5 };
    let open = |o: WayOptions| Ways::open(folder.path(), &arch, &teacher, o, &Device::Cpu);
    open(options).unwrap();
    let file = folder.join("00000.safetensors");
    let written = std::fs::read(&file).unwrap();
    let error = format!("{:#}", open(WayOptions { seed: 6, ..options }).err().expect("refused"));
    assert!(error.contains("other trajectories") && error.contains("seed 5"), "{error}");
    std::fs::write(&file, &written[..written.len() - 1]).unwrap();
    let error = format!("{:#}", open(options).err().expect("refused"));
    assert!(error.contains("00000.safetensors: damaged"), "{error}");
    std::fs::remove_file(&file).unwrap();
    open(options).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), written, "drawn again, the same");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "whole files of 256");

    let (n, steps) = (8, 2);
    let t: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
    let batch = training_batch(&t, &(0..n).map(|i| [i as f32 / n as f32, 0.9]).collect::<Vec<_>>());
    let live = Live::of(&random_net(&arch, true, 22));
    let d = vec![(FRAC_PI_2 / steps as f64) as f32; n];
    for own in [0.0, 1.0] {
        let objective = Trajectories { ways: open(options).unwrap(), steps, own };
        let asked = objective.targets(&batch, &live).unwrap();
        let (class, w) = (asked.class.clone(), asked.w.clone().unwrap());
        assert!(class.iter().enumerate().all(|(i, c)| usize::from(*c) == (i * 32) % 2), "a way of every 32, by class");
        assert!(w.iter().all(|w| (0.0..4.0).contains(w)) && w[0] != w[1], "{w:?}");
        let first: Vec<f32> = asked.phi.iter().map(|phi| FRAC_PI_2 as f32 - phi).collect();
        assert!(first.iter().take(4).all(|turned| (turned - d[0]).abs() < 1e-6), "the second step for low t");
        assert!(first.iter().skip(4).all(|turned| turned.abs() < 1e-6), "the first one for high t");

        // The teacher's way from the noise of each, here by hand.
        let noise = {
            let flat = fewstep::nn::read_tensors(&file, &Device::Cpu).unwrap().0.remove("0").unwrap();
            let len = arch.picture_len();
            let rows: Vec<Tensor> = (0..n).map(|i| flat.narrow(0, i * 32 * len, len).unwrap()).collect();
            Tensor::cat(&rows, 0).unwrap().reshape(batch.eps.shape()).unwrap()
        };
        let query = |z: &Tensor, phi: f64| {
            let phi = vec![phi as f32; n];
            guided_v(&teacher, &Query { z, phi: &phi, class: &class, w: Some(&w), base: None }).unwrap()
        };
        let mut z = noise.clone();
        let mut places = vec![z.clone()];
        for step in 0..8 {
            z = rotate(&z, &query(&z, angle(step, 8)), &vec![(FRAC_PI_2 / 8.0) as f32; n]).unwrap();
            places.push(z.clone());
        }
        let landed = values(&rotate(&asked.z, &asked.v, &d).unwrap());
        let own_state = {
            let phi = vec![FRAC_PI_2 as f32; n];
            let v =
                live.student.forward(&Query { z: &noise, phi: &phi, class: &class, w: Some(&w), base: None }).unwrap();
            values(&rotate(&noise, &v, &d).unwrap())
        };
        let (start, middle, end) = (values(&noise), values(&places[4]), values(&places[8]));
        let (state, len) = (values(&asked.z), arch.picture_len());
        for k in 0..n * len {
            let second = k < 4 * len;
            let from = [start[k], if own > 0.0 { own_state[k] } else { middle[k] }][usize::from(second)];
            assert!((state[k] - from).abs() < 1e-4, "own {own}, value {k}: {} {from}", state[k]);
            let to = [middle[k], end[k]][usize::from(second)];
            assert!((landed[k] - to).abs() < 1e-4, "own {own}, value {k}: {} {to}", landed[k]);
        }
    }
}
