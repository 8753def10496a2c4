//! `fewstep fit`: whether a student image fits a target, before anything is written.

use crate::files;
use crate::flash::counts::{self, Count};
use crate::flash::fit::{Fit, Use, fit};
use crate::flash::target::Target;
use crate::sampling::StudentImage;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Largest file of counts in bytes.
const MAX_COUNTS: u64 = 1 << 20;

/// Tell whether a student image fits a microcontroller, and what would make it fit
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// stm32h743, nrf52840, rp2350 ..., or a target file (.toml)
    #[arg(long, conflicts_with = "all")]
    target: Option<String>,
    /// Every known target, best first
    #[arg(long)]
    all: bool,
    /// Instructions that `bench --board --out` counted (.toml), taken instead of estimates
    #[arg(long)]
    counts: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!(args.target.is_some() || args.all, "give --target NAME, or --all for every known one");
    let image = StudentImage::open(&args.file)?;
    let counts: Vec<Count> = match &args.counts {
        Some(path) => {
            let text = String::from_utf8(files::read_file(path, MAX_COUNTS)?).ok();
            text.context("is not UTF-8 text")
                .and_then(|t| counts::parse(&t))
                .with_context(|| path.display().to_string())?
        }
        None => Vec::new(),
    };
    let targets: Vec<Target> = match &args.target {
        Some(name) => vec![Target::find(name)?],
        None => Target::names().map(Target::find).collect::<Result<_>>()?,
    };
    if let Some(path) = &args.counts {
        let fingerprint = counts::fingerprint(&image.model()?, image.bytes());
        counts::check(&counts, &path.display().to_string(), &image.name, fingerprint, &targets)?;
    }
    let mut fits = targets.iter().map(|t| fit(image.bytes(), t, &counts)).collect::<Result<Vec<_>>>()?;
    fits.sort_by(|a, b| b.fits.cmp(&a.fits).then(a.estimated_seconds.total_cmp(&b.estimated_seconds)));
    if args.json {
        let report =
            if args.all { serde_json::to_string_pretty(&fits) } else { serde_json::to_string_pretty(&fits[0]) };
        println!("{}", report?);
    } else if args.all {
        print_table(&fits);
    } else {
        print_one(&fits[0]);
    }
    if let Some(name) = args.target {
        ensure!(fits[0].fits, "{}: does not fit {name}: {}", args.file.display(), fits[0].remedies.join("; or "));
    }
    Ok(())
}

fn print_one(f: &Fit) {
    let line = |what: &str, u: &Use, own: &str, others: &str| {
        let verdict = if u.image <= u.room { "fits" } else { "TOO LARGE" };
        println!(
            "{what:16}   {own} {} of {} bytes, {others} {}, all {}: {verdict}",
            u.image, u.room, u.firmware, u.all
        );
    };
    println!("target             {}: {}", f.target, f.description);
    line("flash", &f.flash, "image", "firmware");
    line("RAM", &f.ram, "arena", "stack and firmware");
    if f.bands > 1 {
        println!("bands              {}, each with the rows around it", f.bands);
    }
    let how = if f.counted { "counted by the simulator" } else { "estimated from multiply-accumulates, not counted" };
    println!("instructions       {:.1} M per picture of {} steps, {how}", millions(f), f.steps);
    println!("time               {:.2} s per picture, an estimate: one instruction a cycle", f.estimated_seconds);
    if f.fits {
        let updates = if f.safe_updates { "beside the running image" } else { "not while the old image is kept" };
        println!("updates            {updates}");
    }
    for remedy in &f.remedies {
        println!("to make it fit     {remedy}");
    }
}

fn print_table(fits: &[Fit]) {
    println!(
        "{:18} {:5} {:>17} {:>17} {:>12} {:>9}  updates",
        "target", "fits", "flash, KB", "RAM, KB", "instructions", "time"
    );
    for f in fits {
        let part = |u: &Use| format!("{} of {}", u.image.div_ceil(1024), u.room / 1024);
        println!(
            "{:18} {:5} {:>17} {:>17} {:>9.1} M{} {:>7.2} s  {}",
            f.target,
            if f.fits { "yes" } else { "no" },
            part(&f.flash),
            part(&f.ram),
            millions(f),
            if f.counted { ' ' } else { '*' },
            f.estimated_seconds,
            if f.safe_updates { "A/B" } else { "-" }
        );
    }
    println!("* estimated from multiply-accumulates. Times are estimates: one instruction a cycle.");
}

fn millions(f: &Fit) -> f64 {
    f.instructions_per_picture as f64 / 1e6
}
