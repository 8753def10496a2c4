//! The page.

use super::cost::{duration, energy, watts};
use super::stats::{self, Line, curves, phases};
use crate::files;
use crate::picture::html::{self, escape, strip};
use crate::train::invocation::Invocation;
use crate::train::snapshot::snapshots;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest options file, report or snapshot.
const MAX_BYTES: u64 = 16 << 20;

/// Writes `report.html` into the run folder `run`; returns its path.
///
/// # Errors
/// The folder holds no run, or the file cannot be written.
pub fn write(run: &Path) -> Result<PathBuf> {
    let options = files::read_file(&run.join("options.json"), MAX_BYTES)
        .and_then(|bytes| Ok(serde_json::from_slice::<Map<String, Value>>(&bytes)?))
        .with_context(|| format!("{}: holds no run; name the --out of train-teacher or distill", run.display()))?;
    let lines = if run.join("stats.jsonl").exists() { stats::read(run)? } else { Vec::new() };
    let invocations = Invocation::read(run)?;
    let name = fs::canonicalize(run)?.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());

    let mut page = html::head(&format!("Run {name}"));
    let _ = writeln!(page, "<h1>Run {}</h1>", escape(&name));
    page += &repeat(&invocations);
    page += &costs(run, &lines, &options, &invocations);
    page += &pictures(run, &lines)?;
    page += &distances(run)?;
    page += &plots(&lines);
    page += &values("Options", options.iter().map(|(k, v)| (k.clone(), shown(v))));
    page += &checkpoints(run)?;
    page += "</html>\n";
    let path = run.join("report.html");
    files::write_atomic(&path, |w| Ok(w.write_all(page.as_bytes())?))?;
    Ok(path)
}

/// Whether `value` was an f32, but for the last digits of its text.
fn is_f32(value: f64) -> bool {
    (f64::from(value as f32) - value).abs() <= 4.0 * f64::EPSILON * value.abs()
}

/// A value without the quotes of JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Null => "not set".into(),
        Value::Number(number) => match number.as_f64() {
            // What was an f32 has the digits of one.
            Some(value) if !number.is_u64() && is_f32(value) => (value as f32).to_string(),
            _ => number.to_string(),
        },
        Value::Bool(_) | Value::Object(_) => value.to_string(),
    }
}

fn values(title: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let mut text = format!("<h2>{title}</h2>\n<table class=\"values\">");
    for (name, value) in rows {
        let _ = writeln!(text, "<tr><td>{}<td>{}</tr>", escape(&name), escape(&value));
    }
    text + "</table>\n"
}

fn repeat(invocations: &[Invocation]) -> String {
    let Some(first) = invocations.first() else {
        return "<p>The command of this run was not noted; its options are below.</p>\n".into();
    };
    let mut text = format!(
        "<h2>How to repeat it</h2>\n<pre>{}</pre>\n<p>Made by fewstep {}, {} threads, on {}. The number of threads changes \
         the time alone; other arithmetic than the options name gives a slightly other network.</p>\n",
        escape(&first.shell()),
        escape(&first.version),
        first.threads,
        escape(&first.cpu)
    );
    if invocations.len() > 1 {
        let times = invocations.len() - 1;
        let s = if times == 1 { "" } else { "s" };
        let _ = writeln!(text, "<p>It was taken up again {times} time{s} with --resume.</p>");
    }
    text
}

/// What each phase did and cost. A phase is done when its network is there.
fn costs(run: &Path, lines: &[Line], options: &Map<String, Value>, invocations: &[Invocation]) -> String {
    let gpu = options.get("arithmetic").is_some_and(|a| a == "GPU");
    let threads = invocations.last().map_or(1, |i| i.threads);
    let (watts, assumption) = watts(gpu, threads);
    let mut text = String::from(
        "<h2>Phases</h2>\n<table><tr><th>phase<th>pictures<th>loss at first<th>at last<th>time<th>pictures a second\
         <th>energy, estimated<th></tr>\n",
    );
    let mut total = 0.0;
    for phase in phases(lines) {
        let of: Vec<&Line> = lines.iter().filter(|l| l.phase == phase).collect();
        let (Some(last), mut losses) = (of.last(), of.iter().filter_map(|l| l.loss)) else { continue };
        let loss = |l: Option<f64>| l.map_or("-".into(), |l| format!("{l:.5}"));
        let seconds = last.seconds.unwrap_or(0.0);
        total += seconds;
        let first = losses.next();
        let _ = writeln!(
            text,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.0}<td>{}<td>{}</tr>",
            escape(phase),
            last.pictures,
            loss(first),
            loss(losses.next_back().or(first)),
            duration(seconds),
            last.pictures / seconds.max(1e-9),
            energy(seconds / 3600.0 * watts),
            if run.join(format!("{phase}.safetensors")).exists() { "done" } else { "no network there" }
        );
    }
    let _ = writeln!(
        text,
        "<tr><td>together<td><td><td><td>{}<td><td>{}<td></tr></table>\n<p>Times were measured, of training alone. \
         Energy is an estimate, not a measurement: time multiplied by {}{}.</p>",
        duration(total),
        energy(total / 3600.0 * watts),
        escape(&assumption),
        if invocations.is_empty() && !gpu { " (how many there were was not noted)" } else { "" }
    );
    text
}

