//! What the training verbs share: arguments, and what a resumed run must find unchanged.

use super::common::use_threads;
use crate::data::Dataset;
use crate::files;
use crate::nn::kernels::GROUP;
use crate::nn::{Arch, Engine, MAX_CHECKPOINT_BYTES, Precision};
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::Device;
use clap::ValueEnum;
use fewstep_core::format::crc::crc32c;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Most pictures of a phase.
pub const MAX_IMAGES: u64 = 1 << 40;

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

/// Arguments of every training verb.
#[derive(clap::Args, Serialize)]
pub struct TrainingArgs {
    /// Data set: IDX folder, folder of PNG folders, or .npz
    #[arg(long)]
    #[serde(skip)]
    pub data: PathBuf,
    /// Run folder to make
    #[arg(long)]
    #[serde(skip)]
    pub out: PathBuf,
    /// Go on with the run in --out
    #[arg(long)]
    #[serde(skip)]
    pub resume: bool,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceArg,
    /// Pictures in a batch
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Channels of the first level, lower levels keep their ratio to it; a student's default is its teacher's shape
    #[arg(long)]
    width: Option<usize>,
    /// Residual blocks: before going down, at the lowest level, after coming up
    #[arg(long, value_delimiter = ',', value_name = "E,M,D")]
    blocks: Option<Vec<usize>>,
    /// Attention heads at the lowest level, 0 for none
    #[arg(long)]
    heads: Option<usize>,
    /// Matrix arithmetic on the CPU
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    #[serde(skip)]
    threads: usize,
}

impl TrainingArgs {
    /// Checks the numbers, sets threads and arithmetic, opens the device.
    pub fn open(&self) -> Result<Device> {
        ensure!((1..=65536).contains(&self.batch), "--batch {}: give a number from 1 to 65536", self.batch);
        use_threads(self.threads)?;
        self.device.open(self.precision)
    }

    /// Gives a shape the width, blocks and heads that were asked for.
    pub fn reshape(&self, arch: &mut Arch) -> Result<()> {
        if let Some(width) = self.width {
            ensure!((1..=4096).contains(&width), "--width {width}: give a number from 1 to 4096");
            let base = arch.widths[0];
            for w in &mut arch.widths {
                *w = (*w * width / base).next_multiple_of(GROUP);
            }
        }
        if let Some(blocks) = &self.blocks {
            let [e, m, d] = blocks[..] else {
                bail!("--blocks: {} numbers given; give three, as in 2,5,3", blocks.len())
            };
            arch.encoder.fill(e);
            arch.middle = m;
            arch.decoder.fill(d);
        }
        if let Some(h) = self.heads {
            arch.attention_heads = h;
        }
        arch.check().map_err(|e| {
            anyhow!("no network can be made: {e}; change --width, --blocks, --heads or the pictures of --data")
        })
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
