//! The static library for C, `firmware-sim/c`, for each target.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::firmware::{self, Options};
use crate::toolchain;

/// What the library is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// rustc's name.
    pub triple: &'static str,
    /// The least CPU that it runs on.
    pub cpu: &'static str,
    /// Names that Arduino cores have for such CPUs (`build.mcu`).
    pub arduino: &'static [&'static str],
}

/// Every target.
pub const TARGETS: [Target; 3] = [
    Target { triple: "thumbv7em-none-eabihf", cpu: "cortex-m4", arduino: &["cortex-m4", "cortex-m7"] },
    Target { triple: "thumbv8m.main-none-eabihf", cpu: "cortex-m33", arduino: &["cortex-m33"] },
    Target { triple: "riscv32imac-unknown-none-elf", cpu: "generic-rv32", arduino: &["riscv32"] },
];

/// The library's folder.
///
/// # Errors
/// The sources are not there.
pub fn folder(options: &Options) -> Result<PathBuf, Error> {
    Ok(options.sources()?.join("c"))
}

/// Builds the library and copies it to `out/TRIPLE/libfewstep.a`, which is returned.
///
/// # Errors
/// No sources, no compiler for the target, or cargo fails.
pub fn build(target: &Target, out: &Path, options: &Options) -> Result<PathBuf, Error> {
    let sources = options.sources()?;
    let compiler = toolchain::find(target.triple, options.toolchain, &mut |_| {})?;
    let build_dir = options.target_dir(&sources)?.join(compiler.folder("c"));
    let mut args: Vec<OsString> = ["build", "--locked", "--quiet", "--release"].map(OsString::from).into();
    args.extend(["--target".into(), target.triple.into()]);
    args.extend(compiler.args.iter().cloned());
    let mut env = compiler.env.clone();
    env.push(("CARGO_ENCODED_RUSTFLAGS".into(), format!("-Ctarget-cpu={}", target.cpu).into()));
    let lock = firmware::lock(&build_dir)?;
    firmware::cargo("the C library", &sources.join("c"), &build_dir, &args, &env, options)?;
    let built = build_dir.join(target.triple).join("release/libfewstep.a");
    let place = place(&built, &out.join(target.triple))?;
    drop(lock);
    Ok(place)
}

/// Copies a library into a folder, whole or not at all.
///
/// # Errors
/// The folder cannot be written to.
pub fn place(library: &Path, folder: &Path) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder.display().to_string()))?;
    let (place, unfinished) = (folder.join("libfewstep.a"), folder.join("libfewstep.a.tmp"));
    std::fs::copy(library, &unfinished).map_err(Error::io(library.display().to_string()))?;
    std::fs::rename(&unfinished, &place).map_err(Error::io(place.display().to_string()))?;
    Ok(place)
}
