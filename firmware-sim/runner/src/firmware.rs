//! Building the firmware for a board, and the instruction counter.

use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fewstep_board::Board;
use serde::Serialize;

use crate::elf::{Elf, Section};
use crate::error::Error;
use crate::log::Table;
use crate::process;
use crate::toolchain::{self, Compiler};

/// The cargo feature of the firmware that plays scenarios.
pub(crate) const SCENARIO: &str = "scenario";

/// What compiled a firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toolchain {
    /// A target that is installed beside the compiler, as by rustup.
    Installed,
    /// The library built from its sources, by a compiler that brings them.
    BuildStd,
}

/// How to build and to run; the default suits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The firmware-sim folder; by default `FEWSTEP_FIRMWARE`, else where this program was built.
    pub sources: Option<PathBuf>,
    /// Where build results go; by default `FEWSTEP_FIRMWARE_TARGET`, else `firmware-sim` in `CARGO_TARGET_DIR`, else
    /// `target` in the sources.
    pub target_dir: Option<PathBuf>,
    /// What may compile; by default the first that can.
    pub toolchain: Option<Toolchain>,
    /// Cargo features of the firmware.
    pub features: Vec<String>,
    /// Whether to count instructions, which needs an emulator with plugins and makes it slower.
    pub count: bool,
    /// Time limit of a run.
    pub time_limit: Duration,
    /// Time limit of a build.
    pub build_limit: Duration,
    /// Ends builds and runs when it becomes true, with [`Error::Interrupted`]: for a caller that handles signals.
    pub stop: Option<&'static AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sources: None,
            target_dir: None,
            toolchain: None,
            features: Vec::new(),
            count: true,
            time_limit: Duration::from_secs(300),
            build_limit: Duration::from_secs(900),
            stop: None,
        }
    }
}

impl Options {
    pub(crate) fn sources(&self) -> Result<PathBuf, Error> {
        let dir = self
            .sources
            .clone()
            .or_else(|| std::env::var_os("FEWSTEP_FIRMWARE").map(PathBuf::from))
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        // Without `..`, which would stay in messages.
        let found = dir.canonicalize().ok().filter(|dir| dir.join("firmware/Cargo.toml").is_file());
        found.ok_or(Error::NoSources { dir })
    }

    pub(crate) fn target_dir(&self, sources: &Path) -> Result<PathBuf, Error> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = self
            .target_dir
            .clone()
            .or_else(|| variable("FEWSTEP_FIRMWARE_TARGET"))
            .or_else(|| Some(variable("CARGO_TARGET_DIR")?.join("firmware-sim")))
            .unwrap_or_else(|| sources.join("target"));
        std::path::absolute(&dir).map_err(Error::io(dir.display().to_string()))
    }
}

/// The folder of the shipped boards.
///
/// # Errors
/// The firmware's sources are not there.
pub fn boards_dir(options: &Options) -> Result<PathBuf, Error> {
    Ok(options.sources()?.join("boards"))
}

/// A firmware for a board, checked against its budget.
#[derive(Debug)]
pub struct Firmware {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// Where the CPU starts.
    pub entry: u32,
    /// What lies where.
    pub sections: Vec<Section>,
    /// Bytes of flash that it fills, without image and request.
    pub flash_bytes: u32,
    /// Strings of its log.
    pub log: Table,
    /// What compiled it.
    pub toolchain: Toolchain,
    /// The instruction counter, or why there is none.
    pub counter: Result<PathBuf, String>,
}

impl Firmware {
    /// Builds the firmware for `board`; cargo decides whether anything has changed. `notice` hears what takes time.
    ///
    /// # Errors
    /// No sources, no compiler for the target, cargo fails, or the firmware is larger than the board's budget (then
    /// the linker has already said so).
    pub fn build(
        board: &Board,
        board_file: &Path,
        options: &Options,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let sources = options.sources()?;
        let target_dir = options.target_dir(&sources)?;
        let compiler = toolchain::find(&board.target.triple, options.toolchain, notice)?;
        let build_dir = target_dir.join(compiler.folder("firmware"));
        // Boards share a folder, and so the ELF file's name.
        let lock = lock(&build_dir)?;
        notice(&format!("building the firmware for {}", board.name));
        cargo_firmware(board, board_file, &sources, &build_dir, &compiler, options)?;
        let path = build_dir.join(&board.target.triple).join("firmware/fewstep-firmware");
        let bytes = std::fs::read(&path).map_err(Error::io(path.display().to_string()))?;
        let counter = if options.count {
            cargo_counter(&sources, &build_dir, options)
        } else {
            Err("counting was not asked for".into())
        };
        drop(lock);

        let elf = Elf::parse(&bytes)?;
        let sections = elf.sections()?;
        let flash_bytes = elf.flash_end().saturating_sub(board.flash.origin.into());
        let room = board.firmware_bytes(options.features.iter().any(|feature| feature == SCENARIO));
        if flash_bytes > room.into() {
            return Err(Error::TooLarge {
                what: "the firmware",
                bytes: flash_bytes,
                board: board.name.clone(),
                room: room.into(),
                remedy: "raise flash.firmware in its board.toml",
            });
        }
        let log = Table::new(&elf)?;
        let flash_bytes = u32::try_from(flash_bytes).unwrap_or(u32::MAX);
        let entry = elf.entry();
        Ok(Self { entry, sections, flash_bytes, log, toolchain: compiler.kind, counter, elf: bytes })
    }
}

