//! Runs that are killed at several moments and resumed end with the bits of a run that was left alone.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use candle_core::Device;
use fewstep::features::MATCHED;
use fewstep::nn::Checkpoint;
use fewstep_tests::{Folder, fewstep_command, refusal, squares, write_idx};
use serde_json::Value;

/// Saves at every line of statistics, or never within a test.
const OFTEN: &str = "0";
const NEVER: &str = "100000";

/// A run: its folder and the arguments that make it.
struct Run {
    out: PathBuf,
    args: Vec<String>,
}

impl Run {
    fn new(verb: &str, out: &Path, options: &str, files: &[(&str, &Path)]) -> Run {
        let mut args: Vec<String> = vec![verb.into(), "--out".into(), out.display().to_string()];
        for (name, path) in files {
            args.extend([name.to_string(), path.display().to_string()]);
        }
        args.extend(options.split_whitespace().map(String::from));
        Run { out: out.into(), args }
    }

    /// Statistics of `phase` so far, whole lines only.
    fn lines(&self, phase: &str) -> usize {
        let text = fs::read_to_string(self.out.join("stats.jsonl")).unwrap_or_default();
        text.split_inclusive('\n').filter(|l| l.ends_with('\n') && l.contains(&format!("\"{phase}\""))).count()
    }

    fn has(&self, name: &str) -> bool {
        self.out.join(name).exists()
    }

