//! `fewstep augment`: a labelled data set from a student, alone or behind real pictures.

use super::edit::check_own_data;
use super::painting::{Drawing, counted};
use crate::apps::augment::{Form, check_out, form, joined, pictures, write};
use crate::data::{self, Split};
use crate::progress::Progress;
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;

const MAX_COUNT: usize = 1_000_000;

/// Write a labelled set of pictures that the student draws, alone or behind real ones
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Pictures to draw, classes in turn
    #[arg(long)]
    count: usize,
    /// Guidance strengths, in turn
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2", allow_negative_numbers = true)]
    guidance: Vec<f32>,
    #[command(flatten)]
    drawing: Drawing,
    /// Real pictures to put first: IDX folder, folder of PNG folders, or .npz
    #[arg(long)]
    data: Option<PathBuf>,
    /// Set to write: a new folder, or an .npz file
    #[arg(long)]
    out: PathBuf,
    /// Form of a folder [default: idx for grey pictures, else npz]
    #[arg(long, value_enum)]
    form: Option<Form>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let count = args.count;
    ensure!((1..=MAX_COUNT).contains(&count), "--count {count}: give a number from 1 to {MAX_COUNT}");
    ensure!(!args.guidance.is_empty(), "--guidance: give at least one strength");
    let image = StudentImage::open(&args.file)?;
    let painter = args.drawing.painter(&image)?;
    for w in &args.guidance {
        painter.check(0, *w)?;
    }
    let classes = usize::from(painter.info().classes);
    let real = args.data.as_ref().map(|path| data::open(path, Split::Train)).transpose()?;
    if let (Some(real), Some(path)) = (&real, &args.data) {
        check_own_data(&painter, real, path)?;
    }
    let out = &args.out;
    check_out(out)?;
    let form = form(out, args.form, (painter.shape().2, classes))?;

    let progress = Mutex::new(Progress::new("augment", count as u64, "pictures"));
    let first = args.drawing.request(&painter, 0, 0, args.guidance[0]);
    let drawn = pictures(&painter, &first, &args.guidance, count, |done| {
        if let Ok(mut p) = progress.lock() {
            p.set(done as u64, "");
        }
    })?;
    drop(progress);
    let all = match &real {
        Some(real) => joined(real, &drawn).context("--data")?,
        None => drawn,
    };
    write(out, form, &all)?;
    let of_real = real.as_ref().map_or(0, data::Dataset::len);
    if args.json {
        let report = json!({
            "file": args.file, "out": out, "form": format!("{form:?}").to_lowercase(), "drawn": count, "real": of_real,
            "classes": classes, "guidance": args.guidance, "seed": args.drawing.seed,
            "steps": args.drawing.steps(&painter), "backend": painter.backend(),
            "crc32c": fewstep_core::format::crc::crc32c(&all.pictures),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}: {} drawn, {of_real} real, {classes} classes", out.display(), counted(count, "picture"));
    }
    Ok(())
}
