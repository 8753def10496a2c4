//! `fewstep simulate --scenario`: reports, refusals, Ctrl-C, and what docs/scenarios.md shows. (What the scenarios themselves
//! hold is tested in firmware-sim/scenario.)

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use fewstep_tests::{Folder, fewstep, fewstep_command, project};
use serde_json::Value;

fn shipped(name: &str) -> PathBuf {
    project().join("firmware-sim/scenarios").join(name)
}

/// A shipped scenario with pieces replaced, in a folder of its own; its paths are made whole.
fn edited(folder: &Folder, name: &str, edits: &[(&str, &str)]) -> PathBuf {
    let assets = std::fs::canonicalize(project().join("assets")).unwrap();
    let mut text = std::fs::read_to_string(shipped(name)).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let path = folder.join(name);
    std::fs::write(&path, text.replace("../../assets", assets.to_str().unwrap())).unwrap();
    path
}

fn simulate(arguments: &[&str]) -> Output {
    fewstep([&["simulate", "--scenario"], arguments].concat())
}

/// Whether the run failed for want of a tool, which is said; where tools are required, none may be missing.
fn skipped(output: &Output) -> bool {
    let log = String::from_utf8_lossy(&output.stderr);
    let missing = ["is not on the PATH", "no Rust target"].iter().any(|says| log.contains(says));
    if missing {
        assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "{log}");
        println!("SKIPPED: {log}");
    }
    missing
}

#[test]
fn a_report_has_the_events_and_the_pictures() {
    let folder = Folder::new("scenario-report");
    let report = folder.join("report");
    let file = shipped("first-picture.toml");
    let output = simulate(&[file.to_str().unwrap(), "--report", report.to_str().unwrap(), "--json"]);
    if skipped(&output) {
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes[0]["passed"], true);
    assert_eq!(outcomes[0]["boots"], 1);
    let rows = outcomes[0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[3]["result"], "equal to the host's picture");
    assert!(rows[3]["measured"]["instructions"].as_u64().unwrap() > 50_000_000, "{rows:?}");
    let xml = std::fs::read_to_string(report.join("junit.xml")).unwrap();
    assert!(xml.contains("tests=\"5\" failures=\"0\""), "{xml}");
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 2);
}

#[test]
fn what_is_not_as_expected_ends_with_2_and_says_where() {
    let folder = Folder::new("scenario-fails");
    let file = edited(&folder, "first-picture.toml", &[("version = 1, trial", "version = 3, trial")]);
    let output = simulate(&[file.to_str().unwrap()]);
    if skipped(&output) {
        return;
    }
    assert_eq!(output.status.code(), Some(2));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("FAILED") && table.contains("version is 1"), "{table}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of them FAILED"));
}

#[test]
fn wrong_files_are_refused_before_anything_is_built() {
    let folder = Folder::new("scenario-wrong");
    let refused = |edits: &[(&str, &str)], says: &str| {
        let file = edited(&folder, "signed.toml", edits);
        let output = simulate(&[file.to_str().unwrap()]);
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.starts_with("fewstep: ") && log.contains(says), "{says}: {log}");
    };
    let rules = ("[rules]\nkey = \"keys/maker.pub\"\n", "");
    refused(&[("reset = {}", "rset = {}")], "unknown variant `rset`");
    refused(&[("slot = \"a\", image", "slot = \"x\", image")], "unknown variant `x`");
    refused(&[], "keys/maker.pub");
    // A private key that is none.
    std::fs::create_dir(folder.join("keys")).unwrap();
    for name in ["maker.key", "stranger.key"] {
        std::fs::write(folder.join("keys").join(name), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
            .unwrap();
    }
    refused(&[rules], "is not a plain Ed25519 key");
    let output = simulate(&["/nowhere/x.toml"]);
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("/nowhere/x.toml"));
    let output = fewstep(["simulate", "--report", "x"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_missing_emulator_is_named() {
    let file = shipped("first-picture.toml");
    let output = fewstep_command(["simulate", "--scenario", file.to_str().unwrap()]).env("PATH", "").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("qemu-system-arm is not on the PATH: install it"), "{log}");
}

/// Children of a process, by the name of their program.
#[cfg(target_os = "linux")]
fn children(process: u32) -> Vec<(u32, String)> {
    let list = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let named = |pid: &str| Some((pid.parse().ok()?, std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?));
    list.split_whitespace().filter_map(named).collect()
}

/// The firmware hangs without a watchdog; the program is interrupted, alone, as by `kill -INT`.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_leaves_no_process_and_no_file() {
    let folder = Folder::new("scenario-interrupt");
    let edits = [("watchdog = 60_000_000", "seconds = 3000"), ("board = \"riscv32\"", "board = \"an500\"")];
    let file = edited(&folder, "starved-watchdog.toml", &edits);
    let temporary = folder.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    // The firmware is built before, so that the time below is the emulator's.
    let first = simulate(&[shipped("first-picture.toml").to_str().unwrap()]);
    if skipped(&first) {
        return;
    }
    let mut program = fewstep_command(["simulate", "--scenario", file.to_str().unwrap()])
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wait = |what: &str, done: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(300), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut emulator = 0;
    wait("the emulator starts", &mut || {
        let found = children(program.id()).into_iter().find(|(_, name)| name.starts_with("qemu-system"));
        emulator = found.map_or(0, |(pid, _)| pid);
        emulator != 0
    });
    let killed = std::process::Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = program.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let alive = Path::new("/proc").join(emulator.to_string()).join("comm");
    assert!(!std::fs::read_to_string(alive).is_ok_and(|name| name.starts_with("qemu-system")));
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The commands of the page, as they stand there.
#[cfg(unix)]
#[test]
fn the_page_runs() {
    let page = std::fs::read_to_string(project().join("docs/scenarios.md")).unwrap();
    let shell = page.split("```sh").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = Folder::new("scenario-page");
    for name in ["assets", "firmware-sim"] {
        let target = std::fs::canonicalize(project().join(name)).unwrap();
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    let lines: Vec<&str> = shell.lines().filter_map(|line| line.trim().strip_prefix("fewstep ")).collect();
    assert_eq!(lines.len(), 3, "{shell}");
    for line in lines {
        let output = fewstep_command(line.split_whitespace()).current_dir(folder.path()).output().unwrap();
        if skipped(&output) {
            return;
        }
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(folder.join("scenario-report/junit.xml").is_file() && folder.join("scenario-report/index.html").is_file());
}