/// Makes a folder for build results, and waits for its lock: one builds and reads at a time.
pub(crate) fn lock(build_dir: &Path) -> Result<File, Error> {
    std::fs::create_dir_all(build_dir).map_err(Error::io(build_dir.display().to_string()))?;
    let lock = build_dir.join("runner.lock");
    File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(Error::io(lock.display().to_string()))
}

fn cargo_firmware(
    board: &Board,
    board_file: &Path,
    sources: &Path,
    build_dir: &Path,
    compiler: &Compiler,
    options: &Options,
) -> Result<(), Error> {
    let mut args: Vec<OsString> = ["build", "--locked", "--quiet", "--profile", "firmware", "-p", "fewstep-firmware"]
        .map(OsString::from)
        .to_vec();
    args.extend(["--target".into(), board.target.triple.clone().into()]);
    if !options.features.is_empty() {
        args.extend(["--features".into(), options.features.join(",").into()]);
    }
    // Drills hold all kernels against the scalar functions: more code than a firmware has, and nobody times it.
    if options.features.iter().any(|feature| feature == "drills") {
        args.extend(["--config", "profile.firmware.opt-level=\"z\""].map(OsString::from));
    }
    args.extend(compiler.args.iter().cloned());
    let mut env = compiler.env.clone();
    env.extend([
        ("FEWSTEP_BOARD".into(), board_file.into()),
        ("CARGO_ENCODED_RUSTFLAGS".into(), rust_flags(board).into()),
        ("DEFMT_LOG".into(), "debug".into()),
    ]);
    cargo("the firmware", sources, build_dir, &args, &env, options)
}

/// Flags of rustc for a board, in the form of `CARGO_ENCODED_RUSTFLAGS`.
fn rust_flags(board: &Board) -> String {
    let cfg = board.target.cfg.iter().map(|cfg| format!("\x1f--cfg\x1f{cfg}"));
    format!("-Ctarget-cpu={}{}", board.target.cpu, cfg.collect::<String>())
}

pub(crate) fn cargo_counter(sources: &Path, build_dir: &Path, options: &Options) -> Result<PathBuf, String> {
    let args = ["build", "--locked", "--quiet", "--release", "-p", "fewstep-insn-plugin"].map(OsString::from);
    cargo("the instruction counter", sources, build_dir, &args, &[], options).map_err(|error| error.to_string())?;
    let file = format!("{}fewstep_insn_plugin{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    Ok(build_dir.join("release").join(file))
}

/// Runs cargo on the workspace in the folder `sources`, with that folder's configuration.
pub(crate) fn cargo(
    what: &str,
    sources: &Path,
    build_dir: &Path,
    args: &[OsString],
    env: &[(OsString, OsString)],
    options: &Options,
) -> Result<(), Error> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = process::tied(&program);
    command.current_dir(sources);
    command.args(args).arg("--manifest-path").arg(sources.join("Cargo.toml")).arg("--target-dir").arg(build_dir);
    // What is set for the build of the host packages does not hold for this one.
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let limit = options.build_limit;
    let ended = process::run_until(command, limit, options.stop, |_| ControlFlow::Continue(()))
        .map_err(Error::io(program.to_string_lossy().into_owned()))?;
    if ended.interrupted {
        return Err(Error::Interrupted);
    }
    if ended.timed_out {
        let output = format!("cargo took longer than {} s and was stopped", limit.as_secs());
        return Err(Error::Build { what: what.into(), output });
    }
    if !ended.status.success() {
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let output = lines[lines.len().saturating_sub(40)..].join("\n");
        return Err(Error::Build { what: what.into(), output });
    }
    Ok(())
}
