//! What a firmware's main loop asks of a session beside the picture: its rows one by one, and guidance that moves while it
//! draws. The images are random students of two small networks, which the emulator's tests draw too.

use fewstep_core::{IMAGE_ALIGN, Inpaint, Model, Progress, Request, RequestError, Session, Stage};

/// Memory at a multiple of 16 bytes.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
}

impl Memory {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + IMAGE_ALIGN];
        let start = bytes.as_ptr().align_offset(IMAGE_ALIGN);
        Self { bytes, start }
    }

    fn image(name: &str) -> Self {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-sim/runner/tests/data").join(name);
        let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut memory = Self::new(file.len());
        memory.bytes()[..file.len()].copy_from_slice(&file);
        memory
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// Every row, asked for from the bottom up.
fn rows(session: &mut Session<'_>) -> Vec<u8> {
    let (height, bytes) = (session.model().info().height, session.model().row_bytes());
    let mut picture = vec![0; session.model().output_bytes()];
    for y in (0..height).rev() {
        session.finish_row(y, &mut picture[usize::from(y) * bytes..][..bytes]).unwrap();
    }
    picture
}

#[test]
fn rows_are_the_pictures() {
    for name in ["gray-4.fsw", "colour-2.fsw"] {
        let mut image = Memory::image(name);
        let model = Model::parse(image.bytes()).unwrap();
        let mut arena = Memory::new(model.arena_bytes());
        let mut session = Session::new(&model, arena.bytes()).unwrap();
        let mut picture = vec![0; model.output_bytes()];
        session.sample(&Request { seed: 3, class: 1, w: 1.5, ..Request::default() }, &mut picture).unwrap();
        assert_eq!(rows(&mut session), picture, "{name}");
        assert_eq!(model.row_bytes() * usize::from(model.info().height), model.output_bytes());
    }
}

#[test]
fn rows_keep_what_the_mask_keeps() {
    let mut image = Memory::image("colour-2.fsw");
    let model = Model::parse(image.bytes()).unwrap();
    let kept: Vec<u8> = (0..model.output_bytes()).map(|i| (i * 7 % 251) as u8).collect();
    let mask: Vec<u8> = (0..kept.len() / usize::from(model.info().channels)).map(|i| u8::from(i % 5 < 2)).collect();
    let mut arena = Memory::new(model.arena_bytes());
    let mut session = Session::new(&model, arena.bytes()).unwrap();
    let inpaint = Inpaint { picture: &kept, mask: &mask, start_step: 0, passes: 1 };
    session.begin_inpaint(&Request { seed: 3, ..Request::default() }, inpaint).unwrap();
    while session.step() != Progress::Done {}
    let mut picture = vec![0; model.output_bytes()];
    session.finish(&mut picture).unwrap();
    assert_eq!(rows(&mut session), picture);
    assert!(picture.iter().zip(&kept).any(|(drawn, kept)| drawn != kept));
}

#[test]
fn rows_are_refused_with_the_reason() {
    let mut image = Memory::image("gray-4.fsw");
    let model = Model::parse(image.bytes()).unwrap();
    let (height, bytes) = (model.info().height, model.row_bytes());
    let mut arena = Memory::new(model.arena_bytes());
    let mut session = Session::new(&model, arena.bytes()).unwrap();
    let mut row = vec![0; bytes];
    assert_eq!(session.finish_row(0, &mut row), Err(RequestError::NotFinished { step: 0, steps: 0 }));
    session.begin(&Request::default()).unwrap();
    session.step();
    assert_eq!(session.finish_row(0, &mut row), Err(RequestError::NotFinished { step: 1, steps: 4 }));
    while session.step() != Progress::Done {}
    assert_eq!(session.finish_row(height, &mut row), Err(RequestError::Row { found: height, height }));
    let short = session.finish_row(0, &mut row[1..]);
    assert_eq!(short, Err(RequestError::RowLength { found: bytes - 1, expected: bytes }));
    assert_eq!(session.finish_row(height - 1, &mut row), Ok(()));
}

/// Draws with a strength for each step, set at stage `at` of the step.
fn with_knob(strengths: [f32; 4], at: Stage) -> Vec<u8> {
    let mut image = Memory::image("gray-4.fsw");
    let model = Model::parse(image.bytes()).unwrap();
    let mut arena = Memory::new(model.arena_bytes());
    let mut session = Session::new(&model, arena.bytes()).unwrap();
    session.begin(&Request { seed: 5, class: 2, w: strengths[0], ..Request::default() }).unwrap();
    let mut step = 0;
    loop {
        if session.stage() == Some(at) {
            session.set_guidance(strengths[step]).unwrap();
        }
        match session.step_op() {
            Progress::Running { step: now, .. } => step = now.into(),
            Progress::Done => break,
        }
    }
    rows(&mut session)
}

#[test]
fn guidance_moves_between_steps() {
    let still = with_knob([1.0; 4], Stage::Embed);
    assert_ne!(with_knob([1.0, 1.0, 4.0, 4.0], Stage::Embed), still);
    // What is set after a step's embedding holds for the next: the picture is one step late.
    assert_eq!(with_knob([1.0, 4.0, 2.0, 0.0], Stage::Op(0)), with_knob([1.0, 1.0, 4.0, 2.0], Stage::Embed),);
    assert_eq!(with_knob([1.0, 1.0, 1.0, 4.0], Stage::Update), still, "after the last embedding nothing moves");
}

#[test]
fn guidance_outside_the_range_is_refused_and_changes_nothing() {
    let mut image = Memory::image("gray-4.fsw");
    let model = Model::parse(image.bytes()).unwrap();
    let (min, max) = (model.info().w_min, model.info().w_max);
    let mut arena = Memory::new(model.arena_bytes());
    let mut session = Session::new(&model, arena.bytes()).unwrap();
    assert_eq!(session.set_guidance(max), Ok(()), "without a run nothing happens");
    let request = Request { seed: 1, w: 1.0, ..Request::default() };
    session.begin(&request).unwrap();
    assert_eq!(session.set_guidance(max + 1.0), Err(RequestError::Guidance { found: max + 1.0, min, max }));
    assert!(session.set_guidance(f32::NAN).is_err());
    while session.step() != Progress::Done {}
    let drawn = rows(&mut session);
    let mut again = vec![0; model.output_bytes()];
    session.sample(&request, &mut again).unwrap();
    assert_eq!(drawn, again);
}
