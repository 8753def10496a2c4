//! `report.html` of a run folder: made by the run and by `fewstep report`, self-contained, and true to the folder.

use std::fs;

use fewstep_tests::{Folder, fewstep, project, refusal, squares, write_idx};
use serde_json::json;

const SHORT: &str = "--batch 8 --width 8 --blocks 1,1,1 --seed 3";

struct Files(Folder);

impl Files {
    fn new(name: &str) -> Files {
        let folder = Folder::new(&format!("run-report-{name}"));
        fs::create_dir(folder.join("data")).unwrap();
        write_idx(&folder.join("data"), &squares());
        Files(folder)
    }

    fn words(&self, line: &str) -> Vec<String> {
        line.split_whitespace().map(|word| word.replace('@', &format!("{}/", self.0.path().display()))).collect()
    }

    fn run(&self, line: &str) -> String {
        let output = fewstep(self.words(line));
        assert!(output.status.success(), "fewstep {line}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn page(&self, run: &str) -> String {
        let page = fs::read_to_string(self.0.join(run).join("report.html")).unwrap();
        for elsewhere in ["src=\"http", "href=\"http", "src=\"/", "<script", "url("] {
            assert!(!page.contains(elsewhere), "{run} is not self-contained: {elsewhere}");
        }
        page
    }
}

#[test]
fn runs_explain_themselves() {
    let files = Files::new("runs");
    let train = format!("train-teacher --data @data --out @teacher --images 320 --precision f32 {SHORT}");
    let said = files.run(&train);
    assert!(said.lines().last().unwrap().ends_with("teacher/report.html"), "{said}");
    let page = files.page("teacher");
    let command = files.words(&train).join(" ");
    assert!(page.contains(&format!("<pre>fewstep {command}</pre>")), "{command}\n{page}");
    for part in [
        "<td>teacher<td>320<",
        "<td>done<",
        "estimate, not a measurement",
        "W a busy thread",
        "<td>class_dropout<td>0.1<",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    // Loss, gradient norm and learning rate.
    assert_eq!(page.matches("<svg").count(), 3);
    let snapshots = fs::read_dir(files.0.join("teacher/snapshots")).unwrap().count();
    assert_eq!((snapshots, page.matches("data:image/png;base64,").count()), (8, 8));
    assert!(page.contains("Not evaluated"));

    // The picture of the network is that of the checkpoint: 16 steps, w = 1, seed 1.
    let strip = files.0.join("teacher/snapshots/teacher-000000000320.png");
    let (shape, pixels) = fewstep::data::png_folder::read_png(&strip).unwrap();
    assert_eq!(shape, (8, 16, 1));
    files.run("sample @teacher/teacher.safetensors --steps 16 --guidance 1 --seed 1 --npz @drawn.npz");
    let drawn = fewstep::data::open(&files.0.join("drawn.npz"), fewstep::data::Split::Train).unwrap();
    for (i, picture) in drawn.pictures.chunks_exact(64).enumerate() {
        for (y, row) in picture.chunks_exact(8).enumerate() {
            assert_eq!(row, &pixels[y * 16 + i * 8..][..8], "picture {i}, row {y}");
        }
    }

    let distill = "distill --teacher @teacher/teacher.safetensors --data @data --out @students --steps 2,1 --batch 8 \
        --images 160 --guided-images 160 --seed 3";
    files.run(distill);
    let page = files.page("students");
    for phase in ["guided", "student-2", "student-1"] {
        assert!(
            page.contains(&format!("<h3>{phase}</h3>")) && page.contains(&format!("<td>{phase}<td>")),
            "{phase}\n{page}"
        );
    }
    assert!(page.contains("student-1.f16.safetensors"));

    // Taken up again, and evaluated.
    files.run(&format!("{distill} --resume"));
    let figure = |value: f64| json!({ "value": value, "low": value - 0.5, "high": value + 0.5 });
    let figures = json!({ "frechet_distance": figure(2.25), "precision": figure(0.75), "recall": figure(0.625),
        "class_accuracy": figure(0.875) });
    let row = json!({ "file": "a/student-2.<b>", "steps": 2, "w": 0.3, "figures": figures });
    fs::create_dir(files.0.join("students/evaluation")).unwrap();
    fs::write(files.0.join("students/evaluation/report.json"), json!({ "rows": [row] }).to_string()).unwrap();
    let said = files.run("report @students");
    assert!(said.trim_end().ends_with("students/report.html"), "{said}");
    let page = files.page("students");
    assert!(page.contains("taken up again 1 time"), "{page}");
    let message = refusal(files.words("evaluate @s.fsw --data @data --features @f.safetensors --out @students"));
    assert!(message.contains("name a folder in it"), "{message}");
    assert!(
        page.contains("<td>student-2.&lt;b&gt;<td>2<td>0.3<td>2.250 <small>1.750..2.750</small><td>0.750"),
        "{page}"
    );
}

/// Runs from before the commands were noted have a report too.
#[test]
fn the_shipped_logs_are_runs() {
    let files = Files::new("shipped");
    for run in ["teacher", "few", "mcd"] {
        let folder = files.0.join(run);
        fs::create_dir(&folder).unwrap();
        for name in ["options.json", "stats.jsonl"] {
            fs::copy(project().join("assets/runs").join(run).join(name), folder.join(name)).unwrap();
        }
        files.run(&format!("report @{run}"));
        let page = files.page(run);
        assert!(page.contains("was not noted") && page.contains("<svg") && page.contains("no network there"), "{page}");
    }
}

#[test]
fn refusals_say_what_and_touch_nothing() {
    let files = Files::new("refusals");
    for (name, options, stats, more) in
        [("options", "{ half", "", ""), ("stats", "{}", "no line\n", ""), ("commands", "{}", "", "[]\n")]
    {
        let folder = files.0.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("options.json"), options).unwrap();
        fs::write(folder.join("stats.jsonl"), stats).unwrap();
        fs::write(folder.join("commands.jsonl"), more).unwrap();
    }
    for (line, parts) in [
        ("report @missing", ["missing", "holds no run"]),
        ("report @data", ["data", "holds no run"]),
        ("report @options", ["options", "holds no run"]),
        ("report @stats", ["stats.jsonl", "line 1"]),
        ("report @commands", ["commands.jsonl", "does not read"]),
    ] {
        let message = refusal(files.words(line));
        for part in parts {
            assert!(message.contains(part), "fewstep {line}\n    says nothing of {part:?}: {message}");
        }
    }
    for name in ["options", "stats", "commands"] {
        assert!(!files.0.join(name).join("report.html").exists());
    }
}
