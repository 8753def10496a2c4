//! Commands that the documents and scripts show: every verb and flag exists, and the README's lines are understood.
//! (The README's Rust is compiled by `cargo test -p fewstep-core --doc`.)

use std::collections::BTreeMap;
use std::fs;

use fewstep_tests::{Folder, fewstep, fewstep_command, project};

const DOCUMENTS: [&str; 17] = [
    "README.md",
    "assets/README.md",
    "core/README.md",
    "docs/applications.md",
    "docs/architecture.md",
    "docs/boards.md",
    "docs/colour.md",
    "docs/distillation.md",
    "docs/evaluation.md",
    "docs/flashing.md",
    "docs/format.md",
    "docs/kernels.md",
    "docs/page.md",
    "docs/scenarios.md",
    "docs/teachers.md",
    "docs/threat-model.md",
    "firmware-sim/README.md",
];
/// Folders whose scripts run the program.
const SCRIPTS: [&str; 3] = ["assets", "docs/images", "tests/diffusers"];
const VERBS: [&str; 25] = [
    "data",
    "import",
    "restyle",
    "train-teacher",
    "distill",
    "evaluate",
    "report",
    "train-features",
    "export",
    "bench",
    "fit",
    "flash",
    "key",
    "sample",
    "edit",
    "inpaint",
    "morph",
    "augment",
    "trial",
    "page",
    "inspect",
    "compare",
    "simulate",
    "demo",
    "completions",
];

/// A command line: words after the program's name.
type Line = Vec<String>;

fn read(name: &str) -> String {
    let path = project().join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The program's command in a line of shell, without comment; None where it runs something else.
fn command(line: &str) -> Option<Line> {
    let line = line.split(" #").next()?.trim();
    let rest =
        ["fewstep ", "\"$fewstep\" ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start))?;
    Some(rest.split_whitespace().map(String::from).collect())
}

fn commands(shell: &str) -> Vec<Line> {
    shell.replace("\\\n", " ").lines().filter_map(command).collect()
}

/// Names of the shell scripts in [`SCRIPTS`].
fn scripts() -> Vec<String> {
    let mut names = Vec::new();
    for folder in SCRIPTS {
        for entry in fs::read_dir(project().join(folder)).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".sh") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names
}

/// The text of the ```sh blocks of a document.
fn shell_blocks(document: &str) -> String {
    let mut inside = false;
    let mut shell = String::new();
    for line in document.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => inside = !inside && language == "sh",
            None if inside => shell = shell + line + "\n",
            None => {}
        }
    }
    shell
}

/// Inline code that names a verb and flags: "`distill --width C`", with or without the program's name.
fn inline(document: &str) -> Vec<Line> {
    let prose = document.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let codes = prose.split('`').skip(1).step_by(2);
    let words =
        codes.map(|code| code.trim_start_matches("fewstep ").split_whitespace().map(String::from).collect::<Line>());
    words
        .filter(|w| w.first().is_some_and(|v| VERBS.contains(&v.as_str())) && w.iter().any(|w| w.starts_with("--")))
        .collect()
}

/// The flags that a verb explains.
fn flags(verb: &[&str]) -> Vec<String> {
    let output = fewstep(verb.iter().copied().chain(["--help"]));
    assert!(output.status.success(), "fewstep {verb:?} --help: {}", String::from_utf8_lossy(&output.stderr));
    let page = String::from_utf8(output.stdout).unwrap();
    let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|w| w.starts_with("--")).map(String::from).collect()
}

