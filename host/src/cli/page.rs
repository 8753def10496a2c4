//! `fewstep page`: a static page around a student image.

use super::common::assets_with;
use crate::page;
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::PathBuf;

/// The shipped student that is taken when none is named.
const STUDENT: &str = "fashion-mnist-student-4.fsw";

/// Write a page for the browser that draws, edits and morphs with a student; any static file server serves it
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw) [default: the shipped one]
    file: Option<PathBuf>,
    /// Folder to write into
    #[arg(long)]
    out: PathBuf,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let file = args.file.or_else(|| Some(assets_with(STUDENT)?.join(STUDENT)));
    let file = file.with_context(|| format!("there is no assets/{STUDENT} here; name a student image"))?;
    let image = StudentImage::open(&file)?;
    ensure!(!args.out.is_file(), "--out {}: is a file; name a folder", args.out.display());
    ensure!(
        image.model()?.base_bytes().is_none(),
        "{}: it enlarges pictures; a page takes a student that draws them",
        file.display()
    );
    let bytes = page::write(&args.out, &image)?;
    let index = args.out.join("index.html");
    if args.json {
        println!("{}", json!({ "file": file, "out": args.out, "index": index, "bytes": bytes }));
    } else {
        println!("{}, {bytes} bytes with all its files", index.display());
        println!(
            "Browsers open it from a server alone, for instance `python3 -m http.server -d {}`",
            args.out.display()
        );
    }
    Ok(())
}
