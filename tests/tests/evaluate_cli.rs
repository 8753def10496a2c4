//! `train-features` and `evaluate`: what they refuse, what they report, and that a kill loses nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use fewstep::data::{Dataset, Split, idx, npz};
use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::features::{Classifier, Extractor, FeatureArch, MATCHED};
use fewstep::nn::{Checkpoint, Kind, Params, UNet, read_tensors, write_tensors};
use fewstep_tests::{Folder, fewstep_command, random_net, refusal, report, squares, tiny_arch, write_idx};
use serde_json::Value;

/// A folder with a data set of two splits, an untrained extractor, a teacher, a student and its image.
struct Files {
    folder: Folder,
}

/// The squares, `times` over with slightly other greys, so that no two pictures are alike.
fn many(times: usize) -> Dataset {
    let once = squares();
    let mut data = Dataset { pictures: Vec::new(), labels: Vec::new(), ..once.clone() };
    for k in 0..times {
        for i in 0..once.len() {
            let noise = |(j, v): (usize, &u8)| v.wrapping_add(((k * 7 + i * 3 + j * 5) % 11) as u8);
            data.pictures.extend(once.picture(i).iter().enumerate().map(noise));
            data.labels.push(once.labels[i]);
        }
    }
    data
}

fn write_test(folder: &Path, data: &Dataset) {
    let labels: Vec<u8> = data.labels.iter().map(|l| *l as u8).collect();
    let sizes = [data.len(), data.height, data.width];
    idx::write_gz(&folder.join(idx::gz_name(Split::Test, true)), &sizes, &data.pictures).unwrap();
    idx::write_gz(&folder.join(idx::gz_name(Split::Test, false)), &[data.len()], &labels).unwrap();
}

