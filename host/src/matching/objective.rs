//! The objective: a student's pictures go where the optimal transport takes their features.

use super::running::Running;
use super::view::{Transport, View};
use crate::diffusion::{angle, rotate};
use crate::nn::{Query, UNet};
use crate::noise::{Purpose, Stream};
use crate::train::{Batch, Live, Objective, Targets, walk};
use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor, Var};
use ndarray::{Array2, Axis, concatenate};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;
use std::sync::{Arc, Mutex, MutexGuard};

/// How much the squared distance in features counts, beside the squared distance in v of a picture's values.
const WEIGHT: f64 = 3e-4;
/// The companion's rows count w / (w + this): without guidance the data set alone says what is drawn.
const NEAR: f32 = 0.3;
/// Pictures whose features the running moments begin with, in parts of [`PART`].
const FIRST: usize = 2048;
const PART: usize = 32;

/// The finishing stage of a student of `steps` steps. Every second picture of a batch is drawn without guidance, by all
/// steps of the student; its features f, in each classifier, are to go where the optimal transport between Gaussians
/// takes them, from what is drawn, N(m, S), to the data set, N(m', S'):
///
/// ```text
/// loss = |f - sg[m' + T (f - m)]|^2,  T = R (R S R)^-1/2 R,  R = S'^1/2
/// ```
///
/// Twice f minus that goal is the derivative of the Frechet distance |m - m'|^2 + tr(S + S' - 2 (R S R)^1/2) in f, times
/// the number of pictures: the loss goes down as the distance does. What other strengths draw is the companion's to say,
/// with the other half of the pictures.
pub struct Matched {
    /// One for each classifier.
    pub views: Vec<View>,
    pub steps: usize,
    pub companion: Box<dyn Objective>,
    pub seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is drawn, by views; empty before the first update.
    running: Vec<Running>,
    transports: Arc<Vec<Transport>>,
    /// Rows of the last update by views, with the number of their first picture.
    fresh: Vec<(usize, Vec<Array2<f64>>)>,
}

impl State {
    /// Takes the last update's rows into the running moments, in the pictures' order.
    fn absorb(&mut self) -> Result<()> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_by_key(|(first, _)| *first);
        for (i, running) in self.running.iter_mut().enumerate().filter(|_| !fresh.is_empty()) {
            let parts: Vec<_> = fresh.iter().map(|(_, rows)| rows[i].view()).collect();
            running.follow(concatenate(Axis(0), &parts)?.view());
        }
        Ok(())
    }
}

/// Pictures of a batch that have been drawn, ready for gradients.
struct Drawn {
    /// z before every step and v there, [n, h, w, c], without a graph.
    states: Vec<(Tensor, Tensor)>,
    /// Zeros that were added to v.
    moves: Vec<Var>,
    picture: Tensor,
}

impl Matched {
    /// Of at least one view.
    pub fn new(views: Vec<View>, steps: usize, companion: Box<dyn Objective>, seed: u64) -> Matched {
        Matched { views, steps, companion, seed, state: Mutex::default() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| anyhow!("another thread failed"))
    }

    /// Moments of what a network draws before the first update.
    fn first(&self, net: &UNet) -> Result<Vec<Running>> {
        let a = &net.arch;
        let device = net.params.tensors().values().next().context("a network has parameters")?.device();
        let (h, w) = a.level_size(0);
        let parts: Vec<Vec<Array2<f64>>> = (0..FIRST / PART)
            .into_par_iter()
            .map(|part| {
                let class: Vec<u16> = (0..PART).map(|i| ((part * PART + i) % a.classes) as u16).collect();
                let mut eps = vec![0.0; PART * a.picture_len()];
                Stream::new(self.seed, Purpose::Matching, 0, part as u32).normals(&mut eps);
                let eps = Tensor::from_vec(eps, (PART, h, w, a.patch_channels()), device)?;
                let (from, to) = ([0; PART], [self.steps; PART]);
                let z = walk(net, eps, &from, &to, self.steps, &class, &[0.0; PART])?;
                self.views.iter().map(|view| Ok(view.rows(&values(&view.features(&z)?)?, &class))).collect()
            })
            .collect::<Result<_>>()?;
        let of_view = |i: usize| -> Result<Running> {
            let rows: Vec<_> = parts.iter().map(|part| part[i].view()).collect();
            Ok(Running::of(concatenate(Axis(0), &rows)?.view()))
        };
        (0..self.views.len()).map(of_view).collect()
    }

    /// The student's way from noise without guidance.
    fn draw(&self, net: &UNet, eps: Tensor, class: &[u16]) -> Result<Drawn> {
        let d = vec![(FRAC_PI_2 / self.steps as f64) as f32; class.len()];
        let mut drawn = Drawn { states: Vec::new(), moves: Vec::new(), picture: eps };
        for step in 0..self.steps {
            let (z, phi) = (&drawn.picture, vec![angle(step, self.steps) as f32; class.len()]);
            let v = net.forward(&Query { z, phi: &phi, class, w: Some(&vec![0.0; class.len()]), base: None })?;
            drawn.states.push((z.detach(), v.detach()));
            let moved = Var::zeros(v.shape(), v.dtype(), v.device())?;
            drawn.picture = rotate(z, &(v + moved.as_tensor())?, &d)?;
            drawn.moves.push(moved);
        }
        Ok(drawn)
    }

