//! Editing, inpainting and morphing on the emulated Cortex-M7: the host's bytes, in the arena of sampling.

mod common;

use std::path::Path;

use common::{quiet, simulator};
use fewstep_core::{Backend, Inpaint, Model, Morph, Session};
use fewstep_runner::{Error, Image, Options, Outcome, Request, Sampler, Simulator, Status, Task};

/// Bars of the project.
const FIRMWARE_BYTES: u32 = 96 << 10;
const STACK_BYTES: u32 = 8 << 10;

/// Bytes at a multiple of 16 in memory.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn of(content: &[u8]) -> Self {
        let mut bytes = vec![0; content.len() + 15];
        let start = bytes.as_ptr().align_offset(16);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self { bytes, start, length: content.len() }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// The noise of a picture, by an encoder here.
fn encode(encoder: &[u8], request: &fewstep_core::Request, picture: &[u8]) -> Vec<f32> {
    let model = Model::parse(encoder).unwrap();
    let mut arena = Aligned::of(&vec![0; model.arena_bytes()]);
    let mut noise = vec![0.0; model.output_bytes()];
    let mut session = Session::with_backend(&model, arena.bytes(), Backend::scalar()).unwrap();
    session.encode(request, picture, &mut noise).unwrap();
    noise
}

/// A student image, and an encoder's that lies behind it.
struct Student(Aligned, Option<Aligned>);

impl Student {
    fn open(path: &Path) -> Self {
        Self(Aligned::of(&std::fs::read(path).unwrap()), None)
    }

    fn with(self, encoder: &Path) -> Self {
        Self(self.0, Some(Aligned::of(&std::fs::read(encoder).unwrap())))
    }

    fn content(&mut self) -> &[u8] {
        self.0.bytes()
    }

    /// What the image's place in flash holds: the student, and at the next multiple of 16 the encoder.
    fn flash(&mut self) -> Vec<u8> {
        let mut all = self.0.bytes().to_vec();
        if let Some(encoder) = &mut self.1 {
            all.resize(all.len().next_multiple_of(16), 0);
            all.extend_from_slice(encoder.bytes());
        }
        all
    }

    /// What the core draws here.
    fn draw(&mut self, request: &Request) -> Vec<u8> {
        let model = Model::parse(self.0.bytes()).unwrap();
        let mut arena = Aligned::of(&vec![0; model.arena_bytes()]);
        let mut session = Session::with_backend(&model, arena.bytes(), Backend::scalar()).unwrap();
        let sampler = match request.sampler {
            Sampler::Deterministic => fewstep_core::Sampler::Deterministic,
            Sampler::Stochastic => fewstep_core::Sampler::Stochastic,
        };
        let Request { seed, class, w, steps, .. } = *request;
        let host = fewstep_core::Request { seed, class, w, steps, sampler };
        match request.task {
            Task::Sample => session.begin(&host),
            Task::Edit { start_step } => session.begin_from(&host, &request.attached, start_step),
            Task::Inpaint { start_step, passes } => {
                let (picture, mask) = request.attached.split_at(model.output_bytes());
                session.begin_inpaint(&host, Inpaint { picture, mask, start_step, passes })
            }
            Task::Morph { seed, class, at } => session.begin_morph(&host, &Morph { seed, class, at }),
            Task::Restyle { class, w } => {
                let encoder = self.1.as_mut().expect("an encoder behind the student").bytes();
                let noise = encode(encoder, &fewstep_core::Request { class, w, ..host }, &request.attached);
                session.begin_noise(&host, &noise)
            }
            Task::Enlarge => session.begin_enlarge(&host, &request.attached),
        }
        .unwrap();
        while session.step() != fewstep_core::Progress::Done {}
        let mut picture = vec![0; model.output_bytes()];
        session.finish(&mut picture).unwrap();
        picture
    }

    /// Draws there and here; sampling's outcome, to compare with, comes from `run` too.
    fn compare(&mut self, simulator: &Simulator, request: Request) -> Outcome {
        let expected = self.draw(&request);
        let request = Request { image: Image::Bytes(self.flash()), ..request };
        let outcome = simulator.run(&request, &mut quiet).unwrap_or_else(|error| panic!("{:?}: {error}", request.task));
        assert_eq!(outcome.picture, expected, "{:?}", request.task);
        assert!(outcome.stack_used <= STACK_BYTES && outcome.flash.firmware_bytes <= FIRMWARE_BYTES);
        outcome
    }
}

fn request(class: u16, task: Task, attached: &[u8]) -> Request {
    Request { seed: 5, class, w: 1.25, task, attached: attached.to_vec(), ..Request::on("") }
}

/// A mask of a byte a pixel: `hole(y, x)` is drawn anew.
fn mask(height: usize, width: usize, hole: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    (0..height * width).map(|i| u8::from(hole(i / width, i % width))).collect()
}

