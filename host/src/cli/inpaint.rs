//! `fewstep inpaint`: draws a part of a picture anew and keeps the rest byte for byte.

use super::compare::psnr;
use super::edit::check_data;
use super::painting::{Drawing, MAX_SHOWN, Sheet, check_outputs, checksum, counted, decibels, write_picture};
use crate::apps::measure::Gradients;
use crate::apps::{Painter, Task, fitting, mask, start_step};
use crate::data::{self, Dataset, Split, npz};
use crate::noise::{Purpose, Stream};
use crate::sampling::StudentImage;
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::{Inpaint, MAX_PASSES};
use serde_json::json;
use std::path::PathBuf;

/// Draw a part of a picture anew and keep the rest, byte for byte
#[derive(clap::Args)]
pub struct Args {
    /// Student image (.fsw)
    file: PathBuf,
    /// Picture, a PNG of the student's size
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    input: Option<PathBuf>,
    /// PNG of the same size, bright (128 and more) where the picture is drawn anew, dark where it is kept
    #[arg(long, required_unless_present = "data")]
    mask: Option<PathBuf>,
    /// Class of the picture
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    class: Option<u16>,
    /// Guidance strength w, 0 for none
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    guidance: f32,
    /// 1 draws from noise alone, less keeps a trace of what is under the mask
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    strength: f32,
    /// How often each step but the first is done, with noise in between (RePaint): more evaluations, more likeness
    #[arg(long, default_value_t = 1)]
    passes: u16,
    /// Variations, each of other noise; with --data the number of pictures
    #[arg(long, default_value_t = 1)]
    count: usize,
    #[command(flatten)]
    drawing: Drawing,
    /// Measure on the test pictures of this data set instead: seams, and kept pixels. Without --mask each picture has a
    /// rectangular hole of random size and place
    #[arg(long)]
    data: Option<PathBuf>,
    /// Picture to write, or a grid of several [default: inpainted.png, unless --npz, --json or --data is given]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Pictures and labels to write as arr_0 and arr_1
    #[arg(long, conflicts_with = "data")]
    npz: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!((1..=MAX_PASSES).contains(&args.passes), "--passes {}: give a number from 1 to {MAX_PASSES}", args.passes);
    let image = StudentImage::open(&args.file)?;
    let painter = args.drawing.painter(&image)?;
    painter.check(args.class.unwrap_or(0), args.guidance)?;
    let start = start_step(args.strength, args.drawing.steps(&painter))?;
    match (&args.data, &args.input) {
        (Some(folder), _) => measure(&args, &painter, start, &data::open(folder, Split::Test)?),
        (None, Some(_)) => inpaint(&args, &painter, start),
        (None, None) => bail!("give a picture, or --data"),
    }
}

/// Network evaluations of a picture: the first step of all is done once.
fn evaluations(steps: u16, start: u16, passes: u16) -> u32 {
    let once = u32::from(start == 0);
    (u32::from(steps - start) - once) * u32::from(passes) + once
}

/// The picture with its hole in grey, as it is shown.
fn with_hole(picture: &[u8], mask: &[u8], channels: usize) -> Vec<u8> {
    let pixels = picture.chunks_exact(channels).zip(mask);
    pixels.flat_map(|(pixel, mask)| if *mask == 0 { pixel.to_vec() } else { vec![128; channels] }).collect()
}

