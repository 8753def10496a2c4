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
/// The companion's rows count d / (d + this), d how far their strength is from the nearest goal's: there the goals alone say
/// what is drawn.
const NEAR: f32 = 0.3;
/// Pictures whose features the running moments begin with, in parts of [`PART`].
const FIRST: usize = 2048;
const PART: usize = 32;

/// The finishing stage of a student of `steps` steps. Every second picture of a batch is drawn by all steps of the student,
/// with the strengths of the goals in turn; its features f, in each classifier, are to go where the optimal transport
/// between Gaussians takes them, from what is drawn there, N(m, S), to the goal, N(m', S'):
///
/// ```text
/// loss = |f - sg[m' + T (f - m)]|^2,  T = R (R S R)^-1/2 R,  R = S'^1/2
/// ```
///
/// Twice f minus that goal is the derivative of the Frechet distance |m - m'|^2 + tr(S + S' - 2 (R S R)^1/2) in f, times
/// the number of pictures: the loss goes down as the distance does. What else is drawn, at any strength, is the
/// companion's to say, with the other half of the pictures.
pub struct Matched {
    /// One for each classifier, all of the same goals.
    pub views: Vec<View>,
    /// The strength that each goal is drawn with.
    pub strengths: Vec<f32>,
    pub steps: usize,
    pub companion: Box<dyn Objective>,
    pub seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is drawn, by views and goals; empty before the first update.
    running: Vec<Vec<Running>>,
    transports: Arc<Vec<Vec<Transport>>>,
    /// Rows of the last update.
    fresh: Vec<Fresh>,
}

/// Rows of a part of a batch.
struct Fresh {
    /// Number of its first picture.
    first: usize,
    /// The rows' goals.
    goals: Vec<usize>,
    /// By views.
    rows: Vec<Array2<f64>>,
}

