//! Finishing in the features of frozen classifiers: what a student draws without guidance is to be spread there as the
//! data set is.

mod objective;
mod running;
mod view;

pub use objective::Matched;
pub use running::Running;
pub use view::{View, check};
