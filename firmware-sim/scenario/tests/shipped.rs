//! Every shipped scenario is as its file expects, and a scenario that expects the wrong thing is not.

use std::io::Write;
use std::path::{Path, PathBuf};

use fewstep_scenario::{Error, Outcome, Player, Scenario, report};

/// Bar of the project.
const STACK_BYTES: u32 = 8 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// Plays scenarios; `None` with a line that says what is missing here.
fn play(scenarios: &[Scenario]) -> Option<Vec<Outcome>> {
    let mut player = Player::default();
    let outcomes = scenarios.iter().map(|scenario| player.play(scenario, None, &mut |_| {}));
    match outcomes.collect::<Result<Vec<_>, Error>>() {
        Ok(outcomes) => Some(outcomes),
        Err(error) => {
            assert!(error.is_missing_tool(), "{error}");
            assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "FEWSTEP_REQUIRE_QEMU is set, but {error}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
            None
        }
    }
}

#[test]
fn every_shipped_scenario_passes() {
    let scenarios: Vec<Scenario> = files().iter().map(|path| Scenario::load(path).unwrap()).collect();
    assert!(scenarios.len() >= 10);
    let Some(outcomes) = play(&scenarios) else { return };
    let table = report::table(&outcomes);
    println!("{table}{}", report::summary(&outcomes));
    assert!(outcomes.iter().all(|outcome| outcome.passed), "{table}");
    // Drawing, slots, signatures and log together.
    let stack = outcomes.iter().flat_map(|outcome| &outcome.rows).filter_map(|row| row.measured.stack).max();
    assert!(stack.is_some_and(|stack| (500..=STACK_BYTES).contains(&stack)), "{stack:?}");
    // The update that was cut twice went on from a mark of progress: a whole one writes 147,708 words.
    let cut = outcomes.iter().find(|outcome| outcome.file.ends_with("cut-while-receiving.toml")).unwrap();
    let last = cut.rows.iter().rev().find_map(|row| row.measured.operations).unwrap();
    assert!((1..60_000).contains(&last), "{last}");
}

/// A copy of a shipped file, with pieces replaced; paths in it stay right, because it lies beside it.
fn edited(name: &str, edits: &[(&str, &str)]) -> Scenario {
    let mut text = std::fs::read_to_string(folder().join(name)).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let mut scenario = Scenario::load(&folder().join(name)).unwrap();
    scenario.file = fewstep_scenario::ScenarioFile::parse(&text).unwrap();
    scenario
}

#[test]
fn wrong_expectations_fail_where_they_stand() {
    let scenarios = [
        // A limit below what a picture takes, and an image that is not the one.
        edited("first-picture.toml", &[("instructions = 110_000_000", "instructions = 1_000_000")]),
        edited("first-picture.toml", &[("version = 1, trial", "version = 2, trial")]),
        edited("first-picture.toml", &[("draw = { class = 8", "draw = { ends = \"no-image\", class = 8")]),
        // A watchdog shorter than an operation of a picture.
        edited("first-picture.toml", &[("watchdog = 20_000_000", "watchdog = 100_000")]),
        // A cut after the end, and events while the power is off.
        edited("first-picture.toml", &[("power_on = {}", "power_on = { cut = { after = 9 } }")]),
        edited("first-picture.toml", &[("power_on = {}", "power_off = {}")]),
    ];
    let Some(outcomes) = play(&scenarios) else { return };
    let table = report::table(&outcomes);
    let problems = |index: usize| -> Vec<(usize, &str)> {
        let rows = outcomes[index].rows.iter().enumerate();
        rows.filter_map(|(row, r)| Some((row, r.problem.as_deref()?))).collect()
    };
    for (index, first, says) in [
        (0, 3, "instructions, the limit is 1000000"),
        (1, 2, "version is 1"),
        (2, 3, "done, not no-image"),
        (3, 3, "watchdog, not done"),
        (4, 1, "the boot has fewer operations"),
        (5, 2, "the power is off"),
    ] {
        let found = problems(index);
        assert!(!outcomes[index].passed, "{index}: {table}");
        let (row, problem) = found[0];
        assert!(row == first && problem.contains(says), "{index}: {found:?}\n{table}");
    }
    assert!(problems(3).iter().any(|(_, problem)| problem.contains("ended before")), "{table}");
    let xml = report::junit(&outcomes);
    assert_eq!(xml.matches("<failure").count(), (0..6).map(|index| problems(index).len()).sum::<usize>());
}

/// Without a watchdog a hang is stopped after the seconds of the file; the next power-on runs the old image.
#[test]
fn a_guest_that_hangs_ends_within_the_seconds_of_the_file() {
    let scenario = edited(
        "starved-watchdog.toml",
        &[
            ("board = \"riscv32\"", "board = \"an500\"\nseconds = 20"),
            ("watchdog = 60_000_000\n", ""),
            ("hang = {}", "hang = { ends = \"time-limit\" }"),
            ("expect = { slot = \"a\", image", "power_on = {}\n[[event]]\nexpect = { slot = \"a\", image"),
        ],
    );
    let Some(outcomes) = play(&[scenario]) else { return };
    assert!(outcomes[0].passed, "{}", report::table(&outcomes));
}
