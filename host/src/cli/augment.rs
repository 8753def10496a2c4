//! `fewstep augment`: a labelled data set from a student, and the experiment that says what it is worth.

use super::edit::check_data;
use super::painting::{Drawing, counted};
use crate::apps::augment::{Form, check_out, form, joined, pictures, write};
use crate::apps::experiment::{self, Experiment};
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
    #[arg(long, required_unless_present = "experiment")]
    count: Option<usize>,
    /// Guidance strengths, in turn
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2", allow_negative_numbers = true)]
    guidance: Vec<f32>,
    #[command(flatten)]
    drawing: Drawing,
    /// Real pictures to put first (or to experiment with): IDX folder, folder of PNG folders, or .npz
    #[arg(long, required_if_eq("experiment", "true"))]
    data: Option<PathBuf>,
    /// Set to write: a new folder, or an .npz file
    #[arg(long, required_unless_present = "experiment")]
    out: Option<PathBuf>,
    /// Form of a folder [default: idx for grey pictures, else npz]
    #[arg(long, value_enum)]
    form: Option<Form>,
    /// Train classifiers on few real pictures, alone, with classical augmentation, with the student's pictures, with
    /// both, and measure them on the test pictures of --data
    #[arg(long, conflicts_with_all = ["form", "out"])]
    experiment: bool,
    /// Real pictures a class, for each experiment
    #[arg(long, value_delimiter = ',', default_value = "20,100,500", requires = "experiment")]
    real: Vec<usize>,
    /// Trainings of each kind, each of another seed and other real pictures
    #[arg(long, default_value_t = 5, requires = "experiment")]
    repeats: usize,
    /// Pictures a training sees, repeats counted
    #[arg(long, default_value_t = 60_000, requires = "experiment")]
    images: u64,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let count = args.count.unwrap_or(if args.experiment { 10_000 } else { 1 });
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
        check_data(&painter, real, path)?;
        ensure!(
            real.classes() == classes,
            "--data {}: has {} classes, the student {classes}; name the data it was trained on",
            path.display(),
            real.classes()
        );
    }
    let target = match &args.out {
        Some(out) => {
            check_out(out)?;
            Some((out, form(out, args.form, (painter.shape().2, classes))?))
        }
        None => None,
    };
    let plan =
        Experiment { real: args.real.clone(), repeats: args.repeats, images: args.images, seed: args.drawing.seed };
    let test = match (args.experiment, &args.data, &real) {
        (true, Some(path), Some(real)) => {
            let test = data::open(path, Split::Test)?;
            plan.check(real, &test)?;
            Some(test)
        }
        _ => None,
    };

    let progress = Mutex::new(Progress::new("augment", count as u64, "pictures"));
    let first = args.drawing.request(&painter, 0, 0, args.guidance[0]);
    let drawn = pictures(&painter, &first, &args.guidance, count, |done| {
        if let Ok(mut p) = progress.lock() {
            p.set(done as u64, "");
        }
    })?;
    drop(progress);
    if let (Some(test), Some(real)) = (&test, &real) {
        let rows = plan.run(real, test, &drawn)?;
        return experiment::report(&plan, &rows, &args.guidance, count, args.json);
    }
    let (out, form) = target.context("--out")?;
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