fn inpaint(args: &Args, painter: &Painter, start: u16) -> Result<()> {
    ensure!((1..=MAX_SHOWN).contains(&args.count), "--count {}: give a number from 1 to {MAX_SHOWN}", args.count);
    let (Some(input), Some(path), Some(class)) = (&args.input, &args.mask, args.class) else {
        bail!("give a picture, --mask and --class")
    };
    let shape = painter.shape();
    let (picture, mask) = (fitting(input, shape)?, mask(path, shape)?);
    let out = args.out.clone().or_else(|| (args.npz.is_none() && !args.json).then(|| "inpainted.png".into()));
    check_outputs(out.as_deref(), &[args.npz.as_deref()])?;

    let task = Task::Inpaint(Inpaint { picture: &picture, mask: &mask, start_step: start, passes: args.passes });
    let work: Vec<_> =
        (0..args.count).map(|i| (args.drawing.request(painter, i, class, args.guidance), task)).collect();
    let drawn = painter.draw(&work)?;
    let each: Vec<&[u8]> = drawn.chunks_exact(picture.len()).collect();
    let names = painter.class_names();
    let name = &names[usize::from(class)];
    if let Some(path) = &out {
        if let [one] = each[..] {
            write_picture(path, one, shape)?;
        } else {
            let hole = with_hole(&picture, &mask, shape.2);
            let columns = (each.len() as f64).sqrt().ceil() as usize;
            let mut sheet = Sheet {
                title: format!("{name}, w = {}", args.guidance),
                columns: ["input", "mask"].map(String::from).into_iter().chain(vec![String::new(); columns]).collect(),
                rows: Vec::new(),
            };
            for (i, row) in each.chunks(columns).enumerate() {
                let inputs = if i == 0 { [Some(&picture[..]), Some(&hole[..])] } else { [None; 2] };
                sheet.rows.push((String::new(), inputs.into_iter().chain(row.iter().map(|p| Some(*p))).collect()));
            }
            sheet.write(path, shape)?;
        }
    }
    if let Some(path) = &args.npz {
        npz::write_npz(path, &drawn, each.len(), shape.0, shape.1, shape.2, &vec![class.into(); each.len()])?;
    }
    let steps = args.drawing.steps(painter);
    let evaluations = evaluations(steps, start, args.passes);
    let kept = mask.iter().filter(|m| **m == 0).count();
    if args.json {
        let pictures: Vec<_> = work
            .iter()
            .zip(&each)
            .map(|((request, _), drawn)| {
                let mut gradients = Gradients::default();
                gradients.add(drawn, &mask, shape);
                let number = |v: f64| if v.is_finite() { json!(v) } else { json!(null) };
                json!({
                    "seed": request.seed, "crc32c": checksum(drawn), "seam": number(gradients.seam()),
                    "inside": number(gradients.inside()),
                })
            })
            .collect();
        let report = json!({
            "file": args.file, "input": args.input, "mask": args.mask, "class": class, "guidance": args.guidance,
            "steps": steps, "start_step": start, "passes": args.passes, "evaluations": evaluations,
            "kept_pixels": kept, "drawn_pixels": mask.len() - kept, "backend": painter.backend(),
            "shape": [shape.0, shape.1, shape.2], "pictures": pictures, "out": out, "npz": args.npz,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}: {name}, {} of {} pixels kept, {}",
            counted(each.len(), "picture"),
            kept,
            mask.len(),
            counted(evaluations as usize, "evaluation")
        );
        for path in [&out, &args.npz].into_iter().flatten() {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// A rectangle of a quarter to a half of each side, somewhere not at the edge, the same for the same number.
fn hole(seed: u64, i: usize, (height, width, _): (usize, usize, usize)) -> Vec<u8> {
    let random = Stream::new(seed, Purpose::Shuffle, 0, 1).uniforms(i as u32);
    let span = |side: usize, size: f32, place: f32| {
        let length = ((side as f32 * (0.25 + 0.25 * size)) as usize).clamp(1, side);
        let room = side.saturating_sub(length + 2);
        let from = (side - length).min(1 + (place * (room + 1) as f32) as usize);
        from..from + length
    };
    let (rows, columns) = (span(height, random[0], random[1]), span(width, random[2], random[3]));
    (0..height * width).map(|i| u8::from(rows.contains(&(i / width)) && columns.contains(&(i % width)))).collect()
}

fn measure(args: &Args, painter: &Painter, start: u16, data: &Dataset) -> Result<()> {
    let folder = args.data.as_ref().context("--data")?;
    check_data(painter, data, folder)?;
    ensure!(
        (1..=data.len()).contains(&args.count),
        "--count {}: give a number from 1 to {}, the test pictures there are",
        args.count,
        data.len()
    );
    check_outputs(args.out.as_deref(), &[])?;
    let shape = painter.shape();
    let given = args.mask.as_ref().map(|path| mask(path, shape)).transpose()?;
    let masks: Vec<Vec<u8>> =
        (0..args.count).map(|i| given.clone().unwrap_or_else(|| hole(args.drawing.seed, i, shape))).collect();
    let work: Vec<_> = (0..args.count)
        .map(|i| {
            let inpaint = Inpaint { picture: data.picture(i), mask: &masks[i], start_step: start, passes: args.passes };
            (args.drawing.request(painter, i, data.labels[i], args.guidance), Task::Inpaint(inpaint))
        })
        .collect();
    let drawn = painter.draw(&work)?;
    let each: Vec<&[u8]> = drawn.chunks_exact(data.picture_bytes()).collect();

    let (mut seams, mut sources) = (Gradients::default(), Gradients::default());
    let (mut changed, mut here, mut there) = (0u64, Vec::new(), Vec::new());
    for (i, (drawn, mask)) in each.iter().zip(&masks).enumerate() {
        seams.add(drawn, mask, shape);
        sources.add(data.picture(i), mask, shape);
        let pixels = drawn.chunks_exact(shape.2).zip(data.picture(i).chunks_exact(shape.2)).zip(mask);
        for ((drawn, source), mask) in pixels {
            if *mask == 0 {
                changed += u64::from(drawn != source);
            } else {
                here.extend_from_slice(drawn);
                there.extend_from_slice(source);
            }
        }
    }
    let steps = args.drawing.steps(painter);
    let evaluations = evaluations(steps, start, args.passes);
    if let Some(path) = &args.out {
        let shown = each.len().min(12);
        let holes: Vec<Vec<u8>> = (0..shown).map(|i| with_hole(data.picture(i), &masks[i], shape.2)).collect();
        let sheet = Sheet {
            title: format!("{}, w = {}", counted(evaluations as usize, "evaluation"), args.guidance),
            columns: vec![String::new(); shown],
            rows: vec![
                ("source".into(), (0..shown).map(|i| Some(data.picture(i))).collect()),
                ("kept".into(), holes.iter().map(|p| Some(&p[..])).collect()),
                ("drawn".into(), each[..shown].iter().map(|p| Some(*p)).collect()),
            ],
        };
        sheet.write(path, shape)?;
    }
    let in_hole = psnr(&here, &there);
    let across = seams.seam() / sources.seam();
    if args.json {
        let report = json!({
            "file": args.file, "data": folder, "count": args.count, "seed": args.drawing.seed,
            "guidance": args.guidance, "steps": steps, "start_step": start, "passes": args.passes,
            "evaluations": evaluations, "changed_kept_pixels": changed,
            "drawn": { "seam": seams.seam(), "inside": seams.inside(), "ratio": seams.seam() / seams.inside() },
            "source": { "seam": sources.seam(), "inside": sources.inside(), "ratio": sources.seam() / sources.inside() },
            "seam_to_source": across, "psnr_in_hole": decibels(in_hole), "out": args.out,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{} test pictures, {evaluations} evaluations each", args.count);
        println!("kept pixels changed                    {changed}");
        println!("mean step of brightness                  drawn   source");
        println!(
            "  across the seam                      {:7.2}  {:7.2}   {across:.3} of the source's",
            seams.seam(),
            sources.seam()
        );
        println!("  inside the hole                      {:7.2}  {:7.2}", seams.inside(), sources.inside());
        println!(
            "  seam / inside                        {:7.3}  {:7.3}",
            seams.seam() / seams.inside(),
            sources.seam() / sources.inside()
        );
        println!("likeness to the source in the hole     {in_hole:7.2} dB");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_rectangles_within_the_picture() {
        let (mut least, mut most) = (usize::MAX, 0);
        for i in 0..500 {
            let hole = hole(7, i, (28, 20, 1));
            let size = hole.iter().filter(|m| **m == 1).count();
            (least, most) = (least.min(size), most.max(size));
            let edge = |y: usize, x: usize| [0, 27].contains(&y) || [0, 19].contains(&x);
            assert!((0..hole.len()).all(|p| hole[p] == 0 || !edge(p / 20, p % 20)), "hole {i} is at the edge");
        }
        assert!((7 * 5..60).contains(&least) && (110..=14 * 10).contains(&most), "{least} to {most}");
        for shape in [(1, 1, 1), (2, 3, 3)] {
            assert!(hole(7, 0, shape).contains(&1));
        }
    }

    #[test]
    fn evaluations_count_the_first_step_once() {
        assert_eq!(
            [evaluations(4, 0, 1), evaluations(4, 0, 2), evaluations(4, 2, 3), evaluations(1, 0, 9)],
            [4, 7, 6, 1]
        );
    }
}
