//! Finishing along the teacher's own ways (Luhman & Luhman 2021, arXiv 2101.02388, with the places between noise and
//! picture): ways are drawn once and serve students of several step counts, each for many updates.

use super::batch::Batch;
use super::live::Live;
use super::objective::{Objective, Targets, strength};
use super::segments::landing_v;
use super::walk::walk;
use crate::data::Dataset;
use crate::diffusion::{Denoise, angle, guided_v, rotate, to_byte, to_pictures};
use crate::nn::{Arch, Query, read_tensors, write_tensors};
use crate::noise::{Purpose, Stream};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;
use std::path::Path;

/// Ways in a file.
const FILE_WAYS: usize = 256;
/// Ways drawn at once by a thread.
const BATCH: usize = 32;

/// How the strengths of ways are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strengths {
    /// 4 u^power, u ~ U[0, 1].
    Power(f64),
    /// The same for all.
    One(f32),
}

/// Which ways are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WayOptions {
    /// How many; rounded up to whole files of 256.
    pub count: usize,
    /// Places that are kept of each, besides the noise: the ends of that many equal parts of the quarter turn.
    pub places: usize,
    /// Teacher steps (DDIM) from place to place.
    pub fine: usize,
    pub strengths: Strengths,
    pub seed: u64,
}

/// The guided teacher's ways from noise to picture, in f32.
pub struct Ways {
    options: WayOptions,
    /// Values of a state.
    len: usize,
    /// [place][way][len]: place 0 is the noise, the last the picture.
    states: Vec<Vec<f32>>,
    class: Vec<u16>,
    w: Vec<f32>,
}

impl Ways {
    /// Draws the ways, or reads those that `folder` has already: a killed run goes on.
    ///
    /// # Errors
    /// A file there is damaged or of other ways, or cannot be written.
    pub fn open(folder: &Path, arch: &Arch, teacher: &dyn Denoise, o: WayOptions, device: &Device) -> Result<Ways> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let files = o.count.div_ceil(FILE_WAYS);
        let len = arch.picture_len();
        let mut ways = Ways {
            options: WayOptions { count: files * FILE_WAYS, ..o },
            len,
            states: vec![Vec::new(); o.places + 1],
            class: Vec::new(),
            w: Vec::new(),
        };
        let mut progress = Progress::new("trajectories", (files * FILE_WAYS) as u64, "trajectories");
        let mut read = 0;
        for file in 0..files {
            let path = folder.join(format!("{file:05}.safetensors"));
            let first = file * FILE_WAYS;
            let numbers = Stream::new(o.seed, Purpose::Trajectories, 0, u32::MAX);
            let class: Vec<u16> = (first..first + FILE_WAYS).map(|i| (i % arch.classes) as u16).collect();
            let strength_of = |i: usize| match o.strengths {
                Strengths::Power(power) => strength(numbers.uniforms(i as u32)[0], power),
                Strengths::One(w) => w,
            };
            let w: Vec<f32> = (first..first + FILE_WAYS).map(strength_of).collect();
            let states = if path.exists() {
                read += 1;
                progress.start_at((read * FILE_WAYS) as u64);
                read_states(&path, &o, FILE_WAYS * len)?
            } else {
                let states = draw(arch, teacher, &o, first, &class, &w, device)?;
                write_states(&path, &o, &states)?;
                states
            };
            ways.states.iter_mut().zip(states).for_each(|(all, these)| all.extend(these));
            ways.class.extend(class);
            ways.w.extend(w);
            progress.set((first + FILE_WAYS) as u64, "");
        }
        progress.finish(&format!("{read} of {files} files were there"));
        Ok(ways)
    }

    /// The pictures at their ends, with the names of the classes.
    pub fn pictures(&self, arch: &Arch, class_names: &[String]) -> Dataset {
        let ends = &self.states[self.options.places];
        Dataset {
            height: arch.height,
            width: arch.width,
            channels: arch.channels,
            class_names: class_names.to_vec(),
            pictures: to_pictures(arch, ends).into_iter().map(to_byte).collect(),
            labels: self.class.clone(),
        }
    }

    /// States of these ways at these places, in a batch like `like`.
    fn states(&self, ways: &[usize], places: &[usize], like: &Tensor) -> candle_core::Result<Tensor> {
        let rows = ways.iter().zip(places).flat_map(|(way, place)| &self.states[*place][way * self.len..][..self.len]);
        Tensor::from_vec(rows.copied().collect(), like.shape(), like.device())
    }
}

