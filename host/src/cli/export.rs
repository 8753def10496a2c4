//! `fewstep export`: quantizes a student and writes its image.

use crate::export::{ExportOptions, Exported, write_image};
use crate::files;
use crate::nn::{Checkpoint, Engine, Precision};
use crate::progress::Progress;
use crate::quant::quantize;
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use serde_json::json;
use std::path::PathBuf;

/// Most steps that an image holds tables for.
const MAX_STEPS: usize = fewstep_core::format::limits::MAX_STEPS as usize;

/// Quantize a student to int8 and write the image that devices run
#[derive(clap::Args)]
pub struct Args {
    /// Student checkpoint (.safetensors)
    checkpoint: PathBuf,
    /// Denoising steps; those the student was distilled for
    #[arg(long)]
    steps: usize,
    /// Student image to write (.fsw)
    #[arg(long)]
    out: PathBuf,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// Quantizes and exports; prints the progress of calibration.
pub fn export(checkpoint: &Checkpoint, steps: usize) -> Result<Exported> {
    let mut progress: Option<Progress> = None;
    let spec = quantize(checkpoint, steps, |done, total| {
        progress.get_or_insert_with(|| Progress::new("calibrate", total as u64, "evaluations")).set(done as u64, "");
    })?;
    drop(progress);
    write_image(&spec, &ExportOptions::default())
}

pub fn run(args: Args) -> Result<()> {
    ensure!((1..=MAX_STEPS).contains(&args.steps), "--steps {}: an image holds 1 to {MAX_STEPS} steps", args.steps);
    files::check_output(&args.out)?;
    // Calibration in f32: the same image on every machine with the same f32 sums.
    Engine::select(Precision::F32)?;
    let checkpoint = Checkpoint::open(&args.checkpoint, &Device::Cpu)?;
    let exported = export(&checkpoint, args.steps).with_context(|| format!("{}", args.checkpoint.display()))?;
    files::write_atomic(&args.out, |w| Ok(w.write_all(&exported.bytes)?))?;
    let (bytes, arena) = (exported.bytes.len(), exported.plan.arena_bytes);
    if args.json {
        println!("{}", json!({ "out": args.out, "file_bytes": bytes, "arena_bytes": arena, "steps": args.steps }));
    } else {
        println!(
            "{}: {bytes} bytes, arena {arena} bytes (set by {})",
            args.out.display(),
            exported.stage_name(exported.plan.peak_stage)
        );
    }
    Ok(())
}
