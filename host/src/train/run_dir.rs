//! A run folder: options.json, commands.jsonl, stats.jsonl, snapshots, checkpoints, the state to go on from, report.html.

use super::invocation::{self, Invocation};
use super::report;
use super::snapshot;
use crate::files;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of one training or distillation run.
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Opens a run: a new folder gets `options`; an old one is taken up with `resume`, if its options are the same.
    pub fn open(root: &Path, options: &impl Serialize, resume: bool) -> Result<RunDir> {
        let file = root.join("options.json");
        let options = serde_json::to_value(options)?;
        if file.exists() {
            if !resume {
                bail!("{} already holds a run; give --resume to go on with it or another --out", root.display());
            }
            let old: Value = serde_json::from_slice(&files::read_file(&file, 1 << 20)?)
                .with_context(|| format!("{}: not a run's options; choose another --out", file.display()))?;
            if let Some(difference) = first_difference(&old, &options) {
                bail!(
                    "{} was started with other options ({difference}); give the same ones or another --out",
                    root.display()
                );
            }
        } else {
            if root.exists() && names(root)?.iter().any(|name| !is_leftover(name)) {
                bail!("{} is not empty and holds no run; choose another --out", root.display());
            }
            fs::create_dir_all(root).with_context(|| format!("cannot make the folder {}", root.display()))?;
            files::write_atomic(&file, |w| Ok(writeln!(w, "{}", serde_json::to_string_pretty(&options)?)?))?;
        }
        // Writes that were killed.
        for folder in [root.to_path_buf(), root.join(snapshot::FOLDER)].iter().filter(|folder| folder.is_dir()) {
            for name in names(folder)?.iter().filter(|name| is_leftover(name)) {
                let _ = fs::remove_file(folder.join(name));
            }
        }
        let run = RunDir { root: root.to_path_buf() };
        run.append(invocation::FILE, &Invocation::current())?;
        Ok(run)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Appends one line of statistics.
    pub fn log(&self, line: &impl Serialize) -> Result<()> {
        self.append("stats.jsonl", line)
    }

    /// Writes `report.html` anew. Where that fails the run goes on: `fewstep report` can make it later.
    pub fn report(&self) {
        if let Err(e) = report::write(&self.root) {
            eprintln!("no report.html: {e:#}");
        }
    }

    fn append(&self, name: &str, line: &impl Serialize) -> Result<()> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(file, "{}", serde_json::to_string(line)?)?;
        Ok(())
    }

    /// Drops statistics of `phase` beyond `pictures`: they are made again after a resume.
    pub fn rewind_log(&self, phase: &str, pictures: u64) -> Result<()> {
        let path = self.path("stats.jsonl");
        if !path.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let keep = |line: &&str| {
            let Ok(v) = serde_json::from_str::<Value>(line) else { return false };
            v["phase"] != phase || v["pictures"].as_u64().is_some_and(|p| p <= pictures)
        };
        let kept: Vec<&str> = text.lines().filter(keep).collect();
        files::write_atomic(&path, |w| kept.iter().try_for_each(|l| Ok(writeln!(w, "{l}")?)))
    }
}

/// Names of what is in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let read = || {
        fs::read_dir(folder)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<_>>()
    };
    read().with_context(|| format!("cannot read {}", folder.display()))
}

/// Whether a file is the temporary one of an atomic write.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn first_difference(old: &Value, new: &Value) -> Option<String> {
    let (Some(o), Some(n)) = (old.as_object(), new.as_object()) else { return (old != new).then(|| "all".into()) };
    n.keys().chain(o.keys()).find(|k| o.get(*k) != n.get(*k)).map(|k| {
        let show = |v: Option<&Value>| v.map_or("unset".to_string(), Value::to_string);
        format!("{k}: {} then, {} now", show(o.get(k)), show(n.get(k)))
    })
}
