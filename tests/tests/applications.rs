//! Editing, inpainting, morphing and augmenting, by the core and by the command line: what is kept is kept, ends are
//! the pictures they are said to be, every backend and both faces give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use fewstep::apps::{Painter, Task, augment};
use fewstep::data::{self, Split};
use fewstep::diffusion::{angle_towards, depth_to_space, from_batch, space_to_depth, to_batch, to_signed, walk};
use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::{Arch, Checkpoint, Kind};
use fewstep::picture::write_png;
use fewstep::quant::Simulator;
use fewstep::sampling::StudentImage;
use fewstep_core::format::crc::crc32c;
use fewstep_core::sampler::noise::normals;
use fewstep_core::sampler::schedule;
use fewstep_core::{
    Backend, Direction, Inpaint, MAX_PASSES, Model, Morph, Progress, Request, RequestError, Sampler, Session, Stage,
};
use fewstep_tests::{Folder, fewstep, random_net, refusal, report, squares, tiny_arch};
use serde_json::Value;

#[path = "../../core/examples/training_pictures.rs"]
mod training_pictures;

/// Three classes of 8x12 colour pictures, four steps.
fn arch() -> Arch {
    Arch { width: 12, channels: 3, classes: 3, ..tiny_arch() }
}

const PIXELS: usize = 8 * 12;
const BYTES: usize = PIXELS * 3;

fn image() -> AlignedBytes {
    let bytes = write_image(&random_student(&arch(), 4, 3), &ExportOptions::default()).unwrap().bytes;
    AlignedBytes::from(&bytes[..])
}

fn model(image: &AlignedBytes) -> Model<'_> {
    Model::parse(image).unwrap()
}

/// Begins, steps and finishes in an arena full of `filling`.
fn draw(
    model: &Model,
    backend: Backend,
    filling: u8,
    begin: impl for<'s> Fn(&mut Session<'s>) -> Result<(), RequestError>,
) -> Result<Vec<u8>, RequestError> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    arena.fill(filling);
    let mut session = Session::with_backend(model, &mut arena, backend).unwrap();
    begin(&mut session)?;
    while session.step() != Progress::Done {}
    let mut picture = vec![0; model.output_bytes()];
    session.finish(&mut picture)?;
    Ok(picture)
}

/// As [`draw`], with a picture and a mask that live as long as the session.
fn inpaint(model: &Model, backend: Backend, request: &Request, inpaint: Inpaint) -> Result<Vec<u8>, RequestError> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::with_backend(model, &mut arena, backend).unwrap();
    session.begin_inpaint(request, inpaint)?;
    while session.step() != Progress::Done {}
    let mut picture = vec![0; model.output_bytes()];
    session.finish(&mut picture)?;
    Ok(picture)
}

fn best(model: &Model, begin: impl for<'s> Fn(&mut Session<'s>) -> Result<(), RequestError>) -> Vec<u8> {
    draw(model, Backend::best(), 0, begin).unwrap()
}

fn some_picture() -> Vec<u8> {
    (0..BYTES).map(|i| (i * 89 % 256) as u8).collect()
}

/// A hole of 4x5 pixels.
fn some_mask() -> Vec<u8> {
    (0..PIXELS).map(|i| u8::from((2..6).contains(&(i / 12)) && (4..9).contains(&(i % 12)))).collect()
}

const REQUEST: Request = Request { seed: 11, class: 1, w: 1.5, steps: 0, sampler: Sampler::Deterministic };

#[test]
fn an_edit_from_the_first_step_is_a_sample_and_later_ones_come_nearer_to_the_picture() {
    let bytes = image();
    let model = model(&bytes);
    let picture = some_picture();
    let from = |step: u16| best(&model, |s| s.begin_from(&REQUEST, &picture, step));
    assert_eq!(from(0), best(&model, |s| s.begin(&REQUEST)), "nothing is left of the picture");
    let distance = |other: &[u8]| picture.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
    let distances: Vec<f64> = (0..4).map(|step| distance(&from(step))).collect();
    assert!(distances.windows(2).all(|d| d[1] < d[0]), "{distances:?}");
}

#[test]
fn kept_pixels_are_kept_byte_for_byte_and_the_rest_is_drawn() {
    let bytes = image();
    let model = model(&bytes);
    let (picture, mask) = (some_picture(), some_mask());
    for sampler in [Sampler::Deterministic, Sampler::Stochastic] {
        for (start_step, passes) in [(0, 1), (0, 3), (2, 1), (3, 2)] {
            let request = Request { sampler, ..REQUEST };
            let kept = Inpaint { picture: &picture, mask: &mask, start_step, passes };
            let drawn = inpaint(&model, Backend::best(), &request, kept).unwrap();
            let mut changed = 0;
            for (i, (drawn, picture)) in drawn.iter().zip(&picture).enumerate() {
                match mask[i / 3] {
                    0 => assert_eq!(drawn, picture, "value {i}"),
                    _ => changed += usize::from(drawn != picture),
                }
            }
            assert!(changed > 40, "{changed} of 60 values under the mask changed");
            // Every backend draws the same.
            for backend in Backend::all() {
                assert_eq!(inpaint(&model, backend, &request, kept).unwrap(), drawn, "{}", backend.name());
            }
        }
    }
}

