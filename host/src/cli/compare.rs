//! `fewstep compare`: how far two files' pictures are apart, from the same noise.

use super::common::use_threads;
use crate::nn::{Engine, Precision};
use crate::sampling::{Job, Source};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Compare two student images or checkpoints picture by picture, from the same noise
#[derive(clap::Args)]
pub struct Args {
    /// Student image or checkpoint
    first: PathBuf,
    /// Student image or checkpoint
    second: PathBuf,
    /// Guidance strengths
    #[arg(long, value_delimiter = ',', default_value = "0,0.3,1,2,4")]
    guidance: Vec<f32>,
    /// Pictures per strength, cycling through the classes
    #[arg(long, default_value_t = 200)]
    count: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps of both; a student's own if not given
    #[arg(long)]
    steps: Option<usize>,
    /// Steps of the first alone
    #[arg(long)]
    first_steps: Option<usize>,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Report as JSON; equal pictures have a PSNR of null
    #[arg(long)]
    json: bool,
}

/// Peak signal-to-noise ratio of 8-bit pictures, from the mean squared error over all of them; infinite when equal.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / error).log10()
}

pub fn run(args: Args) -> Result<()> {
    ensure!((1..=100_000).contains(&args.count), "--count {}: give a number from 1 to 100000", args.count);
    ensure!(!args.guidance.is_empty(), "--guidance: give at least one strength");
    use_threads(args.threads)?;
    Engine::select(Precision::F32)?;
    let (first, second) = (Source::open(&args.first)?, Source::open(&args.second)?);
    let (a, b) = (first.classes()?, second.classes()?);
    ensure!(
        a == b,
        "{} has {a} classes, {} has {b}; compare files of one data set",
        args.first.display(),
        args.second.display()
    );
    let mut rows = Vec::new();
    for w in &args.guidance {
        let job =
            |steps: Option<usize>| Job::new(args.seed, (0..args.count).map(|i| (i % a) as u16).collect(), *w, steps);
        let draw = |source: &Source, file: &Path, steps: Option<usize>| {
            source.draw(&job(steps), |_| {}).with_context(|| format!("{}", file.display()))
        };
        let one = draw(&first, &args.first, args.first_steps.or(args.steps))?;
        let two = draw(&second, &args.second, args.steps)?;
        ensure!(one.shape == two.shape, "the files draw pictures of other sizes: {:?} and {:?}", one.shape, two.shape);
        let each: Vec<f64> = one.each().zip(two.each()).map(|(a, b)| psnr(a, b)).collect();
        let worst = each.iter().copied().fold(f64::INFINITY, f64::min);
        rows.push((*w, psnr(&one.pictures, &two.pictures), worst));
    }
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(w, all, worst)| json!({ "guidance": w, "psnr": all, "worst_picture_psnr": worst }))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({ "count": args.count, "seed": args.seed, "strengths": rows }))?
        );
    } else {
        println!("   w   PSNR dB   worst picture   ({} pictures each, seed {})", args.count, args.seed);
        for (w, all, worst) in rows {
            println!("{w:4}   {all:7.2}   {worst:13.2}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::psnr;

    #[test]
    fn psnr_of_known_pictures() {
        assert_eq!(psnr(&[7; 9], &[7; 9]), f64::INFINITY);
        assert!((psnr(&[0, 0], &[255, 255])).abs() < 1e-12);
        assert!((psnr(&[10, 20, 30, 40], &[11, 19, 31, 39]) - 48.1308).abs() < 1e-3);
    }
}
