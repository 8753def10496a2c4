//! `fewstep demo`: the whole way in a few minutes, with nothing but the shipped files.

use super::common::assets_with;
use super::export::export;
use super::simulate::draw_on_board;
use crate::data::{self, Split};
use crate::distill::{Plan, TeacherNetwork, distill, halving_rounds};
use crate::files;
use crate::nn::{Checkpoint, Engine, Kind, Precision};
use crate::picture::Grid;
use crate::sampling::{Drawn, Job, Source, StudentImage};
use crate::train::RunDir;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use fewstep_core::{Direction, Request};
use fewstep_runner::Options;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TEACHER: &str = "fashion-mnist-teacher.safetensors";
const STUDENT: &str = "fashion-mnist-student-4.fsw";
const PICTURES: &str = "fashion-mnist-small";
/// Steps of the teacher in the comparison.
const TEACHER_STEPS: usize = 64;
const STRENGTHS: [f32; 3] = [0.0, 1.0, 3.0];
/// Noise of the first picture.
const SEED: u64 = 2;

/// Distil a small student from the shipped teacher, and compare teacher and students picture by picture
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the shipped models and pictures
    #[arg(long)]
    assets: Option<PathBuf>,
    /// Folder for the run, the student image and the pictures
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What the table says of one model.
struct Row {
    name: &'static str,
    evaluations: usize,
    /// On one core.
    seconds: f64,
    file_bytes: u64,
    arena_bytes: Option<u32>,
}