fn draw(
    arch: &Arch,
    teacher: &dyn Denoise,
    o: &WayOptions,
    first: usize,
    class: &[u16],
    w: &[f32],
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let (h, wide) = arch.level_size(0);
    let batches: Vec<Vec<Vec<f32>>> = (0..class.len().div_ceil(BATCH))
        .into_par_iter()
        .map(|b| {
            let at = b * BATCH..class.len().min((b + 1) * BATCH);
            let (n, len) = (at.len(), arch.picture_len());
            let mut noise = vec![0.0; n * len];
            for (i, noise) in noise.chunks_mut(len).enumerate() {
                Stream::new(o.seed, Purpose::Trajectories, 0, (first + at.start + i) as u32).normals(noise);
            }
            let mut z = Tensor::from_vec(noise, (n, h, wide, arch.patch_channels()), device)?;
            let mut states = vec![z.flatten_all()?.to_vec1()?];
            let steps = o.places * o.fine;
            for step in 0..steps {
                let phi = vec![angle(step, steps) as f32; n];
                let query = Query { z: &z, phi: &phi, class: &class[at.clone()], w: Some(&w[at.clone()]), base: None };
                let v = guided_v(teacher, &query)?;
                z = rotate(&z, &v, &vec![(FRAC_PI_2 / steps as f64) as f32; n])?;
                if (step + 1) % o.fine == 0 {
                    states.push(z.flatten_all()?.to_vec1()?);
                }
            }
            Ok(states)
        })
        .collect::<Result<_>>()?;
    Ok((0..=o.places).map(|place| batches.iter().flat_map(|b| b[place].iter().copied()).collect()).collect())
}

fn describe(o: &WayOptions) -> String {
    let strengths = match o.strengths {
        Strengths::Power(power) => format!("strengths 4 u^{power}"),
        Strengths::One(w) => format!("strength {w}"),
    };
    format!("{} places of {} steps, {strengths}, seed {}", o.places, o.fine, o.seed)
}

fn write_states(path: &Path, o: &WayOptions, states: &[Vec<f32>]) -> Result<()> {
    let tensors: BTreeMap<String, Tensor> = states
        .iter()
        .enumerate()
        .map(|(place, s)| Ok((format!("{place}"), Tensor::from_slice(s, s.len(), &Device::Cpu)?)))
        .collect::<Result<_>>()?;
    write_tensors(path, &tensors, describe(o))
}

fn read_states(path: &Path, o: &WayOptions, len: usize) -> Result<Vec<Vec<f32>>> {
    let damaged = || format!("{}: damaged trajectories; delete the file to draw them again", path.display());
    let (tensors, description) = read_tensors(path, &Device::Cpu).with_context(damaged)?;
    ensure!(
        description == describe(o),
        "{} holds other trajectories ({description}); delete the folder to draw them again",
        path.display()
    );
    let states: Vec<Vec<f32>> = (0..=o.places)
        .map(|place| Ok(tensors.get(&format!("{place}")).with_context(damaged)?.to_vec1()?))
        .collect::<Result<_>>()?;
    ensure!(states.iter().all(|s| s.len() == len), damaged());
    Ok(states)
}

/// The finishing stage of a student of `steps` steps: each of its steps lands where the teacher is by then.
pub struct Trajectories {
    /// `steps` divides their places.
    pub ways: Ways,
    pub steps: usize,
    /// Share of the states that are the student's own after its steps from the way's noise, not the teacher's: from
    /// those it learns to take back its own error.
    pub own: f64,
}

impl Objective for Trajectories {
    fn targets(&self, batch: &Batch, live: &Live) -> Result<Targets> {
        let (n, stride) = (self.steps, self.ways.options.places / self.steps);
        let steps = batch.spread(n);
        let count = self.ways.options.count;
        let ways: Vec<usize> = batch.u.iter().map(|u| ((u[0] * count as f32) as usize).min(count - 1)).collect();
        let class: Vec<u16> = ways.iter().map(|i| self.ways.class[*i]).collect();
        let w: Vec<f32> = ways.iter().map(|i| self.ways.w[*i]).collect();
        let d = FRAC_PI_2 / n as f64;

        // A way starts at the noise, or where the teacher is.
        let own: Vec<bool> = batch.u.iter().map(|u| f64::from(u[1]) < self.own).collect();
        let starts: Vec<usize> = steps.iter().zip(&own).map(|(step, own)| if *own { 0 } else { *step }).collect();
        let places: Vec<usize> = starts.iter().map(|step| step * stride).collect();
        let z = self.ways.states(&ways, &places, &batch.eps)?;
        let z = walk(&live.average, z, &starts, &steps, n, &class, &w)?;
        let ends: Vec<usize> = steps.iter().map(|step| (step + 1) * stride).collect();
        let landed = self.ways.states(&ways, &ends, &batch.eps)?;
        let v = landing_v(&z, &landed, &vec![d; steps.len()])?;
        let phi = steps.iter().map(|step| angle(*step, n) as f32).collect();
        Ok(Targets { z, phi, class, w: Some(w), v, weight: None })
    }
}
