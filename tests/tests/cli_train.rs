//! The contract of `train-teacher` and `distill` where arguments or files are wrong: exit code 2, one sentence on
//! standard error that names the argument or file and says what to do, nothing on standard output, no file touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use candle_core::{DType, Device};
use fewstep::data::Dataset;
use fewstep::nn::{Checkpoint, Kind};
use fewstep_tests::{Folder, fewstep, random_net, squares, tiny_arch, write_idx};
use serde_json::{Value, json};

/// Runs with words split at blanks; `{data}`, `{teacher}` and `{out}` stand for paths.
struct Place {
    folder: Folder,
}

impl Place {
    /// A folder with a data set and a teacher for it.
    fn new(name: &str) -> Place {
        let folder = Folder::new(&format!("cli-{name}"));
        fs::create_dir(folder.join("data")).unwrap();
        write_idx(&folder.join("data"), &squares());
        fs::write(folder.join("teacher.safetensors"), teacher_bytes()).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, line: &str) -> Output {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_string(),
        };
        fewstep(line.split_whitespace().map(word))
    }

    /// Runs what must be refused, checks everything that the contract says, and returns the sentence.
    fn refuse(&self, line: &str, words: &[&str]) -> String {
        let before = contents(self.folder.path());
        let output = self.run(line);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "`{line}` ended with {}: {message}", output.status);
        assert!(output.stdout.is_empty(), "`{line}` wrote to standard output");
        assert!(message.starts_with("fewstep: ") && message.ends_with('\n'), "`{line}` said: {message}");
        assert_eq!(message.lines().count(), 1, "`{line}` said more than a sentence: {message}");
        assert!(!message.contains("panicked"), "{message}");
        for word in words {
            let word = word.strip_prefix('@').map_or(word.to_string(), |name| self.path(name).display().to_string());
            assert!(message.contains(&word), "`{line}` did not say `{word}`: {message}");
        }
        assert!(before == contents(self.folder.path()), "`{line}` touched files");
        message
    }
}

/// Every file below a folder with its bytes, and every folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
            all.insert(path, b"folder".to_vec());
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// A checkpoint file of a random network of the tiny shape.
fn checkpoint_bytes(kind: Kind, classes: usize) -> Vec<u8> {
    let folder = Folder::new(&format!("cli-checkpoint-{kind:?}-{classes}"));
    let arch = fewstep::nn::Arch { classes, ..tiny_arch() };
    let net = random_net(&arch, kind != Kind::Teacher, 1);
    let class_names = (0..classes).map(|c| c.to_string()).collect();
    let path = folder.join("a.safetensors");
    Checkpoint { kind, net, class_names, provenance: BTreeMap::new() }.save(&path, DType::F32).unwrap();
    fs::read(path).unwrap()
}

fn teacher_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| checkpoint_bytes(Kind::Teacher, 2))
}

const TRAIN: &str = "train-teacher --data @data --out @out";
const DISTILL: &str = "distill --data @data --teacher @teacher.safetensors --out @out";
/// What makes runs short.
const SHORT: &str = "--batch 8 --precision f32";

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "--version", "help", "train-teacher --help", "distill --help", "help distill"] {
        let output = fewstep(line.split_whitespace());
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{line}");
    }
    let text = |line: &str| String::from_utf8(fewstep(line.split_whitespace()).stdout).unwrap();
    assert!(text("--help").contains("train-teacher") && text("--help").contains("distill"));
    for option in [
        "--data",
        "--out",
        "--resume",
        "--images",
        "--seed",
        "--device",
        "--batch",
        "--lr",
        "--width",
        "--blocks",
        "--precision",
    ] {
        assert!(text("train-teacher --help").contains(option), "{option}");
        assert!(text("distill --help").contains(option), "{option}");
    }
    for option in ["--teacher", "--steps"] {
        assert!(text("distill --help").contains(option), "{option}");
    }
}