/// What the networks drew while they learnt: a row a snapshot.
fn pictures(run: &Path, lines: &[Line]) -> Result<String> {
    let mut text = String::new();
    for phase in phases(lines) {
        let rows = snapshots(run, phase)?;
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "<h3>{}</h3>\n<table class=\"pictures\"><tr><th>after pictures<th>the same noise, class by class</tr>",
            escape(phase)
        );
        for (pictures, file) in rows {
            let png = files::read_file(&file, MAX_BYTES)?;
            let alt = format!("{phase} after {pictures} pictures");
            let _ = writeln!(text, "<tr><td>{pictures}<td>{}</tr>", strip(&png, &alt));
        }
        text += "</table>\n";
    }
    Ok(if text.is_empty() { text } else { format!("<h2>What it drew while it learnt</h2>\n{text}") })
}

/// Rows of the evaluations whose folders lie in the run folder.
fn distances(run: &Path) -> Result<String> {
    let mut reports: Vec<PathBuf> = fs::read_dir(run)
        .with_context(|| format!("cannot read {}", run.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().join("report.json")))
        .filter(|file| file.exists())
        .collect();
    reports.sort();
    let mut text = String::new();
    for file in reports {
        let report: Value = serde_json::from_slice(&files::read_file(&file, MAX_BYTES)?)
            .with_context(|| format!("{}: is no report of evaluate; move it away", file.display()))?;
        let figure = |row: &Value, name: &str| {
            let f = &row["figures"][name];
            match (f["value"].as_f64(), f["low"].as_f64(), f["high"].as_f64()) {
                (Some(value), Some(low), Some(high)) => format!("{value:.3} <small>{low:.3}..{high:.3}</small>"),
                _ => "-".into(),
            }
        };
        for row in report["rows"].as_array().into_iter().flatten() {
            let model = row["file"].as_str().map(Path::new).and_then(Path::file_name).unwrap_or_default();
            let _ = write!(
                text,
                "<tr><td>{}<td>{}<td>{}",
                escape(&model.to_string_lossy()),
                shown(&row["steps"]),
                shown(&row["w"])
            );
            for name in ["frechet_distance", "precision", "recall", "class_accuracy"] {
                let _ = write!(text, "<td>{}", figure(row, name));
            }
            text += "</tr>\n";
        }
    }
    Ok(match text.is_empty() {
        true => {
            "<h2>Distances</h2>\n<p>Not evaluated: <code>fewstep evaluate</code> with an <code>--out</code> in this \
                 folder, then <code>fewstep report</code>, shows them here.</p>\n"
                .into()
        }
        false => format!(
            "<h2>Distances</h2>\n<table><tr><th>model<th>steps<th>w<th>Fréchet distance<th>precision<th>recall\
             <th>class accuracy</tr>\n{text}</table>\n<p>Intervals: 95 %, bootstrap.</p>\n"
        ),
    })
}

fn plots(lines: &[Line]) -> String {
    let all = [
        curves(lines, "Loss", true, |l| l.loss),
        curves(lines, "Loss of the auxiliary network", true, |l| l.auxiliary_loss),
        curves(lines, "Gradient norm", true, |l| l.grad_norm),
        curves(lines, "Learning rate", false, |l| l.lr),
    ];
    let drawn: String = all.into_iter().flatten().map(|plot| plot.svg()).collect();
    if drawn.is_empty() { drawn } else { format!("<h2>Curves</h2>\n{drawn}") }
}

fn checkpoints(run: &Path) -> Result<String> {
    let mut files: Vec<(String, String)> = Vec::new();
    for entry in fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") || name.ends_with(".fsw") {
            files.push((name, format!("{} bytes", entry.metadata()?.len())));
        }
    }
    files.sort();
    Ok(if files.is_empty() { String::new() } else { values("Networks in this folder", files.into_iter()) })
}
