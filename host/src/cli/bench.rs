//! `fewstep bench`: what one step of a student costs, here or on an emulated board, and what one layer costs there.

use super::interrupt;
use super::simulate::draw_on_board;
use crate::files::{self, AlignedBytes};
use crate::flash::Target;
use crate::flash::counts::{self, Count};
use crate::sampling::{StudentImage, backend};
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::format::Image;
use fewstep_core::{Model, Prepared, Progress, Request, Session};
use fewstep_runner::{Board, Layer, Options, Outcome, boards_dir, measure_layer};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most pictures of a batch.
const MAX_BATCH: usize = 4096;
/// Longest measurement, in seconds.
const MAX_SECONDS: f64 = 600.0;
/// Steps are run for this share of the measurement before it begins: caches, clocks, page faults.
const WARM_UP: f64 = 0.1;
/// Scratch of a layer: what the project's bars for layers are measured with, 24.5 KB.
const LAYER_SCRATCH: u32 = 24 * 1024 + 512;
/// Random tensors of a layer.
const LAYER_SEED: u64 = 1;
/// Instructions per cycle that estimates of time assume.
const INSTRUCTIONS_PER_CYCLE: f64 = 1.0;

/// Measure one step of a student on this machine, or count its instructions on an emulated board
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    #[arg(required_unless_present = "layer", conflicts_with = "layer")]
    file: Option<PathBuf>,
    /// Count instructions on this board (an500, an386, another of firmware-sim/boards, or a board file) instead of
    /// measuring time here
    #[arg(long)]
    board: Option<String>,
    /// With --board: write what was counted to this file (.toml), for `fit --counts`
    #[arg(long, requires = "board", conflicts_with = "layer", value_name = "FILE")]
    out: Option<PathBuf>,
    /// One convolution instead of a student, KxK:HxWxCIN:COUT, such as 3x3:16x16x32:32
    #[arg(long, requires = "board")]
    layer: Option<String>,
    /// With --layer: bytes of scratch that the kernels get
    #[arg(long, default_value_t = LAYER_SCRATCH, requires = "layer", value_name = "BYTES")]
    scratch: u32,
    /// Kernels of the core: auto, scalar or another name
    #[arg(long, default_value = "auto", conflicts_with = "board")]
    backend: String,
    /// Pictures that take a step together
    #[arg(long, default_value_t = 1, conflicts_with = "board")]
    batch: usize,
    /// Threads that share the batch, 0 for one a core
    #[arg(long, default_value_t = 1, conflicts_with = "board")]
    threads: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 2.0, conflicts_with = "board")]
    seconds: f64,
    /// With --board: instructions per cycle that the estimate of time assumes
    #[arg(long, default_value_t = INSTRUCTIONS_PER_CYCLE, requires = "board", conflicts_with = "layer", value_name = "RATIO")]
    per_cycle: f64,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let report = match (&args.file, &args.layer, &args.board) {
        (None, Some(layer), Some(board)) => layer_on_board(layer, board, &args)?,
        (Some(file), _, board) => {
            let image = StudentImage::open(file)?;
            match board {
                Some(board) => on_board(&image, board, &args)?,
                None => here(&image, &args)?,
            }
        }
        // The arguments' own check comes first.
        _ => bail!("give a student image, or --layer and --board"),
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    ensure!(report["equal"] != false, "{}: an output differs from the scalar function's", report["board"]);
    Ok(())
}

fn layer_on_board(text: &str, board: &str, args: &Args) -> Result<Value> {
    let layer: Layer = text.parse().map_err(|e| anyhow::anyhow!("--layer {text}: {e}"))?;
    let outcome = measure_layer(board, &layer, args.scratch, LAYER_SEED, &Options::default(), &mut |event| {
        if !args.json {
            eprintln!("{board}: {event}");
        }
    })?;
    let instructions =
        outcome.instructions.with_context(|| format!("{board}: the emulator cannot count instructions"))?;
    Ok(json!({
        "board": outcome.board,
        "layer": layer.to_string(),
        "method": outcome.method,
        "instructions": instructions,
        "macs": outcome.macs,
        "instructions_per_mac": instructions as f64 / outcome.macs as f64,
        "scratch_granted": args.scratch,
        "scratch_bytes": outcome.scratch_bytes,
        "equal": outcome.equal,
    }))
}