    /// What the steps of a batch without guidance are to say: a row for each picture and step. `first`: the pictures' own
    /// place in the whole batch.
    fn matched(&self, batch: &Batch, first: usize, live: &Live) -> Result<Targets> {
        let (n, class) = (batch.class.len(), &batch.class);
        let drawn = self.draw(&live.student, batch.eps.clone(), class)?;
        let transports = self.state()?.transports.clone();
        let (mut loss, mut rows) = (None, Vec::new());
        for (view, transport) in self.views.iter().zip(&*transports) {
            let features = view.features(&drawn.picture)?;
            let seen = view.rows(&values(&features)?, class);
            let apart = (&features - view.goals(transport, &seen, features.device())?)?.sqr()?.sum_all()?;
            loss = Some(loss.map_or(Ok(apart.clone()), |loss: Tensor| loss + &apart)?);
            rows.push(seen);
        }
        self.state()?.fresh.push((first, rows));
        let gradients = loss.context("a view")?.backward()?;
        // The loss is a mean over a picture's values: so that its gradient is this one, the target is half of it away.
        let len = (batch.eps.elem_count() / n) as f64;
        let away = -0.5 * WEIGHT * len / self.views.len() as f64;
        let target = |((_, v), moved): (&(Tensor, Tensor), &Var)| -> Result<Tensor> {
            Ok((v + (gradients.get(moved).context("every step moves the picture")? * away)?)?)
        };
        let targets = drawn.states.iter().zip(&drawn.moves).map(target).collect::<Result<Vec<_>>>()?;
        let states: Vec<&Tensor> = drawn.states.iter().map(|(z, _)| z).collect();
        let phi = (0..self.steps).flat_map(|step| vec![angle(step, self.steps) as f32; n]).collect();
        Ok(Targets {
            z: Tensor::cat(&states, 0)?,
            phi,
            class: class.repeat(self.steps),
            w: Some(vec![0.0; n * self.steps]),
            v: Tensor::cat(&targets, 0)?,
            weight: Some(vec![1.0; n * self.steps]),
        })
    }

    /// What the companion has to say, less near w = 0.
    fn accompanied(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let targets = self.companion.targets(batch, live)?;
        let w = targets.w.as_ref().context("a student takes w")?;
        let own = targets.weight.clone().unwrap_or_else(|| vec![1.0; w.len()]);
        let weight = w.iter().zip(own).map(|(w, own)| own * w / (w + NEAR)).collect();
        Ok(Targets { weight: Some(weight), ..targets })
    }
}

fn values(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()
}

/// Rows of both.
fn joined(a: Targets, b: Targets) -> Result<Targets> {
    let both = |a: Option<Vec<f32>>, b: Option<Vec<f32>>| Some([a?, b?].concat());
    Ok(Targets {
        z: Tensor::cat(&[a.z, b.z], 0)?,
        phi: [a.phi, b.phi].concat(),
        class: [a.class, b.class].concat(),
        w: both(a.w, b.w),
        v: Tensor::cat(&[a.v, b.v], 0)?,
        weight: both(a.weight, b.weight),
    })
}

impl Objective for Matched {
    fn begin(&self, live: &Live) -> Result<()> {
        let mut state = self.state()?;
        if state.running.is_empty() {
            state.running = self.first(&live.student)?;
        }
        state.absorb()?;
        let views = self.views.iter().zip(&state.running);
        state.transports = Arc::new(views.map(|(view, running)| view.transport(running)).collect());
        self.companion.begin(live)
    }

    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let first = batch.address.first;
        let (matched, others): (Vec<u32>, Vec<u32>) =
            (0..batch.class.len() as u32).partition(|i| (first + *i as usize).is_multiple_of(2));
        let of_matched = || self.matched(&batch.part(&matched)?, first, live);
        let of_others = || self.accompanied(&batch.part(&others)?, live);
        match (matched.is_empty(), others.is_empty()) {
            (true, _) => of_others(),
            (_, true) => of_matched(),
            _ => joined(of_matched()?, of_others()?),
        }
    }

    fn save(&self, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let mut state = self.state()?;
        state.absorb()?;
        let mut each = state.running.iter().enumerate();
        each.try_for_each(|(i, running)| running.save(&format!("drawn.{i}"), out))
    }

    fn load(&self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let views = self.views.iter().enumerate();
        let running = views.map(|(i, view)| Running::load(&format!("drawn.{i}"), view.width(), saved));
        self.state()?.running = running.collect::<Result<_>>()?;
        Ok(())
    }
}
