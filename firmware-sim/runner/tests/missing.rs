//! What is missing or wrong on this machine is said in a sentence, with what to do; nothing here needs an emulator.

mod common;

use std::process::Command;

use common::quiet;
use fewstep_runner::{Error, Image, Options, Request, boards_dir, simulate};

/// A file of one's own: the an500's with one piece replaced.
fn board_file(name: &str, from: &str, to: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(boards_dir(&Options::default()).unwrap().join("an500/board.toml")).unwrap();
    assert!(text.contains(from));
    let path = std::env::temp_dir().join(format!("fewstep-{name}-{}.toml", std::process::id()));
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path
}

#[test]
fn without_an_emulator_nothing_is_built() {
    let file = board_file("missing", "qemu-system-arm", "qemu-system-none");
    let error = simulate(&Request::on(file.to_str().unwrap()), &Options::default(), &mut |event| panic!("{event}"));
    std::fs::remove_file(file).unwrap();
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::NoEmulator { program } if program == "qemu-system-none"));
    assert!(error.is_missing_tool() && error.to_string().contains("apt install"), "{error}");
}

#[test]
fn with_an_empty_path_the_runner_says_what_to_install() {
    let out = Command::new(env!("CARGO_BIN_EXE_fewstep-runner"))
        .args(["--board", "an500", "none.fsw"])
        .env("PATH", "")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("qemu-system-arm is not on the PATH: install it"), "{text}");
}

#[test]
fn without_sources_the_variable_is_named() {
    let options = Options { sources: Some("/nowhere".into()), ..Options::default() };
    let error = simulate(&Request::on("an500"), &options, &mut quiet).unwrap_err();
    assert!(error.is_missing_tool() && error.to_string().contains("FEWSTEP_FIRMWARE"), "{error}");
}

#[test]
fn unknown_boards_and_wrong_arguments_end_with_code_2() {
    for (arguments, says) in [
        (&["--board", "an999", "x.fsw"][..], "there are an386, an500"),
        (&["--board", "an500"], "the student image is missing"),
        (&["x.fsw"], "--board is missing"),
        (&["--board", "an500", "--class", "70000", "x.fsw"], "--class 70000: not a number of its range"),
        (&["--board", "an500", "--what", "x.fsw"], "unknown option --what"),
        (&["--board", "an500", "x.fsw", "y.fsw"], "one student image, not also y.fsw"),
        (&["--board"], "--board needs a value"),
        (&["--board", "an500", "--time-limit", "-1", "x.fsw"], "--time-limit -1"),
        (&["--board", "an500", "--toolchain", "gcc", "x.fsw"], "installed or build-std"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_fewstep-runner")).args(arguments).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn the_linker_holds_the_firmware_to_its_budget() {
    let file = board_file("tight", "firmware = 0x1_8000", "firmware = 0x2000");
    let request = Request { image: Image::Bytes(vec![0; 16]), ..Request::on(file.to_str().unwrap()) };
    let options = Options { count: false, ..Options::default() };
    let error = simulate(&request, &options, &mut quiet).unwrap_err();
    std::fs::remove_file(file).unwrap();
    match &error {
        Error::Build { output, .. } => assert!(output.contains("will not fit in region 'FLASH'"), "{error}"),
        other => common::skip(other),
    }
}

#[test]
fn an_image_larger_than_its_slot_is_not_booted() {
    let options = Options { count: false, ..Options::default() };
    let Some(simulator) = common::simulator("an500", &options) else { return };
    let room = simulator.board().image_slot().len();
    let error = simulator
        .run(&Request { image: Image::Bytes(vec![0; room + 1]), ..Request::on("an500") }, &mut quiet)
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes == room as u64 + 1), "{error}");
    let missing = Request { image: Image::File("/nowhere/student.fsw".into()), ..Request::on("an500") };
    assert!(simulator.run(&missing, &mut quiet).unwrap_err().to_string().contains("/nowhere/student.fsw"));
}
