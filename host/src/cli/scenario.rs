//! `fewstep simulate --scenario`: acceptance tests on emulated boards.

use super::interrupt;
use crate::files;
use anyhow::{Context, Result, bail};
use fewstep_runner::{Event, Options};
use fewstep_scenario::{Player, Scenario, report};
use std::path::{Path, PathBuf};

/// Plays scenario files and reports; an error when something was not as expected.
pub fn run(paths: &[PathBuf], board: Option<&str>, folder: Option<&Path>, json: bool) -> Result<()> {
    // Every file is right before the first board boots.
    let scenarios = paths.iter().map(|path| Scenario::load(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut player = Player::new(Options { stop: Some(interrupt::catch()), ..Options::default() });
    let mut outcomes = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        eprintln!("scenario {} of {}: {}", number + 1, scenarios.len(), scenario.file.name);
        let mut show = |event: Event| match event {
            Event::Notice(text) => eprintln!("{text}"),
            Event::Log(_) | Event::Step { .. } => {}
        };
        outcomes.push(player.play(scenario, board, &mut show)?);
    }
    if let Some(folder) = folder {
        for (name, text) in [("junit.xml", report::junit(&outcomes)), ("index.html", report::page(&outcomes))] {
            let path = folder.join(name);
            files::write_atomic(&path, |out| Ok(out.write_all(text.as_bytes())?))?;
            eprintln!("wrote {}", path.display());
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        print!("{}", report::table(&outcomes));
    }
    let summary = report::summary(&outcomes);
    if outcomes.iter().any(|outcome| !outcome.passed) {
        bail!("{summary}");
    }
    if !json {
        println!("{summary}");
    }
    Ok(())
}