pub fn run(args: Args) -> Result<()> {
    let began = Instant::now();
    let assets = find_assets(args.assets)?;
    let engine = Engine::select(Precision::Auto)?;
    let teacher_file = assets.join(TEACHER);
    let teacher = Checkpoint::open(&teacher_file, &Device::Cpu)?;
    let data = data::open(&assets.join(PICTURES), Split::Train)?;
    // What is looked at last should not be missed after minutes.
    StudentImage::open(&assets.join(STUDENT))?;
    println!("1. The teacher: {} parameters, guided, trained on Fashion-MNIST.", teacher.net.params.count());

    let student_file = args.out.join("student-4.fsw");
    let student = distil_small(&teacher, &data, &args.out, args.seed, engine)?;
    println!("3. Quantizing it to int8 and writing its image.");
    let exported = export(&student, 4)?;
    files::write_atomic(&student_file, |w| Ok(w.write_all(&exported.bytes)?))?;

    println!("4. Drawing with teacher, fresh student and shipped student, from the same noise.");
    let shipped_file = assets.join(STUDENT);
    let models: [(&'static str, &Path, Option<usize>); 3] = [
        ("teacher", &teacher_file, Some(TEACHER_STEPS)),
        ("fresh student", &student_file, None),
        ("shipped student", &shipped_file, None),
    ];
    let grid_file = args.out.join("pictures.png");
    let rows = compare(&models, &teacher.class_names, &grid_file)?;
    print_table(&rows);
    draw_on_m7(&shipped_file)?;
    println!("\nPictures: {}\nThe fresh student's image: {}", grid_file.display(), student_file.display());
    println!("Done in {:.0} s.", began.elapsed().as_secs_f64());
    Ok(())
}

/// The folder of the shipped files: named, beside the working folder, or where this program was built.
fn find_assets(named: Option<PathBuf>) -> Result<PathBuf> {
    named.or_else(|| assets_with(TEACHER)).with_context(|| {
        format!("the demo's files ({TEACHER} and others) were not found; run it in the project's folder or give --assets DIR")
    })
}

/// A student with half the teacher's blocks, from a few minutes of distillation on the shipped pictures.
fn distil_small(
    teacher: &Checkpoint,
    data: &data::Dataset,
    out: &Path,
    seed: u64,
    engine: Engine,
) -> Result<Checkpoint> {
    let mut arch = teacher.net.arch.clone();
    arch.encoder.fill(1);
    arch.middle = arch.middle.div_ceil(2);
    arch.decoder.fill(2);
    arch.check().map_err(anyhow::Error::msg)?;
    // f32 matrix products are several times slower than bf16: fewer pictures, the same few minutes.
    let budget = if engine.is_bf16() { 3 } else { 1 };
    let plan = Plan {
        arch,
        direction: Direction::ToPicture,
        guided: None,
        start: None,
        guided_pictures: 12_800 * budget,
        lr: 5e-4,
        power: 1.0,
        rounds: halving_rounds(&[4], 8, 5_120 * budget, 1, 5e-4)?,
        finish: None,
        classifiers: Vec::new(),
        matched_strengths: Vec::new(),
        roundings: Vec::new(),
        batch: 64,
        seed,
    };
    let folder = out.join("run");
    if folder.join("options.json").exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let run = RunDir::open(&folder, &json!({ "demo": true, "seed": seed }), false)?;
    println!(
        "2. Distilling a student of half its blocks on {} shipped pictures ({}): first w becomes an input, then 16 steps become 8, then 4.",
        data.len(),
        engine.name()
    );
    let kept = distill(&TeacherNetwork::Own(Box::new(teacher.clone())), data, &Device::Cpu, &run, &plan)?;
    let student = Checkpoint::open(&kept[0], &Device::Cpu)?;
    if student.kind != Kind::Student(4) {
        bail!("{} is no 4-step student", kept[0].display());
    }
    Ok(student)
}

/// Draws every class with every model and strength from the same noise; times each model on one core.
fn compare(
    models: &[(&'static str, &Path, Option<usize>)],
    class_names: &[String],
    grid_file: &Path,
) -> Result<Vec<Row>> {
    let classes: Vec<u16> = (0..class_names.len() as u16).collect();
    let mut drawn: Vec<Vec<Drawn>> = Vec::new();
    let mut rows = Vec::new();
    for (name, file, steps) in models {
        let source = Source::open(file)?;
        let draw = |w: f32, classes: &[u16]| {
            let job = Job::new(SEED, classes.to_vec(), w, *steps);
            source.draw(&job, |_| {})
        };
        drawn.push(STRENGTHS.iter().map(|w| draw(*w, &classes)).collect::<Result<_>>()?);
        // One picture keeps one core busy.
        let one = draw(1.0, &classes[..1])?;
        let arena_bytes = match &source {
            Source::Image(image) => Some(image.model()?.info().arena_bytes),
            Source::Checkpoint(_) | Source::Imported(_) => None,
        };
        let file_bytes = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        rows.push(Row { name, evaluations: one.evaluations, seconds: one.seconds, file_bytes, arena_bytes });
    }
    let (h, w, c) = drawn[0][0].shape;
    let mut grid = Grid::new(h, w, c, class_names.to_vec());
    grid.title = "The same noise, three models, three guidance strengths".into();
    for (i, strength) in STRENGTHS.iter().enumerate() {
        for ((name, ..), drawn) in models.iter().zip(&drawn) {
            let label = format!("w = {strength}  {name}\n{} evaluations", drawn[i].evaluations);
            grid.push_row(&label, drawn[i].each().map(Some))?;
        }
    }
    grid.write_png(grid_file)?;
    Ok(rows)
}

fn print_table(rows: &[Row]) {
    println!(
        "\n   {:16} {:>11} {:>18} {:>12} {:>12}",
        "model", "evaluations", "seconds a picture", "file bytes", "arena bytes"
    );
    for r in rows {
        let arena = r.arena_bytes.map_or("-".into(), |a| a.to_string());
        println!("   {:16} {:>11} {:>18.4} {:>12} {:>12}", r.name, r.evaluations, r.seconds, r.file_bytes, arena);
    }
    println!("   (one core; guidance w = 1; the teacher in float, the students in int8)\n");
}

/// Draws on the emulated Cortex-M7, or says what that needs.
fn draw_on_m7(file: &Path) -> Result<()> {
    let image = StudentImage::open(file)?;
    let request = Request { seed: SEED, class: 8, w: 1.0, ..Request::default() };
    println!("5. Drawing a bag on an emulated Cortex-M7 with 256 KB of RAM.");
    let options = Options { time_limit: Duration::from_secs(120), ..Options::default() };
    match draw_on_board(&image, &[], "an500", &request, &options, true) {
        Ok((outcome, true)) => println!(
            "   The same bytes as on this machine; {} bytes of arena, {} of stack, {} of firmware.",
            outcome.arena_bytes, outcome.stack_used, outcome.flash.firmware_bytes
        ),
        Ok((_, false)) => bail!("the emulated Cortex-M7 drew another picture than this machine"),
        Err(e) => match e.downcast_ref::<fewstep_runner::Error>() {
            Some(missing) if missing.is_missing_tool() => println!("   Skipped: {e}"),
            _ => return Err(e),
        },
    }
    Ok(())
}
