//! Whom students learn from: the project's own teacher, or one from elsewhere. The distiller asks both for v alone.

use crate::data::Dataset;
use crate::diffusers::Imported;
use crate::diffusion::Denoise;
use crate::nn::{Arch, Checkpoint, Kind, UNet};
use anyhow::{Result, bail, ensure};
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A teacher of either kind.
#[derive(Clone)]
pub enum TeacherNetwork {
    /// What train-teacher wrote.
    Own(Box<Checkpoint>),
    /// What import wrote.
    Imported(Box<Imported>),
}

impl TeacherNetwork {
    /// Opens a teacher.
    ///
    /// # Errors
    /// The file is no teacher, or damaged.
    pub fn open(path: &Path, device: &Device) -> Result<TeacherNetwork> {
        if let Some(imported) = Imported::open(path, device)? {
            return Ok(TeacherNetwork::Imported(Box::new(imported)));
        }
        let found = Checkpoint::open(path, device)?;
        if found.kind != Kind::Teacher {
            bail!(
                "{} is a {}; --teacher takes what train-teacher or import wrote",
                path.display(),
                found.kind.describe()
            );
        }
        Ok(TeacherNetwork::Own(Box::new(found)))
    }

    /// What is asked for v.
    pub fn denoiser(&self) -> Arc<dyn Denoise> {
        match self {
            TeacherNetwork::Own(c) => Arc::new(c.net.clone()),
            TeacherNetwork::Imported(i) => Arc::new((**i).clone()),
        }
    }

    /// The network whose parameters students start with; None where it has another architecture.
    pub fn net(&self) -> Option<&UNet> {
        match self {
            TeacherNetwork::Own(c) => Some(&c.net),
            TeacherNetwork::Imported(_) => None,
        }
    }

    /// The shape of a student where none is asked for: the teacher's, or the project's default for its pictures.
    pub fn arch(&self) -> Arch {
        match self {
            TeacherNetwork::Own(c) => c.net.arch.clone(),
            TeacherNetwork::Imported(i) => {
                let (h, w, c) = i.shape();
                Arch::for_pictures(h, w, c, i.classes())
            }
        }
    }

    /// Names of the classes.
    pub fn class_names(&self) -> &[String] {
        match self {
            TeacherNetwork::Own(c) => &c.class_names,
            TeacherNetwork::Imported(i) => &i.class_names,
        }
    }

    /// Where it came from.
    pub fn provenance(&self) -> &BTreeMap<String, String> {
        match self {
            TeacherNetwork::Own(c) => &c.provenance,
            TeacherNetwork::Imported(i) => &i.provenance,
        }
    }

    /// The pictures that it is distilled on, with classes as it knows them: none for an unconditional teacher.
    ///
    /// # Errors
    /// They are other pictures or classes than it draws.
    pub fn fit(&self, mut data: Dataset, folder: &Path) -> Result<Dataset> {
        if let TeacherNetwork::Imported(i) = self
            && !i.conditional()
        {
            data.labels.fill(0);
            data.class_names.clone_from(&i.class_names);
        }
        let classes = self.arch().classes;
        let (height, width, channels) = self.arch().data_shape();
        ensure!(
            (height, width, channels, classes) == (data.height, data.width, data.channels, data.classes()),
            "the teacher draws {height}x{width}x{channels} pictures of {classes} classes, {} holds {}x{}x{} of {}",
            folder.display(),
            data.height,
            data.width,
            data.channels,
            data.classes()
        );
        Ok(data)
    }
}
