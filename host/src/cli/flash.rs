//! `fewstep flash`: a student image as a file for flash tools, or straight to a chip.

use crate::files;
use crate::flash::{Format, SlotName, Target, plan, probe, write_checked};
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use fewstep_core::slots::Manifest;
use fewstep_scenario::signing::{MAX_KEY_FILE, SigningKey};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write a student image for a flash tool (Intel HEX, UF2, binary, ELF or C array), or to a chip
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
    #[arg(long, required_unless_present = "probe")]
    out: Option<PathBuf>,
    /// Where the ending of --out tells no format
    #[arg(long, value_enum, requires = "out")]
    format: Option<Format>,
    /// Write to the chip through the debug probe that is attached; needs a build with the feature `probe`
    #[arg(long)]
    probe: bool,
    /// Private key file (`fewstep key`), for firmware that takes signed images only
    #[arg(long)]
    sign: Option<PathBuf>,
    /// Version of the image, for firmware that takes no older one
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    image_version: u32,
    /// Number of the update; the higher of two slots boots
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    sequence: u32,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// The key in a private key file.
fn signing_key(path: &Path) -> Result<SigningKey> {
    let name = || path.display().to_string();
    let text =
        String::from_utf8(files::read_file(path, MAX_KEY_FILE)?).ok().context("is not text").with_context(name)?;
    SigningKey::from_pem(&text).with_context(name)
}

pub fn run(args: Args) -> Result<()> {
    let image = StudentImage::open(&args.file)?;
    let target = Target::find(&args.target)?;
    let format = match &args.out {
        Some(out) => {
            files::check_output(out)?;
            Some(Format::choose(out, args.format)?)
        }
        None => None,
    };
    let key = args.sign.as_deref().map(signing_key).transpose()?;
    if args.probe {
        probe::check(&target)?;
    }
    let info = image.model()?.info();
    ensure!(
        info.arena_bytes <= target.arena_bytes(),
        "{}: needs an arena of {} bytes, {} has {}; `fewstep fit FILE --target {}` says what would make it fit",
        image.name,
        info.arena_bytes,
        target.name,
        target.arena_bytes(),
        args.target
    );
    let bytes = image.bytes().get(..info.file_bytes as usize).context("the image is cut")?;
    let manifest = match &key {
        Some(key) => key.manifest(bytes, args.image_version),
        None => Manifest::of(bytes, args.image_version),
    };
    let region = plan(bytes, &manifest, &target, args.slot, args.sequence).with_context(|| image.name.clone())?;
    let written = match (&args.out, format) {
        (Some(out), Some(format)) => write_checked(out, &region, format, &target)?,
        _ => Vec::new(),
    };
    if args.probe {
        probe::write(&region, &target)?;
    }
    let last = u64::from(region.address) + region.bytes.len().saturating_sub(1) as u64;
    if args.json {
        let report = json!({
            "target": target.name,
            "slot": format!("{:?}", args.slot).to_lowercase(),
            "format": format.map(|format| format!("{format:?}").to_lowercase()),
            "address": region.address,
            "bytes": region.bytes.len(),
            "image_bytes": bytes.len(),
            "image_version": args.image_version,
            "sequence": args.sequence,
            "head": target.slots.head,
            "public_key": key.as_ref().map(SigningKey::public),
            "out": written,
            "probe": args.probe,
            "read_back": "equal",
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for path in &written {
            println!("wrote              {}", path.display());
        }
        println!("target             {}: {}", target.name, target.description);
        println!(
            "flash              {} bytes, the first at {:#010x}, the last at {last:#010x}, read back equal",
            region.bytes.len(),
            region.address
        );
        if let Some(key) = &key {
            println!("signed             for the public key {:?}", key.public());
        }
    }
    Ok(())
}