#[test]
fn nothing_asked_is_an_error() {
    let output = fewstep::<&str>([]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}

#[test]
fn arguments_that_are_not_understood() {
    let place = Place::new("understood");
    for (line, words) in [
        ("draw", &["draw"][..]),
        ("--verbose", &["--verbose"]),
        ("train-teacher", &["--data", "--out"]),
        ("train-teacher --data @data", &["--out"]),
        ("distill --data @data --out @out", &["--teacher"]),
        ("train-teacher --data @data --out @out --color blue", &["--color"]),
        ("train-teacher --data @data --out @out --images", &["--images"]),
        ("train-teacher --data @data --out @out --images many", &["--images", "many"]),
        ("train-teacher --data @data --out @out --images -5", &["-5"]),
        ("train-teacher --data @data --out @out --images 1.5", &["--images", "1.5"]),
        ("train-teacher --data @data --out @out --images 99999999999999999999", &["--images"]),
        ("train-teacher --data @data --out @out --seed x", &["--seed", "x"]),
        ("train-teacher --data @data --out @out --device tpu", &["--device", "tpu"]),
        ("train-teacher --data @data --out @out --precision f8", &["--precision", "f8"]),
        ("train-teacher --data @data --out @out extra", &["extra"]),
        ("distill --data @data --teacher @teacher.safetensors --out @out --steps 8;4", &["--steps", "8;4"]),
        ("distill --data @data --teacher @teacher.safetensors --out @out --steps 4,,1", &["--steps"]),
    ] {
        place.refuse(line, words);
    }
}

#[test]
fn values_out_of_range() {
    let place = Place::new("range");
    for (options, words) in [
        ("--images 0", &["--images 0"][..]),
        ("--images 18446744073709551615", &["--images"]),
        ("--batch 0", &["--batch 0"]),
        ("--batch 65537", &["--batch 65537"]),
        ("--lr 0", &["--lr 0"]),
        ("--lr 1", &["--lr 1"]),
        ("--lr NaN", &["--lr NaN"]),
        ("--lr inf", &["--lr inf"]),
        ("--ema 1", &["--ema 1"]),
        ("--ema NaN", &["--ema NaN"]),
        ("--class-dropout 1.5", &["--class-dropout 1.5"]),
        ("--class-dropout NaN", &["--class-dropout NaN"]),
        ("--threads 99999999", &["--threads 99999999"]),
        ("--width 0", &["--width"]),
        ("--width 99999999999999", &["--width"]),
        ("--width 18446744073709551615", &["--width"]),
        ("--width 2000 --blocks 200,200,200", &["--width", "parameters"]),
        ("--heads 7", &["--heads", "7 heads"]),
        ("--blocks 1,0,1", &["--blocks"]),
        ("--blocks 1,1", &["--blocks"]),
        ("--blocks 1,1,1,1", &["--blocks"]),
        ("--blocks 1,99999999999,1", &["--blocks"]),
    ] {
        place.refuse(&format!("{TRAIN} {options}"), words);
    }
    for (options, words) in [
        ("--steps 3", &["--steps", "not 3"][..]),
        ("--steps 0", &["--steps", "not 0"]),
        ("--steps 8,4,2048", &["--steps", "2048"]),
        ("--first 12", &["--first", "not 12"]),
        ("--first 0", &["--first", "not 0"]),
        ("--images 0", &["--images"]),
        ("--guided-images 0", &["--guided-images"]),
        ("--images 18446744073709551615", &["--images"]),
        ("--last-factor 0", &["--last-factor 0"]),
        ("--last-factor 101", &["--last-factor 101"]),
        ("--images 100,100", &["--images", "pd"]),
        ("--images 100,0 --method mcd --steps 2,1", &["--images 0"]),
        ("--images 1,2,3 --method mcd --steps 2,1", &["--images", "3 numbers for 2 students"]),
        ("--target teacher", &["--target", "--method"]),
        ("--ema 0.9", &["--ema", "--method"]),
        ("--segment-steps 8", &["--segment-steps", "it belongs to --method tract, cd or mcd"]),
        ("--student-lr 0.1", &["--student-lr", "--method"]),
        ("--guidance-power 2", &["--guidance-power", "--method"]),
        ("--method mcd --first 16", &["--first", "--method"]),
        ("--method tract --last-factor 2", &["--last-factor", "it belongs to --method pd, the default"]),
        ("--method mcd --steps 0", &["--steps 0"]),
        ("--method mcd --steps 1025", &["--steps 1025"]),
        ("--method mcd --steps 4 --segment-steps 0", &["--segment-steps 0"]),
        ("--method mcd --steps 4 --segment-steps 257", &["--segment-steps 257", "1024"]),
        ("--method mcd --steps 4 --segment-steps 8,16", &["--segment-steps", "2 numbers for 1 students"]),
        ("--method mcd --ema 1", &["--ema 1"]),
        ("--method mcd --ema NaN", &["--ema NaN"]),
        ("--method mcd --student-lr 0", &["--student-lr 0"]),
        ("--method mcd --guidance-power 0", &["--guidance-power 0"]),
        ("--method mcd --guidance-power NaN", &["--guidance-power NaN"]),
        ("--method cd --steps 4", &["--method cd", "--steps 1", "mcd"]),
        ("--method tract --steps 4,3", &["--steps 4,3", "divisors"]),
        ("--method ladder", &["--method", "ladder"]),
        ("--guided @teacher.safetensors", &["--guided", "@teacher.safetensors", "a teacher"]),
        ("--guided @missing", &["@missing"]),
        ("--guided @teacher.safetensors --guided-images 8", &["--guided-images", "--guided"]),
        ("--start @teacher.safetensors", &["--start", "--method"]),
        ("--method mcd --start @missing --target teacher", &["@missing"]),
        ("--method mcd --start @teacher.safetensors", &["--guided FILE", "--target guided"]),
        ("--finish gan", &["--finish", "gan", "wide"]),
        ("--finish-images 100", &["--finish-images", "--finish mm"]),
        ("--finish mm --finish-images 0", &["--finish-images 0"]),
        ("--finish mm --finish-lr 1", &["--finish-lr 1"]),
        ("--finish mm --finish-anchor -1", &["-1"]),
        ("--finish mm --finish-anchor NaN", &["--finish-anchor NaN"]),
        ("--finish traj --finish-anchor 1", &["--finish-anchor", "--finish mm"]),
        ("--finish mm --trajectories 256", &["--trajectories", "--finish traj"]),
        ("--finish traj --trajectories 0", &["--trajectories 0"]),
        ("--finish traj --own-states 1.5", &["--own-states 1.5"]),
        ("--finish traj --own-states NaN", &["--own-states NaN"]),
        ("--finish mm --widen 0.1", &["--widen", "--finish wide"]),
        ("--finish match", &["--finish match", "--features FILE", "train-features"]),
        ("--finish match --features @missing", &["@missing"]),
        ("--finish match --features @teacher.safetensors", &["@teacher.safetensors", "train-features"]),
        ("--finish wide --features @missing", &["--features", "--finish match"]),
        ("--finish wide --match-guidance 1", &["--match-guidance", "--finish match"]),
        ("--finish match --features @missing --match-guidance 0", &["--match-guidance 0", "above 0"]),
        ("--finish match --features @missing --match-guidance 4.1", &["--match-guidance 4.1"]),
        ("--finish match --features @missing --match-guidance 1,NaN", &["--match-guidance NaN"]),
        ("--finish match --features @missing --match-guidance 1,2,1", &["--match-guidance 1", "once"]),
        ("--finish match --features @missing --trajectories 256", &["--trajectories", "--match-guidance"]),
        ("--finish wide --widen 2", &["--widen 2"]),
        ("--finish wide --widen NaN", &["--widen NaN"]),
        ("--int8-images 0", &["--int8-images 0"]),
        ("--int8-lr 0.001", &["--int8-lr", "--int8-images"]),
        ("--int8-images 8 --int8-lr 0", &["--int8-lr 0"]),
        ("--int4-images 0", &["--int4-images 0"]),
        ("--int4-lr 0.001", &["--int4-lr", "--int4-images"]),
        ("--finish mm --method mcd --start @teacher.safetensors --target teacher", &["--guided FILE", "--finish"]),
        ("--method mcd --start @teacher.safetensors --target teacher", &["--start", "@teacher.safetensors", "student"]),
        ("--batch 0", &["--batch 0"]),
        ("--lr -1", &["-1"]),
        ("--width 0", &["--width"]),
        ("--heads 7", &["--heads", "7 heads"]),
        ("--blocks 1,0,1", &["--blocks"]),
        ("--blocks 1", &["--blocks"]),
    ] {
        place.refuse(&format!("{DISTILL} {options}"), words);
    }
}

/// A program without GPU support says so; one with it, and a GPU, goes on to the data, which is not there.
#[test]
fn gpu_without_gpu_support() {
    let place = Place::new("gpu");
    for line in ["train-teacher --data @missing --out @out", "distill --data @missing --teacher @missing --out @out"] {
        let message = place.refuse(&format!("{line} --device cuda"), &[]);
        let missing = place.path("missing").display().to_string();
        assert!(
            message.contains(&missing) || message.contains("--device cuda") && message.contains("--device cpu"),
            "{message}"
        );
    }
}

#[test]
fn data_that_cannot_be_used() {
    let place = Place::new("data");
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("file"), b"no data").unwrap();
    fs::create_dir(place.path("damaged")).unwrap();
    for entry in fs::read_dir(place.path("data")).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        fs::write(place.path("damaged").join(entry.file_name()), &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::create_dir(place.path("odd")).unwrap();
    let odd = Dataset {
        height: 9,
        width: 7,
        channels: 1,
        class_names: vec!["a".into()],
        pictures: vec![0; 63],
        labels: vec![0],
    };
    write_idx(&place.path("odd"), &odd);
    for verb in ["train-teacher --out @out", "distill --teacher @teacher.safetensors --out @out"] {
        for (data, words) in [
            ("@missing", &["@missing", "name"][..]),
            ("@empty", &["@empty"]),
            ("@file", &["@file"]),
            ("@damaged", &["@damaged", "truncated"]),
        ] {
            place.refuse(&format!("{verb} --data {data}"), words);
        }
    }
    place.refuse("train-teacher --data @odd --out @out", &["9x7", "multiples of 4", "--data"]);
    place.refuse("distill --teacher @teacher.safetensors --data @odd --out @out", &["@odd", "9x7x1", "8x8x1"]);
}

#[test]
fn places_where_no_run_can_be_made() {
    let place = Place::new("places");
    fs::write(place.path("file"), b"a file").unwrap();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/thesis.txt"), b"years of work").unwrap();
    for line in ["train-teacher --data @data", "distill --data @data --teacher @teacher.safetensors"] {
        place.refuse(&format!("{line} --out @file"), &["@file"]);
        place.refuse(&format!("{line} --out @file/run"), &["@file/run"]);
        place.refuse(&format!("{line} --out @full"), &["@full", "--out"]);
        place.refuse(&format!("{line} --out @full --resume"), &["@full", "--out"]);
    }
}

#[test]
fn run_is_resumed_only_as_it_was_started() {
    let place = Place::new("resume");
    let start = format!("{TRAIN} {SHORT} --images 8 --width 8 --blocks 1,1,1");
    let output = place.run(&start);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The path of the result comes first: all that a script needs.
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().next(), Some(&*place.path("out/teacher.safetensors").display().to_string()));
    place.refuse(&start, &["@out", "--resume"]);
    for (options, words) in [
        (format!("{start} --resume --seed 1"), ["@out", "seed"]),
        (format!("{start} --resume --lr 0.01"), ["@out", "lr"]),
        (start.replace("--images 8", "--images 16") + " --resume", ["@out", "images"]),
        (start.replace("--width 8", "--width 16") + " --resume", ["@out", "width"]),
        (start.replace("1,1,1", "1,2,1") + " --resume", ["@out", "blocks"]),
        (start.replace("--batch 8", "--batch 4") + " --resume", ["@out", "batch"]),
        // A distillation is no way to go on with a teacher.
        (format!("{DISTILL} {SHORT} --resume"), ["@out", "--out"]),
    ] {
        place.refuse(&options, &words);
    }
    assert!(place.run(&format!("{start} --resume --threads 1")).status.success());

    fs::write(place.path("out/options.json"), b"{ half").unwrap();
    place.refuse(&format!("{start} --resume"), &["@out/options.json", "--out"]);
}

