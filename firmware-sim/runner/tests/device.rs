//! A board over several power cycles: what its second flash keeps, what a cut, a starved watchdog and a hang leave behind.

mod common;

use std::path::Path;
use std::time::Duration;

use common::quiet;
use fewstep_core::slots::{HEAD_BYTES, Manifest, head};
use fewstep_core::{Arena, Model, Session};
use fewstep_runner::{Action, Cut, Device, Ending, Error, Options, PowerCycle, Setup, Torn, Verdict, WireRequest};

/// One board of each kind of CPU: they differ in timer and memory.
const KINDS: [&str; 4] = ["an500", "an505", "an547", "riscv32"];
/// More than anything here takes between two feedings.
const WATCHDOG: Option<u64> = Some(50_000_000);

/// A board, or `None` with a line that says what is missing.
fn device(name: &str) -> Option<Device> {
    let options = Options { time_limit: Duration::from_secs(120), ..Options::default() };
    Device::new(name, &options, &mut quiet).map_err(|error| common::skip(&error)).ok()
}

fn image(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn mail(image: &[u8], version: u32) -> Vec<u8> {
    [&Manifest::of(image, version).emit()[..], image].concat()
}

fn update(image: &[u8], version: u32, cut: Option<Cut>) -> Action {
    Action::Update { mail: mail(image, version), chunk: 1000, drawing: None, cut }
}

fn request() -> WireRequest {
    WireRequest { seed: 7, class: 1, w: 1.5, ..WireRequest::default() }
}

/// What the core draws here.
fn expected(image: &[u8]) -> Vec<u8> {
    #[repr(align(16))]
    struct Bytes([u8; 64 << 10]);
    let mut aligned = Box::new(Bytes([0; 64 << 10]));
    aligned.0[..image.len()].copy_from_slice(image);
    let model = Model::parse(&aligned.0[..image.len()]).unwrap();
    let mut arena = Box::new(Arena::<{ 256 << 10 }>::new());
    let mut session = Session::new(&model, arena.bytes()).unwrap();
    let mut picture = vec![0; model.output_bytes()];
    let WireRequest { seed, class, w, .. } = request();
    session.sample(&fewstep_core::Request { seed, class, w, ..Default::default() }, &mut picture).unwrap();
    picture
}

impl Tester {
    fn cycle(&mut self, setup: &Setup, actions: &[Action]) -> PowerCycle {
        self.0.power_cycle(setup, WATCHDOG, actions, &mut quiet).unwrap()
    }

    /// Boots alone: slot, version, trial.
    fn boots(&mut self) -> Option<(u8, u32, bool)> {
        let cycle = self.cycle(&Setup::default(), &[]);
        assert!(matches!(cycle.ending, Ending::Done), "{:?}", cycle.ending);
        let booted = cycle.booted.unwrap();
        booted.slot.map(|slot| (slot, booted.version, booted.trial))
    }
}

struct Tester(Device);

#[test]
fn an_update_lives_through_power_cycles_on_every_kind_of_cpu() {
    let (old, new) = (image("gray-4.fsw"), image("colour-2.fsw"));
    for name in KINDS {
        let Some(device) = device(name) else { return };
        let mut board = Tester(device);
        assert_eq!(board.boots(), None, "{name}");
        let head = head::confirmed(&Manifest::of(&old, 1), 1, board.0.storage().write as usize).unwrap();
        board.0.write(0, &[&head[..], &old].concat()).unwrap();

        // The update arrives while a picture is drawn with the old image.
        let action = Action::Update { mail: mail(&new, 2), chunk: 1000, drawing: Some(request()), cut: None };
        let cycle = board.cycle(&Setup::default(), &[Action::Draw(request()), action]);
        assert!(matches!(cycle.ending, Ending::Done), "{name}: {:?}", cycle.ending);
        for outcome in &cycle.ended {
            assert_eq!(outcome.verdict, Verdict::Done, "{name}");
            let drawn = outcome.drawn.as_ref().unwrap();
            assert!(drawn.picture == expected(&old), "{name}");
            assert_eq!(drawn.steps.as_ref().map(Vec::len), Some(4), "{name}");
            assert!(outcome.longest.is_some_and(|longest| (1..50_000_000).contains(&longest)), "{name}");
        }
        assert!(cycle.ended[1].position == new.len() as u32 && cycle.ended[1].operations > new.len() as u32 / 4);

        // On trial, confirmed, kept.
        let cycle = board.cycle(&Setup::default(), &[Action::Draw(request()), Action::Confirm { cut: None }]);
        assert!(cycle.booted.unwrap().trial, "{name}");
        assert!(cycle.ended[0].drawn.as_ref().unwrap().picture == expected(&new), "{name}");
        assert_eq!(board.boots(), Some((1, 2, false)), "{name}");
        let slot = board.0.storage().slot;
        assert!(board.0.read(slot + HEAD_BYTES as u32, new.len()).unwrap() == new, "{name}");

        // Hanging, with and without somebody who looks.
        let cycle = board.cycle(&Setup::default(), &[Action::Hang]);
        assert!(matches!(cycle.ending, Ending::Watchdog), "{name}: {:?}", cycle.ending);
        assert_eq!((cycle.booted.unwrap().version, cycle.ended.len()), (2, 0), "{name}");
    }
}

#[test]
fn a_cut_ends_the_power_cycle_in_the_operation_named() {
    let Some(device) = device("an500") else { return };
    let mut board = Tester(device);
    let (old, new) = (image("gray-4.fsw"), image("colour-2.fsw"));
    assert_eq!(board.cycle(&Setup::default(), &[update(&old, 1, None)]).ended[0].verdict, Verdict::Done);
    assert_eq!(board.boots(), Some((0, 1, true)));
    // No image to go back to: tried again, then confirmed.
    board.cycle(&Setup::default(), &[Action::Confirm { cut: None }]);
    assert_eq!(board.boots(), Some((0, 1, false)));
    for torn in [Torn::Not, Torn::Partly, Torn::Wholly] {
        let cut = Some(Cut { after: 5000, torn });
        let cycle = board.cycle(&Setup::default(), &[update(&new, 2, cut), Action::Draw(request())]);
        assert!(matches!(cycle.ending, Ending::PowerCut) && cycle.ended.is_empty(), "{:?}", cycle.ending);
        assert_eq!(board.boots(), Some((0, 1, false)), "{torn:?}");
    }
    let cycle = board.cycle(&Setup::default(), &[update(&new, 2, None)]);
    assert_eq!(cycle.ended[0].verdict, Verdict::Done);
    // The trial's record is cut in the boot itself: nothing is lost.
    let cut = Some(Cut { after: 0, torn: Torn::Not });
    let cycle = board.cycle(&Setup { cut, ..Setup::default() }, &[]);
    assert!(matches!(cycle.ending, Ending::PowerCut) && cycle.booted.is_none());
    assert_eq!(board.boots(), Some((1, 2, true)));
    assert_eq!(board.boots(), Some((0, 1, false)));
}

#[test]
fn refusals_and_limits_are_told() {
    let Some(device) = device("an500") else { return };
    let mut board = Tester(device);
    let old = image("gray-4.fsw");
    let keyed = Setup { key: Some([1; 32]), ..Setup::default() };
    let short = Action::Update { mail: mail(&old, 3)[..5000].to_vec(), chunk: 64, drawing: None, cut: None };
    let garbage = Action::Update { mail: vec![1; 200], chunk: 64, drawing: None, cut: None };
    let cycle = board.cycle(&keyed, &[update(&old, 1, None), Action::Draw(request()), Action::Confirm { cut: None }]);
    assert_eq!(verdicts(&cycle), [Verdict::Unsigned, Verdict::NoImage, Verdict::NoImage]);
    let mut damaged = mail(&old, 3);
    damaged[5000] ^= 4;
    let damaged = Action::Update { mail: damaged, chunk: 64, drawing: None, cut: None };
    let floor = Setup { lowest_version: 3, ..Setup::default() };
    let cycle = board.cycle(&floor, &[update(&old, 2, None), short, damaged, garbage]);
    assert_eq!(verdicts(&cycle), [Verdict::Version, Verdict::Interrupted, Verdict::Damaged, Verdict::BadManifest]);
    assert_eq!(cycle.ended[1].position, 5000 - 96);

    let many = vec![Action::Hang; 41];
    let error = board.0.power_cycle(&Setup::default(), None, &many, &mut quiet).unwrap_err();
    assert!(matches!(error, Error::TooLarge { room: 40, .. }), "{error}");
    let large = Action::Update { mail: vec![0; 9 << 20], chunk: 64, drawing: None, cut: None };
    let error = board.0.power_cycle(&Setup::default(), None, &[large], &mut quiet).unwrap_err();
    assert!(error.to_string().contains("reset the board in between"), "{error}");
    assert!(board.0.write(u32::MAX, &[0]).is_err() && board.0.read(0, 20 << 20).is_err());
}

fn verdicts(cycle: &PowerCycle) -> Vec<Verdict> {
    cycle.ended.iter().map(|outcome| outcome.verdict).collect()
}

#[test]
fn a_hang_without_a_watchdog_is_stopped_and_leaves_nothing() {
    let options = Options { time_limit: Duration::from_secs(2), ..Options::default() };
    let mut device = match Device::new("an500", &options, &mut quiet) {
        Ok(device) => device,
        Err(error) => return common::skip(&error),
    };
    let cycle = device.power_cycle(&Setup::default(), None, &[Action::Hang], &mut quiet).unwrap();
    assert!(matches!(cycle.ending, Ending::Failed(Error::TimeLimit { .. })), "{:?}", cycle.ending);
}
