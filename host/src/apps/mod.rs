//! What people do with a student: edit a picture, fill a hole in one, go from one picture to another, enlarge a data
//! set. All of it is the core's own work ([`fewstep_core::Session`]), so a device does the same to the same bytes.

pub mod augment;
pub mod measure;
mod student;
pub mod trial;

pub use student::{Painter, Shape, Task, fitting, mask, start_step};
