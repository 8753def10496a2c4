//! What several verbs share.

use crate::nn::{Engine, Precision};
use anyhow::{Context, Result};
use candle_core::Device;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where networks are trained and evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceArg {
    Cpu,
    /// an NVIDIA GPU (needs a build with --features cuda)
    Cuda,
}

impl DeviceArg {
    /// Opens the device and, on the CPU, selects the matrix engine.
    pub fn open(self, precision: Precision) -> Result<Device> {
        match self {
            DeviceArg::Cpu => {
                Engine::select(precision)?;
                Ok(Device::Cpu)
            }
            DeviceArg::Cuda if cfg!(feature = "cuda") => {
                Device::new_cuda(0).context("--device cuda: no usable NVIDIA GPU was found; use --device cpu")
            }
            DeviceArg::Cuda => anyhow::bail!("--device cuda: this build has no GPU support; build with --features cuda or use --device cpu"),
        }
    }
}

/// Sets the number of worker threads; 0 leaves one a core.
pub fn use_threads(threads: usize) -> Result<()> {
    if threads > 0 {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the worker threads")?;
    }
    Ok(())
}

/// Candle's own threads off: every thread that calls it has a part of the batch, and its workers would spin between.
pub fn one_candle_thread() {
    // SAFETY: called before any thread is started.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
}

/// Keeps freed megabyte buffers in the process: a training step allocates the same ones again, and returning them to
/// the system costs a page fault per 4 KB.
pub fn keep_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two allocator parameters before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
