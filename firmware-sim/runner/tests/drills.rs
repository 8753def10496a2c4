//! Guests that fail in every way that is known: each ends with its own error, within its time, and leaves no process.

mod common;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{quiet, simulator};
use fewstep_runner::{Board, Error, Fault, Options, Request, Simulator, Status, boards_dir, emulator};

const PANIC: u16 = 65000;
const BUS_FAULT: u16 = 65001;
const STACK_OVERFLOW: u16 = 65002;
const HANG: u16 = 65003;
const FLOOD: u16 = 65004;
const EXIT_WITHOUT_PICTURE: u16 = 65005;
const DAMAGED_RECORD: u16 = 65006;
const LOG_WHILE_LOGGING: u16 = 65007;
const COMPARE_KERNELS: u16 = 65008;

fn options() -> Options {
    Options { features: vec!["drills".into()], count: false, time_limit: Duration::from_secs(15), ..Options::default() }
}

/// One board of each kind of CPU: they differ in start-up, faults and the guard below the stack.
const KINDS: [&str; 3] = ["an500", "an505", "riscv32"];

fn built(name: &str) -> Option<&'static Simulator> {
    static BUILT: [OnceLock<Option<Simulator>>; KINDS.len()] = [const { OnceLock::new() }; KINDS.len()];
    let index = KINDS.iter().position(|&board| board == name).unwrap();
    BUILT[index].get_or_init(|| simulator(name, &options())).as_ref()
}

fn board() -> Option<&'static Simulator> {
    built("an500")
}

/// The error of a drill on the an500; `None` when there is no emulator.
fn drill(class: u16) -> Option<Error> {
    drill_on("an500", class)
}

/// The error of a drill; `None` when there is no emulator.
fn drill_on(name: &str, class: u16) -> Option<Error> {
    let start = Instant::now();
    let error = built(name)?.run(&Request { class, ..Request::on(name) }, &mut quiet).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(60), "{error}");
    Some(error)
}

#[test]
fn a_panic_names_its_place() {
    for name in KINDS {
        let Some(error) = drill_on(name, PANIC) else { return };
        let Error::Panicked { file, line } = &error else { panic!("{name}: {error}") };
        assert!(file.ends_with("drill.rs") && *line > 0, "{name}: {error}");
    }
}

#[test]
fn a_fault_names_the_instruction() {
    // Precise data bus error with a valid address (Armv7-M, B3.2.15).
    const DATA_BUS: u32 = 0x8200;
    // Trap 7: store access fault (RISC-V privileged architecture, 3.1.15).
    for (name, exception, cfsr_bits) in [("an500", 3, DATA_BUS), ("an505", 3, DATA_BUS), ("riscv32", 0x107, 0)] {
        let Some(error) = drill_on(name, BUS_FAULT) else { return };
        let Error::Faulted { fault, stack_overflow: false } = error else { panic!("{name}: {error}") };
        let Fault { pc, cfsr, bfar, .. } = fault;
        let flash = &built(name).unwrap().board().flash;
        assert!((flash.origin..flash.origin + flash.firmware).contains(&pc), "{name}: {error}");
        assert_eq!((fault.exception, cfsr & DATA_BUS, bfar), (exception, cfsr_bits, 0xd000_0000), "{name}: {error}");
    }
}

#[test]
fn a_stack_overflow_is_a_fault_and_not_a_wrong_picture() {
    for name in KINDS {
        let Some(error) = drill_on(name, STACK_OVERFLOW) else { return };
        assert!(matches!(error, Error::Faulted { stack_overflow: true, .. }), "{name}: {error}");
        assert!(error.to_string().contains("the stack overflowed"));
    }
}

#[test]
fn a_guest_that_hangs_is_stopped() {
    let Some(error) = drill(HANG) else { return };
    assert!(matches!(error, Error::TimeLimit { .. }), "{error}");
}

#[test]
fn a_guest_that_writes_without_end_is_stopped() {
    let Some(error) = drill(FLOOD) else { return };
    assert!(matches!(error, Error::Flood { .. }), "{error}");
}

#[test]
fn an_exit_without_a_picture_is_malformed() {
    let Some(error) = drill(EXIT_WITHOUT_PICTURE) else { return };
    assert_eq!(error.to_string(), "the guest ended well, but it named no image");
}

