//! The commands of docs/firmware.md and of the READMEs beside the firmwares, run as they stand there.

#[allow(dead_code, reason = "simulators are for the tests of the firmware that draws")]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The lines of the blocks of shell commands.
fn commands(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let mut commands = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            // Not this test's to change the toolchain.
            _ if inside && !line.starts_with("rustup ") => commands.push(line.into()),
            _ => {}
        }
    }
    commands
}

fn run(folder: &Path, command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    // What cargo says to a test does not hold for another cargo.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG") || name == "CARGO_MANIFEST_DIR") {
            shell.env_remove(name);
        }
    }
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether the commands' target is installed and gcc is there: a person has them by the text's first lines.
fn ready() -> bool {
    let libraries =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "thumbv7em-none-eabihf"]).output();
    let target = libraries.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    let gcc = Command::new("arm-none-eabi-gcc").arg("--version").output().is_ok();
    let qemu = Command::new("qemu-system-arm").arg("--version").output().is_ok();
    if !(target && gcc && qemu) {
        common::say("SKIPPED: the target thumbv7em-none-eabihf, arm-none-eabi-gcc or qemu-system-arm is not installed");
    }
    target && gcc && qemu
}

#[test]
fn the_commands_that_start_a_firmware_run() {
    if !ready() {
        return;
    }
    let commands = commands("docs/firmware.md");
    assert_eq!(commands.len(), 4, "{commands:#?}");
    let said: Vec<String> = commands.iter().map(|command| run(&root(), command)).collect();
    for picture in [&said[0], &said[3]] {
        assert!(picture.starts_with("P2\n28\n28\n255\n") && picture.contains("\nstack "), "{picture}");
    }
    assert!(said[1].lines().count() >= 3, "{}", said[1]);
}

#[test]
fn the_readmes_have_the_same_commands() {
    let examples = commands("firmware-sim/examples/README.md");
    assert!(examples[0].starts_with("cargo run --release --bin minimal"), "{examples:?}");
    assert_eq!(commands("firmware-sim/c/README.md"), commands("docs/firmware.md")[1..2]);
}
