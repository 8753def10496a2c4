//! The float network: operations with tested gradients, parameters, the guided U-Net, and its optimizer.

mod blocks;
mod checkpoint;
pub mod kernels;
pub mod native;
pub mod ops;
mod optim;
mod params;
mod unet;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, Kind, MAX_CHECKPOINT_BYTES, read_tensors, write_tensors};
pub use kernels::{Engine, Precision};
pub use optim::{AdamW, AdamWOptions};
pub use params::{Init, Params};
pub use unet::{Arch, GUIDANCE_FEATURES, MAX_GUIDANCE, Query, Stage, TIME_FEATURES, UNet, time_features};