/// What is under the mask has no influence on a picture that is drawn from noise alone, and the kept pixels have one.
#[test]
fn an_inpainting_sees_what_is_kept_and_not_what_is_under_the_mask() {
    let bytes = image();
    let model = model(&bytes);
    let (mut picture, mask) = (some_picture(), some_mask());
    let drawn = |picture: &[u8], passes: u16| {
        let kept = Inpaint { picture, mask: &mask, start_step: 0, passes };
        inpaint(&model, Backend::best(), &REQUEST, kept).unwrap()
    };
    let first = drawn(&picture, 2);
    for (value, _) in picture.chunks_exact_mut(3).zip(&mask).filter(|(_, mask)| **mask != 0) {
        value.fill(200);
    }
    assert_eq!(drawn(&picture, 2), first);
    assert_ne!(drawn(&picture, 1), first, "passes change the picture");
    for (value, _) in picture.chunks_exact_mut(3).zip(&mask).filter(|(_, mask)| **mask == 0) {
        value.iter_mut().for_each(|v| *v = 255 - *v);
    }
    let other = drawn(&picture, 2);
    let differs = (0..BYTES).any(|i| mask[i / 3] != 0 && other[i] != first[i]);
    assert!(differs, "what is kept has no influence on what is drawn");
}

/// A mask that keeps nothing draws a sample, one that keeps everything gives the picture back.
#[test]
fn masks_of_everything_and_of_nothing() {
    let bytes = image();
    let model = model(&bytes);
    let picture = some_picture();
    let with = |mask: u8| {
        let mask = [mask; PIXELS];
        let kept = Inpaint { picture: &picture, mask: &mask, start_step: 0, passes: 1 };
        inpaint(&model, Backend::best(), &REQUEST, kept).unwrap()
    };
    assert_eq!(with(255), best(&model, |s| s.begin(&REQUEST)));
    assert_eq!(with(0), picture);
}

/// Passes repeat each step but the first, operation by operation as well as step by step.
#[test]
fn passes_are_evaluations() {
    let bytes = image();
    let model = model(&bytes);
    let (picture, mask) = (some_picture(), some_mask());
    for (start_step, passes, expected) in [(0, 1, 4), (0, 3, 1 + 3 * 3), (2, 2, 4), (0, MAX_PASSES, 1 + 3 * 64)] {
        let mut arena = AlignedBytes::zeroed(model.arena_bytes());
        let mut session = Session::new(&model, &mut arena).unwrap();
        let kept = Inpaint { picture: &picture, mask: &mask, start_step, passes };
        session.begin_inpaint(&REQUEST, kept).unwrap();
        let (mut updates, mut progress) = (0, Progress::Running { step: start_step, steps: 4 });
        while progress != Progress::Done {
            updates += u16::from(session.stage() == Some(Stage::Update));
            progress = session.step_op();
        }
        assert_eq!(updates, expected);
        let mut drawn = vec![0; BYTES];
        session.finish(&mut drawn).unwrap();
        assert_eq!(drawn, inpaint(&model, Backend::best(), &REQUEST, kept).unwrap());
    }
}

#[test]
fn a_morph_goes_from_one_sample_to_another() {
    let bytes = image();
    let model = model(&bytes);
    let at = |seed: u64, class: u16, at: f32| best(&model, |s| s.begin_morph(&REQUEST, &Morph { seed, class, at }));
    let sample = |seed: u64, class: u16| best(&model, |s| s.begin(&Request { seed, class, ..REQUEST }));
    for (seed, class) in [(12, 1), (11, 2), (500, 0), (11, 1)] {
        assert_eq!(at(seed, class, 0.0), sample(11, 1));
        assert_eq!(at(seed, class, 1.0), sample(seed, class), "seed {seed}, class {class}");
    }
    // In between it is neither, and near to the end that is near.
    let distance = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
    for (seed, class) in [(12, 1), (11, 2), (12, 2)] {
        let (first, last) = (sample(11, 1), sample(seed, class));
        let (near, far) = (at(seed, class, 0.05), at(seed, class, 0.95));
        assert!(near != first && far != last);
        assert!(distance(&near, &first) < distance(&near, &last), "seed {seed}, class {class}");
        assert!(distance(&far, &last) < distance(&far, &first), "seed {seed}, class {class}");
        for backend in Backend::all() {
            let drawn = draw(&model, backend, 0x5a, |s| s.begin_morph(&REQUEST, &Morph { seed, class, at: 0.3 }));
            assert_eq!(drawn.unwrap(), at(seed, class, 0.3), "{}", backend.name());
        }
    }
    // The way back is the same way, up to rounding of the shares.
    let there = at(77, 2, 0.25);
    let back = best(&model, |s| {
        s.begin_morph(&Request { seed: 77, class: 2, ..REQUEST }, &Morph { seed: 11, class: 1, at: 0.75 })
    });
    assert!(there.iter().zip(&back).all(|(a, b)| a.abs_diff(*b) <= 12), "{}", distance(&there, &back));
}