/// A state that cannot be read stops the run; it is not started anew in silence, and not overwritten.
#[test]
fn damaged_state_is_refused() {
    let place = Place::new("state");
    // A run as it is after its options were written.
    let start = format!("{TRAIN} {SHORT} --images 8 --width 8 --blocks 1,1,1");
    assert!(place.run(&start).status.success());
    fs::remove_file(place.path("out/teacher.safetensors")).unwrap();
    for bytes in [&b""[..], b"short", &teacher_bytes()[..1000], teacher_bytes()] {
        fs::write(place.path("out/state.safetensors"), bytes).unwrap();
        let output = place.run(&format!("{start} --resume"));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("state.safetensors") && !message.contains("panicked"), "{message}");
        assert_eq!(fs::read(place.path("out/state.safetensors")).unwrap(), bytes);
    }
}

#[test]
fn teacher_must_be_a_teacher_of_these_pictures() {
    let place = Place::new("teacher");
    fs::write(place.path("guided.safetensors"), checkpoint_bytes(Kind::Guided, 2)).unwrap();
    fs::write(place.path("student.safetensors"), checkpoint_bytes(Kind::Student(4), 2)).unwrap();
    fs::write(place.path("classes.safetensors"), checkpoint_bytes(Kind::Teacher, 3)).unwrap();
    fs::create_dir(place.path("large")).unwrap();
    let large =
        Dataset { height: 12, width: 12, channels: 1, class_names: vec![], pictures: vec![0; 288], labels: vec![0, 1] };
    write_idx(&place.path("large"), &large);
    for (line, words) in [
        ("distill --data @data --out @out --teacher @missing", &["@missing", "no such file"][..]),
        ("distill --data @data --out @out --teacher @data", &["@data", "folder"]),
        (
            "distill --data @data --out @out --teacher @guided.safetensors",
            &["@guided.safetensors", "guided", "train-teacher"],
        ),
        (
            "distill --data @data --out @out --teacher @student.safetensors",
            &["@student.safetensors", "4-step student", "train-teacher"],
        ),
        ("distill --data @data --out @out --teacher @classes.safetensors", &["@data", "8x8x1", "3 classes"]),
        ("distill --data @large --out @out --teacher @teacher.safetensors", &["@large", "8x8x1", "12x12x1"]),
    ] {
        place.refuse(line, words);
    }
}

