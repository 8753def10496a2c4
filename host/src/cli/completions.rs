//! `fewstep completions`: shell completion and man pages, from the same argument definitions as the command line.

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::files;

/// Print a completion script for a shell, or write man pages
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Args {
    /// Shell to print a completion script for
    #[arg(value_enum)]
    shell: Option<Shell>,
    /// Folder to write man pages to, one a verb; made if it is not there
    #[arg(long)]
    man: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let command = super::Cli::command();
    if let Some(shell) = args.shell {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "fewstep", &mut script);
        std::io::stdout().write_all(&script).context("cannot print the script")?;
    }
    if let Some(folder) = &args.man {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let mut command = command;
        command.build();
        let count = write_pages(folder, &command)?;
        println!("{}: {count} man pages", folder.display());
    }
    Ok(())
}

/// Writes the page of `command` and of every verb under it; returns how many. `fewstep data subset` is described by
/// fewstep-data-subset.1, as git's pages are named.
fn write_pages(folder: &Path, command: &Command) -> Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    files::write_atomic(&folder.join(format!("{name}.1")), |w| Ok(w.write_all(&text)?))?;
    let mut count = 1;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        count += write_pages(folder, verb)?;
    }
    Ok(count)
}