/// Two independent noises at half way have the variance of one.
#[test]
fn noises_are_independent_between_seeds() {
    let product: f64 = (0..2000)
        .flat_map(|block| normals(1, 0, block).into_iter().zip(normals(2, 0, block)))
        .map(|(a, b)| f64::from(a * b))
        .sum();
    assert!((product / 8000.0).abs() < 5.0 / 8000f64.sqrt());
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_session_usable() {
    let bytes = image();
    let model = model(&bytes);
    let (picture, mask) = (some_picture(), some_mask());
    let kept = Inpaint { picture: &picture, mask: &mask, start_step: 0, passes: 1 };
    let refuse = |request: Request, kept: Inpaint| inpaint(&model, Backend::best(), &request, kept).unwrap_err();
    assert_eq!(
        refuse(REQUEST, Inpaint { mask: &mask[1..], ..kept }),
        RequestError::MaskLength { found: PIXELS - 1, expected: PIXELS }
    );
    assert_eq!(
        refuse(REQUEST, Inpaint { picture: &picture[..9], ..kept }),
        RequestError::PictureLength { found: 9, expected: BYTES }
    );
    assert_eq!(refuse(REQUEST, Inpaint { passes: 0, ..kept }), RequestError::Passes { found: 0 });
    assert_eq!(refuse(REQUEST, Inpaint { passes: 65, ..kept }), RequestError::Passes { found: 65 });
    assert_eq!(refuse(REQUEST, Inpaint { start_step: 4, ..kept }), RequestError::StartStep { found: 4, steps: 4 });
    assert_eq!(refuse(Request { class: 3, ..REQUEST }, kept), RequestError::Class { found: 3, classes: 3 });

    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::new(&model, &mut arena).unwrap();
    session.begin(&REQUEST).unwrap();
    for at in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        let refused = session.begin_morph(&REQUEST, &Morph { seed: 1, class: 1, at }).unwrap_err();
        assert!(refused.to_string().contains("between 0 and 1"), "{refused}");
    }
    let refused = session.begin_morph(&REQUEST, &Morph { seed: 1, class: 9, at: 0.5 }).unwrap_err();
    assert_eq!(refused, RequestError::Class { found: 9, classes: 3 });
    // The sample that was begun before goes on.
    while session.step() != Progress::Done {}
    let mut drawn = vec![0; BYTES];
    session.finish(&mut drawn).unwrap();
    assert_eq!(drawn, best(&model, |s| s.begin(&REQUEST)));
}

/// A sample after an inpainting in the same session keeps nothing of it.
#[test]
fn nothing_stays_from_one_picture_to_the_next() {
    let bytes = image();
    let model = model(&bytes);
    let (picture, mask) = (some_picture(), some_mask());
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::new(&model, &mut arena).unwrap();
    session.begin_inpaint(&REQUEST, Inpaint { picture: &picture, mask: &mask, start_step: 0, passes: 2 }).unwrap();
    while session.step() != Progress::Done {}
    session.begin_morph(&REQUEST, &Morph { seed: 3, class: 2, at: 0.5 }).unwrap();
    while session.step() != Progress::Done {}
    let mut drawn = vec![0; BYTES];
    session.sample(&REQUEST, &mut drawn).unwrap();
    assert_eq!(drawn, best(&model, |s| s.begin(&REQUEST)));
}

/// An encoder for the pictures of [`image`], with weights of its own.
fn encoder_image() -> AlignedBytes {
    let mut spec = random_student(&arch(), 4, 8);
    spec.direction = Direction::ToNoise;
    spec.phi.iter_mut().enumerate().for_each(|(i, phi)| *phi = angle_towards(Direction::ToNoise, i, 4) as f32);
    AlignedBytes::from(&write_image(&spec, &ExportOptions::default()).unwrap().bytes[..])
}

fn encode(model: &Model, backend: Backend, request: &Request, picture: &[u8]) -> Vec<f32> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    arena.fill(0x5a);
    let mut noise = vec![0.0; model.output_bytes()];
    Session::with_backend(model, &mut arena, backend).unwrap().encode(request, picture, &mut noise).unwrap();
    noise
}

/// An encoder's way is the rotations of its steps from the picture's values on, its network asked at each.
#[test]
fn an_encoder_rotates_from_the_picture_to_noise() {
    let mut spec = random_student(&arch(), 4, 8);
    spec.direction = Direction::ToNoise;
    spec.phi.iter_mut().enumerate().for_each(|(i, phi)| *phi = angle_towards(Direction::ToNoise, i, 4) as f32);
    let bytes = encoder_image();
    let model = model(&bytes);
    assert_eq!(model.info().direction, Direction::ToNoise);
    let picture = some_picture();
    let values: Vec<f32> = picture.iter().map(|byte| to_signed(*byte)).collect();
    let mut z = vec![0.0; BYTES];
    space_to_depth(&arch(), &values, &mut z);
    let simulator = Simulator::new(spec).unwrap();
    for step in 0..4 {
        let trace = simulator.evaluate(step, REQUEST.class, REQUEST.w, &z).unwrap();
        let phi = &simulator.spec.phi;
        let turn = schedule::deterministic(phi[step], *phi.get(step + 1).unwrap_or(&std::f32::consts::FRAC_PI_2));
        assert!(turn.turn < 0.0, "towards noise");
        z.iter_mut().zip(trace.v().unwrap()).for_each(|(z, v)| *z = turn.keep * *z - turn.turn * v);
    }
    let mut want = vec![0.0; BYTES];
    depth_to_space(&arch(), &z, &mut want);
    for backend in Backend::all() {
        let found = encode(&model, backend, &REQUEST, &picture);
        assert_eq!(found, want, "{}", backend.name());
    }
    // Nothing is random.
    let other = Request { seed: 99, sampler: Sampler::Stochastic, ..REQUEST };
    assert_eq!(encode(&model, Backend::best(), &other, &picture), want);
    assert_ne!(encode(&model, Backend::best(), &Request { w: 0.0, ..REQUEST }, &picture), want);
    assert_ne!(encode(&model, Backend::best(), &Request { class: 2, ..REQUEST }, &picture), want);
}