/// A checkpoint file with another description or other tensors.
fn edited(edit: impl FnOnce(&mut Value, &mut Value)) -> Vec<u8> {
    let bytes = teacher_bytes();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let mut description: Value = serde_json::from_str(header["__metadata__"]["fewstep"].as_str().unwrap()).unwrap();
    edit(&mut header, &mut description);
    if header["__metadata__"].is_object() {
        header["__metadata__"]["fewstep"] = Value::String(description.to_string());
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + len..]].concat()
}

#[test]
fn damaged_checkpoints() {
    let place = Place::new("damaged");
    let line = "distill --data @data --out @out --teacher @bad.safetensors";
    let refuse = |what: &str, bytes: &[u8]| {
        fs::write(place.path("bad.safetensors"), bytes).unwrap();
        let message = place.refuse(line, &["@bad.safetensors"]);
        println!("{what}: {message}");
    };
    let good = teacher_bytes();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;

    for len in [0, 1, 7, 8, 9, 100, header - 1, header, header + 1, good.len() / 2, good.len() - 1] {
        refuse(&format!("cut to {len} bytes"), &good[..len]);
    }
    refuse("longer", &[good, &[0; 64]].concat());
    for len in [0, 1, 1 << 20, 1 << 40, u64::MAX] {
        let mut bytes = good.to_vec();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        refuse(&format!("header length {len}"), &bytes);
    }
    refuse("another kind of file", b"PK\x03\x04 a zip file, or something like it that is long enough to be looked at");

    type Edit = fn(&mut Value, &mut Value);
    let edits: [(&str, Edit); 26] = [
        ("no metadata", |h, _| drop(h.as_object_mut().unwrap().remove("__metadata__"))),
        ("another format", |h, _| h["__metadata__"]["format"] = json!("pt")),
        ("no kind", |_, d| drop(d.as_object_mut().unwrap().remove("kind"))),
        ("an unknown kind", |_, d| d["kind"] = json!("painter")),
        ("no architecture", |_, d| drop(d.as_object_mut().unwrap().remove("arch"))),
        ("too few names", |_, d| d["class_names"] = json!(["a"])),
        ("no height", |_, d| d["arch"]["height"] = json!(0)),
        ("negative height", |_, d| d["arch"]["height"] = json!(-8)),
        ("a height of 2^60", |_, d| d["arch"]["height"] = json!(1u64 << 60)),
        ("no patch", |_, d| d["arch"]["patch"] = json!(0)),
        ("a patch of 2^63", |_, d| d["arch"]["patch"] = json!(1u64 << 63)),
        ("no widths", |_, d| d["arch"]["widths"] = json!([])),
        ("widths without blocks", |_, d| d["arch"]["widths"] = json!([8, 16, 24])),
        ("a width of 9", |_, d| d["arch"]["widths"] = json!([8, 9])),
        ("another width", |_, d| d["arch"]["widths"] = json!([8, 24])),
        ("a width of 2^50", |_, d| d["arch"]["widths"] = json!([1u64 << 50, 16])),
        ("a width of 2^63", |_, d| d["arch"]["widths"] = json!([8, 1u64 << 63])),
        ("a hundred levels", |_, d| {
            d["arch"]["widths"] = json!(vec![8; 100]);
            d["arch"]["encoder"] = json!(vec![1; 99]);
            d["arch"]["decoder"] = json!(vec![1; 99]);
        }),
        ("2^60 blocks", |_, d| d["arch"]["middle"] = json!(1u64 << 60)),
        ("one block more", |_, d| d["arch"]["middle"] = json!(3)),
        ("2^60 classes", |_, d| d["arch"]["classes"] = json!(1u64 << 60)),
        ("an embedding of 2^62", |_, d| d["arch"]["embed"] = json!(1u64 << 62)),
        ("three heads", |_, d| d["arch"]["attention_heads"] = json!(3)),
        ("a tensor missing", |h, _| {
            let t = h.as_object_mut().unwrap().remove("conv_in.bias").unwrap();
            h["conv_in.other"] = t;
        }),
        ("a tensor of another shape", |h, _| {
            let shape = h["conv_in.weight"]["shape"].clone();
            h["conv_in.weight"]["shape"] = json!([shape[3], shape[1], shape[2], shape[0]]);
        }),
        ("offsets outside", |h, _| h["conv_in.weight"]["data_offsets"] = json!([0, 1u64 << 40])),
    ];
    for (what, edit) in edits {
        refuse(what, &edited(edit));
    }
    // The unchanged description is accepted, else the edits above would show nothing.
    fs::write(place.path("bad.safetensors"), edited(|_, _| ())).unwrap();
    assert!(Checkpoint::open(&place.path("bad.safetensors"), &Device::Cpu).is_ok());
}

/// Bytes of the header changed: read as something whole or refused, never a panic.
#[test]
fn flipped_bytes_of_a_checkpoint_never_panic() {
    let folder = Folder::new("cli-flips");
    let path = folder.join("a.safetensors");
    let good = teacher_bytes();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let (mut refused, mut changes) = (0, 0);
    // The length and the description whole, a sample of the tensors' places.
    for at in (0..600.min(header)).chain((600..header).step_by(13)) {
        let mut bytes = good.to_vec();
        bytes[at] ^= [0x01, 0x80, 0x04][at % 3];
        fs::write(&path, bytes).unwrap();
        refused += usize::from(Checkpoint::open(&path, &Device::Cpu).is_err());
        changes += 1;
    }
    assert!(refused > changes / 2, "of {changes} changes {refused} were refused");
}
