//! The noise levels of a diffusers scheduler: its timesteps as angles, and its DDIM steps.
//!
//! A noised picture is sqrt(a) x + sqrt(1 - a) eps, a the product of 1 - beta; as an angle cos(phi) = sqrt(a).

use super::config::Values;
use anyhow::{Result, bail, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Most timesteps of a training schedule.
const MAX_TIMESTEPS: usize = 100_000;

/// What a network's output stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    Epsilon,
    VPrediction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Betas {
    Linear,
    ScaledLinear,
    Cosine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// What `scheduler_config.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    betas: Betas,
    prediction: Prediction,
    /// Predicted pictures are held within this, either way.
    clip: Option<f64>,
    set_alpha_to_one: bool,
    spacing: Spacing,
    steps_offset: usize,
}

/// A DDPM or DDIM scheduler.
#[derive(Clone, Debug)]
pub struct Scheduler {
    settings: Settings,
    /// a of every timestep, rounded to f32 as diffusers has it.
    alphas: Vec<f32>,
    /// Its angle; rises.
    angles: Vec<f64>,
}

impl Serialize for Scheduler {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.settings.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Scheduler {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Scheduler, D::Error> {
        Scheduler::new(Settings::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Scheduler {
    /// Reads `scheduler/scheduler_config.json`.
    ///
    /// # Errors
    /// The first thing that is not supported.
    pub fn parse(file: &str, text: &[u8]) -> Result<Scheduler> {
        let mut v = Values::parse(file, text)?;
        v.one_of("_class_name", &["DDPMScheduler", "DDIMScheduler"])?;
        v.only("trained_betas", serde_json::Value::Null)?;
        v.only("thresholding", false.into())?;
        v.only("rescale_betas_zero_snr", false.into())?;
        v.one_of("variance_type", &["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"])?;
        let betas = [Betas::Linear, Betas::ScaledLinear, Betas::Cosine];
        let predictions = [Prediction::Epsilon, Prediction::VPrediction];
        let spacings = [Spacing::Leading, Spacing::Trailing, Spacing::Linspace];
        let clips = v.take("clip_sample")?.unwrap_or(true);
        let range: Option<f64> = v.take("clip_sample_range")?;
        let settings = Settings {
            num_train_timesteps: v.take("num_train_timesteps")?.unwrap_or(1000),
            beta_start: v.take("beta_start")?.unwrap_or(1e-4),
            beta_end: v.take("beta_end")?.unwrap_or(0.02),
            betas: betas[v.one_of("beta_schedule", &["linear", "scaled_linear", "squaredcos_cap_v2"])?],
            prediction: predictions[v.one_of("prediction_type", &["epsilon", "v_prediction"])?],
            clip: clips.then_some(range.unwrap_or(1.0)),
            set_alpha_to_one: v.take("set_alpha_to_one")?.unwrap_or(true),
            spacing: spacings[v.one_of("timestep_spacing", &["leading", "trailing", "linspace"])?],
            steps_offset: v.take("steps_offset")?.unwrap_or(0),
        };
        // They belong to thresholding.
        v.ignore(&["dynamic_thresholding_ratio", "sample_max_value"]);
        v.finish()?;
        Scheduler::new(settings).map_err(|e| anyhow::anyhow!("{file}: {e}"))
    }

    fn new(s: Settings) -> Result<Scheduler> {
        let n = s.num_train_timesteps;
        ensure!((2..=MAX_TIMESTEPS).contains(&n), "\"num_train_timesteps\": {n} is not supported");
        ensure!(
            s.beta_start > 0.0 && s.beta_start <= s.beta_end && s.beta_end < 1.0,
            "\"beta_start\": {} and \"beta_end\": {} are not supported",
            s.beta_start,
            s.beta_end
        );
        ensure!(s.clip.is_none_or(|c| c.is_finite() && c > 0.0), "\"clip_sample_range\" must be positive");
        ensure!(s.steps_offset < n, "\"steps_offset\": {} is not supported", s.steps_offset);
        let line = |from: f64, to: f64, i: usize| from + (to - from) * i as f64 / (n - 1) as f64;
        // a of the cosine schedule, before its betas are capped (Nichol & Dhariwal 2021).
        let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        let beta = |i: usize| match s.betas {
            Betas::Linear => line(s.beta_start, s.beta_end, i),
            Betas::ScaledLinear => line(s.beta_start.sqrt(), s.beta_end.sqrt(), i).powi(2),
            Betas::Cosine => (1.0 - bar((i + 1) as f64 / n as f64) / bar(i as f64 / n as f64)).min(0.999),
        };
        let mut product = 1.0f64;
        // diffusers holds betas and 1 - beta in f32 and multiplies in f64.
        let alphas: Vec<f32> = (0..n)
            .map(|i| {
                product *= f64::from(1.0f32 - beta(i) as f32);
                product as f32
            })
            .collect();
        let angles: Vec<f64> =
            alphas.iter().map(|a| (1.0 - f64::from(*a)).sqrt().atan2(f64::from(*a).sqrt())).collect();
        ensure!(angles.windows(2).all(|pair| pair[0] < pair[1]), "its noise does not rise at every timestep");
        Ok(Scheduler { settings: s, alphas, angles })
    }

    /// What the network's output stands for.
    pub fn prediction(&self) -> Prediction {
        self.settings.prediction
    }

    /// Angles of the least and of the most noise that the network was trained with.
    pub fn range(&self) -> (f64, f64) {
        (self.angles[0], self.angles[self.angles.len() - 1])
    }

    /// The timestep of an angle, between two where it lies between theirs; the first or last outside.
    pub fn timestep(&self, phi: f64) -> f64 {
        let above = self.angles.partition_point(|a| *a < phi);
        if above == 0 {
            return 0.0;
        }
        if above == self.angles.len() {
            return (above - 1) as f64;
        }
        let (low, high) = (self.angles[above - 1], self.angles[above]);
        (above - 1) as f64 + (phi - low) / (high - low)
    }

    /// The bound of predicted pictures, if they are held within one.
    pub fn clip(&self) -> Option<f64> {
        self.settings.clip
    }

    /// `set_timesteps`: most noise first.
    ///
    /// # Errors
    /// The schedule has no such number of steps.
    pub fn timesteps(&self, steps: usize) -> Result<Vec<usize>> {
        let (n, s) = (self.settings.num_train_timesteps, &self.settings);
        if !(1..=n).contains(&steps) {
            bail!("--steps {steps}: this teacher's scheduler has 1 to {n} steps");
        }
        let list: Vec<usize> = match s.spacing {
            Spacing::Leading => (0..steps).rev().map(|i| i * (n / steps) + s.steps_offset).collect(),
            Spacing::Trailing => {
                let ratio = n as f64 / steps as f64;
                (0..steps).map(|i| ((n as f64 - i as f64 * ratio).round_ties_even() as usize).max(1) - 1).collect()
            }
            Spacing::Linspace if steps == 1 => vec![0],
            Spacing::Linspace => {
                let at = |i: usize| (i as f64 * (n - 1) as f64 / (steps - 1) as f64).round_ties_even() as usize;
                (0..steps).rev().map(at).collect()
            }
        };
        ensure!(
            list.iter().all(|t| *t < n),
            "--steps {steps}: with \"steps_offset\": {} that goes beyond the {n} timesteps; give fewer",
            s.steps_offset
        );
        Ok(list)
    }

    /// `DDIMScheduler.step` without noise: z at timestep t, `out` the network's output there.
    ///
    /// # Errors
    /// candle's.
    pub fn step(&self, z: &Tensor, out: &Tensor, t: usize, steps: usize) -> candle_core::Result<Tensor> {
        let s = &self.settings;
        let a = self.alphas[t];
        let before = match t.checked_sub(s.num_train_timesteps / steps) {
            Some(before) => self.alphas[before],
            None if s.set_alpha_to_one => 1.0,
            None => self.alphas[0],
        };
        let (cos, sin) = (f64::from(a.sqrt()), f64::from((1.0 - a).sqrt()));
        let (x, eps) = match s.prediction {
            Prediction::Epsilon => (((z - (out * sin)?)? / cos)?, out.clone()),
            Prediction::VPrediction => (((z * cos)? - (out * sin)?)?, ((out * cos)? + (z * sin)?)?),
        };
        let x = match s.clip {
            Some(c) => x.clamp(-c, c)?,
            None => x,
        };
        (x * f64::from(before.sqrt()))? + (eps * f64::from((1.0 - before).sqrt()))?
    }
}
