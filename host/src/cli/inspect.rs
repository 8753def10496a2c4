//! `fewstep inspect`: what a student image or a checkpoint is.

use crate::diffusers::Imported;
use crate::files;
use crate::nn::Checkpoint;
use crate::picture::{plan_svg, stage_name};
use crate::sampling::{Source, StudentImage};
use anyhow::{Result, bail};
use fewstep_core::Direction;
use fewstep_core::format::{Element, Image, Layout};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Tell what is in a student image or a checkpoint
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw) or checkpoint (.safetensors)
    file: PathBuf,
    /// Draw the memory plan of a student image into this file (.svg)
    #[arg(long, value_name = "OUT.svg")]
    plan: Option<PathBuf>,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let source = Source::open(&args.file)?;
    if let Some(path) = &args.plan {
        let Source::Image(image) = &source else {
            bail!("--plan: {} is a checkpoint; export it, an image has the memory plan", args.file.display());
        };
        files::check_output(path)?;
        let title = args.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let svg = plan_svg(&records(image)?, &title);
        files::write_atomic(path, |w| Ok(w.write_all(svg.as_bytes())?))?;
    }
    let page = match &source {
        Source::Image(image) => describe_image(image)?,
        Source::Checkpoint(checkpoint) => describe_checkpoint(checkpoint, std::fs::metadata(&args.file)?.len()),
        Source::Imported(teacher) => describe_imported(teacher, std::fs::metadata(&args.file)?.len()),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        println!("{}", args.file.display());
        print_page(&page, 1);
    }
    Ok(())
}

/// The records of an image that was checked.
fn records(image: &StudentImage) -> Result<Image<'_>> {
    Image::parse(image.bytes()).map_err(|e| anyhow::anyhow!("{}: {e}", image.name))
}

/// All that an image says about itself.
pub fn describe_image(image: &StudentImage) -> Result<Value> {
    let model = image.model()?;
    let info = model.info();
    let provenance: serde_json::Map<String, Value> =
        model.provenance().map(|(k, v)| (k.to_string(), Value::from(v))).collect();
    let (height, width, channels) = model.output_shape();
    let mut page = json!({
        "kind": match info.direction {
            Direction::ToPicture => "student image",
            Direction::ToNoise => "encoder image",
        },
        "format": format!("{}.{}", info.version.0, info.version.1),
        "shape": [height, width, channels],
        "classes": info.classes,
        "steps": info.steps,
        "guidance": [info.w_min, info.w_max],
        "file_bytes": info.file_bytes,
        "arena_bytes": info.arena_bytes,
        "scratch_bytes": info.scratch_bytes,
        "peak_bytes": info.peak_bytes,
        "peak_set_by": stage_name(&records(image)?, info.peak_stage),
        "macs_per_step": info.macs_per_step,
        "operations": model.op_count(),
        "weights": weights(&records(image)?),
        "profile": format!("{:?}", info.profile).to_lowercase(),
        "provenance": provenance,
    });
    if let Some(bands) = model.image().bands() {
        page["enlarges"] = json!([info.height, info.width, bands.base_channels]);
        page["bands"] = json!({ "count": model.image().rounds(), "window_rows": bands.rows, "halo_rows": bands.halo });
    }
    Ok(page)
}

/// Numbers of weights, by bits.
fn weights(image: &Image) -> Value {
    let (mut int8, mut int4) = (0, 0);
    for tensor in (0..image.info().counts.tensors).filter_map(|i| image.tensor(i).ok()) {
        match (tensor.element, tensor.layout) {
            (Element::I8, Layout::Int4) => int4 += tensor.len(),
            (Element::I8, _) => int8 += tensor.len(),
            _ => {}
        }
    }
    json!({ "int8": int8, "int4": int4 })
}

fn describe_checkpoint(c: &Checkpoint, file_bytes: u64) -> Value {
    let arch = &c.net.arch;
    json!({
        "kind": c.kind.describe(),
        "shape": arch.data_shape(),
        "classes": arch.classes,
        "class_names": c.class_names,
        "parameters": c.net.params.count(),
        "macs_per_step": crate::export::Graph::new(arch).macs(),
        "file_bytes": file_bytes,
        "architecture": arch,
        "provenance": c.provenance,
    })
}

fn describe_imported(t: &Imported, file_bytes: u64) -> Value {
    let (height, width, channels) = t.shape();
    json!({
        "kind": "imported teacher",
        "shape": [height, width, channels],
        "classes": t.classes(),
        "class_names": t.class_names,
        "parameters": t.net.params.count(),
        "file_bytes": file_bytes,
        "architecture": t.net.config,
        "scheduler": t.scheduler,
        "provenance": t.provenance,
    })
}

/// Keys and values, nested ones indented; long numbers with thousands separated.
fn print_page(page: &Value, depth: usize) {
    let Some(entries) = page.as_object() else { return };
    let width = entries.keys().map(String::len).max().unwrap_or(0);
    for (key, value) in entries {
        let pad = "  ".repeat(depth);
        let name = key.replace('_', " ");
        match value {
            Value::Object(_) => {
                println!("{pad}{name}");
                print_page(value, depth + 1);
            }
            _ => println!("{pad}{name:width$}  {}", show(value)),
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().map(show).collect::<Vec<_>>().join(", "),
        Value::Number(n) if n.as_u64().is_some_and(|n| n >= 10_000) => {
            let digits = n.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
            groups.join(" ")
        }
        other => other.to_string(),
    }
}
