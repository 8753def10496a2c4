//! How a run was started, for whoever wants to repeat it.

use crate::files;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) const FILE: &str = "commands.jsonl";
const MAX_BYTES: u64 = 16 << 20;

/// One start of the program on a run folder: a line of `commands.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Invocation {
    /// Program and arguments.
    pub command: Vec<String>,
    pub version: String,
    pub threads: usize,
    pub cpu: String,
}

impl Invocation {
    /// This process.
    pub(super) fn current() -> Invocation {
        Invocation {
            command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
            version: env!("CARGO_PKG_VERSION").into(),
            threads: rayon::current_num_threads(),
            cpu: cpu(),
        }
    }

    /// The starts of a run, the first one first; none where the folder has no list.
    ///
    /// # Errors
    /// The list does not read.
    pub fn read(run: &Path) -> Result<Vec<Invocation>> {
        let path = run.join(FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = files::read_file(&path, MAX_BYTES)?;
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let damaged = || format!("{}: does not read; move it away", path.display());
        lines.map(|line| serde_json::from_slice(line).with_context(damaged)).collect()
    }

    /// The command as a line of shell.
    pub fn shell(&self) -> String {
        let program = self.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        let arguments = self.command.iter().skip(1).map(String::as_str);
        let words: Vec<String> =
            [program.to_string_lossy().as_ref()].into_iter().chain(arguments).map(quoted).collect();
        words.join(" ")
    }
}

/// A word of shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./,=:+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The CPU's name where Linux tells it, else its architecture.
fn cpu() -> String {
    let named = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines_of_shell() {
        let words = ["/usr/bin/fewstep", "distill", "--out", "my runs/it's", "--steps", "4,2", ""];
        let command = words.map(String::from).to_vec();
        let invocation = Invocation { command, version: String::new(), threads: 1, cpu: String::new() };
        assert_eq!(invocation.shell(), r"fewstep distill --out 'my runs/it'\''s' --steps 4,2 ''");
    }
}