#[test]
fn a_damaged_record_is_malformed() {
    let Some(error) = drill(DAMAGED_RECORD) else { return };
    assert_eq!(error.to_string(), "the guest ended well, but 7 bytes of what it sent are no record");
}

#[test]
fn a_line_within_a_line_ends_the_run() {
    let Some(error) = drill(LOG_WHILE_LOGGING) else { return };
    assert!(matches!(error, Error::Refused { status: Status::Panicked, .. }), "{error}");
}

#[test]
fn no_image_is_refused() {
    let Some(error) = drill(3) else { return };
    let Error::Refused { status: Status::BadImage, detail } = &error else { panic!("{error}") };
    assert!(detail.starts_with("student image: ParseError"), "{error}");
}

/// Every CPU with kernels of its own, because their instruction sets and FPUs differ.
#[test]
fn every_layer_on_the_board_equals_scalar() {
    let options = Options { time_limit: Duration::from_secs(240), ..options() };
    for (name, backend) in
        [("an500", "arm-dsp"), ("an386", "arm-dsp"), ("an505", "arm-dsp"), ("an547", "helium"), ("riscv32", "riscv32")]
    {
        let Some(simulator) = simulator(name, &options) else { return };
        let mut lines = String::new();
        let request = Request { class: COMPARE_KERNELS, ..Request::on(name) };
        let error = simulator.run(&request, &mut |event| lines += &format!("{event}\n")).unwrap_err();
        // It goes on to the image, which is not there.
        assert!(matches!(error, Error::Refused { status: Status::BadImage, .. }), "{error}\n{lines}");
        assert!(lines.contains(&format!("1600 layers of {backend} equal scalar")), "{lines}");
        assert!(lines.contains(&format!("other operations of {backend} equal scalar")), "{lines}");
    }
}

/// A vector table (stack pointer, reset) and `b .`: no firmware of ours.
#[test]
fn a_foreign_guest_that_hangs_is_stopped() {
    let board = Board::find(&boards_dir(&options()).unwrap(), "an500").unwrap();
    let kernel = [0x00, 0x40, 0x00, 0x20, 0x09, 0x00, 0x00, 0x00, 0xfe, 0xe7];
    let limit = Duration::from_millis(500);
    let boot =
        emulator::Boot { board: &board, kernel: &kernel, loads: &[], counter: None, limit, stop: None, memory: None };
    let mut bytes = 0;
    match emulator::boot(&boot, |piece| bytes += piece.len()) {
        Ok(booted) => assert!(booted.timed_out && booted.code.is_none() && bytes == 0),
        Err(error) => common::skip(&error),
    }
}

/// The runner is killed outright, so that nothing of it can clean up.
#[cfg(target_os = "linux")]
#[test]
fn no_emulator_outlives_a_killed_runner() {
    use std::path::Path;
    use std::process::{Command, Stdio};

    if board().is_none() {
        return;
    }
    // Part of util-linux, which a Linux without it would be odd; without it the promise is not made.
    assert!(Path::new("/usr/bin/setpriv").exists(), "install util-linux: setpriv ties the emulator to the runner");
    let image = std::env::temp_dir().join(format!("fewstep-empty-{}.fsw", std::process::id()));
    std::fs::write(&image, b"").unwrap();
    let mut runner = Command::new(env!("CARGO_BIN_EXE_fewstep-runner"))
        .args(["--board", "an500", "--features", "drills", "--no-count", "--time-limit", "120"])
        .args(["--class", &HANG.to_string()])
        .arg(&image)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", runner.id());
    let is_emulator = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu-system"))
    };
    let wait = |what: &str, done: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(100), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut emulator = String::new();
    wait("the emulator starts", &mut || {
        let list = std::fs::read_to_string(&children).unwrap_or_default();
        emulator = list.split_whitespace().find(|pid| is_emulator(pid)).unwrap_or_default().into();
        !emulator.is_empty()
    });
    runner.kill().unwrap();
    runner.wait().unwrap();
    wait("the emulator ends", &mut || !is_emulator(&emulator));
    std::fs::remove_file(image).unwrap();
    // Nobody was left to do this.
    std::fs::remove_dir_all(std::env::temp_dir().join(format!("fewstep-{}-0", runner.id()))).unwrap();
}
