//! `fewstep edit`: image to image, with a student image through the core.

use super::compare::psnr;
use super::painting::{Drawing, MAX_SHOWN, Sheet, check_outputs, checksum, counted, decibels, write_picture};
use crate::apps::{Painter, Task, fitting, start_step};
use crate::data::{self, Dataset, Split, npz};
use crate::sampling::StudentImage;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::path::PathBuf;

/// Change a picture: noise takes it part of the way back, the student finishes it as another class
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Picture to start from, a PNG of the student's size
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    input: Option<PathBuf>,
    /// Class to draw
    #[arg(long, required_unless_present = "data")]
    class: Option<u16>,
    /// Share of the way from the picture to noise, above 0, up to 1 (nothing of the picture is left); a whole number of
    /// steps is done. Several give a column each
    #[arg(long, value_delimiter = ',', default_value = "0.5", allow_negative_numbers = true)]
    strength: Vec<f32>,
    /// Guidance strength w, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    /// Variations, each of other noise; with --data the number of pictures
    #[arg(long, default_value_t = 1)]
    count: usize,
    #[command(flatten)]
    drawing: Drawing,
    /// Measure on the test pictures of this data set instead: likeness to the input, for each strength. Without
    /// --class each picture becomes the class after its own
    #[arg(long)]
    data: Option<PathBuf>,
    /// Picture to write, or a grid of several [default: edited.png, unless --npz, --json or --data is given]
    #[arg(long, conflicts_with = "data")]
    out: Option<PathBuf>,
    /// Pictures and labels to write as arr_0 and arr_1
    #[arg(long, conflicts_with = "data")]
    npz: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let image = StudentImage::open(&args.file)?;
    let painter = args.drawing.painter(&image)?;
    painter.check(args.class.unwrap_or(0), args.guidance)?;
    let steps = args.drawing.steps(&painter);
    let starts: Vec<u16> = args.strength.iter().map(|s| start_step(*s, steps)).collect::<Result<_>>()?;
    ensure!(!starts.is_empty(), "--strength: give at least one");
    match (&args.data, &args.input) {
        (Some(folder), _) => measure(&args, &painter, &starts, data::open(folder, Split::Test)?),
        (None, Some(_)) => edit(&args, &painter, &starts),
        (None, None) => bail!("give a picture to start from, or --data"),
    }
}

