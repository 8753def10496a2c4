//! `fewstep inspect`: what a student image or a checkpoint is.

use crate::nn::Checkpoint;
use crate::sampling::{Source, StudentImage};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Tell what is in a student image or a checkpoint
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw) or checkpoint (.safetensors)
    file: PathBuf,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let page = match Source::open(&args.file)? {
        Source::Image(image) => describe_image(&image)?,
        Source::Checkpoint(checkpoint) => describe_checkpoint(&checkpoint, std::fs::metadata(&args.file)?.len()),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        println!("{}", args.file.display());
        print_page(&page, 1);
    }
    Ok(())
}

fn describe_image(image: &StudentImage) -> Result<Value> {
    let model = image.model()?;
    let info = model.info();
    let provenance: serde_json::Map<String, Value> =
        model.provenance().map(|(k, v)| (k.to_string(), Value::from(v))).collect();
    Ok(json!({
        "kind": "student image",
        "format": format!("{}.{}", info.version.0, info.version.1),
        "shape": [info.height, info.width, info.channels],
        "classes": info.classes,
        "steps": info.steps,
        "guidance": [info.w_min, info.w_max],
        "file_bytes": info.file_bytes,
        "arena_bytes": info.arena_bytes,
        "scratch_bytes": info.scratch_bytes,
        "macs_per_step": info.macs_per_step,
        "operations": model.op_count(),
        "profile": format!("{:?}", info.profile).to_lowercase(),
        "provenance": provenance,
    }))
}

fn describe_checkpoint(c: &Checkpoint, file_bytes: u64) -> Value {
    let arch = &c.net.arch;
    json!({
        "kind": c.kind.describe(),
        "shape": [arch.height, arch.width, arch.channels],
        "classes": arch.classes,
        "class_names": c.class_names,
        "parameters": c.net.params.count(),
        "macs_per_step": crate::export::Graph::new(arch).macs(),
        "file_bytes": file_bytes,
        "architecture": arch,
        "provenance": c.provenance,
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