#[test]
fn a_picture_from_the_noise_of_a_seed_is_the_seeds() {
    let bytes = image();
    let model = model(&bytes);
    let noise: Vec<f32> = (0..BYTES.div_ceil(4)).flat_map(|block| normals(11, 0, block as u32)).take(BYTES).collect();
    let other = Request { seed: 12, ..REQUEST };
    assert_eq!(best(&model, |s| s.begin_noise(&other, &noise)), best(&model, |s| s.begin(&REQUEST)));
}

#[test]
fn encoders_encode_and_students_draw() {
    let (bytes, other) = (image(), encoder_image());
    let (student, encoder) = (model(&bytes), model(&other));
    let (picture, mask) = (some_picture(), some_mask());
    let mut arena = AlignedBytes::zeroed(encoder.arena_bytes());
    let mut session = Session::new(&encoder, &mut arena).unwrap();
    let wrong = RequestError::Direction { image: Direction::ToNoise };
    let (mut drawn, mut noise) = (vec![0; BYTES], vec![0.0; BYTES]);
    assert_eq!(session.begin(&REQUEST).unwrap_err(), wrong);
    assert_eq!(session.begin_noise(&REQUEST, &noise).unwrap_err(), wrong);
    assert_eq!(session.begin_from(&REQUEST, &picture, 1).unwrap_err(), wrong);
    assert_eq!(session.begin_morph(&REQUEST, &Morph { seed: 1, class: 1, at: 0.5 }).unwrap_err(), wrong);
    let kept = Inpaint { picture: &picture, mask: &mask, start_step: 0, passes: 1 };
    assert_eq!(session.begin_inpaint(&REQUEST, kept).unwrap_err(), wrong);
    assert_eq!(session.finish_noise(&mut noise).unwrap_err(), RequestError::NotFinished { step: 0, steps: 0 });
    let short = session.begin_encode(&REQUEST, &picture[1..]).unwrap_err();
    assert_eq!(short, RequestError::PictureLength { found: BYTES - 1, expected: BYTES });
    let class = session.begin_encode(&Request { class: 3, ..REQUEST }, &picture).unwrap_err();
    assert_eq!(class, RequestError::Class { found: 3, classes: 3 });
    session.begin_encode(&REQUEST, &picture).unwrap();
    session.step();
    assert_eq!(session.finish_noise(&mut noise).unwrap_err(), RequestError::NotFinished { step: 1, steps: 4 });
    while session.step() != Progress::Done {}
    assert_eq!(session.finish(&mut drawn).unwrap_err(), wrong, "noise is no picture");
    let short = session.finish_noise(&mut noise[1..]).unwrap_err();
    assert_eq!(short, RequestError::NoiseLength { found: BYTES - 1, expected: BYTES });
    session.finish_noise(&mut noise).unwrap();
    assert_eq!(noise, encode(&encoder, Backend::best(), &REQUEST, &picture));

    let mut arena = AlignedBytes::zeroed(student.arena_bytes());
    let mut session = Session::new(&student, &mut arena).unwrap();
    let wrong = RequestError::Direction { image: Direction::ToPicture };
    assert_eq!(session.encode(&REQUEST, &picture, &mut noise).unwrap_err(), wrong);
    session.begin(&REQUEST).unwrap();
    while session.step() != Progress::Done {}
    assert_eq!(session.finish_noise(&mut noise).unwrap_err(), wrong);
    let short = session.begin_noise(&REQUEST, &noise[1..]).unwrap_err();
    assert_eq!(short, RequestError::NoiseLength { found: BYTES - 1, expected: BYTES });
}

/// A folder with a student, an encoder, a picture and a mask.
struct Files {
    folder: Folder,
}

impl Files {
    fn new(name: &str) -> Files {
        let folder = Folder::new(&format!("applications-{name}"));
        fs::write(folder.join("student.fsw"), &image()[..]).unwrap();
        fs::write(folder.join("encoder.fsw"), &encoder_image()[..]).unwrap();
        write_png(&folder.join("in.png"), &some_picture(), 8, 12, 3).unwrap();
        let mask: Vec<u8> = some_mask().iter().map(|m| m * 255).collect();
        write_png(&folder.join("mask.png"), &mask, 8, 12, 1).unwrap();
        Files { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The arguments of a command line; `@` words are replaced by paths.
    fn words(&self, line: &str) -> Vec<String> {
        line.split_whitespace()
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name).to_str().unwrap().into(),
                None => word.into(),
            })
            .collect()
    }

    fn report(&self, line: &str) -> Value {
        report(self.words(line))
    }
}

fn read_png(path: &Path) -> ((usize, usize, usize), Vec<u8>) {
    data::png_folder::read_png(path).unwrap()
}

fn sums(report: &Value) -> Vec<u64> {
    report["pictures"].as_array().unwrap().iter().map(|p| p["crc32c"].as_u64().unwrap()).collect()
}

