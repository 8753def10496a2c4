//! `fewstep edit`: image to image, with a student image through the core.

use super::compare::psnr;
use super::painting::{Drawing, MAX_SHOWN, Sheet, check_outputs, checksum, counted, decibels, write_picture};
use crate::apps::{Painter, Task, fitting, start_step};
use crate::data::{self, Dataset, Split, npz};
use crate::features::{Classifier, Extractor};
use crate::files;
use crate::nn::{Engine, Precision};
use crate::picture::{Plot, Series};
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
    /// Classifier of `train-features` that says which class the edited pictures are
    #[arg(long, requires = "data")]
    classifier: Option<PathBuf>,
    /// Plot of likeness and class to write (.svg)
    #[arg(long, requires = "classifier")]
    plot: Option<PathBuf>,
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

/// The classifier of `path`, which must know pictures and classes of this shape.
pub fn classifier(path: &std::path::Path, data: &Dataset) -> Result<Classifier> {
    let extractor = Extractor::open(path)?;
    let a = &extractor.net.arch;
    ensure!(
        (a.height, a.width, a.channels, a.classes) == (data.height, data.width, data.channels, data.classes()),
        "--classifier {}: tells {} classes of {}x{}x{} pictures apart, the data has {} of {}x{}x{}; train one on this data",
        path.display(),
        a.classes,
        a.height,
        a.width,
        a.channels,
        data.classes(),
        data.height,
        data.width,
        data.channels
    );
    Ok(extractor.net)
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

fn measure(args: &Args, painter: &Painter, starts: &[u16], data: Dataset) -> Result<()> {
    let folder = args.data.as_ref().context("--data")?;
    check_data(painter, &data, folder)?;
    ensure!(
        (1..=data.len()).contains(&args.count),
        "--count {}: give a number from 1 to {}, the test pictures there are",
        args.count,
        data.len()
    );
    let net = args.classifier.as_ref().map(|path| classifier(path, &data)).transpose()?;
    if let Some(path) = &args.plot {
        files::check_output(path)?;
    }
    Engine::select(Precision::F32)?;
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
        let agreed = match &net {
            None => None,
            Some(net) => {
                let found = net.extract(&drawn)?.class;
                Some(
                    found.iter().enumerate().filter(|(i, class)| **class == target(*i)).count() as f64
                        / args.count as f64,
                )
            }
        };
        rows.push((*strength, steps - start, likeness, agreed));
    }
    if let Some(path) = &args.plot {
        let points = rows.iter().map(|(_, _, db, agreed)| (*db, 100.0 * agreed.unwrap_or(f64::NAN))).collect();
        let plot = Plot {
            title: "Edits: what is kept, and what is reached".into(),
            x_label: "likeness to the input, dB".into(),
            y_label: "classified as asked, %".into(),
            log_y: false,
            series: vec![Series { name: format!("w = {}", args.guidance), points }],
        };
        files::write_atomic(path, |w| Ok(w.write_all(plot.svg().as_bytes())?))?;
    }
    if args.json {
        let strengths: Vec<_> = rows
            .iter()
            .map(|(s, evaluations, db, agreed)| {
                json!({ "strength": s, "evaluations": evaluations, "psnr_to_input": decibels(*db), "class_accuracy": agreed })
            })
            .collect();
        let report = json!({
            "file": args.file, "data": folder, "count": args.count, "seed": args.drawing.seed, "class": args.class,
            "guidance": args.guidance, "steps": steps, "strengths": strengths, "plot": args.plot,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("strength   steps done   dB to the input   classified as asked   ({} test pictures)", args.count);
        for (strength, done, db, agreed) in rows {
            let agreed = agreed.map_or("-".into(), |a| format!("{:.1} %", 100.0 * a));
            println!("{strength:8}   {done:10}   {db:15.2}   {agreed:>19}");
        }
    }
    Ok(())
}
