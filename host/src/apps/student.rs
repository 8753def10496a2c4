//! A student image and its work on pictures, many at a time.

use crate::data::png_folder;
use crate::files::AlignedBytes;
use crate::sampling::{StudentImage, backend};
use anyhow::{Context, Result, anyhow, bail, ensure};
use fewstep_core::{Backend, Info, Inpaint, Model, Morph, Progress, Request, Session};
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Picture height, width, channels.
pub type Shape = (usize, usize, usize);

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Task<'p> {
    /// A picture from noise.
    Sample,
    /// A picture from another, noised to the angle of a step.
    Edit { picture: &'p [u8], start_step: u16 },
    /// A picture of which a part is kept.
    Inpaint(Inpaint<'p>),
    /// A picture between two.
    Morph(Morph),
    /// A picture from this noise, in place of the seed's.
    Noise(&'p [f32]),
}

/// A student image, checked once, with the kernels it uses.
pub struct Painter<'a> {
    model: Model<'a>,
    backend: Backend,
    name: &'a str,
}

impl<'a> Painter<'a> {
    /// `kernels` is "auto", "scalar" or another backend's name.
    ///
    /// # Errors
    /// This CPU has no such kernels.
    pub fn new(image: &'a StudentImage, kernels: &str) -> Result<Painter<'a>> {
        Ok(Painter { model: image.model()?, backend: backend(kernels)?, name: &image.name })
    }

    /// What the image says about itself.
    pub fn info(&self) -> Info {
        self.model.info()
    }

    /// Names of the classes; numbers where the image has none.
    pub fn class_names(&self) -> Vec<String> {
        let classes = usize::from(self.info().classes);
        let named = self.model.provenance().find(|(key, _)| *key == "classes");
        let names: Vec<String> = named.map_or(Vec::new(), |(_, v)| v.split(", ").map(String::from).collect());
        if names.len() == classes { names } else { (0..classes).map(|class| format!("class {class}")).collect() }
    }

    /// Height, width and channels of its pictures.
    pub fn shape(&self) -> Shape {
        let info = self.info();
        (info.height.into(), info.width.into(), info.channels.into())
    }

    /// Name of the kernels in use.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Checks class and guidance as their flags name them.
    ///
    /// # Errors
    /// The image has no such class, or was distilled for other strengths.
    pub fn check(&self, class: u16, w: f32) -> Result<()> {
        self.check_flags(["--class", "--guidance"], class, w)
    }

    /// As [`Painter::check`], where the flags of class and guidance have these names.
    ///
    /// # Errors
    /// As [`Painter::check`].
    pub fn check_flags(&self, [of_class, of_w]: [&str; 2], class: u16, w: f32) -> Result<()> {
        let info = self.info();
        ensure!(class < info.classes, "{of_class} {class}: {} has classes 0 to {}", self.name, info.classes - 1);
        ensure!(
            (info.w_min..=info.w_max).contains(&w),
            "{of_w} {w}: {} was distilled for {} to {}",
            self.name,
            info.w_min,
            info.w_max
        );
        Ok(())
    }

    /// One picture for each piece of work, one after another in the result.
    ///
    /// # Errors
    /// A request or its task does not fit the image.
    pub fn draw(&self, work: &[(Request, Task<'_>)]) -> Result<Vec<u8>> {
        self.draw_with(work, |_| {})
    }

    /// As [`Painter::draw`]; `progress` hears how many pictures are done.
    ///
    /// # Errors
    /// As [`Painter::draw`].
    pub fn draw_with(&self, work: &[(Request, Task<'_>)], progress: impl Fn(usize) + Sync) -> Result<Vec<u8>> {
        let done = AtomicUsize::new(0);
        let drawn = work.par_iter().map(|(request, task)| {
            let picture = self.draw_one(request, *task)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(picture)
        });
        Ok(drawn.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The noise of each picture by an encoder image, one after another in the result.
    ///
    /// # Errors
    /// The image is no encoder, or a request or a picture does not fit it.
    pub fn encode(&self, work: &[(Request, &[u8])]) -> Result<Vec<f32>> {
        let encoded = work.par_iter().map(|(request, picture)| {
            let mut arena = AlignedBytes::zeroed(self.model.arena_bytes());
            let mut noise = vec![0.0; self.model.output_bytes()];
            let mut session =
                Session::with_backend(&self.model, &mut arena, self.backend).map_err(|e| anyhow!("{e}"))?;
            session.encode(request, picture, &mut noise).map_err(|e| anyhow!("{}: {e}", self.name))?;
            Ok(noise)
        });
        Ok(encoded.collect::<Result<Vec<_>>>()?.concat())
    }

    fn draw_one(&self, request: &Request, task: Task<'_>) -> Result<Vec<u8>> {
        let mut arena = AlignedBytes::zeroed(self.model.arena_bytes());
        let mut picture = vec![0; self.model.output_bytes()];
        let mut session = Session::with_backend(&self.model, &mut arena, self.backend).map_err(|e| anyhow!("{e}"))?;
        match task {
            Task::Sample => session.begin(request),
            Task::Edit { picture, start_step } => session.begin_from(request, picture, start_step),
            Task::Inpaint(inpaint) => session.begin_inpaint(request, inpaint),
            Task::Morph(morph) => session.begin_morph(request, &morph),
            Task::Noise(noise) => session.begin_noise(request, noise),
        }
        .map_err(|e| anyhow!("{}: {e}", self.name))?;
        while session.step() != Progress::Done {}
        session.finish(&mut picture).map_err(|e| anyhow!("{e}"))?;
        Ok(picture)
    }
}

/// The step at which an edit of `strength` starts: strength is the share of the steps that are done.
///
/// # Errors
/// The strength is not above 0 and at most 1.
pub fn start_step(strength: f32, steps: u16) -> Result<u16> {
    ensure!(strength > 0.0 && strength <= 1.0, "--strength {strength}: give a share above 0, up to 1");
    let done = (strength * f32::from(steps)).round().clamp(1.0, f32::from(steps));
    Ok(steps - done as u16)
}

/// Reads the PNG picture at `path`, which must have the student's size.
///
/// # Errors
/// It is no such picture.
pub fn fitting(path: &Path, shape: Shape) -> Result<Vec<u8>> {
    let (found, pixels) = png_folder::read_png(path)?;
    if found != shape {
        let say = |(h, w, c): Shape| format!("{h}x{w} {}", if c == 1 { "grey" } else { "RGB" });
        bail!(
            "{}: is a picture of {}, the student draws {}; resize or convert it",
            path.display(),
            say(found),
            say(shape)
        );
    }
    Ok(pixels)
}

/// Reads the PNG mask at `path`: a byte a pixel, 0 where it is dark and the picture is kept, 1 where it is bright (128
/// and more) and the picture is drawn anew.
///
/// # Errors
/// It is no picture of the student's size, or bright nowhere.
pub fn mask(path: &Path, (height, width, _): Shape) -> Result<Vec<u8>> {
    let (found, pixels) = png_folder::read_png(path).context("--mask")?;
    let (h, w, channels) = found;
    ensure!(
        (h, w) == (height, width),
        "--mask {}: has {h}x{w} pixels, the student's pictures {height}x{width}; resize it",
        path.display()
    );
    let bright = |pixel: &[u8]| u8::from(pixel.iter().map(|v| usize::from(*v)).sum::<usize>() >= 128 * channels);
    let mask: Vec<u8> = pixels.chunks_exact(channels).map(bright).collect();
    ensure!(
        mask.contains(&1),
        "--mask {}: is dark everywhere, so nothing would be drawn; make bright what is to be drawn anew",
        path.display()
    );
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::start_step;

    #[test]
    fn strength_is_the_share_of_steps_done() {
        let starts: Vec<u16> = [0.01, 0.25, 0.5, 0.75, 1.0].map(|s| start_step(s, 4).unwrap()).into();
        assert_eq!(starts, [3, 3, 2, 1, 0]);
        assert_eq!(start_step(0.3, 1).unwrap(), 0);
        for strength in [0.0, -1.0, 1.1, f32::NAN, f32::INFINITY] {
            assert!(start_step(strength, 4).unwrap_err().to_string().contains("--strength"), "{strength}");
        }
    }
}
