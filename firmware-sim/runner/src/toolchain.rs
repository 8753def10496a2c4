//! What compiles for a board: the target that rustup installs, or a compiler that brings the sources of Rust's library.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Error;
use crate::firmware::Toolchain;
use crate::process;

/// How long rustup may take to download a target.
const DOWNLOAD: Duration = Duration::from_secs(90);
const QUESTION: Duration = Duration::from_secs(30);

/// A way to compile for a target.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub kind: Toolchain,
    /// Environment for cargo.
    pub env: Vec<(OsString, OsString)>,
    /// Arguments for cargo.
    pub args: Vec<OsString>,
}

impl Compiler {
    /// A folder for build results: a compiler of another version must not find the first one's.
    pub fn folder(&self, name: &str) -> String {
        match self.kind {
            Toolchain::Installed => name.into(),
            Toolchain::BuildStd => format!("{name}-build-std"),
        }
    }
}

/// Finds a compiler for `triple`; `wanted` restricts the search.
pub(crate) fn find(triple: &str, wanted: Option<Toolchain>, notice: &mut dyn FnMut(&str)) -> Result<Compiler, Error> {
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let mut tried = Vec::new();
    if wanted != Some(Toolchain::BuildStd) {
        match installed(&rustc, triple, notice) {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => tried.push(reason),
        }
    }
    if wanted != Some(Toolchain::Installed) {
        match build_std(&rustc, triple) {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => tried.push(reason),
        }
    }
    Err(Error::NoTarget { triple: triple.into(), tried })
}

fn installed(rustc: &Path, triple: &str, notice: &mut dyn FnMut(&str)) -> Result<Compiler, String> {
    let sysroot = sysroot(rustc).ok_or_else(|| format!("{} does not run", rustc.display()))?;
    let there = || sysroot.join("lib/rustlib").join(triple).join("lib").is_dir();
    if !there() {
        add_target(triple, notice)?;
        if !there() {
            return Err(format!("rustup added {triple}, but not to {}", sysroot.display()));
        }
    }
    Ok(Compiler { kind: Toolchain::Installed, env: Vec::new(), args: Vec::new() })
}

/// Asks rustup for the target, once in the life of this process: without a network the answer takes long.
fn add_target(triple: &str, notice: &mut dyn FnMut(&str)) -> Result<(), String> {
    static ANSWERS: Mutex<BTreeMap<String, Result<(), String>>> = Mutex::new(BTreeMap::new());
    // A panic in another thread leaves the map as good as it was.
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    answers.entry(triple.into()).or_insert_with(|| ask_rustup(triple, notice)).clone()
}

fn ask_rustup(triple: &str, notice: &mut dyn FnMut(&str)) -> Result<(), String> {
    let rustup = process::find("rustup").ok_or("rustup is not on the PATH")?;
    notice(&format!("rustup target add {triple}"));
    let mut command = process::tied(rustup);
    command.args(["target", "add", triple]);
    let ended = process::run(command, DOWNLOAD, |_| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    match (ended.timed_out, ended.status.success()) {
        (false, true) => Ok(()),
        (true, _) => Err(format!("`rustup target add {triple}` took longer than {} s", DOWNLOAD.as_secs())),
        (false, false) => {
            let said = ended.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("no message");
            Err(format!("`rustup target add {triple}` failed: {said}"))
        }
    }
}

fn build_std(rustc: &Path, triple: &str) -> Result<Compiler, String> {
    let mut candidates = vec![rustc.to_path_buf()];
    candidates.extend(process::all("rustc"));
    candidates.push("/usr/bin/rustc".into());
    let sysroots: Vec<(PathBuf, PathBuf)> =
        candidates.into_iter().filter_map(|rustc| Some((rustc.clone(), sysroot(&rustc)?))).collect();
    let (rustc, root) = sysroots
        .iter()
        .find(|(_, root)| root.join("lib/rustlib/src/rust/library/core").is_dir())
        .ok_or("no rustc here has the library's sources")?;
    // A distribution's compiler comes without a linker for bare targets; rustup's toolchains have one.
    let linker = std::iter::once(root)
        .chain(sysroots.iter().map(|(_, root)| root))
        .find_map(|root| linker(root))
        .or_else(|| process::find("rust-lld"))
        .or_else(|| process::find("ld.lld"))
        .ok_or("there is no rust-lld or ld.lld")?;
    let linker_name = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_"));
    Ok(Compiler {
        kind: Toolchain::BuildStd,
        env: vec![
            ("RUSTC".into(), rustc.into()),
            // The library builds with unstable features.
            ("RUSTC_BOOTSTRAP".into(), "1".into()),
            (linker_name.into(), linker.into()),
        ],
        args: vec!["-Zbuild-std=core".into()],
    })
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let mut command = Command::new(rustc);
    command.args(["--print", "sysroot"]);
    let mut out = Vec::new();
    let ended = process::run(command, QUESTION, |bytes| {
        out.extend_from_slice(bytes);
        ControlFlow::Continue(())
    })
    .ok()?;
    let path = PathBuf::from(String::from_utf8(out).ok()?.trim_end());
    (ended.status.success() && path.is_dir()).then_some(path)
}

/// The linker of a rustup toolchain.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_nobody_has_is_an_error_that_says_what_to_install() {
        let triple = "thumbv9x-none-eabi";
        let error = find(triple, Some(Toolchain::Installed), &mut |_| {}).unwrap_err();
        assert!(error.is_missing_tool(), "{error}");
        let text = error.to_string();
        for part in ["run `rustup target add thumbv9x-none-eabi`", "rust-web-src", "Tried: "] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_compiler_that_does_not_run_is_no_sysroot() {
        assert_eq!(sysroot(Path::new("/nowhere/rustc")), None);
    }
}
