use std::path::Path;

use fewstep_wire::{Kind, Request as WireRequest};

use super::*;

fn simulator() -> Simulator {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
    let firmware = Firmware {
        elf: Vec::new(),
        entry: 0,
        sections: Vec::new(),
        flash_bytes: 1000,
        log: Table::default(),
        toolchain: Toolchain::Installed,
        counter: Err("not built".into()),
    };
    Simulator { board: Board::find(&boards, "an500").unwrap(), firmware, options: Options::default() }
}

fn model() -> Vec<u8> {
    let model = Model {
        height: 2,
        width: 3,
        channels: 1,
        ops: 4,
        arena_bytes: 100,
        arena_budget: 200,
        image_bytes: 300,
        macs_per_step: 400,
        backend: "scalar",
    };
    [&model.emit()[..], model.backend.as_bytes()].concat()
}

fn step(done: u16) -> Vec<u8> {
    Step { done, steps: 2 }.emit().to_vec()
}

type Records = Vec<(Kind, Vec<u8>)>;

/// What a good run sends.
fn good() -> Records {
    vec![
        (Kind::Model, model()),
        (Kind::Step, step(1)),
        (Kind::Step, step(2)),
        (Kind::Picture, vec![7; 6]),
        (Kind::Usage, Usage { stack_used: 10, stack_bytes: 20 }.emit().to_vec()),
    ]
}

const COUNTS: &str = "region 0 insns 5 ld 0\nmark\nregion 1 insns 6 ld 0\nmark\ntotal insns 11 ld 0\n";

fn booted(code: Option<i32>) -> Booted {
    Booted {
        code,
        ending: "an ending".into(),
        timed_out: false,
        flooded: false,
        stderr: "a message".into(),
        counts: Some(COUNTS.into()),
    }
}

/// Judges what was sent, as after an exit with code 0.
fn judged(records: &[(Kind, Vec<u8>)], booted: &Booted) -> Result<Outcome, Error> {
    let simulator = simulator();
    let mut guest = Guest::default();
    for (kind, payload) in records {
        guest.take(*kind as u8, payload, &simulator.firmware.log, &mut |_| {});
    }
    simulator.judge(booted, &guest)?;
    simulator.outcome(booted, guest, None, 1000, 0.0)
}

#[test]
fn a_good_run_is_reported_whole() {
    let outcome = judged(&good(), &booted(Some(0))).unwrap();
    assert_eq!((outcome.height, outcome.width, outcome.channels, outcome.picture), (2, 3, 1, vec![7; 6]));
    assert_eq!(
        (outcome.stack_used, outcome.stack_bytes, outcome.arena_bytes, outcome.arena_budget),
        (10, 20, 100, 200)
    );
    assert_eq!((outcome.backend.as_str(), outcome.macs_per_step), ("scalar", 400));
    let steps: Vec<u64> = outcome.steps.unwrap().iter().map(|step| step.instructions).collect();
    assert_eq!(steps, [5, 6]);
    assert_eq!(outcome.not_counted, None);
    let Flash { firmware_bytes, image_bytes, image_budget, .. } = outcome.flash;
    assert_eq!((firmware_bytes, image_bytes, image_budget), (1000, 300, 1000));
}

#[test]
fn what_does_not_fit_together_is_malformed() {
    let edited = |edit: &dyn Fn(&mut Records)| {
        let mut records = good();
        edit(&mut records);
        judged(&records, &booted(Some(0))).unwrap_err().to_string()
    };
    for (edit, says) in [
        (&(|r: &mut Records| drop(r.remove(0))) as &dyn Fn(&mut Records), "it named no image"),
        (&|r| drop(r.remove(3)), "it sent no picture"),
        (&|r| drop(r.remove(4)), "it did not say what memory it used"),
        (&|r| drop(r.remove(1)), "step 2 of 2 came after step 0"),
        (&|r| drop(r.remove(2)), "the instruction counter's lines do not fit its steps"),
        (&|r| r.push((Kind::Step, step(3))), "step 3 of 2 came after step 2"),
        (&|r| r[3].1.push(0), "its picture has 7 bytes, not 2 x 3 x 1 = 6"),
        (&|r| r.push(r[3].clone()), "it sent two pictures"),
        (&|r| r.push(r[0].clone()), "it named two images"),
        (&|r| r[4].1.push(0), "a record of kind 5 with 9 bytes is unknown"),
        (&|r| r[0].1.truncate(20), "a record of kind 2 with 20 bytes is unknown"),
    ] {
        assert_eq!(edited(edit), format!("the guest ended well, but {says}"));
    }
    let counts = Booted { counts: Some("region 0 insns".into()), ..booted(Some(0)) };
    assert!(matches!(judged(&good(), &counts), Err(Error::Malformed(_))));
}

#[test]
fn without_a_counter_the_reason_is_given() {
    let outcome = judged(&good(), &Booted { counts: None, ..booted(Some(0)) }).unwrap();
    assert!(outcome.steps.is_none() && outcome.not_counted.is_some());
}

#[test]
fn endings_become_errors() {
    let failed = |booted: &Booted| judged(&good(), booted).unwrap_err();
    let error = failed(&booted(Some(Status::RequestRefused.code())));
    assert!(matches!(error, Error::Refused { status: Status::RequestRefused, .. }));
    for code in [Some(1), Some(99), None] {
        assert_eq!(failed(&booted(code)).to_string(), "qemu-system-arm ended with an ending: a message");
    }
    assert!(matches!(failed(&Booted { timed_out: true, ..booted(None) }), Error::TimeLimit { .. }));
    assert!(matches!(failed(&Booted { flooded: true, ..booted(None) }), Error::Flood { .. }));
}

#[test]
fn faults_and_panics_win_over_exit_codes() {
    let sent = |kind: Kind, payload: Vec<u8>| {
        let records = [good(), vec![(kind, payload)]].concat();
        judged(&records, &booted(Some(0))).unwrap_err()
    };
    let fault = |sp: u32| sent(Kind::Fault, Fault { sp, exception: 3, ..Fault::default() }.emit().to_vec());
    assert!(matches!(fault(0x1fff_ffe0), Error::Faulted { stack_overflow: true, .. }));
    assert!(matches!(fault(0x2000_3000), Error::Faulted { stack_overflow: false, .. }));
    let error = sent(Kind::Panic, [&[5, 0, 0, 0][..], b"a.rs"].concat());
    assert_eq!(error.to_string(), "the firmware panicked at a.rs:5");
}

#[test]
fn board_files_and_records_agree_on_the_request() {
    assert_eq!(fewstep_board::REQUEST_BYTES as usize, WireRequest::BYTES);
}

/// Boots for real, with a counter that QEMU cannot load: the run goes on without counts, and says so. The picture is
/// compared elsewhere; here there is no image, so that the firmware's refusal shows that it ran.
#[test]
fn an_emulator_that_refuses_the_counter_still_runs() {
    let mut simulator = match Simulator::new("an500", &Options { count: false, ..Options::default() }, &mut |_| {}) {
        Ok(simulator) => simulator,
        Err(error) => {
            assert!(error.is_missing_tool(), "{error}");
            assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "FEWSTEP_REQUIRE_QEMU is set, but {error}");
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
            return;
        }
    };
    simulator.firmware.counter = Ok("/nowhere/counter.so".into());
    let error = simulator.run(&Request::on("an500"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Refused { status: Status::BadImage, .. }), "{error}");
}
