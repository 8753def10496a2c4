//! Real pictures that others are measured against.

use crate::{readable, wrong};
use anyhow::{Result, ensure};
use fewstep::data::{self, Split};
use fewstep::evaluate::{self, Set};
use fewstep::features::Extractor;
use fewstep::nn::{Engine, Precision};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// The test split of a data set in the features of a frozen classifier.
#[pyclass(frozen, module = "fewstep._fewstep")]
pub struct Reference {
    extractor: Extractor,
    reference: evaluate::Reference,
}

fn open(data: &Path, features: &Path) -> Result<Reference> {
    // Features are f32 on every machine, so that figures can be compared.
    Engine::select(Precision::F32)?;
    let (extractor, test) = (Extractor::open(features)?, data::open(data, Split::Test)?);
    let a = &extractor.net.arch;
    ensure!(
        (test.height, test.width, test.channels) == (a.height, a.width, a.channels) && test.classes() <= a.classes,
        "{}: holds {}x{}x{} pictures of {} classes, {} was trained for {}x{}x{} of {}",
        data.display(),
        test.height,
        test.width,
        test.channels,
        test.classes(),
        features.display(),
        a.height,
        a.width,
        a.channels,
        a.classes
    );
    let reference = evaluate::Reference::new(Set::new(&extractor.net, &test.pictures, &test.labels)?);
    Ok(Reference { extractor, reference })
}

#[pymethods]
impl Reference {
    #[new]
    fn new(py: Python<'_>, data: PathBuf, features: PathBuf) -> PyResult<Self> {
        readable(&data)?;
        readable(&features)?;
        py.detach(|| open(&data, &features)).map_err(wrong)
    }

    /// (height, width, channels) of the pictures.
    #[getter]
    fn shape(&self) -> (usize, usize, usize) {
        let a = &self.extractor.net.arch;
        (a.height, a.width, a.channels)
    }

    /// Number of classes.
    #[getter]
    fn classes(&self) -> usize {
        self.extractor.net.arch.classes
    }

    /// SHA-256 of the feature extractor.
    #[getter]
    fn features_sha256(&self) -> String {
        self.extractor.hash().into()
    }

    /// All figures of pictures [n][height][width][channels] with the classes that were asked for, as JSON.
    fn measure(&self, py: Python<'_>, pictures: &[u8], labels: Vec<u16>, seed: u64) -> PyResult<String> {
        let measured = py.detach(|| -> Result<String> {
            Engine::select(Precision::F32)?;
            let set = Set::new(&self.extractor.net, pictures, &labels)?;
            Ok(serde_json::to_string(&self.reference.measure(&set, seed))?)
        });
        measured.map_err(wrong)
    }
}
