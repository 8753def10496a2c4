//! The shipped student: the same picture on this machine by every backend and on both emulated boards, within the
//! project's figures, and close to its float original.
//!
//! `FEWSTEP_TEST_STUDENT` names another image, `FEWSTEP_TEST_STUDENT_FLOAT` its checkpoint, for work on them.

use std::path::PathBuf;
use std::process::Command;

use fewstep::data::npz;
use fewstep_core::format::crc::crc32c;
use fewstep_tests::{Folder, project, report};
use serde_json::{Value, json};

/// Bytes, from the project's plan.
const FILE_LIMIT: u64 = 600_000;
const ARENA_LIMIT: u64 = 128 * 1024;
const FIRMWARE_LIMIT: u64 = 96 * 1024;
/// Multiply-accumulates of one evaluation.
const MACS_LIMIT: u64 = 40_000_000;
/// Decibels between int8 and float pictures.
const PSNR_LIMIT: f64 = 28.0;

fn shipped(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| project().join("assets").join(name), PathBuf::from);
    assert!(path.is_file(), "{} is missing: assets/make.sh makes it", path.display());
    path
}

fn student() -> PathBuf {
    shipped("FEWSTEP_TEST_STUDENT", "fashion-mnist-student-4.fsw")
}

fn float_student() -> PathBuf {
    shipped("FEWSTEP_TEST_STUDENT_FLOAT", "fashion-mnist-student-4.safetensors")
}

fn run(verb: &str, file: PathBuf, rest: &str) -> Value {
    let arguments = [verb.into(), file.into_os_string()];
    report(arguments.into_iter().chain(rest.split_whitespace().map(Into::into)).chain(["--json".into()]))
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {report:#}"))
}

fn require_emulator() {
    let found = Command::new("qemu-system-arm").arg("--version").output();
    assert!(
        found.is_ok_and(|o| o.status.success()),
        "qemu-system-arm is not on the PATH: ./check installs it (Debian: apt install qemu-system-arm)"
    );
}

#[test]
fn the_shipped_student_keeps_the_figures() {
    let about = run("inspect", student(), "");
    assert_eq!((&about["shape"], &about["classes"], &about["steps"]), (&json!([28, 28, 1]), &json!(10), &json!(4)));
    assert_eq!(about["guidance"], json!([0.0, 4.0]));
    assert_eq!(number(&about, "file_bytes"), std::fs::metadata(student()).unwrap().len());
    for (key, limit) in [("file_bytes", FILE_LIMIT), ("arena_bytes", ARENA_LIMIT), ("macs_per_step", MACS_LIMIT)] {
        let found = number(&about, key);
        println!("{key}: {found} of {limit}");
        assert!(0 < found && found <= limit, "{key}: {found} is above {limit}");
    }
}

#[test]
fn host_and_boards_draw_the_same_bytes() {
    require_emulator();
    let requests: Vec<(u64, u16, f32)> = vec![(2, 8, 1.0), (11, 0, 0.0), (0xfeed_0000_0001, 5, 4.0), (77, 9, 0.3)];
    let mut by_host = Vec::new();
    for (seed, class, w) in &requests {
        let draw = |backend: &str| {
            let r =
                run("sample", student(), &format!("--backend {backend} --seed {seed} --class {class} --guidance {w}"));
            assert_eq!(r["pictures"].as_array().unwrap().len(), 1);
            assert!(backend == "auto" || r["backend"] == backend, "{r:#}");
            number(&r["pictures"][0], "crc32c")
        };
        by_host.push(draw("scalar"));
        assert_eq!(draw("auto"), *by_host.last().unwrap(), "seed {seed}, class {class}, w {w}");
    }
    // Different requests, different pictures.
    assert!((1..by_host.len()).all(|i| !by_host[..i].contains(&by_host[i])), "{by_host:x?}");

    // The board's picture as files.
    let folder = Folder::new("end-to-end");
    let (png, file) = (folder.join("bag.png"), folder.join("bag.npz"));
    let (seed, class, w) = requests[0];
    let rest = format!("--board an500 --seed {seed} --class {class} --guidance {w}");
    let r = run("simulate", student(), &format!("{rest} --out {} --npz {}", png.display(), file.display()));
    assert_eq!((&r["out"], &r["npz"]), (&json!(png), &json!(file)));
    let read = npz::open(&file).unwrap();
    assert_eq!((read.height, read.width, read.channels, &read.labels[..]), (28, 28, 1, &[class][..]));
    assert_eq!(u64::from(crc32c(read.picture(0))), by_host[0]);
    let png = std::fs::read(png).unwrap();
    // Width and height as a PNG states them (its IHDR chunk comes first).
    assert_eq!((&png[1..4], &png[16..24]), (&b"PNG"[..], &[0, 0, 0, 28, 0, 0, 0, 28][..]));

    // One board after the other: each has its own firmware to build.
    for board in ["an500", "an386"] {
        for ((seed, class, w), want) in requests.iter().zip(&by_host) {
            let r =
                run("simulate", student(), &format!("--board {board} --seed {seed} --class {class} --guidance {w}"));
            let place = format!("{board}: seed {seed}, class {class}, w {w}");
            assert_eq!(r["board"], board);
            assert_eq!(r["equal_to_host"], true, "{place}");
            assert_eq!(number(&r, "crc32c"), *want, "{place}");
            let (firmware, arena, stack) =
                (number(&r["flash"], "firmware_bytes"), number(&r, "arena_bytes"), number(&r, "stack_used"));
            println!(
                "{place}: firmware {firmware} bytes, arena {arena}, stack {stack}, instructions {}",
                r["instructions_per_step"]
            );
            assert!(0 < firmware && firmware <= FIRMWARE_LIMIT, "{place}: firmware of {firmware} bytes");
            assert!(
                0 < arena && arena <= ARENA_LIMIT && arena <= number(&r, "arena_budget"),
                "{place}: arena of {arena} bytes"
            );
            assert!(0 < stack && stack < number(&r, "stack_bytes"), "{place}: {stack} bytes of stack");
            assert!(number(&r, "macs_per_step") <= MACS_LIMIT);
            // Counted by this project's plugin where the emulator can load it, and said so where not.
            let counted = r["instructions_per_step"].as_array().is_some_and(|steps| steps.len() == 4);
            assert!(counted || r["not_counted"].is_string(), "{r:#}");
        }
    }
}

#[test]
fn int8_draws_what_float_draws() {
    let arguments = ["compare".into(), student().into_os_string(), float_student().into_os_string()];
    let rest = "--guidance 0,0.3,1,2,4 --count 100 --seed 1000 --json";
    let r = report(arguments.into_iter().chain(rest.split_whitespace().map(Into::into)));
    let strengths = r["strengths"].as_array().unwrap();
    assert_eq!(strengths.len(), 5);
    for s in strengths {
        println!("{s}");
        let psnr = s["psnr"].as_f64().unwrap();
        assert!(psnr >= PSNR_LIMIT, "w = {}: {psnr:.2} dB, {PSNR_LIMIT} wanted", s["guidance"]);
    }
}