#[test]
fn edit_by_the_command_line_is_the_cores() {
    let files = Files::new("edit");
    let bytes = image();
    let model = model(&bytes);
    let line = "edit @student.fsw @in.png --class 2 --guidance 1.5 --seed 7";
    let report = files.report(&format!("{line} --strength 0.5 --out @out.png --json"));
    let (shape, pixels) = read_png(&files.path("out.png"));
    let request = Request { seed: 7, class: 2, ..REQUEST };
    assert_eq!(shape, (8, 12, 3));
    assert_eq!(pixels, best(&model, |s| s.begin_from(&request, &some_picture(), 2)));
    assert_eq!(sums(&report), [u64::from(crc32c(&pixels))]);
    let first = &report["pictures"][0];
    assert_eq!((&first["start_step"], &first["evaluations"]), (&2.into(), &2.into()));
    assert!(first["psnr_to_input"].as_f64().unwrap() > 0.0);

    // Variations and strengths: a grid, an npz, and the same pictures as one by one.
    let report = files.report(&format!("{line} --strength 0.25,1 --count 3 --out @grid.png --npz @all.npz --json"));
    let all = data::npz::open(&files.path("all.npz")).unwrap();
    assert_eq!((all.len(), &all.labels[..]), (6, &[2; 6][..]));
    for (i, sum) in sums(&report).into_iter().enumerate() {
        assert_eq!(u64::from(crc32c(all.picture(i))), sum);
        let request = Request { seed: 7 + i as u64 / 2, class: 2, ..REQUEST };
        let start = [3, 0][i % 2];
        assert_eq!(all.picture(i), best(&model, |s| s.begin_from(&request, &some_picture(), start)));
    }
    let ((height, width, channels), _) = read_png(&files.path("grid.png"));
    assert!(channels == 3 && width > 3 * 12 && height > 3 * 8);
}

#[test]
fn inpaint_by_the_command_line_keeps_what_the_mask_keeps() {
    let files = Files::new("inpaint");
    let bytes = image();
    let model = model(&bytes);
    let line = "inpaint @student.fsw @in.png --mask @mask.png --class 1 --guidance 1.5 --seed 11";
    let report = files.report(&format!("{line} --passes 3 --out @out.png --json"));
    let (_, pixels) = read_png(&files.path("out.png"));
    let (picture, mask) = (some_picture(), some_mask());
    let kept = Inpaint { picture: &picture, mask: &mask, start_step: 0, passes: 3 };
    assert_eq!(pixels, inpaint(&model, Backend::scalar(), &REQUEST, kept).unwrap());
    assert!((0..BYTES).all(|i| mask[i / 3] != 0 || pixels[i] == picture[i]));
    assert_eq!((&report["kept_pixels"], &report["drawn_pixels"]), (&(PIXELS - 20).into(), &20.into()));
    assert_eq!((&report["passes"], &report["evaluations"]), (&3.into(), &10.into()));
    assert!(report["pictures"][0]["seam"].as_f64().unwrap() > 0.0);
    // Variations differ under the mask.
    let report = files.report(&format!("{line} --count 3 --out @grid.png --json"));
    let sums = sums(&report);
    assert!(sums[0] != sums[1] && sums[1] != sums[2]);
}

#[test]
fn restyle_by_the_command_line_is_the_cores() {
    let files = Files::new("restyle");
    let (bytes, other) = (image(), encoder_image());
    let (student, encoder) = (model(&bytes), model(&other));
    let line = "restyle @student.fsw @encoder.fsw @in.png --from 1 --class 2 --guidance 2 --from-guidance 0.5";
    let report = files.report(&format!("{line} --out @out.png --json"));
    let noise = encode(&encoder, Backend::best(), &Request { w: 0.5, ..REQUEST }, &some_picture());
    let want = best(&student, |s| s.begin_noise(&Request { class: 2, w: 2.0, ..REQUEST }, &noise));
    let (shape, pixels) = read_png(&files.path("out.png"));
    assert_eq!((shape, &pixels), ((8, 12, 3), &want));
    assert_eq!((&report["crc32c"], &report["evaluations"]), (&crc32c(&want).into(), &8.into()));
}

#[test]
fn morph_by_the_command_line_is_the_cores() {
    let files = Files::new("morph");
    let bytes = image();
    let model = model(&bytes);
    let line = "morph @student.fsw --class 0,2,1 --seeds 4,4,9 --frames 3 --guidance 1.5";
    let report = files.report(&format!("{line} --out @strip.png --animation @loop.png --json"));
    let expected: Vec<u64> = [(0, 4, 2, 4), (2, 4, 1, 9)]
        .into_iter()
        .flat_map(|(class, seed, to_class, to_seed)| {
            [0.0, 0.5, 1.0].map(|at| {
                let request = Request { class, seed, ..REQUEST };
                let picture = best(&model, |s| s.begin_morph(&request, &Morph { seed: to_seed, class: to_class, at }));
                u64::from(crc32c(&picture))
            })
        })
        .collect();
    assert_eq!(sums(&report), expected);
    let ((_, width, _), _) = read_png(&files.path("strip.png"));
    assert!(width > 3 * 12);
    // Five different pictures there, three of them back.
    let animation = fs::read(files.path("loop.png")).unwrap();
    let control = animation.windows(4).position(|w| w == b"acTL").unwrap();
    assert_eq!(animation[control + 4..control + 12], [0, 0, 0, 8, 0, 0, 0, 0]);
}

