//! Every board draws what the core draws on this machine, byte for byte, and refuse what it refuses.
//!
//! The images in `tests/data` are random students (`fewstep::export::random_student`, seed 1) of two small networks;
//! README.md there has the program that wrote them. The shipped student is drawn too.

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{quiet, simulator};
use fewstep_core::{Backend, Model, Session};
use fewstep_runner::{Board, Error, Image, Options, Outcome, Program, Request, Sampler, Simulator, Status, boards_dir};

/// Bars of the project.
const FIRMWARE_BYTES: u32 = 96 << 10;
const STACK_BYTES: u32 = 8 << 10;
/// Every shipped board.
const BOARDS: [&str; 5] = ["an386", "an500", "an505", "an547", "riscv32"];

/// A file's bytes at a multiple of 16 in memory.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn of(content: &[u8]) -> Self {
        let mut bytes = vec![0; content.len() + 15];
        let start = bytes.as_ptr().align_offset(16);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self { bytes, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let end = self.bytes.len() + self.start - 15;
        &mut self.bytes[self.start..end]
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn board(name: &'static str) -> Option<&'static Simulator> {
    static BUILT: [OnceLock<Option<Simulator>>; BOARDS.len()] = [const { OnceLock::new() }; BOARDS.len()];
    let index = BOARDS.iter().position(|&board| board == name).unwrap();
    BUILT[index].get_or_init(|| simulator(name, &Options::default())).as_ref()
}

/// What the core draws here.
fn host(image: &[u8], request: &Request, backend: Backend) -> Vec<u8> {
    let mut image = Aligned::of(image);
    let model = Model::parse(image.bytes()).unwrap();
    let mut arena = Aligned::of(&vec![0; model.arena_bytes()]);
    let mut session = Session::with_backend(&model, arena.bytes(), backend).unwrap();
    let sampler = match request.sampler {
        Sampler::Deterministic => fewstep_core::Sampler::Deterministic,
        Sampler::Stochastic => fewstep_core::Sampler::Stochastic,
    };
    let Request { seed, class, w, steps, .. } = *request;
    let mut picture = vec![0; model.output_bytes()];
    session.sample(&fewstep_core::Request { seed, class, w, steps, sampler }, &mut picture).unwrap();
    picture
}

/// Draws on every board and here; `None` when there is no emulator.
fn compare(image: &[u8], request: Request) -> Option<()> {
    let request = Request { image: Image::Bytes(image.to_vec()), ..request };
    let expected = host(image, &request, Backend::scalar());
    assert_eq!(host(image, &request, Backend::best()), expected, "scalar and {}", Backend::best().name());
    let (min, max) = (expected.iter().min(), expected.iter().max());
    assert_ne!(min, max, "a picture of one colour shows little");
    for name in BOARDS {
        let outcome = board(name)?.run(&request, &mut quiet).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outcome.picture, expected, "{name}, {request:?}");
        check_figures(image, &request, &outcome);
    }
    Some(())
}

fn check_figures(image: &[u8], request: &Request, outcome: &Outcome) {
    let mut image = Aligned::of(image);
    let model = Model::parse(image.bytes()).unwrap();
    let info = model.info();
    assert_eq!((outcome.height, outcome.width, outcome.channels), (info.height, info.width, info.channels));
    assert_eq!(outcome.arena_bytes as usize, model.arena_bytes());
    assert_eq!(outcome.flash.image_bytes, info.file_bytes);
    assert!(outcome.flash.firmware_bytes <= FIRMWARE_BYTES, "{:?}", outcome.flash);
    assert!((100..=STACK_BYTES).contains(&outcome.stack_used), "{} bytes of stack", outcome.stack_used);
    assert!(
        outcome.log.iter().any(|line| line.text.contains(&format!("class {}", request.class))),
        "{:?}",
        outcome.log
    );
    let Some(steps) = &outcome.steps else {
        // Said aloud: a QEMU without plugins still draws.
        return common::say(&format!("instructions not counted: {:?}", outcome.not_counted));
    };
    let expected = if request.steps == 0 { info.steps } else { request.steps };
    assert_eq!(steps.len(), usize::from(expected));
    for step in steps {
        assert_eq!(step.parts.len(), model.op_count() + 2, "the embedding, the operations, the update");
        assert_eq!(step.parts.iter().sum::<u64>(), step.instructions);
        assert!(step.parts.iter().all(|&part| part > 0));
        let per_mac = step.instructions as f64 / info.macs_per_step as f64;
        assert!((0.1..100.0).contains(&per_mac), "{per_mac} instructions per MAC");
    }
}

fn request(seed: u64, class: u16, w: f32, steps: u16, sampler: Sampler) -> Request {
    Request { seed, class, w, steps, sampler, ..Request::on("") }
}

#[test]
fn no_shipped_board_is_left_out() {
    assert_eq!(Board::list(&boards_dir(&Options::default()).unwrap()), BOARDS);
}

/// Neither the core with its kernels, nor start-up, drivers and log of the firmware.
#[test]
fn no_board_has_a_panic_in_its_firmware() {
    for name in BOARDS {
        let Some(simulator) = board(name) else { return };
        let program = Program::new(simulator.board(), simulator.firmware().elf.clone());
        assert_eq!(program.panics().unwrap(), [""; 0], "{name}");
    }
}

#[test]
fn gray_pictures_in_four_steps() {
    use Sampler::{Deterministic, Stochastic};
    let image = std::fs::read(data("gray-4.fsw")).unwrap();
    for request in [
        request(0, 0, 0.0, 0, Deterministic),
        request(1, 1, 1.5, 4, Deterministic),
        request(u64::MAX, 2, 4.0, 2, Deterministic),
        request(1 << 32, 2, 0.37, 1, Deterministic),
        request(7, 0, 2.0, 0, Stochastic),
        request(7, 0, 2.0, 2, Stochastic),
        request(8, 1, 3.99, 1, Stochastic),
    ] {
        if compare(&image, request).is_none() {
            return;
        }
    }
}

#[test]
fn colour_pictures_through_three_levels() {
    let image = std::fs::read(data("colour-2.fsw")).unwrap();
    for class in 0..5 {
        if compare(&image, request(class.into(), class, f32::from(class) * 0.9, 0, Sampler::Deterministic)).is_none() {
            return;
        }
    }
}

#[test]
fn the_shipped_students() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    for name in ["fashion-mnist-student-4.fsw", "fashion-mnist-student-4-int4.fsw"] {
        let image = std::fs::read(assets.join(name)).unwrap();
        for (seed, class, w) in [(1, 3, 1.5), (2, 9, 0.0), (3, 0, 4.0)] {
            if compare(&image, request(seed, class, w, 0, Sampler::Deterministic)).is_none() {
                return;
            }
        }
    }
}

