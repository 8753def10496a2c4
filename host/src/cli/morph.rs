//! `fewstep morph`: the way from one picture to another.

use super::painting::{Drawing, MAX_SHOWN, Sheet, check_outputs, checksum};
use crate::apps::Task;
use crate::picture::write_apng;
use crate::sampling::StudentImage;
use anyhow::{Result, ensure};
use fewstep_core::{Morph, Request};
use serde_json::json;
use std::path::PathBuf;

/// Screen pixels of a picture's pixel in an animation.
const SCALE: usize = 6;

/// Draw the way from one picture to another: between seeds, between classes, or both
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Classes to go through, one for all or one for each stop
    #[arg(long, value_delimiter = ',', required = true)]
    class: Vec<u16>,
    /// Seeds to go through, one for all or one for each stop; --seed stands for the first alone
    #[arg(long, value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// Pictures from one stop to the next, with both
    #[arg(long, default_value_t = 9)]
    frames: usize,
    /// Guidance strength w, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    #[command(flatten)]
    drawing: Drawing,
    /// Strip of pictures to write, a row a way [default: morph.png, unless --animation or --json is given]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Animated PNG to write (.png or .apng), there and back for ever
    #[arg(long)]
    animation: Option<PathBuf>,
    /// Milliseconds a picture of the animation
    #[arg(long, default_value_t = 100)]
    delay: u16,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// A stop of the way.
type Stop = (u16, u64);

/// Pairs classes and seeds, one of them repeated where it is alone.
fn stops(classes: &[u16], seeds: &[u64]) -> Result<Vec<Stop>> {
    let count = classes.len().max(seeds.len());
    ensure!(
        (classes.len() == 1 || classes.len() == count) && (seeds.len() == 1 || seeds.len() == count),
        "--class names {} stops, --seeds {}; give as many, or one for all",
        classes.len(),
        seeds.len()
    );
    let stops: Vec<Stop> = (0..count).map(|i| (classes[i % classes.len()], seeds[i % seeds.len()])).collect();
    ensure!(
        count > 1 && stops.windows(2).all(|w| w[0] != w[1]),
        "a way needs two different pictures: give --seeds S,T or --class A,B"
    );
    Ok(stops)
}

pub fn run(args: Args) -> Result<()> {
    let seeds = if args.seeds.is_empty() { vec![args.drawing.seed] } else { args.seeds.clone() };
    let stops = stops(&args.class, &seeds)?;
    let ways = stops.len() - 1;
    ensure!(
        args.frames >= 2 && args.frames <= MAX_SHOWN / ways,
        "--frames {}: give a number from 2 to {}",
        args.frames,
        (MAX_SHOWN / ways).max(2)
    );
    let image = StudentImage::open(&args.file)?;
    let painter = args.drawing.painter(&image)?;
    for class in &args.class {
        painter.check(*class, args.guidance)?;
    }
    let out = args.out.clone().or_else(|| (args.animation.is_none() && !args.json).then(|| "morph.png".into()));
    check_outputs(out.as_deref(), &[args.animation.as_deref()])?;
    if let Some(path) = &args.animation {
        let fits = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png") || e.eq_ignore_ascii_case("apng"));
        ensure!(fits, "--animation {}: is written as an animated PNG; name it .png or .apng", path.display());
    }

    let mut work = Vec::new();
    for pair in stops.windows(2) {
        let [(class, seed), (to_class, to_seed)] = [pair[0], pair[1]];
        for frame in 0..args.frames {
            let at = frame as f32 / (args.frames - 1) as f32;
            let request = Request { seed, ..args.drawing.request(&painter, 0, class, args.guidance) };
            work.push((request, Task::Morph(Morph { seed: to_seed, class: to_class, at })));
        }
    }
    let shape = painter.shape();
    let drawn = painter.draw(&work)?;
    let each: Vec<&[u8]> = drawn.chunks_exact(shape.0 * shape.1 * shape.2).collect();
    let names = painter.class_names();
    if let Some(path) = &out {
        let say = |(class, seed): Stop| format!("{}\nseed {seed}", names[usize::from(class)]);
        let mut columns = vec![String::new(); args.frames];
        if ways == 1 {
            (columns[0], columns[args.frames - 1]) = (say(stops[0]), say(stops[1]));
        }
        let mut sheet = Sheet { title: format!("w = {}", args.guidance), columns, rows: Vec::new() };
        for (way, row) in each.chunks(args.frames).enumerate() {
            let label = if ways == 1 { String::new() } else { say(stops[way]) };
            sheet.rows.push((label, row.iter().map(|p| Some(*p)).collect()));
        }
        sheet.write(path, shape)?;
    }
    if let Some(path) = &args.animation {
        // A stop between two ways is drawn for both and shown once; the way back leaves out both ends.
        let there: Vec<&[u8]> = (0..each.len()).filter(|i| i % args.frames > 0 || *i == 0).map(|i| each[i]).collect();
        let back = there[1..there.len() - 1].iter().rev();
        let frames: Vec<&[u8]> = there.iter().chain(back).copied().collect();
        write_apng(path, &frames, shape, SCALE, args.delay)?;
    }
    if args.json {
        let pictures: Vec<_> = work
            .iter()
            .zip(&each)
            .enumerate()
            .map(|(i, (_, drawn))| json!({ "way": i / args.frames, "frame": i % args.frames, "crc32c": checksum(drawn) }))
            .collect();
        let stops: Vec<_> = stops.iter().map(|(class, seed)| json!({ "class": class, "seed": seed })).collect();
        let report = json!({
            "file": args.file, "stops": stops, "frames": args.frames, "guidance": args.guidance,
            "steps": args.drawing.steps(&painter), "backend": painter.backend(),
            "shape": [shape.0, shape.1, shape.2], "pictures": pictures, "out": out, "animation": args.animation,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{} pictures from {} to {}",
            each.len(),
            names[usize::from(stops[0].0)],
            names[usize::from(stops[ways].0)]
        );
        for path in [&out, &args.animation].into_iter().flatten() {
            println!("{}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stops;

    #[test]
    fn one_is_for_all_and_a_way_has_two_ends() {
        assert_eq!(stops(&[3], &[1, 2, 5]).unwrap(), [(3, 1), (3, 2), (3, 5)]);
        assert_eq!(stops(&[3, 4], &[9]).unwrap(), [(3, 9), (4, 9)]);
        assert_eq!(stops(&[3, 4], &[9, 8]).unwrap(), [(3, 9), (4, 8)]);
        for (classes, seeds) in [(&[1u16][..], &[1u64][..]), (&[1, 2, 3], &[1, 2]), (&[1, 1], &[7]), (&[1], &[2, 2])] {
            stops(classes, seeds).unwrap_err();
        }
    }
}