#[test]
fn augment_writes_what_the_readers_read_and_a_device_draws() {
    let files = Files::new("augment");
    let bytes = image();
    let model = model(&bytes);
    let line = "augment @student.fsw --count 11 --guidance 0.5,2 --seed 30 --json";
    files.report(&format!("{line} --out @set.npz"));
    let one = files.report(&format!("{line} --out @set-npz"));
    let two = files.report(&format!("{line} --out @set-png --form png"));
    assert_eq!((&one["form"], &two["form"], &one["drawn"]), (&"npz".into(), &"png".into(), &11.into()));
    let alone = data::open(&files.path("set.npz"), Split::Train).unwrap();
    let folder = data::open(&files.path("set-npz"), Split::Train).unwrap();
    let png = data::open(&files.path("set-png"), Split::Train).unwrap();
    assert_eq!(alone.labels, (0..11).map(|i| i % 3).collect::<Vec<u16>>());
    assert_eq!((&alone.pictures, alone.labels.len()), (&folder.pictures, folder.len()));
    assert_eq!(folder.class_names, ["class 0", "class 1", "class 2"]);
    // Folders are read class by class.
    assert_eq!((png.len(), &png.class_names), (11, &folder.class_names));
    let sorted = |d: &data::Dataset| {
        let mut all: Vec<(u16, Vec<u8>)> = (0..d.len()).map(|i| (d.labels[i], d.picture(i).to_vec())).collect();
        all.sort();
        all
    };
    assert!(sorted(&png) == sorted(&folder));

    // The example for devices draws the same sequence.
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let session = Session::new(&model, &mut arena).unwrap();
    let first = Request { seed: 30, ..Request::default() };
    let mut pictures = training_pictures::TrainingPictures::new(session, first, &[0.5, 2.0]);
    let mut picture = vec![0; BYTES];
    for i in 0..11 {
        assert_eq!(pictures.draw(&mut picture).unwrap(), folder.labels[i]);
        assert!(picture == folder.picture(i), "picture {i}");
    }

    // Behind real pictures.
    files.report("augment @student.fsw --count 4 --data @set-npz --out @more --json");
    let more = data::open(&files.path("more"), Split::Train).unwrap();
    assert_eq!((more.len(), &more.pictures[..11 * BYTES]), (15, &folder.pictures[..]));
}

/// Grey pictures become IDX, as MNIST's.
#[test]
fn grey_sets_are_idx() {
    let files = Files::new("idx");
    let grey = write_image(&random_student(&tiny_arch(), 2, 5), &ExportOptions::default()).unwrap().bytes;
    fs::write(files.path("grey.fsw"), grey).unwrap();
    let r = files.report("augment @grey.fsw --count 5 --out @grey --json");
    assert_eq!(r["form"], "idx");
    let set = data::open(&files.path("grey"), Split::Train).unwrap();
    assert_eq!((set.len(), set.channels, &set.labels[..]), (5, 1, &[0, 1, 0, 1, 0][..]));
    assert!(files.path("grey/train-images-idx3-ubyte.gz").exists());
    assert!(fewstep(files.words("data subset --data @grey --per-class 2 --out @few")).status.success());
}

/// A picture alone and in a batch are the same, whatever the batch does.
#[test]
fn a_batch_is_made_of_pictures_that_can_be_made_alone() {
    let files = Files::new("alone");
    let image = StudentImage::open(&files.path("student.fsw")).unwrap();
    let painter = Painter::new(&image, "auto").unwrap();
    let (picture, mask) = (some_picture(), some_mask());
    let kept = Inpaint { picture: &picture, mask: &mask, start_step: 1, passes: 2 };
    let work = [
        (REQUEST, Task::Sample),
        (REQUEST, Task::Edit { picture: &picture, start_step: 3 }),
        (REQUEST, Task::Inpaint(kept)),
        (REQUEST, Task::Morph(Morph { seed: 8, class: 0, at: 0.7 })),
    ];
    let all = painter.draw(&work).unwrap();
    for (one, together) in work.iter().zip(all.chunks_exact(BYTES)) {
        assert_eq!(painter.draw(&[*one]).unwrap(), together);
    }
}