/// The firmware's own reason, for an image and a request.
fn refused(simulator: &Simulator, image: Vec<u8>, request: Request) -> (Status, String) {
    let request = Request { image: Image::Bytes(image), ..request };
    match simulator.run(&request, &mut quiet) {
        Err(Error::Refused { status, detail }) => (status, detail),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_core_refuses_the_firmware_refuses_with_the_reason() {
    let Some(simulator) = board("an500") else { return };
    let image = std::fs::read(data("gray-4.fsw")).unwrap();
    let fine = || request(1, 1, 1.0, 0, Sampler::Deterministic);
    for (request, reason) in [
        (Request { class: 3, ..fine() }, "Class { found: 3, classes: 3 }"),
        (Request { w: -0.5, ..fine() }, "Guidance { found: -0.5, min: 0, max: 4 }"),
        (Request { w: f32::NAN, ..fine() }, "Guidance { found: NaN, min: 0, max: 4 }"),
        (Request { steps: 3, ..fine() }, "Steps { found: 3, image: 4 }"),
    ] {
        let expected = (Status::RequestRefused, format!("request: {reason}"));
        assert_eq!(refused(simulator, image.clone(), request), expected);
    }
    let mut damaged = image.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let (status, detail) = refused(simulator, damaged, fine());
    assert!(status == Status::BadImage && detail.contains("Crc {"), "{detail}");
}

#[test]
fn an_arena_that_is_too_small_is_refused_with_both_sizes() {
    let text = std::fs::read_to_string(boards_dir(&Options::default()).unwrap().join("an500/board.toml")).unwrap();
    let file = std::env::temp_dir().join(format!("fewstep-small-{}.toml", std::process::id()));
    std::fs::write(&file, text.replace("arena = 0x3_0000", "arena = 0x400")).unwrap();
    let simulator = simulator(file.to_str().unwrap(), &Options { count: false, ..Options::default() });
    std::fs::remove_file(file).unwrap();
    let Some(simulator) = simulator else { return };
    let image = std::fs::read(data("gray-4.fsw")).unwrap();
    let (status, detail) = refused(&simulator, image, request(1, 1, 1.0, 0, Sampler::Deterministic));
    assert!(status == Status::ArenaTooSmall && detail.contains("have: 1024"), "{detail}");
}

/// A target and a compiler of its own: built once, drawn once.
#[test]
fn the_library_built_from_source_draws_the_same() {
    use fewstep_runner::Toolchain;
    let options = Options { toolchain: Some(Toolchain::BuildStd), ..Options::default() };
    let simulator = match Simulator::new("an500", &options, &mut quiet) {
        Ok(simulator) => simulator,
        // Where the target is installed this compiler need not be there.
        Err(error) => {
            assert!(error.is_missing_tool(), "{error}");
            return common::say(&format!("SKIPPED: {error}"));
        }
    };
    let image = std::fs::read(data("gray-4.fsw")).unwrap();
    let request = Request { image: Image::Bytes(image.clone()), ..request(5, 2, 1.25, 0, Sampler::Deterministic) };
    let outcome = simulator.run(&request, &mut quiet).unwrap();
    assert_eq!(outcome.picture, host(&image, &request, Backend::scalar()));
    assert_eq!(outcome.toolchain, Toolchain::BuildStd);
}
