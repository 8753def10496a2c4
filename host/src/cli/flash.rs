//! `fewstep flash`: a student image as a file for flash tools, or straight to a chip.

use crate::files;
use crate::flash::{Format, SlotName, Target, plan, write_checked};
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::PathBuf;

/// Write a student image for a flash tool: Intel HEX, UF2, binary, ELF or C array
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// stm32h743, nrf52840, rp2350 ..., or a target file (.toml)
    #[arg(long)]
    target: String,
    #[arg(long, value_enum, default_value = "a")]
    slot: SlotName,
    /// File to write
    #[arg(long)]
    out: PathBuf,
    /// Instead of what the ending of --out says
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Version of the image, for firmware that takes no older one
    #[arg(long, default_value_t = 1)]
    image_version: u32,
    /// Number of the update; the higher of two slots boots
    #[arg(long, default_value_t = 1)]
    sequence: u32,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let image = StudentImage::open(&args.file)?;
    let target = Target::find(&args.target)?;
    files::check_output(&args.out)?;
    let format = args.format.map_or_else(|| Format::of(&args.out), Ok)?;
    let info = image.model()?.info();
    ensure!(
        info.arena_bytes <= target.arena_bytes(),
        "{}: needs an arena of {} bytes, {} has {}; `fewstep fit --target {}` says what would make it fit",
        image.name,
        info.arena_bytes,
        target.name,
        target.arena_bytes(),
        args.target
    );
    let bytes = image.bytes().get(..info.file_bytes as usize).context("the image is cut")?;
    let region =
        plan(bytes, &target, args.slot, args.image_version, args.sequence).with_context(|| image.name.clone())?;
    let written = write_checked(&args.out, &region, format, &target)?;
    let end = u64::from(region.address) + region.bytes.len() as u64;
    if args.json {
        let report = json!({
            "target": target.name,
            "slot": format!("{:?}", args.slot).to_lowercase(),
            "format": format!("{format:?}").to_lowercase(),
            "address": region.address,
            "bytes": region.bytes.len(),
            "image_bytes": bytes.len(),
            "image_version": args.image_version,
            "sequence": args.sequence,
            "head": target.slots.head,
            "out": written,
            "read_back": "equal",
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for path in &written {
            println!("wrote              {}", path.display());
        }
        println!("target             {}: {}", target.name, target.description);
        println!(
            "flash              {:#010x} to {end:#010x}, {} bytes, read back equal",
            region.address,
            region.bytes.len()
        );
    }
    Ok(())
}