/// Milliseconds of every step of a batch, by the clock and of all threads on their processors, and of whole batches of
/// pictures.
#[derive(Default)]
struct Times {
    steps: Vec<f64>,
    processor: Vec<f64>,
    pictures: Vec<f64>,
}

/// Milliseconds that this process has been on processors: waiting for one on a busy machine does not count. None where
/// the system does not say.
fn processor_ms() -> Option<f64> {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is writable and has the type that the call fills.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        (status == 0).then(|| time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6)
    }
    #[cfg(not(unix))]
    None
}

/// Every byte of the picture that a student enlarges here.
const GREY: u8 = 128;

fn here(image: &StudentImage, args: &Args) -> Result<Value> {
    ensure!((1..=MAX_BATCH).contains(&args.batch), "--batch {}: give a number from 1 to {MAX_BATCH}", args.batch);
    ensure!(args.threads <= 1024, "--threads {}: give a number from 0 to 1024", args.threads);
    ensure!(
        args.seconds > 0.0 && args.seconds <= MAX_SECONDS,
        "--seconds {}: give a number above 0, up to {MAX_SECONDS}",
        args.seconds
    );
    let backend = backend(&args.backend)?;
    let model = image.model()?;
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(args.threads).build().context("cannot start the worker threads")?;
    let threads = pool.current_num_threads();
    let base = model.base_bytes().map(|bytes| vec![GREY; bytes]);
    let mut room = AlignedBytes::zeroed(Prepared::bytes(&model, backend));
    let prepared = Prepared::new(&model, backend, &mut room).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut arenas: Vec<AlignedBytes> = (0..args.batch).map(|_| AlignedBytes::zeroed(model.arena_bytes())).collect();
    let mut sessions = arenas
        .iter_mut()
        .map(|arena| Session::with_prepared(&prepared, arena).map_err(|e| anyhow::anyhow!("{e}")))
        .collect::<Result<Vec<_>>>()?;
    let share = args.batch.div_ceil(threads);
    let mut outs = vec![vec![0; model.output_bytes()]; args.batch];
    let mut measure = |seconds| measure(&mut sessions, &mut outs, &model, base.as_deref(), share, &pool, seconds);
    measure(args.seconds * WARM_UP)?;
    let mut times = measure(args.seconds)?;
    let (steps, info) = (times.steps.len(), model.info());
    let (step_ms, picture_ms) = (median(&mut times.steps), median(&mut times.pictures));
    Ok(json!({
        "file": args.file,
        "backend": backend.name(),
        "batch": args.batch,
        "threads": threads,
        "step_ms": step_ms,
        "step_ms_min": times.steps[0],
        "step_processor_ms": (!times.processor.is_empty()).then(|| median(&mut times.processor)),
        "pictures_per_second": args.batch as f64 / picture_ms * 1e3,
        "steps_per_picture": info.steps,
        "steps_measured": steps,
        "macs_per_step": info.macs_per_step,
        "macs_per_second": info.macs_per_step as f64 * args.batch as f64 / step_ms * 1e3,
    }))
}

