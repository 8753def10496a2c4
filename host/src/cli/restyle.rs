//! `fewstep restyle`: a picture's noise by a distilled encoder, drawn as another class by a student.

use super::compare::psnr;
use super::edit::check_data;
use super::painting::{Drawing, Sheet, check_outputs, checksum, counted, decibels, write_picture};
use crate::apps::{Painter, Task, fitting};
use crate::data::{self, Dataset, Split};
use crate::diffusion::{from_batch, to_batch, to_byte, to_signed, walk};
use crate::evaluate::{Figures, Reference, Set};
use crate::features::Extractor;
use crate::nn::{Checkpoint, Engine, Kind, Precision};
use crate::progress::Progress;
use crate::sampling::StudentImage;
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use fewstep_core::{Direction, Request};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Pictures that the teacher takes at once.
const BATCH: usize = 25;

/// Restyle a picture: the encoder finds its noise as one class, the student draws that noise as another
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Encoder image (.fsw)
    encoder: PathBuf,
    /// Picture to restyle, a PNG of the student's size
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    input: Option<PathBuf>,
    /// Class that the picture has
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    from: Option<u16>,
    /// Class to draw
    #[arg(long, required_unless_present = "data")]
    class: Option<u16>,
    /// Guidance strength w of drawing, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    /// Guidance strength w of encoding
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    from_guidance: f32,
    #[command(flatten)]
    drawing: Drawing,
    /// Measure on the test pictures of this data set instead, each from its own class. Without --class each becomes the
    /// class after its own
    #[arg(long, requires = "features")]
    data: Option<PathBuf>,
    /// With --data: the first test pictures that are restyled
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// With --data: feature extractor that distances and class accuracy are measured with
    #[arg(long, requires = "data")]
    features: Option<PathBuf>,
    /// With --data: also measure this teacher, by DDIM inversion and DDIM
    #[arg(long, requires = "data")]
    teacher: Option<PathBuf>,
    /// Steps of the teacher each way
    #[arg(long, default_value_t = 64)]
    teacher_steps: usize,
    /// Picture to write, with --data a grid of the first twelve [default: restyled.png, unless --json or --data is given]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// A student and its encoder.
struct Pair<'a> {
    student: Painter<'a>,
    encoder: Painter<'a>,
}

impl Pair<'_> {
    /// Restyles pictures: each with the class that it has and the one that it gets.
    fn restyle(&self, args: &Args, pictures: &[&[u8]], classes: &[(u16, u16)]) -> Result<Vec<u8>> {
        let request = |class: u16, w: f32| Request { class, w, ..Request::default() };
        let work: Vec<_> = pictures
            .iter()
            .zip(classes)
            .map(|(picture, (from, _))| (request(*from, args.from_guidance), *picture))
            .collect();
        let noise = self.encoder.encode(&work)?;
        let work: Vec<_> = noise
            .chunks_exact(self.picture_len())
            .zip(classes)
            .enumerate()
            .map(|(i, (noise, (_, to)))| {
                (args.drawing.request(&self.student, i, *to, args.guidance), Task::Noise(noise))
            })
            .collect();
        self.student.draw(&work)
    }

    fn picture_len(&self) -> usize {
        let (h, w, c) = self.student.shape();
        h * w * c
    }

    /// Network evaluations of a picture.
    fn evaluations(&self, args: &Args) -> u16 {
        self.encoder.info().steps + args.drawing.steps(&self.student)
    }
}

pub fn run(args: Args) -> Result<()> {
    let (image, encoder) = (StudentImage::open(&args.file)?, StudentImage::open(&args.encoder)?);
    let pair = Pair { student: args.drawing.painter(&image)?, encoder: Painter::new(&encoder, &args.drawing.backend)? };
    let (info, other) = (pair.student.info(), pair.encoder.info());
    for (what, file, info, wanted) in [
        ("a student", &args.file, info, Direction::ToPicture),
        ("an encoder", &args.encoder, other, Direction::ToNoise),
    ] {
        ensure!(
            info.direction == wanted,
            "{}: is not {what}; give the student image first, then an encoder (distill --encoder, export)",
            file.display()
        );
    }
    ensure!(
        pair.student.shape() == pair.encoder.shape() && info.classes == other.classes,
        "{} and {} are for other pictures or classes; give images of one teacher",
        args.file.display(),
        args.encoder.display()
    );
    pair.student.check(args.class.unwrap_or(0), args.guidance)?;
    pair.encoder.check_flags(["--from", "--from-guidance"], args.from.unwrap_or(0), args.from_guidance)?;
    match (&args.data, &args.input, args.from, args.class) {
        (Some(folder), ..) => measure(&args, &pair, &data::open(folder, Split::Test)?),
        (None, Some(input), Some(from), Some(class)) => {
            let picture = fitting(input, pair.student.shape())?;
            restyle(&args, &pair, &picture, (from, class))
        }
        _ => bail!("give a picture, --from and --class, or --data"),
    }
}

