//! Why a scenario cannot be played. What goes wrong on the board is no error but a failed expectation.

use std::path::PathBuf;

use crate::signing::KeyError;

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{}: no such file; check the name", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The name is a folder's.
    #[error("{}: is a folder where a file is wanted; name a file in it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file, or one that it names, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than is accepted.
    #[error("{}: has more than the {most} bytes that are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        most: u64,
    },
    /// The file is no scenario.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, where.
        problem: String,
    },
    /// A key file is none.
    #[error("{}: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: KeyError,
    },
    /// The simulator cannot start or go on.
    #[error(transparent)]
    Simulator(#[from] fewstep_runner::Error),
}

impl Error {
    /// Whether something is missing on this machine, rather than wrong.
    pub fn is_missing_tool(&self) -> bool {
        matches!(self, Self::Simulator(error) if error.is_missing_tool())
    }

    /// Whether the caller was asked to stop.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Simulator(fewstep_runner::Error::Interrupted))
    }
}
