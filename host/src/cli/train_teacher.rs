//! `fewstep train-teacher`: trains the guided teacher.

use super::common::{DeviceArg, RunOptions, use_threads};
use crate::data::{self, Split};
use crate::distill::half_file;
use crate::nn::{AdamWOptions, Arch, Checkpoint, Engine, Kind, Params, Precision, UNet};
use crate::train::{Phase, RunDir, Schedule, Teacher};
use anyhow::{Result, anyhow, bail, ensure};
use candle_core::DType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Train a class-conditional teacher with classifier-free guidance
#[derive(clap::Args, Serialize)]
pub struct Args {
    /// Data set: IDX folder, folder of PNG folders, or .npz
    #[arg(long)]
    #[serde(skip)]
    data: PathBuf,
    /// Run folder to make
    #[arg(long)]
    #[serde(skip)]
    out: PathBuf,
    /// Go on with the run in --out
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Pictures to train on, repeats counted
    #[arg(long, default_value_t = 2_000_000)]
    images: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceArg,
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 1.5e-3)]
    lr: f64,
    /// Decay of the moving average of the weights
    #[arg(long, default_value_t = 0.9995)]
    ema: f64,
    /// Share of pictures trained without their class
    #[arg(long, default_value_t = 0.1)]
    class_dropout: f32,
    /// Channels of the first level; lower levels keep their ratio to it
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

/// Most pictures of a phase.
pub const MAX_IMAGES: u64 = 1 << 40;

/// Changes width, blocks and heads of a default shape.
pub fn reshape(arch: &mut Arch, width: Option<usize>, blocks: Option<&[usize]>, heads: Option<usize>) -> Result<()> {
    if let Some(width) = width {
        ensure!((1..=4096).contains(&width), "--width {width}: give a number from 1 to 4096");
        let base = arch.widths[0];
        for w in &mut arch.widths {
            *w = (*w * width / base).next_multiple_of(8);
        }
    }
    if let Some(blocks) = blocks {
        let [e, m, d] = blocks else { bail!("--blocks: {} numbers given; give three, as in 2,5,3", blocks.len()) };
        arch.encoder.fill(*e);
        arch.middle = *m;
        arch.decoder.fill(*d);
    }
    if let Some(h) = heads {
        arch.attention_heads = h;
    }
    arch.check().map_err(|e| {
        anyhow!("no network can be made: {e}; change --width, --blocks, --heads or the pictures of --data")
    })
}

pub fn run(args: Args) -> Result<()> {
    ensure!(args.batch >= 1 && args.batch <= 65536, "--batch {}: give a number from 1 to 65536", args.batch);
    ensure!((1..=MAX_IMAGES).contains(&args.images), "--images {}: give a number from 1 to {MAX_IMAGES}", args.images);
    ensure!(args.lr > 0.0 && args.lr < 1.0, "--lr {}: give a rate between 0 and 1", args.lr);
    ensure!((0.0..1.0).contains(&args.ema), "--ema {}: give a decay from 0 to below 1", args.ema);
    ensure!(
        (0.0..=1.0).contains(&args.class_dropout),
        "--class-dropout {}: give a share from 0 to 1",
        args.class_dropout
    );
    use_threads(args.threads)?;
    let device = args.device.open(args.precision)?;
    let data = data::open(&args.data, Split::Train)?;
    let mut arch = Arch::for_pictures(data.height, data.width, data.channels, data.classes());
    reshape(&mut arch, args.width, args.blocks.as_deref(), args.heads)?;
    let run = RunDir::open(&args.out, &RunOptions::new(&args, &device, &data, None)?, args.resume)?;
    let out = run.path("teacher.safetensors");
    if out.exists() {
        eprintln!("{} is already trained", out.display());
        return save_half(&Checkpoint::open(&out, &device)?, &out);
    }
    let net = UNet { params: Params::frozen(UNet::init(&arch, args.seed, &device)?), arch };
    eprintln!(
        "teacher of {} parameters on {} pictures, {}",
        net.params.count(),
        data.len(),
        if device.is_cpu() { Engine::current().name() } else { "GPU" }
    );
    let schedule = Schedule { pictures: args.images, batch: args.batch, lr: args.lr, constant: 0.4 };
    let optimizer = AdamWOptions { ema: args.ema, ..AdamWOptions::default() };
    let objective = Teacher { classes: net.arch.classes, dropout: args.class_dropout };
    let phase =
        Phase { name: "teacher", net, schedule, optimizer, seed: args.seed, data: &data, device: &device, run: &run };
    let net = phase.run(&objective)?;
    let provenance = BTreeMap::from([
        ("command".to_string(), "fewstep train-teacher".to_string()),
        ("pictures".into(), args.images.to_string()),
        ("seed".into(), args.seed.to_string()),
        ("fewstep".into(), env!("CARGO_PKG_VERSION").into()),
    ]);
    let teacher = Checkpoint { kind: Kind::Teacher, net, class_names: data.class_names, provenance };
    teacher.save(&out, DType::F32)?;
    println!("{}", out.display());
    save_half(&teacher, &out)
}

/// Writes the checkpoint in f16 beside its f32 file, for shipping: half the size.
fn save_half(checkpoint: &Checkpoint, file: &Path) -> Result<()> {
    let half = half_file(file);
    checkpoint.save(&half, DType::F16)?;
    println!("{}", half.display());
    Ok(())
}