impl Files {
    /// `name` must be unique among all tests.
    fn new(name: &str) -> Files {
        let folder = Folder::new(&format!("evaluate-{name}"));
        fs::create_dir(folder.join("data")).unwrap();
        write_idx(&folder.join("data"), &many(20));
        write_test(&folder.join("data"), &many(4));
        let names = || vec!["bright".to_string(), "dark".to_string()];
        let arch = FeatureArch::for_pictures(8, 8, 1, 2);
        let params = Params::frozen(Classifier::init(&arch, 5).unwrap());
        let net = Classifier { arch, params, scale: 1.0 };
        Extractor::freeze(&net, &many(4).pictures, names()).unwrap().save(&folder.join("f.safetensors")).unwrap();
        let save = |file: &str, kind: Kind, net: UNet| {
            let checkpoint = Checkpoint { kind, net, class_names: names(), provenance: Default::default() };
            checkpoint.save(&folder.join(file), DType::F32).unwrap();
        };
        save("teacher.safetensors", Kind::Teacher, random_net(&tiny_arch(), false, 1));
        save("student.safetensors", Kind::Student(2), random_net(&tiny_arch(), true, 2));
        let image = write_image(&random_student(&tiny_arch(), 2, 3), &ExportOptions::default()).unwrap();
        fs::write(folder.join("student.fsw"), image.bytes).unwrap();
        Files { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Words of a command line; `@` words are paths in the folder.
    fn words(&self, line: &str) -> Vec<String> {
        let word = |w: &str| match w.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => w.to_string(),
        };
        line.split_whitespace().map(word).collect()
    }

    fn report(&self, line: &str) -> Value {
        report(self.words(line))
    }

    fn refusal(&self, line: &str) -> String {
        refusal(self.words(line))
    }
}

fn number(v: &Value, path: &[&str]) -> f64 {
    let found = path.iter().fold(v, |v, key| &v[*key]);
    found.as_f64().unwrap_or_else(|| panic!("no {path:?} in {v}"))
}

const EVALUATE: &str = "--data @data --features @f.safetensors --out @report --count 32 --json";

#[test]
fn every_kind_of_file_is_measured_beside_the_floor() {
    let files = Files::new("kinds");
    files.report("sample @student.fsw --count 32 --guidance 1 --seed 4 --npz @own.npz --json");
    let r = files.report(&format!(
        "evaluate @student.fsw @student.safetensors @own.npz --teacher @teacher.safetensors --teacher-steps 2,4 \
         --guidance 0,1 --seed 4 {EVALUATE}"
    ));
    assert_eq!(r["features_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(number(&r, &["reference_count"]), 64.0);
    let rows = r["rows"].as_array().unwrap();
    let of = |file: &str, steps: u64, w: f64| {
        let is = |row: &&Value| {
            row["file"].as_str().unwrap().ends_with(file) && row["steps"] == steps && row["w"].as_f64() == Some(w)
        };
        rows.iter().find(is).unwrap_or_else(|| panic!("no {file} at {steps} steps, w {w}"))
    };
    // Teacher at two step counts, student and image, two strengths each; the samples once.
    assert_eq!(rows.len(), 4 + 2 + 2 + 1);
    for row in rows.iter().chain([&r]) {
        let figures = if row["figures"].is_null() { &row["floor"] } else { &row["figures"] };
        for name in ["frechet_distance", "kid", "precision", "recall", "density", "coverage", "class_accuracy"] {
            let [value, low, high] = ["value", "low", "high"].map(|k| number(figures, &[name, k]));
            assert!(low <= value && value <= high, "{name}: {value} outside {low}..{high}");
        }
        assert_eq!(figures["count"], 32);
    }
    // Real pictures are nearer to real pictures than noise of untrained networks is.
    assert!(number(&r, &["floor", "recall", "value"]) > 0.8);
    let floor = number(&r, &["floor", "frechet_distance", "value"]);
    assert!(rows.iter().all(|row| number(row, &["figures", "frechet_distance", "value"]) > floor));
    // Two evaluations a step with guidance, one without; the level is the teacher's largest number of steps.
    assert_eq!(of("teacher.safetensors", 4, 1.0)["evaluations"], 8);
    assert_eq!(of("teacher.safetensors", 4, 0.0)["evaluations"], 4);
    let student = of("student.fsw", 2, 1.0);
    let teacher = of("teacher.safetensors", 4, 1.0);
    let ratio = number(student, &["figures", "frechet_distance", "value"])
        / number(teacher, &["figures", "frechet_distance", "value"]);
    assert!((number(student, &["against_teacher", "distance_ratio"]) - ratio).abs() < 1e-9);
    assert_eq!(number(student, &["against_teacher", "evaluations_saved"]), 4.0);
    // Pairs: with the teacher, and int8 with float.
    let pairs = student["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 2, "{pairs:?}");
    assert!(pairs.iter().all(|p| number(p, &["psnr"]) > 0.0 && number(p, &["worst"]) <= number(p, &["psnr"])));
    // The same pictures by another way have the same figures.
    let samples = rows.iter().find(|r| r["role"] == "samples").unwrap();
    assert_eq!(samples["figures"], student["figures"]);
    for name in ["report.json", "report.html", "distance.svg", "ratio.svg", "tradeoff.svg", "layers-1.svg", "grid.png"]
    {
        assert!(files.path("report").join(name).is_file(), "{name} is missing");
    }
    let page = fs::read_to_string(files.path("report").join("report.html")).unwrap();
    assert!(page.contains("student.fsw") && page.matches("<svg").count() == 4);
}

/// Figures in the features that a student was finished with flatter it: the report says so, of its checkpoint and its image.
#[test]
fn a_student_finished_in_these_features_is_marked() {
    let files = Files::new("flattered");
    let extractor = Extractor::open(&files.path("f.safetensors")).unwrap();
    for (file, hash) in [("these.safetensors", extractor.short_hash()), ("others.safetensors", "0123456789abcdef")] {
        let mut student = Checkpoint::open(&files.path("student.safetensors"), &Device::Cpu).unwrap();
        student.provenance.insert(MATCHED.into(), format!("fedcba9876543210, {hash}"));
        student.save(&files.path(file), DType::F32).unwrap();
        let image = format!("export @{file} --steps 2 --out @{}", file.replace("safetensors", "fsw"));
        assert!(fewstep_command(files.words(&image)).output().unwrap().status.success());
    }
    let line = "--guidance 1 --data @data --features @f.safetensors --count 32 --json --out @report";
    let r = files.report(&format!("evaluate @these.safetensors @these.fsw @others.safetensors @others.fsw {line}"));
    let marked = |i: usize| r["rows"][i]["finished_in_these_features"].as_bool().unwrap_or(false);
    assert_eq!([0, 1, 2, 3].map(marked), [true, true, false, false]);
    let page = fs::read_to_string(files.path("report").join("report.html")).unwrap();
    assert_eq!(page.matches("(finished in these features)").count(), 2);
}

#[test]
fn a_smaller_count_is_a_prefix_and_a_larger_one_goes_on() {
    let files = Files::new("prefix");
    let run = |count: usize, out: &str| {
        let line = "evaluate @student.fsw --guidance 1 --data @data --features @f.safetensors --json";
        files.report(&format!("{line} --count {count} --out @{out}"))["rows"][0]["figures"].clone()
    };
    let small = run(16, "a");
    let large = run(300, "a");
    assert_eq!(run(16, "a"), small);
    assert_eq!(run(300, "b"), large);
    assert_ne!(small, large);
}

#[test]
fn a_killed_evaluation_goes_on_where_it_was() {
    let files = Files::new("killed");
    let line = |out: &str| {
        format!(
            "evaluate @student.safetensors --teacher @teacher.safetensors --teacher-steps 24 --guidance 1 --count 320 \
             --data @data --features @f.safetensors --json --threads 1 --out @{out}"
        )
    };
    let mut child =
        fewstep_command(files.words(&line("killed"))).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let chunk = || {
        let samples = files.path("killed").join("samples");
        let sets = fs::read_dir(samples).ok()?.filter_map(Result::ok);
        sets.map(|s| s.path().join("00000.npz")).find(|p| p.is_file())
    };
    let began = Instant::now();
    let first = loop {
        if let Some(first) = chunk() {
            let _ = child.kill();
            child.wait().unwrap();
            break first;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(began.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_micros(300));
    };
    let written = fs::metadata(&first).unwrap().modified().unwrap();
    let resumed = files.report(&line("killed"));
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), written, "what was there is drawn again");
    assert_eq!(resumed, files.report(&line("whole")));
}

#[test]
fn a_set_is_never_taken_for_another() {
    let files = Files::new("keys");
    let run = |more: &str| {
        files.report(&format!("evaluate @student.safetensors --guidance 1 {EVALUATE} {more}"))["rows"][0].clone()
    };
    let first = run("");
    assert_eq!(run(""), first);
    assert_ne!(run("--seed 9")["figures"], first["figures"]);
    // Another network under the same name.
    let other = random_net(&tiny_arch(), true, 77);
    let class_names = vec!["bright".into(), "dark".into()];
    let checkpoint = Checkpoint { kind: Kind::Student(2), net: other, class_names, provenance: Default::default() };
    checkpoint.save(&files.path("student.safetensors"), DType::F32).unwrap();
    assert_ne!(run("")["figures"], first["figures"]);
}

#[test]
fn a_damaged_cache_is_refused_with_its_place() {
    let files = Files::new("cache");
    let line = format!("evaluate @student.fsw --guidance 1 {EVALUATE}");
    files.report(&line);
    let samples = files.path("report").join("samples");
    let set = fs::read_dir(samples).unwrap().next().unwrap().unwrap().path();
    let chunk = set.join("00000.npz");
    let data = npz::open(&chunk).unwrap();
    let labels: Vec<i64> = data.labels.iter().map(|l| i64::from(1 - *l)).collect();
    npz::write_npz(&chunk, &data.pictures, data.len(), 8, 8, 1, &labels).unwrap();
    let said = files.refusal_with_progress(&line);
    assert!(said.contains("00000.npz") && said.contains("delete it"), "{said}");
}

impl Files {
    /// The last line of what is refused after work began.
    fn refusal_with_progress(&self, line: &str) -> String {
        let output = fewstep_command(self.words(line)).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_string()
    }
}

#[test]
fn mistakes_are_refused_before_anything_is_drawn() {
    let files = Files::new("refusals");
    let mut other = tiny_arch();
    other.classes = 3;
    let wide = UNet { arch: other.clone(), params: Params::frozen(UNet::init(&other, 1, &Device::Cpu).unwrap()) };
    let class_names = vec!["a".into(), "b".into(), "c".into()];
    let checkpoint = Checkpoint { kind: Kind::Teacher, net: wide, class_names, provenance: Default::default() };
    checkpoint.save(&files.path("three.safetensors"), DType::F32).unwrap();
    npz::write_npz(&files.path("large.npz"), &[0; 300], 1, 10, 10, 3, &[0]).unwrap();
    let (mut tensors, header) = read_tensors(&files.path("f.safetensors"), &Device::Cpu).unwrap();
    let bias = tensors["dense.bias"].affine(1.0, 1.0).unwrap();
    tensors.insert("dense.bias".into(), bias);
    write_tensors(&files.path("tampered.safetensors"), &tensors, header).unwrap();

    let good = "--data @data --features @f.safetensors --out @report";
    for (line, wanted) in [
        (format!("evaluate @missing.fsw {good}"), "no such file"),
        (format!("evaluate @three.safetensors {good}"), "3 classes"),
        (format!("evaluate @large.npz {good}"), "10x10x3"),
        (format!("evaluate @student.fsw --teacher @large.npz {good}"), "--teacher"),
        (format!("evaluate @student.fsw --guidance 9 {good}"), "--guidance 9"),
        (format!("evaluate @student.fsw --guidance=-1 {good}"), "--guidance"),
        (format!("evaluate @student.fsw --count 4 {good}"), "--count 4"),
        (format!("evaluate @student.fsw --count 4000 {good}"), "lower it"),
        (format!("evaluate @student.fsw --teacher-steps 0 {good}"), "--teacher-steps 0"),
        (format!("evaluate @student.fsw --runs @data {good}"), "stats.jsonl"),
        ("evaluate @student.fsw --data @data --features @teacher.safetensors --out @report".into(), "train-features"),
        ("evaluate @student.fsw --data @data --features @tampered.safetensors --out @report".into(), "hash"),
        ("evaluate @student.fsw --data @student.fsw --features @f.safetensors --out @report".into(), "student.fsw"),
        ("train-features --data @data --out @new.safetensors --images 0".into(), "--images 0"),
        ("train-features --data @data --out @no/new.safetensors".into(), "create it first"),
        ("train-features --data @data --out @new.safetensors --lr 2".into(), "--lr 2"),
        ("train-features --data @large.npz --out @new.safetensors".into(), "test split"),
    ] {
        let said = files.refusal(&line);
        assert!(said.contains(wanted), "{line}\n{said}");
        assert!(!files.path("report").exists() && !files.path("new.safetensors").exists(), "{line} left something");
    }
}

#[test]
fn features_are_trained_resumed_and_frozen() {
    let files = Files::new("train");
    let line = |out: &str| format!("train-features --data @data --out @{out} --images 4096 --batch 32 --seed 3 --json");
    let whole = files.report(&line("whole.safetensors"));
    // The two classes are bright squares and dark ones.
    assert!(number(&whole, &["test_accuracy"]) > 0.95, "{whole}");
    let opened = Extractor::open(&files.path("whole.safetensors")).unwrap();
    assert_eq!(whole["sha256"], opened.hash());
    assert_eq!(opened.class_names.len(), 2);
    assert!(!files.path("whole.safetensors.state").exists());

    let mut child = fewstep_command(files.words(&line("killed.safetensors")))
        .env("FEWSTEP_SAVE_SECONDS", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !files.path("killed.safetensors.state").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(began.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_micros(300));
    }
    let _ = child.kill();
    child.wait().unwrap();
    let said = files.refusal(&line("killed.safetensors").replace("--seed 3", "--seed 4"));
    assert!(said.contains("other options"), "{said}");
    let resumed = files.report(&line("killed.safetensors"));
    assert_eq!(resumed["sha256"], whole["sha256"]);
    assert!(!files.path("killed.safetensors.state").exists());

    // The frozen file is what was measured, whatever the number of threads.
    let one = files.report(&format!("{} --threads 1", line("one.safetensors")));
    assert_eq!(one["sha256"], whole["sha256"]);
}

#[test]
fn a_score_is_that_of_a_classifier_trained_on_the_set() {
    let files = Files::new("score");
    // Real pictures as samples, and the same with exchanged labels, which teach the opposite.
    let data = many(20);
    for (name, turn) in [("right.npz", 0), ("wrong.npz", 1)] {
        let labels: Vec<i64> = data.labels.iter().map(|l| i64::from(*l ^ turn)).collect();
        npz::write_npz(&files.path(name), &data.pictures, data.len(), 8, 8, 1, &labels).unwrap();
    }
    let line = format!("evaluate @right.npz @wrong.npz --score-images 4096 {EVALUATE}");
    let r = files.report(&line);
    let score = |i: usize| number(&r["rows"][i], &["classification_accuracy_score"]);
    assert!(number(&r, &["real_classification_accuracy_score"]) > 0.9, "{r}");
    assert!(score(0) > 0.95 && score(1) < 0.05, "{r}");
    // Kept: the second run trains nothing and says the same.
    assert_eq!(files.report(&line), r);
}