#[test]
fn the_shipped_student_edits_inpaints_and_morphs_in_the_arena_of_sampling() {
    let Some(simulator) = simulator("an500", &Options::default()) else { return };
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let mut student = Student::open(&assets.join("fashion-mnist-student-4.fsw"));
    let sampled = student.compare(&simulator, request(8, Task::Sample, &[]));
    let picture = sampled.picture.clone();

    let edited = student.compare(&simulator, request(0, Task::Edit { start_step: 2 }, &picture));
    let mask = mask(28, 28, |y, x| (9..19).contains(&y) && (6..22).contains(&x));
    let task = Task::Inpaint { start_step: 0, passes: 2 };
    let inpainted = student.compare(&simulator, request(6, task, &[&picture[..], &mask].concat()));
    for ((kept, drawn), mask) in picture.iter().zip(&inpainted.picture).zip(&mask) {
        assert!(*mask != 0 || kept == drawn, "a kept pixel changed");
    }
    let task = Task::Morph { seed: 99, class: 1, at: 0.4 };
    let morphed = student.compare(&simulator, request(8, task, &[]));
    for outcome in [&edited, &inpainted, &morphed] {
        // The bar is 1.1 times sampling's arena and a picture; picture and mask stay in flash, so it is sampling's.
        assert_eq!(outcome.arena_bytes, sampled.arena_bytes);
        assert_eq!(outcome.static_ram_bytes, sampled.static_ram_bytes);
        assert_ne!(outcome.picture, picture);
    }
    if let (Some(edited), Some(inpainted)) = (&edited.steps, &inpainted.steps) {
        assert_eq!((edited.len(), inpainted.len()), (2, 4), "an edit from step 2 of 4 has two steps");
        assert!(inpainted[1].instructions > inpainted[0].instructions * 3 / 2, "two passes of the second step");
    }
}

/// Student and encoder one behind the other, on a part of 2 MB of flash (STM32H743): both sessions take the same arena,
/// and the noise lies behind it.
#[test]
fn the_shipped_encoder_restyles_in_a_tenth_more_than_the_arena_of_sampling() {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR"));
    let assets = runner.join("../../assets");
    let board = std::fs::read_to_string(runner.join("../boards/an500/board.toml")).unwrap();
    let large = board.replace("size = 0x10_0000", "size = 0x20_0000");
    assert_ne!(large, board);
    let folder = std::env::temp_dir().join(format!("an500-2mb-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("board.toml");
    std::fs::write(&file, large).unwrap();
    let options = Options { count: false, ..Options::default() };
    let Some(simulator) = simulator(file.to_str().unwrap(), &options) else { return };
    let student = Student::open(&assets.join("fashion-mnist-student-4.fsw"));
    let mut both = student.with(&assets.join("fashion-mnist-encoder-4.fsw"));
    let sampled = both.compare(&simulator, request(7, Task::Sample, &[]));
    let restyled = both.compare(&simulator, request(9, Task::Restyle { class: 7, w: 0.5 }, &sampled.picture));
    assert_ne!(restyled.picture, sampled.picture);
    let bar = f64::from(sampled.arena_bytes) * 1.1 + sampled.picture.len() as f64;
    println!("arena {} bytes where sampling has {}", restyled.arena_bytes, sampled.arena_bytes);
    assert!(restyled.arena_bytes > sampled.arena_bytes && f64::from(restyled.arena_bytes) <= bar);
    assert_eq!(restyled.static_ram_bytes, sampled.static_ram_bytes);

    // Without an encoder, and with a picture of another size.
    let request = |image: Vec<u8>, attached: &[u8]| Request {
        image: Image::Bytes(image),
        ..request(9, Task::Restyle { class: 7, w: 0.5 }, attached)
    };
    for (request, expected, reason) in [
        (request(both.content().to_vec(), &sampled.picture), Status::BadImage, "encoder image"),
        (request(both.flash(), &sampled.picture[1..]), Status::RequestRefused, "PictureLength { found: 783"),
    ] {
        match simulator.run(&request, &mut quiet) {
            Err(Error::Refused { status, detail }) => {
                assert!(status == expected && detail.contains(reason), "{status:?}: {detail}");
            }
            other => panic!("{other:?}"),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn colour_pictures_and_every_step() {
    let Some(simulator) = simulator("an500", &Options { count: false, ..Options::default() }) else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut student = Student::open(&data.join("colour-2.fsw"));
    let sampled = student.compare(&simulator, request(0, Task::Sample, &[]));
    let (height, width) = (usize::from(sampled.height), usize::from(sampled.width));
    let picture = sampled.picture;
    let mask = mask(height, width, |y, x| (y + x) % 3 != 0);
    for start_step in 0..2 {
        student.compare(&simulator, request(1, Task::Edit { start_step }, &picture));
        let both = [&picture[..], &mask].concat();
        let task = Task::Inpaint { start_step, passes: 3 };
        student.compare(&simulator, request(1, task, &both));
        student.compare(&simulator, Request { sampler: Sampler::Stochastic, ..request(1, task, &both) });
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let Some(simulator) = simulator("an500", &Options { count: false, ..Options::default() }) else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut student = Student::open(&data.join("gray-4.fsw"));
    let mut refused = |task: Task, attached: &[u8]| {
        let request = Request { image: Image::Bytes(student.content().to_vec()), ..request(1, task, attached) };
        match simulator.run(&request, &mut quiet) {
            Err(Error::Refused { status: Status::RequestRefused, detail }) => detail,
            other => panic!("{other:?}"),
        }
    };
    for (task, attached, reason) in [
        (Task::Edit { start_step: 1 }, &[0; 7][..], "PictureLength { found: 7"),
        (Task::Inpaint { start_step: 0, passes: 1 }, &[], "MaskLength { found: 0"),
        (Task::Morph { seed: 1, class: 3, at: 0.5 }, &[], "Class { found: 3, classes: 3 }"),
        (Task::Morph { seed: 1, class: 1, at: 1.5 }, &[], "Share { found: 1.5 }"),
    ] {
        let detail = refused(task, attached);
        assert!(detail.contains(reason), "{detail}");
    }
    let image = student.content().to_vec();
    let request = Request { image: Image::Bytes(image), ..request(1, Task::Edit { start_step: 1 }, &vec![0; 2 << 20]) };
    let error = simulator.run(&request, &mut quiet).unwrap_err().to_string();
    assert!(error.contains("the picture to start from"), "{error}");
}
