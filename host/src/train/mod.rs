//! Training: one loop for the teacher and for every stage of distillation.
//!
//! A phase has an [`Objective`], which turns a batch into inputs and a target v, and a budget of pictures. The loop
//! owns everything else: batches, gradients, optimizer, moving average, progress, statistics, checkpoints. All
//! randomness is addressed by (seed, step), so a run that was killed goes on with the same bits. A run folder explains
//! itself in [`report`], which is made of its files alone.

mod batch;
mod invocation;
mod learner;
mod live;
mod moments;
mod objective;
mod phase;
pub mod report;
mod run_dir;
mod segments;
mod snapshot;
mod trajectories;
mod walk;
mod widened;

pub use batch::{Address, Batch, Batches};
pub use live::{Live, Turn};
pub use moments::{Moments, Renoise};
pub use objective::{Guidance, Halving, Objective, Targets, Teacher, halving_target};
pub use phase::{Phase, Schedule};
pub(crate) use phase::{save_interval, sum_gradients};
pub use run_dir::RunDir;
pub use segments::{Angles, Grid, Jump, Segments, Weight, landing_v};
pub use trajectories::{Strengths, Trajectories, WayOptions, Ways};
pub(crate) use walk::walk;
pub use widened::{Widened, temperature};
