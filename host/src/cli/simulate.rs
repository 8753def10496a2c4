//! `fewstep simulate`: draws on an emulated board and compares with the host.

use super::cascade::Cascade;
use super::{interrupt, scenario};
use crate::data::npz;
use crate::files;
use crate::picture::write_png;
use crate::sampling::{Job, StudentImage, backend, draw_one};
use anyhow::{Context, Result, bail};
use fewstep_core::Request;
use fewstep_runner::{Event, Image, Options, Outcome, Task, simulate};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Draw a picture on an emulated microcontroller and compare it with the host's, byte by byte; or play scenarios there
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    #[arg(required_unless_present = "scenario", conflicts_with = "scenario")]
    file: Option<PathBuf>,
    /// an500 (Cortex-M7), an386 (Cortex-M4), or a board file (.toml); of a scenario instead of its own
    #[arg(long, required_unless_present = "scenario")]
    board: Option<String>,
    /// Scenario files (.toml): events on a board and what is expected of it
    #[arg(long, num_args = 1.., conflicts_with_all = ["class", "guidance", "seed", "upscale", "out", "npz", "time_limit"])]
    scenario: Vec<PathBuf>,
    /// Folder for a report of the scenarios: junit.xml, and index.html with the pictures
    #[arg(long, requires = "scenario")]
    report: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    class: u16,
    /// Guidance strength w, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A student that enlarges pictures (.fsw): the board runs this one, on the picture that the host drew with FILE; of
    /// several the last, on the picture of those before it
    #[arg(long, value_name = "FILE")]
    upscale: Vec<PathBuf>,
    /// Picture to write
    #[arg(long)]
    out: Option<PathBuf>,
    /// Picture and label to write as arr_0 and arr_1
    #[arg(long)]
    npz: Option<PathBuf>,
    /// Seconds until the emulator is given up
    #[arg(long, default_value_t = 300)]
    time_limit: u64,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// Draws on a board, an image that enlarges `base`; also says whether the picture equals the host's.
pub fn draw_on_board(
    image: &StudentImage,
    base: &[u8],
    board: &str,
    request: &Request,
    options: &Options,
    quiet: bool,
) -> Result<(Outcome, bool)> {
    let expected = draw(image, request, base)?;
    let guest = fewstep_runner::Request {
        image: Image::Bytes(image.bytes().to_vec()),
        seed: request.seed,
        class: request.class,
        w: request.w,
        steps: request.steps,
        task: if image.model()?.base_bytes().is_some() { Task::Enlarge } else { Task::Sample },
        attached: base.to_vec(),
        ..fewstep_runner::Request::on(board)
    };
    let outcome = simulate(&guest, options, &mut |event: Event| {
        if !quiet {
            eprintln!("{board}: {event}");
        }
    })?;
    let equal = outcome.picture == expected;
    Ok((outcome, equal))
}

/// The host's picture.
fn draw(image: &StudentImage, request: &Request, base: &[u8]) -> Result<Vec<u8>> {
    draw_one(&image.model()?, request, base, backend("auto")?)
        .with_context(|| format!("--class {}, --guidance {}: {}", request.class, request.w, image.name))
}

pub fn run(args: Args) -> Result<()> {
    if !args.scenario.is_empty() {
        return scenario::run(&args.scenario, args.board.as_deref(), args.report.as_deref(), args.json);
    }
    let (Some(file), Some(board)) = (&args.file, &args.board) else {
        bail!("give a student image and --board, or --scenario");
    };
    let image = StudentImage::open(file)?;
    for path in [&args.out, &args.npz].into_iter().flatten() {
        files::check_output(path)?;
    }
    let request = Request { seed: args.seed, class: args.class, w: args.guidance, ..Request::default() };
    let time_limit = Duration::from_secs(args.time_limit);
    let options = Options { time_limit, stop: Some(interrupt::catch()), ..Options::default() };
    let (image, base) = match args.upscale.last() {
        None if image.model()?.base_bytes().is_some() => {
            bail!("{}: it enlarges pictures; give it as --upscale, and the student that draws them first", image.name)
        }
        None => (image, Vec::new()),
        Some(last) => {
            let cascade = Cascade::open(file, &args.upscale, "--upscale")?;
            let job = Job::new(args.seed, vec![args.class], args.guidance, None);
            (StudentImage::open(last)?, cascade.draw_bases(&job)?)
        }
    };
    let (o, equal) = draw_on_board(&image, &base, board, &request, &options, args.json)?;
    let (h, w, c) = (usize::from(o.height), usize::from(o.width), usize::from(o.channels));
    if let Some(path) = &args.out {
        write_png(path, &o.picture, h, w, c)?;
    }
    if let Some(path) = &args.npz {
        npz::write_npz(path, &o.picture, 1, h, w, c, &[args.class.into()])?;
    }
    let per_step: Option<Vec<u64>> = o.steps.as_ref().map(|s| s.iter().map(|s| s.instructions).collect());
    let mean = per_step.as_ref().map(|s| s.iter().sum::<u64>() as f64 / s.len().max(1) as f64);
    let per_mac = mean.map(|m| m / o.macs_per_step as f64);
    if args.json {
        let mut report = serde_json::to_value(&o)?;
        report["request"] = json!({ "seed": args.seed, "class": args.class, "guidance": args.guidance });
        report["equal_to_host"] = json!(equal);
        report["instructions_per_step"] = json!(per_step);
        report["instructions_per_mac"] = json!(per_mac);
        report["crc32c"] = json!(fewstep_core::format::crc::crc32c(&o.picture));
        report["out"] = json!(args.out);
        report["npz"] = json!(args.npz);
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("board              {}, kernels {}", o.board, o.backend);
        println!("picture            {h}x{w}x{c}, {} the host's", if equal { "equal to" } else { "DIFFERENT from" });
        match (&per_step, per_mac) {
            (Some(steps), Some(per_mac)) => {
                println!("instructions       {steps:?} per step, {per_mac:.2} per multiply-accumulate")
            }
            _ => println!("instructions       not counted: {}", o.not_counted.as_deref().unwrap_or("no counter")),
        }
        println!("arena              {} of {} bytes", o.arena_bytes, o.arena_budget);
        println!("stack high water   {} of {} bytes", o.stack_used, o.stack_bytes);
        println!(
            "flash              firmware {} of {} bytes, image {} of {} bytes",
            o.flash.firmware_bytes, o.flash.firmware_budget, o.flash.image_bytes, o.flash.image_budget
        );
    }
    if !equal {
        bail!("{board}: the board's picture differs from the host's");
    }
    Ok(())
}
