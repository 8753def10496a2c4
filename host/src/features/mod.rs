//! The feature extractor: a small classifier of a data set, frozen, whose last hidden layer is the space in which
//! distributions of pictures are compared.
//!
//! Distances in features are comparable only within one extractor, so its file carries a hash over architecture and
//! values, and every report states it.

mod arch;
mod file;
mod net;
mod train;

pub use arch::{FeatureArch, Level};
pub use file::{Extractor, MATCHED, hex};
pub use net::{Classifier, Extracted};
pub use train::{Training, accuracy, train};
