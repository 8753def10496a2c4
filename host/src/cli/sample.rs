//! `fewstep sample`: draws pictures.

use super::cascade::Cascade;
use super::common::use_threads;
use crate::data::npz;
use crate::diffusion::Sampler;
use crate::enlarge::Consistency;
use crate::files;
use crate::nn::{Engine, Precision};
use crate::picture::{Display, Grid, show};
use crate::sampling::{Drawn, Job};
use anyhow::{Result, ensure};
use serde_json::json;
use std::path::PathBuf;

/// Most pictures of one call.
const MAX_COUNT: usize = 1_000_000;
/// Most pictures in a grid.
const MAX_GRID: usize = 4096;

/// Draw pictures with a student image or a checkpoint
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw) or checkpoint (.safetensors)
    file: PathBuf,
    /// Class to draw
    #[arg(long, conflicts_with = "all_classes")]
    class: Option<u16>,
    /// Cycle through the classes (the default)
    #[arg(long)]
    all_classes: bool,
    /// Pictures in all: 1 with --class, else one of each class
    #[arg(long)]
    count: Option<usize>,
    /// Guidance strength w, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    /// Picture i has seed S + i
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps; a student's own if not given
    #[arg(long)]
    steps: Option<usize>,
    #[arg(long, value_enum, default_value = "deterministic")]
    sampler: Sampler,
    /// A student that enlarges pictures: draws them at twice the size, in its own steps, with the same seeds and classes;
    /// given again, another one goes on from there
    #[arg(long, value_name = "FILE")]
    upscale: Vec<PathBuf>,
    /// Kernels of the core: auto, scalar or another name
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Matrix arithmetic of checkpoints
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Picture grid to write [default: samples.png, unless --npz, --show or --json is given]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Pictures and labels to write as arr_0 and arr_1
    #[arg(long)]
    npz: Option<PathBuf>,
    /// Draw in the terminal, in the best way it knows or the one that is named
    #[arg(long, value_enum, value_name = "DISPLAY", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    #[arg(conflicts_with = "json")]
    show: Option<Display>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// The classes of `count` pictures.
pub fn classes(class: Option<u16>, count: Option<usize>, classes: usize) -> Vec<u16> {
    let count = count.unwrap_or(if class.is_some() { 1 } else { classes });
    (0..count).map(|i| class.unwrap_or((i % classes) as u16)).collect()
}

/// Writes `drawn` as a labelled grid: a column a class when they cycle.
pub fn save_grid(path: &std::path::Path, drawn: &Drawn, classes: &[u16], names: &[String], title: &str) -> Result<()> {
    let cycle = classes.iter().collect::<std::collections::BTreeSet<_>>().len();
    let columns = if cycle > 1 { cycle } else { (classes.len() as f64).sqrt().ceil() as usize };
    let label = |c: u16| names.get(usize::from(c)).cloned().unwrap_or_else(|| format!("class {c}"));
    let labels =
        if cycle > 1 { classes[..columns].iter().map(|c| label(*c)).collect() } else { vec![String::new(); columns] };
    let (h, w, c) = drawn.shape;
    let mut grid = Grid::new(h, w, c, labels);
    grid.title = if cycle > 1 { title.to_string() } else { format!("{}: {title}", label(classes[0])) };
    for row in drawn.each().collect::<Vec<_>>().chunks(columns) {
        grid.push_row("", row.iter().map(|p| Some(*p)))?;
    }
    grid.write_png(path)
}

/// "1 step", "2 steps".
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub fn run(args: Args) -> Result<()> {
    let count = args.count.unwrap_or(1);
    ensure!((1..=MAX_COUNT).contains(&count), "--count {count}: give a number from 1 to {MAX_COUNT}");
    use_threads(args.threads)?;
    Engine::select(args.precision)?;
    let cascade = Cascade::open(&args.file, &args.upscale, "--upscale")?;
    let source = cascade.first();
    let classes = classes(args.class, args.count, source.classes()?);
    let silent = args.npz.is_none() && args.show.is_none() && !args.json;
    let out = args.out.clone().or_else(|| silent.then(|| "samples.png".into()));
    ensure!(
        args.show.is_none() || classes.len() <= MAX_GRID,
        "--count {}: a terminal is shown at most {MAX_GRID} pictures; write them with --npz",
        classes.len()
    );
    ensure!(
        out.is_none() || classes.len() <= MAX_GRID,
        "--count {}: a grid shows at most {MAX_GRID} pictures; write them with --npz",
        classes.len()
    );
    for path in [&out, &args.npz].into_iter().flatten() {
        files::check_output(path)?;
    }
    if let Some(path) = &out {
        let png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        ensure!(png, "--out {}: the grid is a PNG picture; name it .png, or give --npz for arrays", path.display());
    }
    let job = Job {
        seed: args.seed,
        classes: classes.clone(),
        w: args.guidance,
        steps: args.steps,
        sampler: args.sampler,
        backend: args.backend.clone(),
        bases: Vec::new(),
    };
    let (drawn, agreement) = cascade.draw(&job)?;
    if let Some(path) = &out {
        let title = format!("{}, w = {}, seed {}", counted(drawn.steps, "step"), args.guidance, args.seed);
        save_grid(path, &drawn, &classes, &source.class_names()?, &title)?;
    }
    let (h, w, c) = drawn.shape;
    if let Some(display) = args.show {
        show(&drawn.each().collect::<Vec<_>>(), drawn.shape, display)?;
    }
    if let Some(path) = &args.npz {
        let labels: Vec<i64> = classes.iter().map(|c| i64::from(*c)).collect();
        npz::write_npz(path, &drawn.pictures, classes.len(), h, w, c, &labels)?;
    }
    let each = drawn.seconds / classes.len() as f64;
    if args.json {
        let pictures: Vec<_> = drawn.each().zip(&classes).enumerate().map(|(i, (p, class))| {
            json!({ "seed": args.seed.wrapping_add(i as u64), "class": class, "crc32c": fewstep_core::format::crc::crc32c(p) })
        }).collect();
        let mut page = json!({
            "file": args.file, "steps": drawn.steps, "guidance": args.guidance, "backend": drawn.backend,
            "shape": [h, w, c], "evaluations_per_picture": drawn.evaluations,
            "seconds": drawn.seconds, "seconds_per_picture": each, "pictures": pictures,
            "out": out, "npz": args.npz,
        });
        if let Some(agreement) = agreement {
            page["upscale"] = json!(args.upscale);
            page["consistency"] = json!(agreement);
        }
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        println!(
            "{} of {} in {:.3} s ({:.2} ms each, {}){}",
            counted(classes.len(), "picture"),
            counted(drawn.steps, "step"),
            drawn.seconds,
            each * 1e3,
            drawn.backend,
            [&out, &args.npz].into_iter().flatten().map(|p| format!("\n{}", p.display())).collect::<String>()
        );
        if let Some(Consistency { psnr_db, worst_psnr_db, seam }) = agreement {
            println!("halved, {psnr_db:.1} dB (worst {worst_psnr_db:.1}) from the pictures that were enlarged");
            if let Some(seam) = seam {
                println!("rows where bands meet differ {seam:.3} times as much as other rows");
            }
        }
    }
    Ok(())
}