fn edit(args: &Args, painter: &Painter, starts: &[u16]) -> Result<()> {
    let most = MAX_SHOWN / starts.len().min(MAX_SHOWN);
    ensure!((1..=most).contains(&args.count), "--count {}: give a number from 1 to {most}", args.count);
    let (Some(input), Some(class)) = (&args.input, args.class) else { bail!("give a picture and --class") };
    let shape = painter.shape();
    let picture = fitting(input, shape)?;
    let out = args.out.clone().or_else(|| (args.npz.is_none() && !args.json).then(|| "edited.png".into()));
    check_outputs(out.as_deref(), &[args.npz.as_deref()])?;

    let steps = args.drawing.steps(painter);
    let mut work = Vec::new();
    for i in 0..args.count {
        let request = args.drawing.request(painter, i, class, args.guidance);
        work.extend(starts.iter().map(|start| (request, Task::Edit { picture: &picture, start_step: *start })));
    }
    let drawn = painter.draw(&work)?;
    let each: Vec<&[u8]> = drawn.chunks_exact(picture.len()).collect();
    let names = painter.class_names();
    if let Some(path) = &out {
        if let [one] = each[..] {
            write_picture(path, one, shape)?;
        } else {
            let strength =
                |(s, start): (&f32, &u16)| format!("strength {s}\n{}", counted((steps - start).into(), "step"));
            let columns = std::iter::once("input".to_string()).chain(args.strength.iter().zip(starts).map(strength));
            let mut sheet = Sheet {
                title: format!("{}, w = {}", names[usize::from(class)], args.guidance),
                columns: columns.collect(),
                rows: Vec::new(),
            };
            for (i, row) in each.chunks(starts.len()).enumerate() {
                let input = (i == 0).then_some(&picture[..]);
                let seed = format!("seed {}", args.drawing.seed.wrapping_add(i as u64));
                sheet.rows.push((seed, std::iter::once(input).chain(row.iter().map(|p| Some(*p))).collect()));
            }
            sheet.write(path, shape)?;
        }
    }
    if let Some(path) = &args.npz {
        npz::write_npz(path, &drawn, each.len(), shape.0, shape.1, shape.2, &vec![class.into(); each.len()])?;
    }
    let rows = work.iter().zip(&each).enumerate().map(|(i, ((request, _), drawn))| {
        let at = i % starts.len();
        (request.seed, args.strength[at], starts[at], psnr(&picture, drawn), *drawn)
    });
    if args.json {
        let pictures: Vec<_> = rows
            .map(|(seed, strength, start, psnr, drawn)| {
                json!({
                    "seed": seed, "strength": strength, "start_step": start, "evaluations": steps - start,
                    "psnr_to_input": decibels(psnr), "crc32c": checksum(drawn),
                })
            })
            .collect();
        let report = json!({
            "file": args.file, "input": args.input, "class": class, "guidance": args.guidance, "steps": steps,
            "backend": painter.backend(), "shape": [shape.0, shape.1, shape.2], "pictures": pictures,
            "out": out, "npz": args.npz,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for (seed, strength, start, psnr, _) in rows {
            let done = counted((steps - start).into(), "step");
            println!(
                "{}, seed {seed}, strength {strength}: {done}, {psnr:.1} dB from the input",
                names[usize::from(class)]
            );
        }
        for path in [&out, &args.npz].into_iter().flatten() {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Refuses a data set of other pictures or more classes than the student's.
pub fn check_data(painter: &Painter, data: &Dataset, path: &std::path::Path) -> Result<()> {
    let (h, w, c) = painter.shape();
    ensure!(
        (data.height, data.width, data.channels) == (h, w, c),
        "--data {}: holds pictures of {}x{}x{}, the student draws {h}x{w}x{c}; name the data it was trained on",
        path.display(),
        data.height,
        data.width,
        data.channels
    );
    let classes = usize::from(painter.info().classes);
    ensure!(
        data.classes() <= classes,
        "--data {}: has {} classes, the student {classes}; name the data it was trained on",
        path.display(),
        data.classes()
    );
    Ok(())
}

/// As [`check_data`], where all the student's classes must be there too.
pub fn check_own_data(painter: &Painter, data: &Dataset, path: &std::path::Path) -> Result<()> {
    check_data(painter, data, path)?;
    let classes = usize::from(painter.info().classes);
    ensure!(
        data.classes() == classes,
        "--data {}: has {} classes, the student {classes}; name the data it was trained on",
        path.display(),
        data.classes()
    );
    Ok(())
}

fn measure(args: &Args, painter: &Painter, starts: &[u16], data: Dataset) -> Result<()> {
    let folder = args.data.as_ref().context("--data")?;
    check_data(painter, &data, folder)?;
    ensure!(
        (1..=data.len()).contains(&args.count),
        "--count {}: give a number from 1 to {}, the test pictures there are",
        args.count,
        data.len()
    );
    let classes = painter.info().classes;
    let target = |i: usize| args.class.unwrap_or((data.labels[i] + 1) % classes);
    let steps = args.drawing.steps(painter);
    let mut rows = Vec::new();
    for (strength, start) in args.strength.iter().zip(starts) {
        let work: Vec<_> = (0..args.count)
            .map(|i| {
                let request = args.drawing.request(painter, i, target(i), args.guidance);
                (request, Task::Edit { picture: data.picture(i), start_step: *start })
            })
            .collect();
        let drawn = painter.draw(&work)?;
        let likeness = psnr(&data.pictures[..drawn.len()], &drawn);
        rows.push((*strength, steps - start, likeness));
    }
    if args.json {
        let strengths: Vec<_> = rows
            .iter()
            .map(|(s, evaluations, db)| {
                json!({ "strength": s, "evaluations": evaluations, "psnr_to_input": decibels(*db) })
            })
            .collect();
        let report = json!({
            "file": args.file, "data": folder, "count": args.count, "seed": args.drawing.seed, "class": args.class,
            "guidance": args.guidance, "steps": steps, "strengths": strengths,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("strength   steps done   dB to the input   ({} test pictures)", args.count);
        for (strength, done, db) in rows {
            println!("{strength:8}   {done:10}   {db:15.2}");
        }
    }
    Ok(())
}
