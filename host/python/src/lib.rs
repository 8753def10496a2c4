//! fewstep for Python: the host's functions over bytes and numbers. Arrays, names and defaults are python/fewstep's.

mod image;
mod reference;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::Path;

/// A refusal as ValueError. The host's messages name what is wrong as a flag of the command line; Python has no flags.
fn wrong(error: anyhow::Error) -> PyErr {
    PyValueError::new_err(format!("{error:#}").trim_start_matches("--").to_string())
}

/// What is not there or may not be read is an OSError, as of Python's own functions.
fn readable(path: &Path) -> PyResult<()> {
    let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    Ok(std::fs::metadata(path).map(drop).map_err(named)?)
}

/// Name of the kernels that are used where none are named.
#[pyfunction]
fn backend() -> &'static str {
    fewstep_core::Backend::best().name()
}

#[pymodule]
fn _fewstep(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<image::Image>()?;
    module.add_class::<reference::Reference>()?;
    module.add_function(wrap_pyfunction!(backend, module)?)
}