fn restyle(args: &Args, pair: &Pair, picture: &[u8], (from, class): (u16, u16)) -> Result<()> {
    let out = args.out.clone().or_else(|| (!args.json).then(|| "restyled.png".into()));
    check_outputs(out.as_deref(), &[])?;
    let drawn = pair.restyle(args, &[picture], &[(from, class)])?;
    let shape = pair.student.shape();
    if let Some(path) = &out {
        write_picture(path, &drawn, shape)?;
    }
    let likeness = psnr(picture, &drawn);
    if args.json {
        let report = json!({
            "file": args.file, "encoder": args.encoder, "input": args.input, "from": from, "class": class,
            "guidance": args.guidance, "from_guidance": args.from_guidance, "evaluations": pair.evaluations(args),
            "backend": pair.student.backend(), "shape": [shape.0, shape.1, shape.2],
            "psnr_to_input": decibels(likeness), "crc32c": checksum(&drawn), "out": out,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let names = pair.student.class_names();
        println!(
            "{} as {}: {}, {likeness:.1} dB from the input",
            names[usize::from(from)],
            names[usize::from(class)],
            counted(pair.evaluations(args).into(), "evaluation")
        );
        if let Some(path) = &out {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// A way of restyling, measured.
struct Row {
    name: &'static str,
    evaluations: usize,
    figures: Figures,
    psnr: f64,
    pictures: Vec<u8>,
}

fn measure(args: &Args, pair: &Pair, data: &Dataset) -> Result<()> {
    let (folder, features) = (args.data.as_ref().context("--data")?, args.features.as_ref().context("--features")?);
    check_data(&pair.student, data, folder)?;
    ensure!(
        (10..=data.len()).contains(&args.count),
        "--count {}: give a number from 10 to {}, the test pictures there are",
        args.count,
        data.len()
    );
    let extractor = Extractor::open(features)?;
    let (a, classes) = (&extractor.net.arch, pair.student.info().classes);
    ensure!(
        (a.height, a.width, a.channels) == pair.student.shape() && a.classes == usize::from(classes),
        "--features {}: is for other pictures or classes; use that of the same data set",
        features.display()
    );
    check_outputs(args.out.as_deref(), &[])?;
    let teacher = args.teacher.as_ref().map(|file| teacher(args, file, pair)).transpose()?;
    Engine::select(Precision::F32)?;
    let pictures: Vec<&[u8]> = (0..args.count).map(|i| data.picture(i)).collect();
    let both: Vec<(u16, u16)> =
        data.labels[..args.count].iter().map(|from| (*from, args.class.unwrap_or((from + 1) % classes))).collect();
    let to: Vec<u16> = both.iter().map(|(_, to)| *to).collect();
    let reference = Reference::new(Set::new(&extractor.net, &data.pictures, &data.labels)?);
    let input = pictures.concat();
    let row = |name: &'static str, evaluations: usize, drawn: Vec<u8>| -> Result<Row> {
        let set = Set::new(&extractor.net, &drawn, &to)?;
        let (figures, psnr) = (reference.measure(&set, args.drawing.seed), psnr(&input, &drawn));
        Ok(Row { name, evaluations, figures, psnr, pictures: drawn })
    };
    let drawn = pair.restyle(args, &pictures, &both)?;
    let mut rows = vec![row("encoder and student", pair.evaluations(args).into(), drawn)?];
    let mut apart = None;
    if let Some(teacher) = &teacher {
        let guided = |w: f32| if w == 0.0 { 1 } else { 2 };
        let evaluations = args.teacher_steps * (guided(args.from_guidance) + guided(args.guidance));
        rows.push(row("teacher, DDIM inversion", evaluations, invert(args, teacher, &pictures, &both)?)?);
        apart = Some(psnr(&rows[0].pictures, &rows[1].pictures));
    }
    if let Some(path) = &args.out {
        show(args, pair, path, &rows, &pictures, &both)?;
    }
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|r| {
                json!({ "what": r.name, "evaluations": r.evaluations, "figures": r.figures, "psnr_to_input": r.psnr })
            })
            .collect();
        let report = json!({
            "file": args.file, "encoder": args.encoder, "data": folder, "count": args.count, "class": args.class,
            "guidance": args.guidance, "from_guidance": args.from_guidance, "teacher": args.teacher,
            "features_sha256": extractor.hash(), "rows": rows, "psnr_to_teacher": apart, "out": args.out,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{} test pictures, w = {} after {}", args.count, args.guidance, args.from_guidance);
        println!("                          evaluations   class accuracy   distance   dB to the input");
        for r in &rows {
            let (accuracy, distance) = (r.figures.class_accuracy.value, r.figures.frechet_distance.value);
            println!("{:25} {:11} {accuracy:16.4} {distance:10.2} {:17.2}", r.name, r.evaluations, r.psnr);
        }
        if let Some(apart) = apart {
            println!("one from the other: {apart:.2} dB");
        }
    }
    Ok(())
}

/// A grid: sources, then what each way makes of them.
fn show(args: &Args, pair: &Pair, path: &Path, rows: &[Row], pictures: &[&[u8]], classes: &[(u16, u16)]) -> Result<()> {
    let (shown, names) = (pictures.len().min(12), pair.student.class_names());
    let name = |(from, to): &(u16, u16)| format!("{}\nto {}", names[usize::from(*from)], names[usize::from(*to)]);
    let mut sheet = Sheet {
        title: format!("encoded with w = {}, drawn with w = {}", args.from_guidance, args.guidance),
        columns: classes[..shown].iter().map(name).collect(),
        rows: vec![("source".into(), pictures[..shown].iter().map(|p| Some(*p)).collect())],
    };
    for row in rows {
        let drawn = row.pictures.chunks_exact(pair.picture_len()).take(shown).map(Some).collect();
        sheet.rows.push((format!("{}\n{}", row.name, counted(row.evaluations, "evaluation")), drawn));
    }
    sheet.write(path, pair.student.shape())
}

/// The teacher to compare with.
fn teacher(args: &Args, file: &Path, pair: &Pair) -> Result<Checkpoint> {
    ensure!(
        (1..=4096).contains(&args.teacher_steps),
        "--teacher-steps {}: give a number from 1 to 4096",
        args.teacher_steps
    );
    let found = Checkpoint::open(file, &Device::Cpu)?;
    let a = &found.net.arch;
    ensure!(
        found.kind == Kind::Teacher
            && (a.height, a.width, a.channels) == pair.student.shape()
            && a.classes == usize::from(pair.student.info().classes),
        "--teacher {}: is not the teacher of these pictures and classes",
        file.display()
    );
    Ok(found)
}

/// The same by the teacher: DDIM back to noise, DDIM to the picture.
fn invert(args: &Args, teacher: &Checkpoint, pictures: &[&[u8]], classes: &[(u16, u16)]) -> Result<Vec<u8>> {
    let progress = Mutex::new((0, Progress::new("teacher", pictures.len() as u64, "pictures")));
    let (net, steps) = (&teacher.net, args.teacher_steps);
    let drawn: Vec<Vec<u8>> = pictures
        .par_chunks(BATCH)
        .zip(classes.par_chunks(BATCH))
        .map(|(pictures, classes)| {
            let (from, to): (Vec<u16>, Vec<u16>) = classes.iter().copied().unzip();
            let x: Vec<f32> = pictures.iter().flat_map(|p| p.iter().map(|byte| to_signed(*byte))).collect();
            let z = to_batch(&net.arch, &x, &Device::Cpu)?;
            let z = walk(net, Direction::ToNoise, steps, z, &from, args.from_guidance)?;
            let x = walk(net, Direction::ToPicture, steps, z, &to, args.guidance)?;
            if let Ok(mut progress) = progress.lock() {
                progress.0 += pictures.len() as u64;
                let done = progress.0;
                progress.1.set(done, "");
            }
            Ok(from_batch(&net.arch, &x)?.into_iter().map(to_byte).collect())
        })
        .collect::<Result<_>>()?;
    Ok(drawn.concat())
}
