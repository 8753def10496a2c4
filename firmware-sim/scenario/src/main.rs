//! A face for those who have no need of the host packages; `fewstep simulate --scenario` is the one for everybody.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fewstep_runner::Event;
use fewstep_scenario::{Outcome, Player, Scenario, report};

const USAGE: &str = "fewstep-scenario [--board NAME|FILE.toml] [--report FOLDER] SCENARIO.toml ...";

#[derive(Default)]
struct Arguments {
    files: Vec<PathBuf>,
    board: Option<String>,
    report: Option<PathBuf>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--board" => arguments.board = Some(value()?),
            "--report" => arguments.report = Some(value()?.into()),
            option if option.starts_with('-') => return Err(format!("unknown option {option}\n{USAGE}")),
            _ => arguments.files.push(word.into()),
        }
    }
    if arguments.files.is_empty() { Err(format!("no scenario is named\n{USAGE}")) } else { Ok(arguments) }
}

fn write(folder: &Path, outcomes: &[Outcome]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("junit.xml"), report::junit(outcomes))?;
    std::fs::write(folder.join("index.html"), report::page(outcomes))
}

fn run(words: impl Iterator<Item = String>) -> Result<bool, String> {
    let Arguments { files, board, report } = parse(words)?;
    let load = |path: &PathBuf| Scenario::load(path).map_err(|error| error.to_string());
    let scenarios = files.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let mut player = Player::default();
    let mut outcomes = Vec::new();
    for scenario in &scenarios {
        eprintln!("{}", scenario.file.name);
        let mut show = |event: Event<'_>| {
            if let Event::Notice(text) = event {
                eprintln!("{text}");
            }
        };
        outcomes.push(player.play(scenario, board.as_deref(), &mut show).map_err(|error| error.to_string())?);
    }
    if let Some(folder) = report {
        write(&folder, &outcomes).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    print!("{}", report::table(&outcomes));
    println!("{}", report::summary(&outcomes));
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(message) => {
            eprintln!("fewstep-scenario: {message}");
            ExitCode::from(2)
        }
    }
}
