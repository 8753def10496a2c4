//! Teachers from diffusers (its `UNet2DModel` with a DDPM or DDIM scheduler), and the project's teachers for it.
//!
//! `config` reads and refuses, `unet` is the network, `scheduler` the noise levels, `imported` a teacher made of
//! both, `export` the way back.

mod config;
mod export;
mod imported;
mod scheduler;
mod unet;

pub use config::UNetConfig;
pub use export::export;
pub use imported::{Imported, import};
pub use scheduler::{Prediction, Scheduler};
pub use unet::UNet2D;