    /// Whether a file whose name begins so is being written at this moment.
    fn writes(&self, name: &str) -> bool {
        let Ok(folder) = fs::read_dir(&self.out) else { return false };
        folder.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().starts_with(&format!(".{name}")))
    }

    /// Starts the run and kills it as soon as `moment` has come. False when it ended before.
    fn kill_at(&self, save_seconds: &str, more: &[&str], moment: impl Fn(&Run) -> bool) -> bool {
        let mut command = fewstep_command(&self.args);
        command.args(more).env("FEWSTEP_SAVE_SECONDS", save_seconds).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            if moment(self) {
                // SIGKILL: nothing can be tidied up.
                let _ = child.kill();
                return child.wait().unwrap().signal() == Some(9);
            }
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "the run failed: {status}");
                return false;
            }
            if began.elapsed() > Duration::from_secs(120) {
                let _ = child.kill();
                panic!("the run neither reached the moment nor its end");
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Lets the run go to its end, without further saves.
    fn finish(&self, more: &[&str]) {
        let output = fewstep_command(&self.args).args(more).env("FEWSTEP_SAVE_SECONDS", NEVER).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Statistics without the seconds.
fn stats(folder: &Path) -> Vec<Value> {
    let without_seconds = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        assert!(line.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() >= 0.0);
        line
    };
    fs::read_to_string(folder.join("stats.jsonl")).unwrap().lines().map(without_seconds).collect()
}

/// Everything that a run leaves, its snapshots too, but what holds seconds or commands: statistics, report, and the state to go on
/// from.
fn results(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            files.extend(results(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if !["commands.jsonl", "stats.jsonl", "report.html", "state.safetensors"].contains(&&*name) {
            files.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

fn assert_same(moment: &str, got: &Path, want: &Path) {
    let (got_files, want_files) = (results(got), results(want));
    let names = |f: &[(String, Vec<u8>)]| f.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&got_files), names(&want_files), "killed {moment}: other files");
    for (got, want) in got_files.iter().zip(&want_files) {
        assert!(got.1 == want.1, "killed {moment}: {} has other bytes", got.0);
    }
    assert_eq!(stats(got), stats(want), "killed {moment}: other statistics");
}

const TEACHER: &str = "--images 640 --batch 16 --width 8 --blocks 1,1,1 --seed 3 --precision f32";

#[test]
fn killed_teacher_ends_with_the_same_bits() {
    let folder = Folder::new("resume-teacher");
    write_idx(folder.path(), &squares());
    let new = |name: &str| Run::new("train-teacher", &folder.join(name), TEACHER, &[("--data", folder.path())]);
    let whole = new("whole");
    whole.finish(&["--threads", "2"]);
    let lines = whole.lines("teacher");
    assert!(lines >= 20, "{lines} lines");

    type Moment = (&'static str, &'static str, fn(&Run) -> bool);
    let moments: [Moment; 6] = [
        ("as the folder is made", OFTEN, |r| r.out.exists()),
        ("before the first line", OFTEN, |r| r.has("options.json")),
        ("before the first save", NEVER, |r| r.lines("teacher") >= 5),
        ("after the first save", OFTEN, |r| r.has("state.safetensors")),
        ("in the middle", OFTEN, |r| r.lines("teacher") >= 12),
        ("while the state is written", OFTEN, |r| r.lines("teacher") >= 8 && r.writes("state.safetensors")),
    ];
    for (i, (name, save, moment)) in moments.into_iter().enumerate() {
        let run = new(&format!("moment-{i}"));
        assert!(run.kill_at(save, &[], moment), "the run was to be killed {name}, but it had ended");
        assert!(!run.has("teacher.safetensors"));
        // The number of threads may change.
        run.finish(&["--resume", "--threads", if i % 2 == 0 { "1" } else { "2" }]);
        assert_same(name, &run.out, &whole.out);
    }

    let run = new("often");
    for n in [2, 7, 11, 15] {
        assert!(run.kill_at(OFTEN, &["--resume"], |r| r.lines("teacher") >= n));
    }
    run.finish(&["--resume"]);
    assert_same("four times", &run.out, &whole.out);

    // Resuming what is finished changes nothing.
    let before = stats(&run.out);
    run.finish(&["--resume"]);
    assert_same("after the end", &run.out, &whole.out);
    assert_eq!(stats(&run.out), before);
}

#[test]
fn killed_distillation_ends_with_the_same_bits() {
    let folder = Folder::new("resume-distill");
    write_idx(folder.path(), &squares());
    let teacher = Run::new("train-teacher", &folder.join("teacher"), TEACHER, &[("--data", folder.path())]);
    teacher.finish(&[]);
    let file = teacher.out.join("teacher.safetensors");
    let options =
        "--steps 2,1 --first 4 --guided-images 320 --images 320 --last-factor 1 --batch 16 --seed 5 --precision f32";
    let new = |name: &str| {
        Run::new("distill", &folder.join(name), options, &[("--data", folder.path()), ("--teacher", &file)])
    };
    let whole = new("whole");
    whole.finish(&["--threads", "2"]);
    for name in ["guided", "student-4", "student-2", "student-1"] {
        assert!(whole.has(&format!("{name}.safetensors")) && whole.lines(name) >= 20, "{name}");
    }

    type Moment = (&'static str, &'static str, fn(&Run) -> bool);
    let moments: [Moment; 6] = [
        ("in stage 1", OFTEN, |r| r.lines("guided") >= 10),
        ("between stage 1 and the first round", OFTEN, |r| r.has("guided.safetensors")),
        ("in the first round", OFTEN, |r| r.lines("student-4") >= 5),
        ("in the second round before its first save", NEVER, |r| r.lines("student-2") >= 3),
        ("while a student is written", OFTEN, |r| r.writes("student-2.safetensors") || r.has("student-2.safetensors")),
        ("in the last round", OFTEN, |r| r.lines("student-1") >= 15),
    ];
    for (i, (name, save, moment)) in moments.into_iter().enumerate() {
        let run = new(&format!("moment-{i}"));
        assert!(run.kill_at(save, &[], moment), "the run was to be killed {name}, but it had ended");
        assert!(!run.has("student-1.safetensors"));
        run.finish(&["--resume", "--threads", if i % 2 == 0 { "1" } else { "2" }]);
        assert_same(name, &run.out, &whole.out);
    }
}

/// Here the moving average is part of the loss, so it has to come back too.
#[test]
fn killed_consistency_distillation_ends_with_the_same_bits() {
    let folder = Folder::new("resume-multistep");
    write_idx(folder.path(), &squares());
    let teacher = Run::new("train-teacher", &folder.join("teacher"), TEACHER, &[("--data", folder.path())]);
    teacher.finish(&[]);
    let file = teacher.out.join("teacher.safetensors");
    let options = "--method mcd --steps 2,1 --segment-steps 3,4 --ema 0.9 --target teacher --guided-images 320 \
        --images 480,320 --batch 16 --seed 6 --precision f32";
    let new = |name: &str| {
        Run::new("distill", &folder.join(name), options, &[("--data", folder.path()), ("--teacher", &file)])
    };
    let whole = new("whole");
    whole.finish(&["--threads", "2"]);
    for name in ["guided", "student-2", "student-1"] {
        assert!(whole.has(&format!("{name}.safetensors")) && whole.lines(name) >= 20, "{name}");
    }
    assert!(!whole.has("student-4.safetensors"));

    type Moment = (&'static str, &'static str, fn(&Run) -> bool);
    let moments: [Moment; 3] = [
        ("in the first student", OFTEN, |r| r.lines("student-2") >= 6),
        ("between the students", OFTEN, |r| r.has("student-2.safetensors")),
        ("in the last student", OFTEN, |r| r.lines("student-1") >= 12),
    ];
    for (i, (name, save, moment)) in moments.into_iter().enumerate() {
        let run = new(&format!("moment-{i}"));
        assert!(run.kill_at(save, &[], moment), "the run was to be killed {name}, but it had ended");
        assert!(!run.has("student-1.safetensors"));
        run.finish(&["--resume", "--threads", if i % 2 == 0 { "1" } else { "2" }]);
        assert_same(name, &run.out, &whole.out);
    }

    // A student that is cut short is refused, and trained again once it is gone.
    let student = whole.out.join("student-1.safetensors");
    let bytes = fs::read(&student).unwrap();
    fs::write(&student, &bytes[..bytes.len() / 2]).unwrap();
    let message = refusal(whole.args.iter().map(String::as_str).chain(["--resume"]));
    assert!(message.contains("student-1.safetensors") && message.contains("delete it"), "{message}");
    fs::remove_file(&student).unwrap();
    whole.finish(&["--resume"]);
    assert!(fs::read(&student).unwrap() == bytes);
}

/// Two networks trained in turns, then a network with its scales.
#[test]
fn killed_finishing_ends_with_the_same_bits() {
    let folder = Folder::new("resume-finish");
    write_idx(folder.path(), &squares());
    let teacher = Run::new("train-teacher", &folder.join("teacher"), TEACHER, &[("--data", folder.path())]);
    teacher.finish(&[]);
    let file = teacher.out.join("teacher.safetensors");
    let distil = |name: &str, options: &str| {
        Run::new("distill", &folder.join(name), options, &[("--data", folder.path()), ("--teacher", &file)])
    };
    let options = "--method mcd --steps 2 --segment-steps 2 --guided-images 160 --images 160 --ema 0.9 --batch 16 --seed 7 \
        --precision f32 --finish mm --finish-images 640 --int8-images 320";
    let whole = distil("whole", options);
    whole.finish(&["--threads", "2"]);
    let (finished, int8) = ("student-2-finished", "student-2-finished-int8");
    for name in [finished, int8] {
        assert!(whole.has(&format!("{name}.safetensors")) && whole.lines(name) >= 20, "{name}");
    }

    type Moment = (&'static str, &'static str, fn(&Run) -> bool);
    let moments: [Moment; 4] = [
        ("while finishing", OFTEN, |r| r.lines("student-2-finished") >= 7),
        ("while finishing, one step on", OFTEN, |r| r.lines("student-2-finished") >= 12),
        ("between the stages", OFTEN, |r| r.has("student-2-finished.safetensors")),
        ("while rounding", OFTEN, |r| r.lines("student-2-finished-int8") >= 9),
    ];
    for (i, (name, save, moment)) in moments.into_iter().enumerate() {
        let run = distil(&format!("moment-{i}"), options);
        assert!(run.kill_at(save, &[], moment), "the run was to be killed {name}, but it had ended");
        assert!(!run.has("student-2-finished-int8.safetensors"));
        run.finish(&["--resume", "--threads", if i % 2 == 0 { "1" } else { "2" }]);
        assert_same(name, &run.out, &whole.out);
    }

    // The teacher's trajectories are drawn once, for both students.
    let options = "--method mcd --steps 2,1 --segment-steps 2 --guided-images 160 --images 160 --ema 0.9 --batch 16 --seed 7 \
        --precision f32 --finish traj --trajectories 512 --finish-images 320";
    let whole_way = distil("whole-way", options);
    whole_way.finish(&["--threads", "2"]);
    let moments: [Moment; 3] = [
        ("while trajectories are drawn", OFTEN, |r| r.has("trajectories/00000.safetensors")),
        ("while finishing along them", OFTEN, |r| r.lines("student-2-finished") >= 7),
        ("while finishing the next", OFTEN, |r| r.lines("student-1-finished") >= 7),
    ];
    for (i, (name, save, moment)) in moments.into_iter().enumerate() {
        let run = distil(&format!("way-{i}"), options);
        assert!(run.kill_at(save, &[], moment), "the run was to be killed {name}, but it had ended");
        run.finish(&["--resume", "--threads", if i % 2 == 0 { "1" } else { "2" }]);
        assert_same(name, &run.out, &whole_way.out);
    }

    // A wider start, for both students.
    let options = "--method mcd --steps 2,1 --segment-steps 2 --guided-images 160 --images 160 --ema 0.9 --batch 16 --seed 7 \
        --precision f32 --finish wide --widen 0.2 --finish-images 320";
    let whole_wide = distil("whole-wide", options);
    whole_wide.finish(&["--threads", "2"]);
    let run = distil("wide", options);
    assert!(run.kill_at(OFTEN, &[], |r| r.lines("student-2-finished") >= 7), "it had ended");
    run.finish(&["--resume", "--threads", "1"]);
    assert_same("while widening", &run.out, &whole_wide.out);

    // In a classifier's features: what was drawn so far is part of the state.
    let data = squares();
    let arch = fewstep::features::FeatureArch::for_data(&data).unwrap();
    let tensors = fewstep::features::Classifier::init(&arch, 5).unwrap();
    let net = fewstep::features::Classifier { arch, params: fewstep::nn::Params::frozen(tensors), scale: 1.0 };
    let classifier = folder.join("classifier.safetensors");
    let extractor = fewstep::features::Extractor::freeze(&net, &data.pictures, data.class_names.clone()).unwrap();
    extractor.save(&classifier).unwrap();
    let options = format!(
        "--method mcd --steps 2,1 --segment-steps 2 --guided-images 160 --images 160 --ema 0.9 --batch 16 --seed 7 \
        --precision f32 --finish match --features {} --match-guidance 1.5 --trajectories 256 --widen 0.1 --finish-images 320",
        classifier.display()
    );
    let whole_match = distil("whole-match", &options);
    whole_match.finish(&["--threads", "2"]);
    for (i, name) in ["student-2-finished", "student-1-finished"].into_iter().enumerate() {
        let run = distil(&format!("match-{i}"), &options);
        assert!(run.kill_at(OFTEN, &[], |r| r.lines(name) >= 7), "it had ended");
        run.finish(&["--resume", "--threads", if i == 0 { "1" } else { "2" }]);
        assert_same("while matching", &run.out, &whole_match.out);
    }

    // The student names the classifier, also after a run more; what it started from does not.
    let matched = |run: &Run, name: &str| {
        let found = Checkpoint::open(&run.out.join(format!("{name}.safetensors")), &Device::Cpu).unwrap();
        found.provenance.get(MATCHED).cloned()
    };
    assert_eq!(matched(&whole_match, "student-2"), None);
    assert_eq!(matched(&whole_match, "student-2-finished").as_deref(), Some(extractor.short_hash()));
    let student = whole_match.out.join("student-2-finished.safetensors");
    let files = [("--data", folder.path()), ("--teacher", &*file), ("--start", &*student)];
    let options = "--method mcd --target teacher --steps 2 --batch 16 --seed 7 --ema 0.9 --precision f32 --finish wide \
        --finish-images 160";
    let after = Run::new("distill", &folder.join("after"), options, &files);
    after.finish(&[]);
    assert_eq!(matched(&after, "student-2-finished").as_deref(), Some(extractor.short_hash()));

    // From a student of another run: nothing but what is asked for.
    let start = whole.out.join("student-2.safetensors");
    let guided = whole.out.join("guided.safetensors");
    let options =
        "--method mcd --steps 2 --batch 16 --seed 7 --ema 0.9 --precision f32 --finish mm --finish-images 640";
    let files = [("--data", folder.path()), ("--teacher", &*file), ("--start", &*start), ("--guided", &*guided)];
    let again = Run::new("distill", &folder.join("again"), options, &files);
    again.finish(&[]);
    assert_eq!((again.lines("guided"), again.lines("student-2")), (0, 0));
    let weights = |run: &Run| {
        let file = run.out.join("student-2-finished.safetensors");
        fewstep::nn::read_tensors(&file, &Device::Cpu).unwrap().0
    };
    for ((name, a), b) in weights(&again).iter().zip(weights(&whole).values()) {
        assert_eq!(fewstep_tests::values(a), fewstep_tests::values(b), "{name}");
    }
}

/// What a power cut leaves behind: half a line of statistics, and temporary files of writes that did not end.
#[test]
fn half_written_files_are_tidied_up() {
    let folder = Folder::new("resume-half");
    write_idx(folder.path(), &squares());
    let new = |name: &str| Run::new("train-teacher", &folder.join(name), TEACHER, &[("--data", folder.path())]);
    let whole = new("whole");
    whole.finish(&[]);

    let run = new("half");
    assert!(run.kill_at(OFTEN, &[], |r| r.lines("teacher") >= 8));
    let path = run.out.join("stats.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"phase\":\"teacher\",\"pictures\":9");
    fs::write(&path, text).unwrap();
    fs::write(run.out.join(".state.safetensors.1-0.tmp"), b"half").unwrap();
    run.finish(&["--resume"]);
    assert_same("while a line was written", &run.out, &whole.out);

    // Killed while the very first file was written: nothing else is there yet.
    let run = new("first");
    fs::create_dir(&run.out).unwrap();
    fs::write(run.out.join(".options.json.1-0.tmp"), b"{").unwrap();
    run.finish(&["--resume"]);
    assert_same("while the options were written", &run.out, &whole.out);
}
