//! Training: one loop for the teacher and for every stage of distillation.
//!
//! A phase has an [`Objective`], which turns a batch into inputs and a target v, and a budget of pictures. The loop
//! owns everything else: batches, gradients, optimizer, moving average, progress, statistics, checkpoints. All
//! randomness is addressed by (seed, step), so a run that was killed goes on with the same bits.

mod batch;
mod live;
mod objective;
mod phase;
mod run_dir;
mod segments;

pub use batch::{Batch, Batches};
pub use live::Live;
pub use objective::{Guidance, Halving, Objective, Targets, Teacher, halving_target};
pub use phase::{Phase, Schedule};
pub use run_dir::RunDir;
pub use segments::{Angles, Grid, Jump, Segments, Weight, landing_v};