/// Draws batch after batch until the time is over; at least one.
fn measure<'a>(
    sessions: &mut [Session<'a>],
    outs: &mut [Vec<u8>],
    model: &Model,
    base: Option<&'a [u8]>,
    share: usize,
    pool: &rayon::ThreadPool,
    seconds: f64,
) -> Result<Times> {
    let wrong = |e: fewstep_core::RequestError| anyhow::anyhow!("{e}");
    let info = model.info();
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut times = Times::default();
    while times.pictures.is_empty() || Instant::now() < until {
        let seed = (times.pictures.len() * sessions.len()) as u64;
        let mut picture = 0.0;
        let mut timed = |sessions: &mut [Session<'a>], work: &Work<'a, '_>| {
            let began = Instant::now();
            each(sessions, share, pool, work)?;
            let ms = began.elapsed().as_secs_f64() * 1e3;
            picture += ms;
            anyhow::Ok(ms)
        };
        timed(sessions, &|i, session| {
            let class = (i % usize::from(info.classes)) as u16;
            let w = 1f32.clamp(info.w_min, info.w_max);
            let request = Request { seed: seed + i as u64, class, w, ..Request::default() };
            match base {
                None => session.begin(&request),
                Some(base) => session.begin_enlarge(&request, base),
            }
            .map_err(wrong)
        })?;
        for step in 1..=info.steps {
            let began = processor_ms();
            let ms = timed(sessions, &|_, session| {
                ensure!((session.step() == Progress::Done) == (step == info.steps), "a picture has other steps");
                Ok(())
            })?;
            times.processor.extend(began.zip(processor_ms()).map(|(began, now)| now - began));
            times.steps.push(ms);
        }
        let began = Instant::now();
        sessions.iter_mut().zip(outs.iter_mut()).try_for_each(|(session, out)| session.finish(out)).map_err(wrong)?;
        times.pictures.push(picture + began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// What is done to a session with its number.
type Work<'a, 'w> = dyn Fn(usize, &mut Session<'a>) -> Result<()> + Sync + 'w;

/// Calls `work(number, session)` for all: here where one thread is enough, else on the pool, `share` a thread.
fn each<'a>(sessions: &mut [Session<'a>], share: usize, pool: &rayon::ThreadPool, work: &Work<'a, '_>) -> Result<()> {
    let part = |(k, part): (usize, &mut [Session<'a>])| {
        part.iter_mut().enumerate().try_for_each(|(i, session)| work(k * share + i, session))
    };
    match share >= sessions.len() {
        true => part((0, sessions)),
        false => pool.install(|| sessions.par_chunks_mut(share).enumerate().try_for_each(part)),
    }
}

/// Sorts and returns the middle value.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn on_board(image: &StudentImage, board: &str, args: &Args) -> Result<Value> {
    ensure!(
        args.per_cycle > 0.0 && args.per_cycle <= 16.0,
        "--per-cycle {}: give a number above 0, up to 16",
        args.per_cycle
    );
    ensure!(
        image.model()?.base_bytes().is_none(),
        "--board: {} enlarges pictures; give it as --upscale to simulate",
        image.name
    );
    if let Some(out) = &args.out {
        files::check_output(out)?;
    }
    let model = image.model()?;
    let w = 1f32.clamp(model.info().w_min, model.info().w_max);
    let request = Request { w, ..Request::default() };
    let options =
        Options { time_limit: Duration::from_secs(900), stop: Some(interrupt::catch()), ..Options::default() };
    let (outcome, equal) = draw_on_board(image, &[], board, &request, &options, args.json)?;
    if !equal {
        bail!("{board}: the board's picture differs from the host's");
    }
    let compiled = Board::find(&boards_dir(&Options::default())?, board)?.target;
    let counted = || outcome.not_counted.clone().unwrap_or_else(|| "the emulator has no counter".into());
    let steps = outcome.steps.as_ref().filter(|s| !s.is_empty()).with_context(|| format!("{board}: {}", counted()))?;
    let parts = Image::parse(image.bytes()).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mean = |part: usize| {
        steps.iter().map(|s| s.parts.get(part).copied().unwrap_or(0)).sum::<u64>() as f64 / steps.len() as f64
    };
    let ops = usize::from(parts.info().counts.ops);
    let by_op: Vec<Value> = (0..ops + 2)
        .map(|part| {
            let (name, macs) = match part {
                0 => ("embedding".to_string(), parts.embed_macs()),
                _ if part == ops + 1 => ("update".to_string(), 0),
                _ => {
                    let name = parts.op_name(part - 1).map_or_else(|| format!("op.{}", part - 1), String::from);
                    (name, parts.op_macs(part - 1))
                }
            };
            json!({ "op": name, "instructions": mean(part).round(), "macs": macs })
        })
        .collect();
    let total = steps.iter().map(|s| s.instructions).sum::<u64>() as f64 / steps.len() as f64;
    let Outcome { macs_per_step, backend, .. } = &outcome;
    if let Some(out) = &args.out {
        let count = Count {
            // The compiler may take a board's CPU for another one.
            cpu: Target::find(board).map_or(compiled.cpu, |target| target.cpu),
            image: counts::fingerprint(&model, image.bytes()),
            instructions_per_step: total.round() as u64,
        };
        let table = count.table(&format!("{} on {}, kernels {backend}", image.name, outcome.board));
        files::write_atomic(out, |file| Ok(file.write_all(table.as_bytes())?))?;
    }
    Ok(json!({
        "file": args.file,
        "out": args.out,
        "board": outcome.board,
        "backend": backend,
        "instructions_per_step": total.round(),
        "macs_per_step": macs_per_step,
        "instructions_per_mac": total / *macs_per_step as f64,
        "by_op": by_op,
        "estimate": {
            "step_ms": total / args.per_cycle / compiled.clock_hz as f64 * 1e3,
            "clock_hz": compiled.clock_hz,
            "instructions_per_cycle": args.per_cycle,
        },
        "equal_to_host": equal,
    }))
}

fn print(r: &Value) {
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    if r["board"].is_null() {
        println!("backend      {}, batch {}, threads {}", text(&r["backend"]), r["batch"], r["threads"]);
        println!(
            "step         {:.3} ms (median of {}), {:.3} ms at least",
            number(&r["step_ms"]),
            r["steps_measured"],
            number(&r["step_ms_min"])
        );
        println!(
            "pictures     {:.0} a second, {} steps each; {:.1} G multiply-accumulates a second",
            number(&r["pictures_per_second"]),
            r["steps_per_picture"],
            number(&r["macs_per_second"]) / 1e9
        );
        return;
    }
    if let Some(layer) = r["layer"].as_str() {
        println!("board          {}, kernels {}", text(&r["board"]), text(&r["method"]));
        println!("layer          {layer}, {} multiply-accumulates", r["macs"]);
        println!(
            "instructions   {}, {:.3} per multiply-accumulate",
            r["instructions"],
            number(&r["instructions_per_mac"])
        );
        println!("scratch        {} of {} bytes", r["scratch_bytes"], r["scratch_granted"]);
        println!(
            "outputs        {} the scalar function's",
            if r["equal"] == true { "equal to" } else { "DIFFERENT from" }
        );
        return;
    }
    if let Some(out) = r["out"].as_str() {
        println!("wrote          {out}, for `fewstep fit --counts`");
    }
    println!("board          {}, kernels {}", text(&r["board"]), text(&r["backend"]));
    println!(
        "instructions   {:.0} a step, {:.3} per multiply-accumulate ({} of them)",
        number(&r["instructions_per_step"]),
        number(&r["instructions_per_mac"]),
        r["macs_per_step"]
    );
    let e = &r["estimate"];
    println!(
        "time           {:.1} ms a step, an estimate: {:.0} MHz, {} instructions per cycle assumed",
        number(&e["step_ms"]),
        number(&e["clock_hz"]) / 1e6,
        number(&e["instructions_per_cycle"])
    );
    println!("{:<16} {:>12} {:>12} {:>8}", "operation", "instructions", "MACs", "per MAC");
    for op in r["by_op"].as_array().into_iter().flatten() {
        let (instructions, macs) = (number(&op["instructions"]), number(&op["macs"]));
        let per = if macs > 0.0 { format!("{:.3}", instructions / macs) } else { "-".into() };
        println!("{:<16} {:>12} {:>12} {:>8}", text(&op["op"]), instructions, macs, per);
    }
}
