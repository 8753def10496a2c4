//! What several tests need: small networks and data sets, temporary folders, and the `fewstep` program.

pub mod flash;
pub mod fuzz;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use fewstep::data::{Dataset, Split, idx};
use fewstep::nn::{Arch, Params, UNet};
use fewstep::noise::{Purpose, Stream};
use serde_json::Value;

/// An own empty folder below the system's temporary one, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// `name` must be unique among all tests.
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("fewstep-tests-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names of what is in the folder, sorted, hidden files too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The `fewstep` program beside the running test; `cargo build` with the test's profile makes it.
pub fn fewstep_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program =
        test.parent().and_then(Path::parent).unwrap().join(format!("fewstep{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is missing: build the program with the same profile before these tests (cargo build -p fewstep [--release])",
        program.display()
    );
    program
}

/// A command of the program, to be run or started.
pub fn fewstep_command<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(fewstep_program());
    command.args(args);
    command
}

/// Runs the program to its end.
pub fn fewstep<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    fewstep_command(args).output().expect("the program starts")
}

/// Runs the program, which must succeed, and returns its report.
pub fn report<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Value {
    let output = fewstep(args);
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{text}{log}", output.status);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON: {e}\n{text}"))
}

/// Runs the program, which must refuse: exit code 2, no report, one line. Returns that line.
pub fn refusal<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let mut command = fewstep_command(args);
    let output = command.output().expect("the program starts");
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{log}");
    assert!(output.stdout.is_empty(), "{command:?}\n{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(log.lines().count(), 1, "{command:?}\n{log}");
    assert!(log.starts_with("fewstep: "), "{command:?}\n{log}");
    log
}

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Standard normal values.
pub fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut v = vec![0.0; n];
    Stream::new(seed, Purpose::Init, 0, 77).normals(&mut v);
    v
}

/// The smallest network with everything in it: 8x8 grey pictures of two classes, two levels, attention.
pub fn tiny_arch() -> Arch {
    Arch {
        height: 8,
        width: 8,
        channels: 1,
        classes: 2,
        patch: 2,
        widths: vec![8, 16],
        encoder: vec![1],
        middle: 2,
        decoder: vec![1],
        attention_heads: 1,
        embed: 16,
        base: 0,
    }
}

/// A network with random values in every tensor: nothing is zero or one as in a fresh one, so every path counts.
pub fn random_net(arch: &Arch, guided: bool, seed: u64) -> UNet {
    let fresh = UNet { arch: arch.clone(), params: Params::frozen(UNet::init(arch, seed, &Device::Cpu).unwrap()) };
    let tensors = if guided { fresh.add_guidance_input().unwrap() } else { fresh.params.tensors().clone() };
    let randomize = |(i, (name, t)): (usize, (String, Tensor))| {
        let mut values = normals(seed * 1000 + i as u64, t.elem_count());
        let fan_in = t.dims()[1..].iter().product::<usize>();
        let (centre, spread) = match t.dims().len() {
            1 if name.ends_with(".scale") => (1.0, 0.2),
            1 => (0.0, 0.2),
            _ => (0.0, 1.0 / (fan_in as f32).sqrt()),
        };
        values.iter_mut().for_each(|v| *v = centre + spread * *v);
        (name, Tensor::from_vec(values, t.dims(), &Device::Cpu).unwrap())
    };
    let tensors: BTreeMap<_, _> = tensors.into_iter().enumerate().map(randomize).collect();
    UNet { arch: arch.clone(), params: Params::frozen(tensors) }
}

/// 8x8 grey pictures of two classes, eight variations each: a bright square on dark ground or a dark one on bright
/// ground, of side 4, at eight places.
pub fn squares() -> Dataset {
    let mut data = Dataset {
        height: 8,
        width: 8,
        channels: 1,
        class_names: vec!["bright".into(), "dark".into()],
        pictures: Vec::new(),
        labels: Vec::new(),
    };
    for place in 0..8 {
        let (top, left) = (2 * (place % 3), 2 * (place / 3));
        for class in 0..2u16 {
            let (inside, ground) = if class == 0 { (230, 40) } else { (25, 215) };
            for i in 0..64 {
                let (y, x) = (i / 8, i % 8);
                let hit = (top..top + 4).contains(&y) && (left..left + 4).contains(&x);
                data.pictures.push(if hit { inside } else { ground });
            }
            data.labels.push(class);
        }
    }
    data
}

/// Writes the training split of a grey data set as IDX files.
pub fn write_idx(folder: &Path, data: &Dataset) {
    assert_eq!(data.channels, 1);
    let labels: Vec<u8> = data.labels.iter().map(|l| u8::try_from(*l).unwrap()).collect();
    let sizes = [data.len(), data.height, data.width];
    idx::write_gz(&folder.join(idx::gz_name(Split::Train, true)), &sizes, &data.pictures).unwrap();
    idx::write_gz(&folder.join(idx::gz_name(Split::Train, false)), &[data.len()], &labels).unwrap();
}

/// All values of a tensor.
pub fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap()
}

/// Largest difference of two lists of one length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
        .fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}
