//! The training kernel of distillation by trajectories: a teacher step, then a jump to the end of the segment.
//!
//! Progressive distillation, TRACT, consistency distillation and its multistep form are settings of it.

use super::batch::Batch;
use super::live::Live;
use super::objective::{Objective, Targets, noised, strengths};
use crate::diffusion::{Denoise, angle_towards, guided_v, mix, rotate};
use crate::nn::UNet;
use anyhow::Result;
use candle_core::Tensor;
use fewstep_core::Direction;
use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

/// Which network jumps from r to the segment's end. Never is there a gradient through it.
#[derive(Clone)]
pub enum Jump {
    /// A network that stays as it is.
    Fixed(UNet),
    /// The moving average of the network that is trained.
    Average,
    /// The network that is trained, as it stands.
    Student,
}

/// Which angles of a segment are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Angles {
    /// Its first: where a step of the student starts.
    Start,
    /// Every one that a teacher step starts from, each equally often.
    All,
}

/// How much a picture's loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// All alike.
    Even,
    /// sin(phi_t - phi_s): an error in v moves a picture so far.
    Sine,
}

/// One step of the student from angle phi_t to its segment's end phi_s equals one step of the teacher to phi_r and a
/// jump from there:
///
/// ```text
/// z_r = R(z_t, T(z_t, t), phi_t - phi_r);  z^_s = R(z_r, J(z_r, r), phi_r - phi_s)
/// v~ = (cos(phi_t - phi_s) z_t - z^_s) / sin(phi_t - phi_s);  loss = weight * |S(z_t, t) - v~|^2
/// ```
///
/// The quarter turn is cut into `segments` of `fine` teacher steps each. An encoder's way is the same backwards, all
/// rotations by negative angles.
pub struct Segments {
    /// T: takes w as an input, or is a teacher that is evaluated with and without the class.
    pub teacher: Arc<dyn Denoise>,
    pub jump: Jump,
    /// Steps of the student.
    pub segments: usize,
    /// Teacher steps in a segment.
    pub fine: usize,
    pub direction: Direction,
    pub angles: Angles,
    pub weight: Weight,
    /// w = 4 u^power, u ~ U[0, 1]: 1 draws all strengths alike, 2 more of the low ones.
    pub power: f64,
}

/// The angles of teacher steps, numbered on the way: place 0 is pi/2, or 0 towards noise.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub segments: usize,
    /// Places in a segment.
    pub fine: usize,
    pub direction: Direction,
}

impl Grid {
    /// The rotation of a teacher step, negative towards noise.
    fn step(&self) -> f64 {
        let size = FRAC_PI_2 / (self.segments * self.fine) as f64;
        match self.direction {
            Direction::ToPicture => size,
            Direction::ToNoise => -size,
        }
    }

    /// The angle of a place.
    pub fn angle(&self, place: usize) -> f64 {
        angle_towards(self.direction, 0, 1) - place as f64 * self.step()
    }

    /// Rotation from a place to its segment's end.
    pub fn to_end(&self, place: usize) -> f64 {
        (self.fine - place % self.fine) as f64 * self.step()
    }

    /// v~ of pictures z at `places`: one step of `teacher`, then a rotation along `jump` to the segment's end.
    pub fn target(
        &self,
        places: &[usize],
        z: &Tensor,
        teacher: impl Fn(&Tensor, &[f32]) -> candle_core::Result<Tensor>,
        jump: impl Fn(&Tensor, &[f32]) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let list = |f: &dyn Fn(usize) -> f64| -> Vec<f32> { places.iter().map(|p| f(*p) as f32).collect() };
        let step = self.step();
        let z_r = rotate(z, &teacher(z, &list(&|p| self.angle(p)))?, &vec![step as f32; places.len()])?;
        // Where r is the segment's end the jump is a rotation by 0.
        let left = |p: usize| (self.fine - 1 - p % self.fine) as f64 * step;
        let landed = if places.iter().all(|p| left(*p) == 0.0) {
            z_r
        } else {
            rotate(&z_r, &jump(&z_r, &list(&|p| self.angle(p + 1)))?, &list(&left))?
        };
        landing_v(z, &landed, &places.iter().map(|p| self.to_end(*p)).collect::<Vec<_>>())
    }
}

impl Segments {
    /// Places of a batch's pictures.
    fn places(&self, batch: &Batch) -> Vec<usize> {
        let (count, stride) = match self.angles {
            Angles::Start => (self.segments, self.fine),
            Angles::All => (self.segments * self.fine, 1),
        };
        batch.spread(count).iter().map(|place| place * stride).collect()
    }
}

impl Objective for Segments {
    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let grid = Grid { segments: self.segments, fine: self.fine, direction: self.direction };
        let places = self.places(batch);
        let phi: Vec<f32> = places.iter().map(|p| grid.angle(*p) as f32).collect();
        let z = noised(batch, &phi)?;
        let w = strengths(batch, self.power);
        let jump = match &self.jump {
            Jump::Fixed(net) => net,
            Jump::Average => &live.average,
            Jump::Student => &live.student,
        };
        let ask = |net: &dyn Denoise, z: &Tensor, phi: &[f32]| guided_v(net, &batch.query(z, phi, &w));
        let v = grid.target(&places, &z, |z, phi| ask(&*self.teacher, z, phi), |z, phi| ask(jump, z, phi))?;
        let weight = match self.weight {
            Weight::Even => None,
            Weight::Sine => Some(places.iter().map(|p| grid.to_end(*p).sin().abs() as f32).collect()),
        };
        Ok(Targets { z, phi, class: batch.class.clone(), w: Some(w), v, weight })
    }
}

/// The v along which a rotation of z by d[i] ends at `landed`: (cos(d) z - landed) / sin(d).
pub fn landing_v(z: &Tensor, landed: &Tensor, d: &[f64]) -> candle_core::Result<Tensor> {
    let list = |f: &dyn Fn(f64) -> f64| -> Vec<f32> { d.iter().map(|d| f(*d) as f32).collect() };
    mix(&list(&|d| d.cos() / d.sin()), z, &list(&|d| -1.0 / d.sin()), landed)
}