#[test]
fn refusals_say_what_and_touch_nothing() {
    let files = Files::new("refusals");
    write_png(&files.path("small.png"), &[1; 16], 4, 4, 1).unwrap();
    write_png(&files.path("grey.png"), &[1; PIXELS], 8, 12, 1).unwrap();
    write_png(&files.path("dark.png"), &[9; PIXELS], 8, 12, 1).unwrap();
    fs::write(files.path("notes.txt"), "no picture").unwrap();
    fs::write(files.path("kept.png"), "old").unwrap();
    fs::create_dir(files.path("full")).unwrap();
    fs::write(files.path("full/file"), "old").unwrap();
    let edit = "edit @student.fsw @in.png --class 1 --out @kept.png";
    let inpaint = "inpaint @student.fsw @in.png --mask @mask.png --class 1 --out @kept.png";
    let morph = "morph @student.fsw --out @kept.png";
    let restyle = "restyle @student.fsw @encoder.fsw @in.png --out @kept.png";
    let augment = "augment @student.fsw --count 3";
    let names = files.folder.names();
    for (line, parts) in [
        (format!("{edit} --strength 0"), vec!["--strength 0", "above 0"]),
        (format!("{edit} --strength 1.5"), vec!["--strength 1.5", "up to 1"]),
        (format!("{edit} --strength NaN"), vec!["--strength NaN"]),
        (format!("{edit} --guidance 9"), vec!["--guidance 9", "0 to 4"]),
        (format!("{edit} --steps 3"), vec!["--steps 3", "divisor of 4"]),
        (format!("{edit} --steps 70000"), vec!["--steps 70000"]),
        (format!("{edit} --count 0"), vec!["--count 0"]),
        (format!("{edit} --backend quick"), vec!["--backend quick", "scalar"]),
        ("edit @student.fsw @in.png --class 3 --out @kept.png".into(), vec!["--class 3", "0 to 2"]),
        ("edit @student.fsw @small.png --class 1 --out @kept.png".into(), vec!["small.png", "4x4 grey", "8x12 RGB"]),
        ("edit @student.fsw @grey.png --class 1 --out @kept.png".into(), vec!["grey.png", "8x12 grey", "convert"]),
        ("edit @student.fsw @notes.txt --class 1 --out @kept.png".into(), vec!["notes.txt", "no whole PNG"]),
        ("edit @student.fsw @missing.png --class 1 --out @kept.png".into(), vec!["missing.png", "no such file"]),
        ("edit @in.png @in.png --class 1 --out @kept.png".into(), vec!["in.png", "magic"]),
        ("edit @student.fsw @in.png --class 1 --out @kept.npz".into(), vec!["kept.npz", "name it .png"]),
        ("edit @student.fsw --class 1 --data @missing".into(), vec!["missing", "nothing there"]),
        (format!("{inpaint} --passes 0"), vec!["--passes 0", "1 to 64"]),
        (format!("{inpaint} --passes 65"), vec!["--passes 65", "1 to 64"]),
        (format!("{inpaint} --strength -1"), vec!["--strength -1"]),
        ("inpaint @student.fsw @in.png --mask @small.png --class 1 --out @kept.png".into(), vec!["small.png", "8x12"]),
        ("inpaint @student.fsw @in.png --mask @dark.png --class 1 --out @kept.png".into(), vec!["dark everywhere"]),
        (
            "inpaint @student.fsw @in.png --mask @no.png --class 1 --out @kept.png".into(),
            vec!["no.png", "no such file"],
        ),
        (format!("{restyle} --from 3 --class 1"), vec!["--from 3", "0 to 2"]),
        (format!("{restyle} --from 1 --class 1 --from-guidance 5"), vec!["--from-guidance 5", "0 to 4"]),
        (format!("{restyle} --from 1 --class 1 --guidance 5"), vec!["--guidance 5"]),
        (
            "restyle @encoder.fsw @student.fsw @in.png --from 1 --class 1 --out @kept.png".into(),
            vec!["encoder.fsw: is not a student"],
        ),
        (
            "restyle @student.fsw @student.fsw @in.png --from 1 --class 1 --out @kept.png".into(),
            vec!["student.fsw: is not an encoder", "distill --encoder"],
        ),
        ("sample @encoder.fsw --out @kept.png".into(), vec!["encoder", "takes a student image"]),
        ("edit @encoder.fsw @in.png --class 1 --out @kept.png".into(), vec!["encoder", "takes a student image"]),
        (format!("{morph} --class 1"), vec!["two different pictures"]),
        (format!("{morph} --class 1,2,0 --seeds 1,2"), vec!["3 stops", "2"]),
        (format!("{morph} --class 1,7"), vec!["--class 7", "0 to 2"]),
        (format!("{morph} --class 1,2 --frames 1"), vec!["--frames 1"]),
        (format!("{morph} --class 1,2 --animation @x.gif"), vec!["x.gif", ".apng"]),
        (format!("{augment} --out @full"), vec!["full", "files in it"]),
        (format!("{augment} --out @notes.txt"), vec!["notes.txt", "is a file"]),
        (format!("{augment} --out @no/such"), vec!["no", "create it first"]),
        (format!("{augment} --out @new --form idx"), vec!["--form idx", "grey"]),
        (format!("{augment} --out @new.npz --form png"), vec!["new.npz", "give a folder"]),
        (format!("{augment} --out @new --guidance 1,5"), vec!["--guidance 5", "0 to 4"]),
        (format!("{augment} --out @new --data @missing"), vec!["missing", "nothing there"]),
        ("augment @student.fsw --count 0 --out @new".into(), vec!["--count 0"]),
        ("sample @student.fsw --show=paint".into(), vec!["paint"]),
        ("completions cmd".into(), vec!["cmd"]),
    ] {
        let message = refusal(files.words(&line));
        for part in parts {
            assert!(message.contains(part), "fewstep {line}\n    says nothing of {part:?}: {message}");
        }
        assert_eq!(files.folder.names(), names, "fewstep {line}");
        assert_eq!(fs::read(files.path("kept.png")).unwrap(), b"old", "fewstep {line}");
    }
}

