//! A face for people who work on the firmware; `fewstep simulate` is the one for everybody.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use fewstep_runner::{Error, Event, Image, Options, Outcome, Request, Sampler, Toolchain, simulate};

const USAGE: &str = "\
fewstep-runner --board NAME|FILE.toml [options] STUDENT.fsw
  --class K  --guidance W  --seed S  --steps N  --stochastic     what to draw
  --out FILE           the picture, as PGM or PPM
  --toolchain installed|build-std      default: the first that works
  --features LIST      cargo features of the firmware
  --no-count           do not count instructions
  --time-limit S       seconds for the run, default 300
  --parts              instructions of every part of a step, not only of steps";

struct Arguments {
    request: Request,
    options: Options,
    out: Option<String>,
    parts: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut board = None;
    let mut image = None;
    let mut request = Request::on("");
    let mut options = Options::default();
    let (mut out, mut parts) = (None, false);
    fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
        value.parse().map_err(|_| format!("{name} {value}: not a number of its range"))
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--board" => board = Some(value()?),
            "--class" => request.class = number(&word, &value()?)?,
            "--guidance" => request.w = number(&word, &value()?)?,
            "--seed" => request.seed = number(&word, &value()?)?,
            "--steps" => request.steps = number(&word, &value()?)?,
            "--stochastic" => request.sampler = Sampler::Stochastic,
            "--out" => out = Some(value()?),
            "--features" => options.features = value()?.split(',').map(str::to_string).collect(),
            "--no-count" => options.count = false,
            "--parts" => parts = true,
            "--time-limit" => {
                let seconds: f64 = number(&word, &value()?)?;
                options.time_limit =
                    Duration::try_from_secs_f64(seconds).map_err(|error| format!("--time-limit {seconds}: {error}"))?;
            }
            "--toolchain" => {
                options.toolchain = Some(match value()?.as_str() {
                    "installed" => Toolchain::Installed,
                    "build-std" => Toolchain::BuildStd,
                    other => return Err(format!("--toolchain {other}: installed or build-std")),
                });
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}\n{USAGE}")),
            _ if image.is_some() => return Err(format!("one student image, not also {word}")),
            _ => image = Some(word),
        }
    }
    request.board = board.ok_or(format!("--board is missing\n{USAGE}"))?;
    request.image = Image::File(image.ok_or(format!("the student image is missing\n{USAGE}"))?.into());
    Ok(Arguments { request, options, out, parts })
}

fn report(outcome: &Outcome, parts: bool) -> String {
    let mut text = String::new();
    let flash = &outcome.flash;
    let kilo = |bytes: u32| f64::from(bytes) / 1024.0;
    let mut row = |name: &str, used: u32, of: u32| {
        let _ = writeln!(text, "{name:<12} {:8.1} KB of {:6.1} KB", kilo(used), kilo(of));
    };
    row("firmware", flash.firmware_bytes, flash.firmware_budget);
    row("image", flash.image_bytes, flash.image_budget);
    row("arena", outcome.arena_bytes, outcome.arena_budget);
    row("stack", outcome.stack_used, outcome.stack_bytes);
    row("static RAM", outcome.static_ram_bytes, outcome.ram_budget);
    for section in &outcome.sections {
        let _ = writeln!(text, "  {:<14} {:#010x} {:8} bytes", section.name, section.address, section.bytes);
    }
    let _ =
        writeln!(text, "kernels      {}, toolchain {:?}, {:.2} s", outcome.backend, outcome.toolchain, outcome.seconds);
    match (&outcome.steps, &outcome.not_counted) {
        (Some(steps), _) => {
            for (index, step) in steps.iter().enumerate() {
                let per_mac = step.instructions as f64 / outcome.macs_per_step.max(1) as f64;
                let millions = step.instructions as f64 / 1e6;
                let _ = writeln!(text, "step {}: {millions:.2} M instructions, {per_mac:.3} per MAC", index + 1);
                for (part, count) in step.parts.iter().enumerate().filter(|_| parts) {
                    let _ = writeln!(text, "  part {part:3} {count:12}");
                }
            }
        }
        (None, reason) => {
            let _ = writeln!(text, "instructions not counted: {}", reason.as_deref().unwrap_or("no reason given"));
        }
    }
    text
}

/// The picture as a portable graymap or pixmap.
fn portable(outcome: &Outcome) -> Result<Vec<u8>, String> {
    let kind = match outcome.channels {
        1 => "P5",
        3 => "P6",
        other => return Err(format!("a picture of {other} channels cannot be written as PGM or PPM")),
    };
    let mut bytes = format!("{kind} {} {} 255\n", outcome.width, outcome.height).into_bytes();
    bytes.extend(&outcome.picture);
    Ok(bytes)
}

fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let Arguments { request, options, out, parts } = parse(words)?;
    let mut show = |event: Event<'_>| eprintln!("{event}");
    let outcome = simulate(&request, &options, &mut show).map_err(|error: Error| error.to_string())?;
    if let Some(out) = out {
        std::fs::write(&out, portable(&outcome)?).map_err(|error| format!("{out}: {error}"))?;
    }
    print!("{}", report(&outcome, parts));
    Ok(())
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fewstep-runner: {message}");
            ExitCode::from(2)
        }
    }
}
