//! The committed tables of executed instructions, `firmware-sim/counts/BOARD.txt`: every operation of the shipped student,
//! and the layers of the project's bars. A count that has grown by more than 1 % fails. After a change that is meant:
//!
//! ```text
//! FEWSTEP_WRITE_COUNTS=1 cargo test --release --manifest-path firmware-sim/Cargo.toml -p fewstep-runner --test counts
//! ```

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::{quiet, say, simulator};
use fewstep_core::{IMAGE_ALIGN, Model};
use fewstep_runner::{Image, Layer, Options, Request, Simulator};

const STUDENT: &str = "assets/fashion-mnist-student-4.fsw";
const LAYERS: [&str; 5] = ["3x3:16x16x32:32", "3x3:14x14x48:48", "3x3:8x8x64:64", "3x3:7x7x96:96", "1x1:14x14x48:96"];
/// Scratch of the layers, in bytes.
const SCRATCH: u32 = 24 * 1024 + 512;
/// A count may grow by one part in this many.
const PART: u64 = 100;

/// One line of a table.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    instructions: u64,
    macs: u64,
}

fn path(parts: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(parts)
}

/// Instructions of one step of the student, by operation and in all, and of the layers. `None` if the emulator counts
/// none.
fn measure(board: &Simulator) -> Option<(String, Vec<Row>)> {
    let image = std::fs::read(path(STUDENT)).unwrap();
    let mut memory = vec![0; image.len() + IMAGE_ALIGN];
    let aligned = memory.as_ptr().align_offset(IMAGE_ALIGN);
    let aligned = &mut memory[aligned..][..image.len()];
    aligned.copy_from_slice(&image);
    let model = Model::parse(aligned).unwrap();
    let request =
        Request { image: Image::Bytes(image.clone()), class: 3, w: 1.5, seed: 1, steps: 1, ..Request::on("") };
    let outcome = board.run(&request, &mut quiet).unwrap();
    let step = outcome.steps?.swap_remove(0);

    let ops = model.op_count();
    assert_eq!(step.parts.len(), ops + 2);
    let all = (0..ops).map(|op| model.op_macs(op)).sum::<u64>();
    let mut rows = Vec::new();
    for (part, instructions) in step.parts.into_iter().enumerate() {
        let (name, macs) = match part.checked_sub(1) {
            None => ("embedding".into(), outcome.macs_per_step - all),
            Some(op) if op < ops => (model.op_name(op).unwrap_or("op").replace(' ', "-"), model.op_macs(op)),
            Some(_) => ("update".into(), 0),
        };
        rows.push(Row { name: format!("{part:02}:{name}"), instructions, macs });
    }
    rows.push(Row { name: "step".into(), instructions: step.instructions, macs: outcome.macs_per_step });
    for text in LAYERS {
        let layer: Layer = text.parse().unwrap();
        let outcome = board.run_layer(&layer, SCRATCH, 7, &mut quiet).unwrap();
        assert!(outcome.equal, "{text}");
        rows.push(Row { name: text.into(), instructions: outcome.instructions?, macs: outcome.macs });
    }
    Some((outcome.backend, rows))
}

fn emit(board: &str, backend: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "# Executed instructions on {board}, kernels {backend}: one step of {STUDENT},\n\
         # then layers of int8 to int16 with {SCRATCH} bytes of scratch. Name, instructions, multiply-accumulates,\n\
         # instructions per multiply-accumulate. Written and checked by firmware-sim/runner/tests/counts.rs.\n"
    );
    for Row { name, instructions, macs } in rows {
        let per_mac = if *macs > 0 { format!("{:.4}", *instructions as f64 / *macs as f64) } else { "-".into() };
        let _ = writeln!(text, "{name:<32} {instructions:>10} {macs:>10} {per_mac:>9}");
    }
    text
}

fn parse(text: &str) -> Option<Vec<Row>> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?.into();
        Some(Row { name, instructions: words.next()?.parse().ok()?, macs: words.next()?.parse().ok()? })
    });
    rows.collect()
}

/// What is wrong with `now`, against the committed `before`.
fn complaints(before: &[Row], now: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    for row in now {
        match before.iter().find(|before| before.name == row.name) {
            None => found.push(format!("{} is not in the table", row.name)),
            Some(before) if before.macs != row.macs => {
                found.push(format!("{}: {} multiply-accumulates, {} in the table", row.name, row.macs, before.macs));
            }
            Some(before) if row.instructions > before.instructions + before.instructions / PART => {
                let (was, is) = (before.instructions, row.instructions);
                let percent = (is as f64 / was as f64 - 1.0) * 100.0;
                found.push(format!("{}: {is} instructions, {percent:.1} % more than {was}", row.name));
            }
            Some(_) => {}
        }
    }
    found.extend(before.iter().filter(|row| !now.iter().any(|now| now.name == row.name)).map(|row| {
        let name = &row.name;
        format!("{name} is in the table only")
    }));
    found
}

fn check(name: &str) {
    let Some(board) = simulator(name, &Options { features: vec!["layer".into()], ..Options::default() }) else {
        return;
    };
    let Some((backend, now)) = measure(&board) else {
        assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "this emulator counts no instructions");
        return say("SKIPPED: this emulator counts no instructions");
    };
    let file = path(&format!("firmware-sim/counts/{name}.txt"));
    if std::env::var_os("FEWSTEP_WRITE_COUNTS").is_some() {
        return std::fs::write(&file, emit(name, &backend, &now)).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let found = complaints(&parse(&text).expect("a table"), &now);
    assert!(
        found.is_empty(),
        "{name}:\n  {}\nIf that is meant, write the table anew: see firmware-sim/runner/tests/counts.rs.",
        found.join("\n  ")
    );
}

#[test]
fn an386_keeps_its_counts() {
    check("an386");
}

#[test]
fn an500_keeps_its_counts() {
    check("an500");
}

#[test]
fn an505_keeps_its_counts() {
    check("an505");
}

#[test]
fn an547_keeps_its_counts() {
    check("an547");
}

#[test]
fn riscv32_keeps_its_counts() {
    check("riscv32");
}

#[test]
fn growth_and_other_rows_are_found() {
    let row = |name: &str, instructions, macs| Row { name: name.into(), instructions, macs };
    let before = [row("a", 1000, 10), row("b", 1000, 10), row("c", 7, 0)];
    assert_eq!(parse(&emit("x", "y", &before)).unwrap(), before);
    assert!(complaints(&before, &before).is_empty());
    assert!(complaints(&before, &[row("a", 1010, 10), row("b", 1, 10), row("c", 7, 0)]).is_empty());
    assert_eq!(complaints(&before, &[row("a", 1011, 10), row("b", 9, 9), row("d", 7, 0)]).len(), 4);
    assert!(parse("a 1\n").is_none());
}
