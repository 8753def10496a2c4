//! The command line's contract: forms, seeds, files, reports, and refusals that touch nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use fewstep::data::{self, Split, npz};
use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::{Arch, Checkpoint, Kind, Params, UNet};
use fewstep::onnx::OPSET;
use fewstep::onnx::proto::ModelProto;
use fewstep_core::format::crc::crc32c;
use fewstep_core::{Model, Request, Sampler, Session};
use fewstep_tests::{Folder, fewstep, fewstep_command, random_net, refusal, report, squares, tiny_arch, write_idx};
use serde_json::{Value, json};

/// Three classes of 8x12 colour pictures.
fn arch() -> Arch {
    Arch { width: 12, channels: 3, classes: 3, ..tiny_arch() }
}

/// A folder with one file of every kind.
struct Files {
    folder: Folder,
    /// Random weights, 4 steps.
    image: PathBuf,
    /// Untrained, without w.
    teacher: PathBuf,
    /// Random weights, 4 steps, w as an input.
    student: PathBuf,
}

impl Files {
    /// `name` must be unique among all tests.
    fn new(name: &str) -> Files {
        let folder = Folder::new(&format!("cli-{name}"));
        let image = folder.join("student.fsw");
        fs::write(&image, write_image(&random_student(&arch(), 4, 3), &ExportOptions::default()).unwrap().bytes)
            .unwrap();
        let save = |file: &str, kind: Kind, net: UNet| {
            let class_names = ["one", "two", "three"][..net.arch.classes].iter().map(|n| n.to_string()).collect();
            let path = folder.join(file);
            Checkpoint { kind, net, class_names, provenance: Default::default() }.save(&path, DType::F32).unwrap();
            path
        };
        let fresh = UNet { arch: arch(), params: Params::frozen(UNet::init(&arch(), 1, &Device::Cpu).unwrap()) };
        let teacher = save("teacher.safetensors", Kind::Teacher, fresh);
        let student = save("student.safetensors", Kind::Student(4), random_net(&arch(), true, 2));
        Files { folder, image, teacher, student }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The arguments of a command line; `@` words are replaced by paths.
fn words<'a>(line: &'a str, files: &'a Files) -> Vec<String> {
    line.split_whitespace()
        .map(|word| match word {
            "@image" => text(&files.image).into(),
            "@teacher" => text(&files.teacher).into(),
            "@student" => text(&files.student).into(),
            _ => match word.strip_prefix('@') {
                Some(name) => text(&files.folder.join(name)).into(),
                None => word.into(),
            },
        })
        .collect()
}

/// The pictures of a report of `sample`: seed, class, checksum.
fn pictures(report: &Value) -> Vec<(u64, u64, u64)> {
    let number = |p: &Value, key: &str| p[key].as_u64().unwrap_or_else(|| panic!("no {key} in {p}"));
    report["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (number(p, "seed"), number(p, "class"), number(p, "crc32c")))
        .collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle.as_bytes())
}

#[test]
fn a_batch_is_made_of_pictures_that_can_be_made_alone() {
    let files = Files::new("batch");
    let run = |line: &str| report(words(line, &files));
    let batch = pictures(&run("sample @image --all-classes --count 7 --guidance 1.5 --seed 40 --json"));
    let expected: Vec<(u64, u64)> = (0..7).map(|i| (40 + i, i % 3)).collect();
    assert_eq!(batch.iter().map(|p| (p.0, p.1)).collect::<Vec<_>>(), expected);
    assert_eq!(batch.iter().map(|p| p.2).collect::<BTreeSet<_>>().len(), 7, "pictures repeat: {batch:?}");
    for (seed, class, _) in &batch[3..5] {
        let alone = run(&format!("sample @image --class {class} --guidance 1.5 --seed {seed} --json"));
        assert_eq!(pictures(&alone), [batch[(seed - 40) as usize]]);
    }

    // The same pictures by the core's own face.
    let bytes = AlignedBytes::from(&fs::read(&files.image).unwrap()[..]);
    let model = Model::parse(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut out = vec![0; model.output_bytes()];
    let request = Request { seed: 43, class: 0, w: 1.5, ..Request::default() };
    Session::new(&model, &mut arena).unwrap().sample(&request, &mut out).unwrap();
    assert_eq!(batch[3].2, u64::from(crc32c(&out)));
    let request = Request { steps: 2, sampler: Sampler::Stochastic, ..request };
    Session::new(&model, &mut arena).unwrap().sample(&request, &mut out).unwrap();
    let two = run("sample @image --class 0 --guidance 1.5 --seed 43 --steps 2 --sampler stochastic --json");
    assert_eq!(pictures(&two), [(43, 0, u64::from(crc32c(&out)))]);

    // A network in float as well: its pictures do not depend on their neighbours.
    for file in ["@teacher --steps 3", "@student"] {
        let batch = pictures(&run(&format!("sample {file} --count 5 --guidance 2 --seed 9 --json")));
        let alone = pictures(&run(&format!("sample {file} --class 0 --guidance 2 --seed 12 --json")));
        assert_eq!(alone, [batch[3]], "{file}");
    }
}

#[test]
fn count_and_classes_have_defaults() {
    let files = Files::new("defaults");
    let drawn = |line: &str| {
        let drawn = pictures(&report(words(line, &files)));
        drawn.into_iter().map(|(seed, class, _)| (seed, class)).collect::<Vec<_>>()
    };
    assert_eq!(drawn("sample @image --json"), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(drawn("sample @image --all-classes --json"), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(drawn("sample @image --count 2 --json"), [(0, 0), (1, 1)]);
    assert_eq!(drawn("sample @image --class 2 --json"), [(0, 2)]);
    assert_eq!(drawn("sample @image --class 2 --count 2 --seed 5 --json"), [(5, 2), (6, 2)]);
    // Seeds wrap around.
    assert_eq!(drawn("sample @image --count 2 --seed 18446744073709551615 --json"), [(u64::MAX, 0), (0, 1)]);
}

#[test]
fn the_npz_is_guided_diffusions() {
    let files = Files::new("npz");
    let report = report(words("sample @image --all-classes --count 4 --npz @a.npz --json", &files));
    let path = files.folder.join("a.npz");
    assert_eq!(report["npz"], json!(path));
    let raw = fs::read(&path).unwrap();
    for header in [
        "arr_0.npy",
        "'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 12, 3)",
        "arr_1.npy",
        "'descr': '<i8', 'fortran_order': False, 'shape': (4,)",
    ] {
        assert!(contains(&raw, header), "{header}");
    }
    let data = npz::open(&path).unwrap();
    assert_eq!(data.labels, [0, 1, 2, 0]);
    let sums: Vec<u64> = (0..4).map(|i| u64::from(crc32c(data.picture(i)))).collect();
    assert_eq!(pictures(&report).iter().map(|p| p.2).collect::<Vec<_>>(), sums);
}

#[test]
fn a_grid_is_a_png_and_has_a_default_name() {
    let files = Files::new("grid");
    let before = files.folder.names();
    let run = |line: &str| {
        let output = fewstep_command(words(line, &files)).current_dir(files.folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Width and height as a PNG states them (its IHDR chunk comes first).
    let size = |name: &str| {
        let png = fs::read(files.folder.join(name)).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        (side(16), side(20))
    };
    // A report or an npz asks for no picture.
    run("sample @image --json");
    run("sample @image --npz a.npz");
    assert_eq!(files.folder.names().len(), before.len() + 1);
    let page = run("sample @image --count 6");
    assert!(page.contains("6 pictures of 4 steps") && page.contains("samples.png"), "{page}");
    let six = size("samples.png");
    run("sample @image --count 9 --out more.png --json");
    let nine = size("more.png");
    // Three columns of classes: more pictures make it higher.
    assert!(six.0 >= 3 * 12 && six.1 >= 2 * 8 && nine.0 == six.0 && nine.1 >= six.1 + 8, "{six:?} {nine:?}");
    // Nothing else is left behind.
    assert_eq!(files.folder.names().len(), before.len() + 3, "{:?}", files.folder.names());
}

#[test]
fn sample_reports_what_it_did() {
    let files = Files::new("report");
    let run = |line: &str| report(words(line, &files));
    let r = run("sample @image --json");
    let expected = [
        "file",
        "steps",
        "guidance",
        "backend",
        "shape",
        "evaluations_per_picture",
        "seconds",
        "seconds_per_picture",
        "pictures",
        "out",
        "npz",
    ];
    assert_eq!(keys(&r), BTreeSet::from(expected));
    assert_eq!((&r["steps"], &r["guidance"], &r["shape"]), (&json!(4), &json!(1.0), &json!([8, 12, 3])));
    assert_eq!((&r["evaluations_per_picture"], &r["file"]), (&json!(4), &json!(files.image)));
    assert!(r["out"].is_null() && r["npz"].is_null());
    assert!(r["seconds"].as_f64().unwrap() > 0.0);
    let scalar = run("sample @image --backend scalar --json");
    assert_eq!(scalar["backend"], "scalar");
    assert_eq!(pictures(&scalar), pictures(&r));
    assert_ne!(pictures(&run("sample @image --guidance 0 --json")), pictures(&r));
    let two = run("sample @image --steps 2 --json");
    assert_eq!((&two["steps"], &two["evaluations_per_picture"]), (&json!(2), &json!(2)));
    // Guidance of a teacher takes a second evaluation; no guidance takes none.
    assert_eq!(run("sample @teacher --steps 3 --guidance 2 --class 0 --json")["evaluations_per_picture"], 6);
    assert_eq!(run("sample @teacher --steps 3 --guidance 0 --class 0 --json")["evaluations_per_picture"], 3);
    assert_eq!(run("sample @student --class 0 --json")["evaluations_per_picture"], 4);
}

#[test]
fn inspect_knows_images_and_checkpoints() {
    let files = Files::new("inspect");
    let image = report(words("inspect @image --json", &files));
    for key in
        ["arena_bytes", "file_bytes", "steps", "macs_per_step", "classes", "shape", "guidance", "format", "provenance"]
    {
        assert!(image.get(key).is_some(), "no {key} in {image}");
    }
    let bytes = AlignedBytes::from(&fs::read(&files.image).unwrap()[..]);
    let model = Model::parse(&bytes).unwrap();
    assert_eq!(image["file_bytes"], bytes.len());
    assert_eq!(image["arena_bytes"], model.arena_bytes());
    assert_eq!(image["macs_per_step"], model.info().macs_per_step);
    assert_eq!((&image["steps"], &image["classes"], &image["shape"]), (&json!(4), &json!(3), &json!([8, 12, 3])));
    assert_eq!(image["guidance"], json!([0.0, 4.0]));

    let student = report(words("inspect @student --json", &files));
    assert_eq!(
        (&student["kind"], &student["classes"], &student["shape"]),
        (&json!("4-step student"), &json!(3), &json!([8, 12, 3]))
    );
    assert_eq!(student["file_bytes"], fs::metadata(&files.student).unwrap().len());
    assert!(student["parameters"].as_u64().unwrap() > 1000 && student["macs_per_step"].as_u64().unwrap() > 1000);
    assert_eq!(report(words("inspect @teacher --json", &files))["kind"], "teacher");

    let page = fewstep(words("inspect @image", &files));
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(
        page.starts_with(text(&files.image)) && page.contains("arena bytes") && page.contains("8, 12, 3"),
        "{page}"
    );
}

#[test]
fn export_writes_an_image_that_draws_like_its_student() {
    let files = Files::new("export");
    let r = report(words("export @student --steps 4 --out @new.fsw --json", &files));
    let out = files.folder.join("new.fsw");
    let bytes = fs::read(&out).unwrap();
    let image = report(words("inspect @new.fsw --json", &files));
    assert_eq!((&r["out"], &r["file_bytes"], &r["steps"]), (&json!(out), &json!(bytes.len()), &json!(4)));
    assert_eq!((&image["arena_bytes"], &image["file_bytes"]), (&r["arena_bytes"], &r["file_bytes"]));
    assert_eq!(image["weights"]["int4"], 0);
    let int8_bytes = r["file_bytes"].as_u64();
    assert_eq!(image["provenance"]["classes"], "one, two, three");
    // The same student gives the same image.
    assert!(fewstep(words("export @student --steps 4 --out @again.fsw", &files)).status.success());
    assert_eq!(fs::read(files.folder.join("again.fsw")).unwrap(), bytes);

    let r = report(words("compare @new.fsw @student --count 6 --guidance 0,2.5 --json", &files));
    assert_eq!((&r["count"], &r["seed"]), (&json!(6), &json!(0)));
    let strengths = r["strengths"].as_array().unwrap().clone();
    assert_eq!(strengths.iter().map(|s| s["guidance"].as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 2.5]);
    for s in &strengths {
        let (all, worst) = (s["psnr"].as_f64().unwrap(), s["worst_picture_psnr"].as_f64().unwrap());
        assert!(worst <= all && worst > 20.0, "int8 and float are {all} dB apart, {worst} dB at worst");
    }
    // The same with weights of four bits: smaller, and further from the float student.
    let small = report(words("export @student --steps 4 --weights int4 --out @small.fsw --json", &files));
    let image = report(words("inspect @small.fsw --json", &files));
    assert!(small["file_bytes"].as_u64() < int8_bytes, "{small}");
    assert!(image["weights"]["int4"].as_u64() > Some(0), "{image}");
    let r = report(words("compare @small.fsw @student --count 6 --guidance 1 --json", &files));
    let psnr = r["strengths"][0]["psnr"].as_f64().unwrap();
    assert!((10.0..strengths[0]["psnr"].as_f64().unwrap()).contains(&psnr), "{psnr} dB");

    let page = fewstep(words("compare @new.fsw @teacher --first-steps 2 --steps 4 --count 3", &files));
    let page = String::from_utf8(page.stdout).unwrap();
    assert_eq!(page.lines().count(), 6, "{page}");
    assert!(page.contains("PSNR") && page.contains("3 pictures each, seed 0"), "{page}");
}

#[test]
fn export_writes_onnx_and_says_what_it_is() {
    let files = Files::new("onnx");
    for (line, steps, step) in [
        ("export @image --onnx qdq --out @a.onnx --json", 4, Value::Null),
        ("export @image --onnx float --step 3 --out @a.onnx --json", 4, json!(3)),
        ("export @student --onnx float --out @a.onnx --json", 4, Value::Null),
        ("export @student --steps 4 --onnx qdq --step 0 --out @a.onnx --json", 4, json!(0)),
    ] {
        let r = report(words(line, &files));
        let out = files.folder.join("a.onnx");
        let bytes = fs::read(&out).unwrap();
        assert_eq!((&r["out"], &r["file_bytes"]), (&json!(out), &json!(bytes.len())), "{line}");
        assert_eq!((&r["steps"], &r["step"], &r["opset"]), (&json!(steps), &step, &json!(OPSET)), "{line}");
        let model = <ModelProto as prost::Message>::decode(bytes.as_slice()).unwrap();
        assert_eq!(r["operators"], json!(model.graph.unwrap().node.len()), "{line}");
        let form = if line.contains("qdq") { "qdq" } else { "float" };
        assert_eq!(r["onnx"], form);
    }
}

#[test]
fn inspect_draws_the_memory_plan() {
    let files = Files::new("plan");
    let r = report(words("inspect @image --plan @plan.svg --json", &files));
    let svg = fs::read_to_string(files.folder.join("plan.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let peak = r["peak_set_by"].as_str().unwrap();
    // What sets the peak and what it is, the state, a stream and the scratch, in words.
    for part in [peak, &format!("peak {} bytes", r["peak_bytes"]), ">z<", "conv_in", "scratch", "stages 0 to"] {
        assert!(svg.contains(part), "nothing of {part} in the plan");
    }
    let count = usize::try_from(r["operations"].as_u64().unwrap()).unwrap();
    assert!(svg.matches("<title>").count() > count / 2, "most operations have a buffer of their own");
}

#[test]
fn bench_measures_what_it_says() {
    let files = Files::new("bench");
    let number = |r: &Value, key: &str| r[key].as_f64().unwrap_or_else(|| panic!("no {key} in {r:#}"));
    for (line, batch, threads) in [
        ("bench @image --seconds 0.05 --json", 1, 1),
        ("bench @image --backend scalar --batch 5 --threads 2 --seconds 0.05 --json", 5, 2),
    ] {
        let r = report(words(line, &files));
        assert_eq!((&r["batch"], &r["threads"]), (&json!(batch), &json!(threads)), "{line}");
        assert!(!line.contains("scalar") || r["backend"] == "scalar");
        let (median, least) = (number(&r, "step_ms"), number(&r, "step_ms_min"));
        assert!(0.0 < least && least <= median, "{r:#}");
        // A picture is its four steps, noise and bytes: it cannot be faster than the fastest steps.
        assert!(number(&r, "pictures_per_second") <= f64::from(batch) * 1e3 / (4.0 * least), "{r:#}");
        assert_eq!(number(&r, "steps_measured") % 4.0, 0.0);
    }
    // On an emulated board: instructions are counted, the time is named an estimate.
    let r = report(words("bench @image --board an500 --per-cycle 0.5 --json", &files));
    let sum: f64 = r["by_op"].as_array().unwrap().iter().map(|op| number(op, "instructions")).sum();
    let (whole, macs) = (number(&r, "instructions_per_step"), number(&r, "macs_per_step"));
    assert!((sum - whole).abs() <= 0.01 * whole && whole > macs * 0.1, "{sum} {whole}");
    let macs_of_ops: f64 = r["by_op"].as_array().unwrap().iter().map(|op| number(op, "macs")).sum();
    assert_eq!(macs_of_ops, macs);
    let (ms, clock) = (number(&r["estimate"], "step_ms"), number(&r["estimate"], "clock_hz"));
    // The instructions are shown rounded to whole ones.
    assert!((ms - whole / 0.5 / clock * 1e3).abs() < 0.51 / 0.5 / clock * 1e3, "{r:#}");
    let r = report(words("bench --layer 3x3:6x5x8:8 --board an500 --scratch 9000 --json", &files));
    assert_eq!(
        (&r["macs"], &r["equal"], &r["scratch_granted"]),
        (&json!(9 * 6 * 5 * 8 * 8), &json!(true), &json!(9000))
    );
    assert!(number(&r, "instructions") > 0.0 && number(&r, "scratch_bytes") <= 9000.0, "{r:#}");

    let page = fewstep(words("bench @image --seconds 0.05", &files));
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("ms (median of") && page.contains("a second"), "{page}");
}

/// Copies `from` with `change` made to its bytes.
fn damaged(files: &Files, from: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(from).unwrap();
    change(&mut bytes);
    fs::write(files.folder.join(name), bytes).unwrap();
}

/// What is wrong is named, with what to do; files that were there keep their bytes, and none is added.
#[test]
fn refusals_say_what_where_and_what_to_do_and_touch_nothing() {
    let files = Files::new("refusals");
    fs::write(files.folder.join("notes.txt"), "These are notes, and no network at all.\n").unwrap();
    fs::write(files.folder.join("empty.fsw"), "").unwrap();
    damaged(&files, &files.image, "short.fsw", |b| b.truncate(b.len() / 2));
    damaged(&files, &files.image, "stub.fsw", |b| b.truncate(11));
    damaged(&files, &files.image, "flipped.fsw", |b| {
        let middle = b.len() / 2;
        b[middle] ^= 4;
    });
    damaged(&files, &files.student, "short.safetensors", |b| b.truncate(b.len() / 2));
    fs::write(files.folder.join("kept.png"), "old picture").unwrap();
    fs::write(files.folder.join("kept.npz"), "old pictures").unwrap();
    fs::write(files.folder.join("kept.fsw"), "old image").unwrap();
    fs::create_dir(files.folder.join("folder")).unwrap();

    let both = "--out @kept.png --npz @kept.npz";
    let board = "--board an500 --seed 1 --class 1 --guidance 1";
    let cases: Vec<(String, Vec<&str>)> = [
        // Requests that the model cannot serve.
        (format!("sample @image --class 3 {both}"), vec!["--class 3", "0 to 2"]),
        (format!("sample @image --guidance 4.5 {both}"), vec!["--guidance 4.5", "student.fsw", "0 to 4"]),
        (format!("sample @image --guidance -1 {both}"), vec!["--guidance -1", "0 to 4"]),
        (format!("sample @image --guidance NaN {both}"), vec!["--guidance NaN", "0 to 4"]),
        (format!("sample @image --guidance inf {both}"), vec!["--guidance inf", "0 to 4"]),
        (format!("sample @image --steps 3 {both}"), vec!["--steps 3", "divisor of 4"]),
        (format!("sample @image --steps 8 {both}"), vec!["--steps 8", "divisor of 4"]),
        (format!("sample @image --steps 65537 {both}"), vec!["--steps 65537", "from 1 to"]),
        (format!("sample @image --steps 0 {both}"), vec!["--steps 0", "from 1 to"]),
        (format!("sample @image --steps 1 --sampler stochastic {both}"), vec!["stochastic", "at least 2"]),
        (format!("sample @image --backend quick {both}"), vec!["--backend quick", "scalar", "auto"]),
        (format!("sample @image --count 0 {both}"), vec!["--count 0", "from 1 to"]),
        ("sample @image --count 5000 --out @kept.png".into(), vec!["--count 5000", "4096", "--npz"]),
        (format!("sample @teacher --class 0 {both}"), vec!["teacher", "give --steps"]),
        (format!("sample @teacher --steps 2 --class 3 {both}"), vec!["--class 3", "0 to 2"]),
        (format!("sample @teacher --steps 2 --guidance NaN {both}"), vec!["--guidance NaN", "from 0"]),
        (format!("sample @teacher --steps 2 --backend scalar {both}"), vec!["--backend scalar", "float"]),
        (format!("sample @student --guidance 5 {both}"), vec!["--guidance 5", "0 to 4"]),
        (format!("sample @student --steps 3 {both}"), vec!["--steps 3", "divisor of 4"]),
        // Files that are none.
        (format!("sample @notes.txt {both}"), vec!["notes.txt", "neither a student image nor a checkpoint"]),
        (format!("sample @empty.fsw {both}"), vec!["empty.fsw", "neither a student image nor a checkpoint"]),
        (format!("sample @short.fsw {both}"), vec!["short.fsw", "export the student again"]),
        (format!("sample @stub.fsw {both}"), vec!["stub.fsw", "export the student again"]),
        (format!("sample @flipped.fsw {both}"), vec!["flipped.fsw", "checksum", "export the student again"]),
        (format!("sample @short.safetensors {both}"), vec!["short.safetensors", "damaged", "train-teacher or distill"]),
        (format!("sample @student --class sneaker {both}"), vec!["--class", "sneaker", "a whole number"]),
        ("sample @student --out @notes.txt/x.png".into(), vec!["notes.txt/x.png", "notes.txt is a file"]),
        (format!("sample @missing.fsw {both}"), vec!["missing.fsw", "no such file", "check the name"]),
        (format!("sample @folder {both}"), vec!["folder", "name a file"]),
        ("inspect @notes.txt".into(), vec!["notes.txt", "neither a student image nor a checkpoint"]),
        ("inspect @flipped.fsw --json".into(), vec!["flipped.fsw", "checksum"]),
        ("inspect @missing.fsw".into(), vec!["missing.fsw", "no such file"]),
        ("compare @image @missing.fsw".into(), vec!["missing.fsw", "no such file"]),
        ("compare @image @teacher".into(), vec!["teacher", "give --steps"]),
        ("compare @image @student --count 0".into(), vec!["--count 0", "from 1 to"]),
        ("compare @image @student --guidance 9".into(), vec!["--guidance 9", "0 to 4"]),
        // Exports of what is no student, or of other steps.
        ("export @teacher --steps 4 --out @kept.fsw".into(), vec!["teacher.safetensors", "distil it first"]),
        ("export @student --steps 2 --out @kept.fsw".into(), vec!["student.safetensors", "--steps 2", "4 steps"]),
        ("export @student --steps 0 --out @kept.fsw".into(), vec!["--steps 0", "1 to 16"]),
        ("export @student --steps 17 --out @kept.fsw".into(), vec!["--steps 17", "1 to 16"]),
        (
            "export @student --steps 4 --weights int4 --profile x86-vnni --out @kept.fsw".into(),
            vec!["--weights int4", "leave --profile out"],
        ),
        (
            "export @image --steps 4 --out @kept.fsw".into(),
            vec!["student.fsw", "a student image", "not a fewstep checkpoint"],
        ),
        ("export @missing.safetensors --steps 4 --out @kept.fsw".into(), vec!["missing.safetensors", "no such file"]),
        ("export @image --onnx qdq --step 4 --out @kept.fsw".into(), vec!["student.fsw", "--step 4", "0 to 3"]),
        ("export @image --onnx float --steps 2 --out @kept.fsw".into(), vec!["student.fsw", "--steps 2", "4 steps"]),
        ("export @student --onnx float --steps 2 --out @kept.fsw".into(), vec!["--steps 2", "4 steps"]),
        ("export @teacher --onnx float --out @kept.fsw".into(), vec!["teacher.safetensors", "distil it first"]),
        ("export @notes.txt --onnx qdq --out @kept.fsw".into(), vec!["notes.txt", "neither a student image"]),
        ("export @image --onnx qdq --out @no/such/a.onnx".into(), vec!["no/such", "create it first"]),
        // Plans of what has none.
        ("inspect @student --plan @new.svg".into(), vec!["student.safetensors", "a checkpoint", "export it"]),
        ("inspect @image --plan @no/such/a.svg".into(), vec!["no/such", "create it first"]),
        // Measurements that cannot be.
        ("bench @student".into(), vec!["student.safetensors", "student image"]),
        ("bench @flipped.fsw".into(), vec!["flipped.fsw", "checksum"]),
        ("bench @image --batch 0".into(), vec!["--batch 0", "from 1 to"]),
        ("bench @image --threads 5000".into(), vec!["--threads 5000", "from 0 to"]),
        ("bench @image --seconds 0".into(), vec!["--seconds 0", "above 0"]),
        ("bench @image --seconds NaN".into(), vec!["--seconds NaN", "above 0"]),
        ("bench @image --backend quick".into(), vec!["--backend quick", "scalar", "auto"]),
        ("bench @image --board abacus".into(), vec!["abacus", "an386", "an500"]),
        ("bench @image --board an500 --per-cycle 0".into(), vec!["--per-cycle 0", "above 0"]),
        ("bench --board an500 --layer 3x3:16x16x32".into(), vec!["--layer 3x3:16x16x32", "KxK:HxWxCIN:COUT"]),
        ("bench --board abacus --layer 3x3:7x7x8:8".into(), vec!["abacus", "an386", "an500"]),
        // Places that cannot be written: found before the work, so the other output is not there either.
        ("sample @image --out @new.png --npz @no/such/a.npz".into(), vec!["no/such", "create it first"]),
        ("sample @image --out @folder --npz @new.npz".into(), vec!["folder", "name a file"]),
        ("export @student --steps 4 --out @no/such/new.fsw".into(), vec!["no/such", "create it first"]),
        ("export @student --steps 4 --out @folder".into(), vec!["folder", "name a file"]),
        ("sample @image --out @new.npz".into(), vec!["new.npz", "name it .png", "--npz"]),
        (format!("simulate @image {board} --out @no/such/a.png --npz @new.npz"), vec!["no/such", "create it first"]),
        // Simulations that cannot be.
        (format!("simulate @image --board an500 --class 9 {both}"), vec!["class 9", "0 to 2"]),
        (format!("simulate @image --board an500 --guidance 7 {both}"), vec!["w = 7", "0 to 4"]),
        (format!("simulate @image --board an500 --guidance NaN {both}"), vec!["w = NaN", "0 to 4"]),
        (format!("simulate @image --board abacus {both}"), vec!["abacus", "an386", "an500"]),
        (format!("simulate @flipped.fsw {board} {both}"), vec!["flipped.fsw", "checksum"]),
        (format!("simulate @notes.txt {board} {both}"), vec!["notes.txt", "does not start with the .fsw magic"]),
        // Training that cannot begin.
        ("train-teacher --data @missing --out @run".into(), vec!["missing: there is nothing there"]),
        ("train-teacher --data @folder --out @run".into(), vec!["folder: holds no pictures in a form"]),
        ("train-teacher --data @missing --out @run --batch 0".into(), vec!["--batch 0", "1 to"]),
        ("distill --teacher @student --data @folder --out @run".into(), vec!["4-step student", "train-teacher"]),
        ("distill --teacher @missing --data @folder --out @run".into(), vec!["missing", "no such file"]),
        ("distill --teacher @teacher --data @missing --out @run --steps 3".into(), vec!["powers of two", "not 3"]),
        // The demo without its files.
        ("demo --assets @folder --out @run".into(), vec!["fashion-mnist-teacher.safetensors", "no such file"]),
        ("demo --assets @missing --out @run".into(), vec!["missing", "no such file"]),
    ]
    .into();

    let everything = |names: &[String]| -> Vec<Vec<u8>> {
        names.iter().map(|n| files.folder.join(n)).filter(|p| p.is_file()).map(|p| fs::read(p).unwrap()).collect()
    };
    let names = files.folder.names();
    let bytes = everything(&names);
    let mut wrong = Vec::new();
    for (line, parts) in cases {
        let message = refusal(words(&line, &files));
        for part in parts.iter().filter(|part| !message.contains(**part)) {
            wrong.push(format!("fewstep {line}\n    says nothing of {part:?}: {message}"));
        }
        assert_eq!(files.folder.names(), names, "fewstep {line}");
        assert!(everything(&names) == bytes, "fewstep {line} changed a file");
    }
    assert!(wrong.is_empty(), "{}", wrong.join(""));
}

/// The parser's own refusals: exit code 2, the word in question named, usage shown.
#[test]
fn what_is_no_command_line_is_refused() {
    let files = Files::new("usage");
    let names = files.folder.names();
    for (line, part) in [
        ("", "Usage:"),
        ("draw", "draw"),
        ("sample", "<FILE>"),
        ("sample @image --clas 1", "--clas"),
        ("sample @image --class shoe --out @new.png", "shoe"),
        ("sample @image --class 70000 --out @new.png", "70000"),
        ("sample @image --count -1 --out @new.png", "-1"),
        ("sample @image --guidance much --out @new.png", "much"),
        ("sample @image --class 1 --all-classes --out @new.png", "--all-classes"),
        ("sample @image --sampler other --out @new.png", "stochastic"),
        ("export @student --out @new.fsw", "--steps"),
        ("export @student --steps 4", "--out"),
        ("export @image --onnx int4 --out @new.onnx", "int4"),
        ("export @student --steps 4 --step 0 --out @new.fsw", "--onnx"),
        ("bench @image --board an500 --batch 2", "--batch"),
        ("bench @image --per-cycle 2", "--board"),
        ("bench", "<FILE>"),
        ("bench --layer 3x3:7x7x8:8", "--board"),
        ("bench @image --board an500 --layer 3x3:7x7x8:8", "--layer"),
        ("bench @image --scratch 100", "--layer"),
        ("simulate @image --out @new.png", "--board"),
        ("train-teacher --data @missing", "--out"),
        ("distill --data @missing --out @run", "--teacher"),
        ("data subset --data @missing --out @piece", "--per-class"),
    ] {
        let output = fewstep(words(line, &files));
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "fewstep {line}\n{log}");
        assert!(log.contains(part) && output.stdout.is_empty(), "fewstep {line}\n{log}");
        assert_eq!(files.folder.names(), names, "fewstep {line}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let verbs =
        ["data", "train-teacher", "distill", "export", "sample", "inspect", "compare", "simulate", "bench", "demo"];
    let all = fewstep(["--help"]);
    let page = String::from_utf8(all.stdout).unwrap();
    for verb in verbs {
        assert!(page.contains(verb), "{verb} is not in\n{page}");
        let output = fewstep([verb, "--help"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{verb}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("Usage: fewstep"), "{verb}");
    }
    let version = fewstep(["--version"]);
    assert!(version.status.success());
    assert_eq!(String::from_utf8(version.stdout).unwrap().trim(), format!("fewstep {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn data_subset_makes_a_balanced_piece() {
    let folder = Folder::new("cli-subset");
    let (whole, piece) = (folder.join("whole"), folder.join("piece"));
    fs::create_dir(&whole).unwrap();
    write_idx(&whole, &squares());
    let args = |rest: &[&str]| -> Vec<String> {
        ["data", "subset", "--data", text(&whole), "--out", text(&piece)]
            .iter()
            .chain(rest)
            .map(|s| s.to_string())
            .collect()
    };
    // Nothing is made when it cannot be whole: too many pictures, none, or no test pictures to take.
    for (rest, parts) in [
        (&["--per-class", "9"][..], ["--per-class", "has only 8"]),
        (&["--per-class", "0"], ["--per-class", "at least 1"]),
        (&["--per-class", "2", "--test-per-class", "1"], ["t10k", "whole"]),
    ] {
        let message = refusal(args(rest));
        assert!(parts.iter().all(|p| message.contains(p)), "{rest:?}: {message}");
        assert!(!piece.exists(), "{rest:?}");
    }
    let missing = folder.join("nowhere");
    let message = refusal(["data", "subset", "--data", text(&missing), "--per-class", "2", "--out", text(&piece)]);
    assert!(message.contains("nowhere") && !piece.exists(), "{message}");

    let output = fewstep(args(&["--per-class", "3"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.contains("6 training and 0 test pictures of 2 classes"), "{line}");
    let (read, all) = (data::open(&piece, Split::Train).unwrap(), squares());
    assert_eq!(read.labels, [0, 1, 0, 1, 0, 1]);
    assert_eq!(read.pictures, all.pictures[..6 * 64]);
}
