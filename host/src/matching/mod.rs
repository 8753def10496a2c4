//! Finishing in the features of frozen classifiers: what a student draws is to be spread there as pictures
//! that are wanted: without guidance as the data set is, with it as the teacher's own.

mod objective;
mod running;
mod view;

pub use objective::Matched;
pub use running::Running;
pub use view::{View, check};
