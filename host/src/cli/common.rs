//! What several verbs share.

use crate::data::Dataset;
use crate::files;
use crate::nn::{Engine, MAX_CHECKPOINT_BYTES, Precision};
use anyhow::{Context, Result};
use candle_core::Device;
use clap::ValueEnum;
use fewstep_core::format::crc::crc32c;
use serde::{Deserialize, Serialize};
use std::path::Path;

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
            DeviceArg::Cuda => anyhow::bail!(
                "--device cuda: this build has no GPU support; build with --features cuda or use --device cpu"
            ),
        }
    }
}

/// What must be the same when a run is resumed: the arguments, the matrix arithmetic, and what is read.
#[derive(Serialize)]
pub struct RunOptions<'a, A: Serialize> {
    #[serde(flatten)]
    args: &'a A,
    arithmetic: &'static str,
    /// CRC-32C of pictures and labels.
    data_crc32c: String,
    /// CRC-32C of the teacher's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_crc32c: Option<String>,
}

impl<'a, A: Serialize> RunOptions<'a, A> {
    pub fn new(args: &'a A, device: &Device, data: &Dataset, teacher: Option<&Path>) -> Result<RunOptions<'a, A>> {
        let labels: Vec<u8> = data.labels.iter().flat_map(|l| l.to_le_bytes()).collect();
        let hex = |crc: u32| format!("{crc:08x}");
        let teacher = teacher.map(|file| files::read_file(file, MAX_CHECKPOINT_BYTES)).transpose()?;
        Ok(RunOptions {
            args,
            arithmetic: if device.is_cpu() { Engine::current().name() } else { "GPU" },
            data_crc32c: hex(crc32c(&data.pictures) ^ crc32c(&labels)),
            teacher_crc32c: teacher.map(|bytes| hex(crc32c(&bytes))),
        })
    }
}

/// Sets the number of worker threads; 0 leaves one a core.
pub fn use_threads(threads: usize) -> Result<()> {
    anyhow::ensure!(threads <= 1024, "--threads {threads}: give a number from 0 to 1024");
    if threads > 0 {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start the worker threads")?;
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