impl State {
    /// Takes the last update's rows into the running moments, in the pictures' order.
    fn absorb(&mut self) -> Result<()> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_by_key(|part| part.first);
        let goals: Vec<usize> = fresh.iter().flat_map(|part| part.goals.iter().copied()).collect();
        for (view, running) in self.running.iter_mut().enumerate().filter(|_| !fresh.is_empty()) {
            let parts: Vec<_> = fresh.iter().map(|part| part.rows[view].view()).collect();
            let rows = concatenate(Axis(0), &parts)?;
            for (goal, running) in running.iter_mut().enumerate() {
                let these: Vec<usize> = (0..goals.len()).filter(|i| goals[*i] == goal).collect();
                if !these.is_empty() {
                    running.follow(rows.select(Axis(0), &these).view());
                }
            }
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
    /// Of at least one view and one goal.
    pub fn new(
        views: Vec<View>,
        strengths: Vec<f32>,
        steps: usize,
        companion: Box<dyn Objective>,
        seed: u64,
    ) -> Matched {
        Matched { views, strengths, steps, companion, seed, state: Mutex::default() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| anyhow!("another thread failed"))
    }

    /// Moments of what a network draws with a goal's strength before the first update, by views.
    fn first(&self, net: &UNet, goal: usize) -> Result<Vec<Running>> {
        let a = &net.arch;
        let device = net.params.tensors().values().next().context("a network has parameters")?.device();
        let (h, w) = a.level_size(0);
        let parts: Vec<Vec<Array2<f64>>> = (0..FIRST / PART)
            .into_par_iter()
            .map(|part| {
                let class: Vec<u16> = (0..PART).map(|i| ((part * PART + i) % a.classes) as u16).collect();
                let mut eps = vec![0.0; PART * a.picture_len()];
                Stream::new(self.seed, Purpose::Matching, goal as u32, part as u32).normals(&mut eps);
                let eps = Tensor::from_vec(eps, (PART, h, w, a.patch_channels()), device)?;
                let (from, to) = ([0; PART], [self.steps; PART]);
                let z = walk(net, eps, &from, &to, self.steps, &class, &[self.strengths[goal]; PART])?;
                self.views.iter().map(|view| Ok(view.rows(&values(&view.features(&z, &class)?)?, &class))).collect()
            })
            .collect::<Result<_>>()?;
        let of_view = |i: usize| -> Result<Running> {
            let rows: Vec<_> = parts.iter().map(|part| part[i].view()).collect();
            Ok(Running::of(concatenate(Axis(0), &rows)?.view()))
        };
        (0..self.views.len()).map(of_view).collect()
    }

    /// The student's way from noise.
    fn draw(&self, net: &UNet, eps: Tensor, class: &[u16], w: &[f32]) -> Result<Drawn> {
        let d = vec![(FRAC_PI_2 / self.steps as f64) as f32; class.len()];
        let mut drawn = Drawn { states: Vec::new(), moves: Vec::new(), picture: eps };
        for step in 0..self.steps {
            let (z, phi) = (&drawn.picture, vec![angle(step, self.steps) as f32; class.len()]);
            let v = net.forward(&Query { z, phi: &phi, class, w: Some(w), base: None })?;
            drawn.states.push((z.detach(), v.detach()));
            let moved = Var::zeros(v.shape(), v.dtype(), v.device())?;
            drawn.picture = rotate(z, &(v + moved.as_tensor())?, &d)?;
            drawn.moves.push(moved);
        }
        Ok(drawn)
    }

    /// What the steps of pictures that are matched are to say: a row for each picture and step. `first`: the pictures' own
    /// place in the whole batch; `goals`: what each of them is to be drawn as.
    fn matched(&self, batch: &Batch, first: usize, goals: Vec<usize>, live: &Live) -> Result<Targets> {
        let (n, class) = (batch.class.len(), &batch.class);
        let w: Vec<f32> = goals.iter().map(|goal| self.strengths[*goal]).collect();
        let drawn = self.draw(&live.student, batch.eps.clone(), class, &w)?;
        let transports = self.state()?.transports.clone();
        let (mut loss, mut rows) = (None, Vec::new());
        for (view, transports) in self.views.iter().zip(&*transports) {
            let features = view.features(&drawn.picture, class)?;
            let seen = view.rows(&values(&features)?, class);
            let apart = (&features - view.led(transports, &goals, &seen, features.device())?)?.sqr()?.sum_all()?;
            loss = Some(loss.map_or(Ok(apart.clone()), |loss: Tensor| loss + &apart)?);
            rows.push(seen);
        }
        self.state()?.fresh.push(Fresh { first, goals, rows });
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
            w: Some(w.repeat(self.steps)),
            v: Tensor::cat(&targets, 0)?,
            weight: Some(vec![1.0; n * self.steps]),
        })
    }

    /// What the companion has to say, less near the goals' strengths.
    fn accompanied(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let targets = self.companion.targets(batch, live)?;
        let w = targets.w.as_ref().context("a student takes w")?;
        let own = targets.weight.clone().unwrap_or_else(|| vec![1.0; w.len()]);
        let nearest = |w: &f32| self.strengths.iter().map(|goal| (w - goal).abs()).fold(f32::INFINITY, f32::min);
        let weight = w.iter().map(nearest).zip(own).map(|(d, own)| own * d / (d + NEAR)).collect();
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
            let of_goals = (0..self.strengths.len()).map(|goal| self.first(&live.student, goal));
            let of_goals = of_goals.collect::<Result<Vec<_>>>()?;
            let of_view = |view: usize| of_goals.iter().map(|views| views[view].clone()).collect();
            state.running = (0..self.views.len()).map(of_view).collect();
        }
        state.absorb()?;
        let views = self.views.iter().zip(&state.running);
        state.transports = Arc::new(views.map(|(view, running)| view.transports(running)).collect());
        self.companion.begin(live)
    }

    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let first = batch.address.first;
        let (matched, others): (Vec<u32>, Vec<u32>) =
            (0..batch.class.len() as u32).partition(|i| (first + *i as usize).is_multiple_of(2));
        let goals = || matched.iter().map(|i| (first + *i as usize) / 2 % self.strengths.len()).collect();
        let of_matched = || self.matched(&batch.part(&matched)?, first, goals(), live);
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
        for (view, running) in state.running.iter().enumerate() {
            let mut goals = running.iter().enumerate();
            goals.try_for_each(|(goal, running)| running.save(&format!("drawn.{view}.{goal}"), out))?;
        }
        Ok(())
    }

    fn load(&self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let goals = 0..self.strengths.len();
        let of_view = |(i, view): (usize, &View)| -> Result<Vec<Running>> {
            goals.clone().map(|goal| Running::load(&format!("drawn.{i}.{goal}"), view.width(), saved)).collect()
        };
        self.state()?.running = self.views.iter().enumerate().map(of_view).collect::<Result<_>>()?;
        Ok(())
    }
}
