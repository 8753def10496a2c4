//! A student that draws, and students that enlarge its pictures one after the other.

use crate::enlarge::{Consistency, consistency};
use crate::progress::Progress;
use crate::sampling::{Drawn, Job, Source};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Rows of pixels of a cell of what is enlarged: its 2x2 squares, of 2x2 pixels each.
const CELL: usize = 4;

/// Checked to fit each other; the first draws.
pub struct Cascade(Vec<Source>);

impl Cascade {
    /// `option` is what the files `larger` were given by, for messages.
    pub fn open(first: &Path, larger: &[PathBuf], option: &str) -> Result<Cascade> {
        let mut sources = vec![Source::open(first)?];
        for file in larger {
            let (show, last) = (file.display(), &sources[sources.len() - 1]);
            let ((h, w, c), classes) = (last.shape()?, last.classes()?);
            let source = Source::open(file)?;
            ensure!(
                source.enlarges()?,
                "{option} {show}: it draws pictures; give one that train-teacher --enlarge began"
            );
            ensure!(
                source.shape()? == (2 * h, 2 * w, c) && source.classes()? == classes,
                "{option} {show}: it enlarges other pictures than the {h}x{w}x{c} of {classes} classes that are drawn",
            );
            sources.push(source);
        }
        Ok(Cascade(sources))
    }

    /// What draws.
    pub fn first(&self) -> &Source {
        &self.0[0]
    }

    /// What gives the pictures their size.
    pub fn last(&self) -> &Source {
        &self.0[self.0.len() - 1]
    }

    /// Draws and enlarges; also says how well the last two sizes agree, where there are two.
    pub fn draw(&self, job: &Job) -> Result<(Drawn, Option<Consistency>)> {
        self.draw_sizes(job, self.0.len())
    }

    /// The pictures that the last one enlarges.
    pub fn draw_bases(&self, job: &Job) -> Result<Vec<u8>> {
        Ok(self.draw_sizes(job, self.0.len() - 1)?.0.pictures)
    }

    /// By the first `sizes`, one at least.
    fn draw_sizes(&self, job: &Job, sizes: usize) -> Result<(Drawn, Option<Consistency>)> {
        let mut drawn = draw(self.first(), job, "sample")?;
        let mut agreement = None;
        for source in &self.0[1..sizes] {
            // A teacher takes the steps that are asked for; a student its own.
            let steps = if source.own_steps()?.is_some() { None } else { job.steps };
            let job = Job { steps, bases: std::mem::take(&mut drawn.pictures), ..job.clone() };
            let large = draw(source, &job, "upscale")?;
            let band = source.band_rows()?.unwrap_or(usize::MAX);
            agreement = Some(consistency(drawn.shape, &job.bases, &large.pictures, band, CELL)?);
            let (evaluations, seconds) = (large.evaluations + drawn.evaluations, large.seconds + drawn.seconds);
            drawn = Drawn { evaluations, seconds, ..large };
        }
        Ok((drawn, agreement))
    }
}

fn draw(source: &Source, job: &Job, what: &str) -> Result<Drawn> {
    let progress = Mutex::new(Progress::new(what, job.classes.len() as u64, "pictures"));
    source.draw(job, |done| {
        if let Ok(mut p) = progress.lock() {
            p.set(done as u64, "");
        }
    })
}
