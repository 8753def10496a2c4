//! A student image: what it says, what it draws, its network as ONNX.

use crate::{readable, wrong};
use fewstep::apps::{Painter, Task, start_step};
use fewstep::cli::inspect::describe_image;
use fewstep::files;
use fewstep::onnx::{self, Form, Network, Options};
use fewstep::sampling::StudentImage;
use fewstep_core::format;
use fewstep_core::{Inpaint, Morph, Request, Sampler};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// A student image that was checked.
#[pyclass(frozen, module = "fewstep._fewstep")]
pub struct Image {
    image: StudentImage,
}

/// What the requests of a call have in common: strength, steps (0 for the image's own), whether moves are stochastic, and
/// the kernels.
type Common = (f32, u16, bool, String);

impl Image {
    fn draw<'py>(
        &self,
        py: Python<'py>,
        (w, steps, stochastic, kernels): &Common,
        work: &[(u64, u16, Task<'_>)],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let sampler = if *stochastic { Sampler::Stochastic } else { Sampler::Deterministic };
        let drawn = py.detach(|| {
            let painter = Painter::new(&self.image, kernels)?;
            for (_, class, _) in work {
                painter.check_flags(["class", "guidance"], *class, *w)?;
            }
            let request = |seed, class| Request { seed, class, w: *w, steps: *steps, sampler };
            let work: Vec<_> = work.iter().map(|(seed, class, task)| (request(*seed, *class), *task)).collect();
            painter.draw(&work)
        });
        Ok(PyBytes::new(py, &drawn.map_err(wrong)?))
    }

    /// The step at which `strength` starts; `steps` is 0 for the image's own.
    fn start(&self, strength: f32, steps: u16) -> PyResult<u16> {
        let own = self.image.model().map_err(wrong)?.info().steps;
        start_step(strength, if steps == 0 { own } else { steps }).map_err(wrong)
    }
}

#[pymethods]
impl Image {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        readable(&path)?;
        Ok(Self { image: StudentImage::open(&path).map_err(wrong)? })
    }

    /// All that the image says about itself, as JSON.
    fn describe(&self) -> PyResult<String> {
        Ok(describe_image(&self.image).map_err(wrong)?.to_string())
    }

    /// Names of the classes.
    fn class_names(&self) -> PyResult<Vec<String>> {
        Ok(Painter::new(&self.image, "auto").map_err(wrong)?.class_names())
    }

    /// Picture i has seed `seeds[i]` and class `classes[i]`.
    fn sample<'py>(
        &self,
        py: Python<'py>,
        seeds: Vec<u64>,
        classes: Vec<u16>,
        common: Common,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let work: Vec<_> = seeds.into_iter().zip(classes).map(|(seed, class)| (seed, class, Task::Sample)).collect();
        self.draw(py, &common, &work)
    }

    /// Edits of one picture, one for each seed.
    fn edit<'py>(
        &self,
        py: Python<'py>,
        picture: &[u8],
        strength: f32,
        seeds: Vec<u64>,
        class: u16,
        common: Common,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let task = Task::Edit { picture, start_step: self.start(strength, common.1)? };
        let work: Vec<_> = seeds.into_iter().map(|seed| (seed, class, task)).collect();
        self.draw(py, &common, &work)
    }

    /// One picture with its hole filled, one filling for each seed.
    #[allow(clippy::too_many_arguments)]
    fn inpaint<'py>(
        &self,
        py: Python<'py>,
        picture: &[u8],
        mask: &[u8],
        strength: f32,
        passes: u16,
        seeds: Vec<u64>,
        class: u16,
        common: Common,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let start_step = self.start(strength, common.1)?;
        let task = Task::Inpaint(Inpaint { picture, mask, start_step, passes });
        let work: Vec<_> = seeds.into_iter().map(|seed| (seed, class, task)).collect();
        self.draw(py, &common, &work)
    }

    /// Pictures at `shares` of the way between two ends, each (seed, class).
    fn morph<'py>(
        &self,
        py: Python<'py>,
        from: (u64, u16),
        to: (u64, u16),
        shares: Vec<f32>,
        common: Common,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let task = |at| Task::Morph(Morph { seed: to.0, class: to.1, at });
        let work: Vec<_> = shares.into_iter().map(|at| (from.0, from.1, task(at))).collect();
        self.draw(py, &common, &work)
    }

    /// Writes one evaluation as an ONNX file, whole or not at all.
    fn export_onnx(&self, py: Python<'_>, out: PathBuf, form: &str, step: Option<usize>) -> PyResult<()> {
        let form = match form {
            "float" => Form::Float,
            "qdq" => Form::Qdq,
            _ => return Err(wrong(anyhow::anyhow!("form {form:?}: give \"float\" or \"qdq\""))),
        };
        let write = || -> anyhow::Result<()> {
            let image = format::Image::parse(self.image.bytes()).map_err(|e| anyhow::anyhow!("{e}"))?;
            let model = onnx::write(&Network::from_image(&image)?, Options { form, step })?;
            files::write_atomic(&out, |w| Ok(w.write_all(&onnx::encode(&model))?))
        };
        py.detach(write).map_err(wrong)
    }
}