#[test]
fn pictures_are_shown_in_plain_characters_where_there_is_no_terminal() {
    let files = Files::new("show");
    let names = files.folder.names();
    let shown = |line: &str| {
        let output = fewstep(files.words(line));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = shown("sample @student.fsw --count 3 --seed 4 --show");
    assert!(plain.lines().count() >= 8 && plain.is_ascii() && !plain.contains('\x1b'), "{plain}");
    let blocks = shown("sample @student.fsw --count 3 --seed 4 --show=blocks");
    assert_eq!(blocks.matches('\u{2580}').count(), 4 * (3 * 12 + 2 * 2));
    assert!(shown("sample @student.fsw --show=kitty").starts_with("\x1b_Ga=T,f=100"));
    assert!(shown("sample @student.fsw --show=sixel").starts_with("\x1bPq"));
    assert_eq!(files.folder.names(), names, "no samples.png is written beside");
}

#[test]
fn completions_and_man_pages_know_every_verb_and_its_flags() {
    let files = Files::new("completions");
    for (shell, part) in [("bash", "_fewstep"), ("zsh", "#compdef fewstep"), ("fish", "complete -c fewstep")] {
        let output = fewstep(["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains(part) && script.contains("strength") && script.contains("inpaint"), "{shell}");
    }
    assert!(fewstep(files.words("completions --man @man")).status.success());
    let pages = fs::read_dir(files.path("man"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    for page in ["fewstep.1", "fewstep-edit.1", "fewstep-data-subset.1", "fewstep-completions.1"] {
        assert!(pages.iter().any(|p| p == page), "{page} is not in {pages:?}");
    }
    let page = fs::read_to_string(files.path("man/fewstep-inpaint.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("mask") && page.contains("passes"), "{page}");
}

/// The whole way of an encoder by the command line: distilled, calibrated on pictures, exported, used.
#[test]
fn an_encoder_is_distilled_exported_and_restyles() {
    let place = Folder::new("applications-encoder");
    let at = |name: &str| place.join(name).display().to_string();
    let save = |name: &str, kind: Kind, guided: bool| {
        let net = random_net(&tiny_arch(), guided, 5);
        let class_names = vec!["one".to_string(), "two".into()];
        let checkpoint = Checkpoint { kind, net, class_names, provenance: Default::default() };
        checkpoint.save(&place.join(name), DType::F32).unwrap();
    };
    save("teacher.safetensors", Kind::Teacher, false);
    save("student.safetensors", Kind::Student(2), true);
    augment::write(&place.join("data.npz"), augment::Form::Npz, &squares()).unwrap();
    let distil = |out: &str, more: &str| {
        let line = format!(
            "distill --encoder --teacher {} --data {} --out {} --images 32 --batch 16 --precision f32 {more}",
            at("teacher.safetensors"),
            at("data.npz"),
            at(out)
        );
        let output = fewstep(line.split_whitespace());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let start = format!("--start {} --target teacher --segment-steps 2", at("student.safetensors"));
    for (out, more) in [
        ("mcd", format!("--method mcd --steps 2 {start}")),
        ("pd", "--steps 2 --first 4 --guided-images 32".to_string()),
    ] {
        let (code, log) = distil(out, &more);
        assert_eq!(code, Some(0), "{log}");
        let found = Checkpoint::open(&place.join(&format!("{out}/encoder-2.safetensors")), &Device::Cpu).unwrap();
        assert_eq!(found.kind, Kind::Encoder(2));
    }
    for more in [format!("--method cd --steps 1 {start}"), "--finish mm".into(), "--steps 2 --int8-images 10".into()] {
        let (code, log) = distil("refused", &more);
        assert!(code == Some(2) && log.contains("--encoder"), "{more}: {log}");
    }
    let file = at("mcd/encoder-2.safetensors");
    assert!(refusal(["export", &file, "--steps", "2", "--out", &at("e.fsw")]).contains("give --data"));
    assert!(refusal(["export", &file, "--steps", "4", "--out", &at("e.fsw")]).contains("2-step encoder"));
    assert!(refusal(["export", &file, "--to", "diffusers", "--out", &at("folder")]).contains("does not draw"));
    assert!(refusal(["sample", &file, "--out", &at("p.png")]).contains("restyle"));
    let student = at("student.safetensors");
    let data = at("data.npz");
    let line = refusal(["export", &student, "--steps", "2", "--data", &data, "--out", &at("e.fsw")]);
    assert!(line.contains("leave --data out"), "{line}");
    report(["export", &file, "--steps", "2", "--data", &data, "--out", &at("e.fsw"), "--json"]);
    report(["export", &student, "--steps", "2", "--out", &at("s.fsw"), "--json"]);
    assert_eq!(report(["inspect", &at("e.fsw"), "--json"])["kind"], "encoder image");
    let picture = squares().picture(3).to_vec();
    write_png(&place.join("in.png"), &picture, 8, 8, 1).unwrap();
    let line = ["restyle", &at("s.fsw"), &at("e.fsw"), &at("in.png"), "--from", "0", "--class", "1", "--json"];
    assert_eq!(report(line)["evaluations"], 4);

    // The image's noise is the float encoder's, up to rounding.
    let found = Checkpoint::open(Path::new(&file), &Device::Cpu).unwrap();
    let image = StudentImage::open(&place.join("e.fsw")).unwrap();
    let request = Request { class: 1, w: 0.0, ..Request::default() };
    let noise = Painter::new(&image, "auto").unwrap().encode(&[(request, &picture)]).unwrap();
    let values: Vec<f32> = picture.iter().map(|byte| to_signed(*byte)).collect();
    let z = to_batch(&tiny_arch(), &values, &Device::Cpu).unwrap();
    let z = walk(&found.net, Direction::ToNoise, 2, z, &[1], 0.0).unwrap();
    let float = from_batch(&tiny_arch(), &z).unwrap();
    let error = noise.iter().zip(&float).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let size = float.iter().map(|v| v * v).sum::<f32>();
    assert!(error < 0.01 * size, "{error} of {size}");
}