#[test]
fn every_verb_and_flag_that_is_shown_exists() {
    let mut shown: Vec<(&str, Line)> = Vec::new();
    for name in DOCUMENTS {
        let document = read(name);
        shown.extend(commands(&shell_blocks(&document)).into_iter().chain(inline(&document)).map(|line| (name, line)));
    }
    let scripts = scripts();
    for name in &scripts {
        shown.extend(commands(&read(name)).into_iter().map(|line| (name.as_str(), line)));
    }
    let mut known: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, line) in &shown {
        // `data` has verbs of its own.
        let length = if line[0] == "data" { 2 } else { 1 };
        let verb: Vec<&str> = line[..length].iter().map(String::as_str).collect();
        if !VERBS.contains(&verb[0]) {
            wrong.push(format!("{name}: no verb {}", verb[0]));
            continue;
        }
        let known = known.entry(verb.clone()).or_insert_with(|| flags(&verb));
        let used = line.iter().filter(|w| w.starts_with("--")).map(|w| w.split('=').next().unwrap());
        wrong.extend(
            used.filter(|f| !known.iter().any(|k| k == f)).map(|f| format!("{name}: {} has no {f}", verb.join(" "))),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // README and some pages show all of them but what works on data sets; the script trains, distils students in
    // seven runs and an encoder, exports three times, trains features twice, compares, evaluates.
    const SHOWING: [&str; 7] = [
        "README.md",
        "docs/applications.md",
        "docs/distillation.md",
        "docs/evaluation.md",
        "docs/flashing.md",
        "docs/page.md",
        "docs/teachers.md",
    ];
    for verb in VERBS.iter().filter(|v| **v != "data") {
        assert!(
            shown.iter().any(|(name, line)| SHOWING.contains(name) && line[0] == *verb),
            "none of {SHOWING:?} shows {verb}"
        );
    }
    assert_eq!(shown.iter().filter(|(name, _)| *name == "assets/make.sh").count(), 17);
}

/// In a folder where none of its files are, every line of the README is refused for want of a file, not of a flag.
#[test]
fn the_readmes_lines_are_understood() {
    let folder = Folder::new("readme");
    let lines = commands(&shell_blocks(&read("README.md")));
    for line in lines.iter().filter(|line| line[0] != "demo") {
        let output = fewstep_command(line).current_dir(folder.path()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "fewstep {line:?}\n{log}");
        assert!(log.starts_with("fewstep: "), "fewstep {line:?}\n{log}");
        assert!(
            log.contains("no such file") || log.contains("DIR") || log.contains("folder"),
            "fewstep {line:?}\n{log}"
        );
        assert!(folder.names().is_empty(), "fewstep {line:?} made {:?}", folder.names());
    }
}

/// What a page shows runs as it stands: line after line, with the files of the project's `folders`, and leaves the files
/// that the lines name.
#[cfg(unix)]
fn runs(page: &str, folders: &[&str], least: usize) {
    let folder = Folder::new(&page.replace('/', "-"));
    for name in folders {
        let target = fs::canonicalize(project().join(name)).unwrap();
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    let lines = commands(&shell_blocks(&read(page)));
    assert!(lines.len() >= least, "{lines:?}");
    for line in &lines {
        let output = fewstep_command(line).current_dir(folder.path()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "fewstep {line:?}\n{log}");
        for pair in line.windows(2).filter(|pair| ["--out", "--animation", "--man"].contains(&pair[0].as_str())) {
            assert!(folder.join(&pair[1]).exists(), "fewstep {line:?} left no {}", pair[1]);
        }
    }
}

#[cfg(unix)]
#[test]
fn the_applications_run() {
    runs("docs/applications.md", &["assets", "docs"], 10);
}

#[cfg(unix)]
#[test]
fn the_browsers_page_runs() {
    runs("docs/page.md", &["assets"], 2);
}

#[cfg(unix)]
#[test]
fn the_teachers_page_runs() {
    runs("docs/teachers.md", &["assets", "tests"], 8);
}

/// What docs/flashing.md shows runs as it stands, but for what boots a board (tests/flash.rs has counting).
#[cfg(unix)]
#[test]
fn flashing_runs() {
    let folder = Folder::new("flashing-page");
    let assets = fs::canonicalize(project().join("assets")).unwrap();
    std::os::unix::fs::symlink(assets, folder.join("assets")).unwrap();
    let lines = commands(&shell_blocks(&read("docs/flashing.md")));
    assert_eq!(lines.len(), 8, "{lines:?}");
    let boots = |line: &Line| line.iter().any(|word| ["--board", "--counts"].contains(&word.as_str()));
    for line in lines.iter().filter(|line| !boots(line)) {
        let output = fewstep_command(line).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "fewstep {line:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(folder.names(), ["assets", "maker.key", "maker.pub", "signed.hex", "weights.hex"]);
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for name in DOCUMENTS {
        let document = read(name);
        let targets = document.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let folder = project().join(name).parent().unwrap().to_path_buf();
        for target in targets.filter(|t| !t.is_empty() && !t.contains("://")) {
            if !folder.join(target).exists() {
                wrong.push(format!("{name} links to {target}, which is not there"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
