//! Programs that are not this project's firmware: the examples that others start from, and firmwares in C. They are built
//! and booted as they are, and what they send is text.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use fewstep_board::Board;

use crate::counts::{self, StepCount};
use crate::elf::Elf;
use crate::emulator::{self, Boot, Load};
use crate::error::Error;
use crate::firmware::{self, Options};
use crate::toolchain;

/// The emulated CPU of the examples: an instruction takes 32 ns of the board's time, which does not pass otherwise; sleep
/// takes no time here.
const INSTRUCTION_CLOCK: [&str; 2] = ["-icount", "shift=5,sleep=off"];

/// rustc's name of the examples' target; their folder's `.cargo/config.toml` has the rest.
const EXAMPLES_TARGET: &str = "thumbv7em-none-eabihf";
/// The board whose memory map the examples have.
const EXAMPLES_BOARD: &str = "an500";

/// A program for a board.
#[derive(Clone, Debug)]
pub struct Program {
    /// The machine.
    pub board: Board,
    /// The ELF file.
    pub elf: Vec<u8>,
    counter: Option<PathBuf>,
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The exit code; `None` when the time limit or a signal ended it.
    pub code: Option<i32>,
    /// What it sent.
    pub text: String,
    /// Instructions of its counted regions, if the emulator counts.
    pub regions: Option<Vec<u64>>,
    /// What the emulator says.
    pub stderr: String,
}

/// Bytes of a program's memory in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Code and constants, student images left out.
    pub code: u64,
    /// Statics, in RAM.
    pub statics: u64,
}

impl Program {
    /// A linked program.
    pub fn new(board: &Board, elf: Vec<u8>) -> Self {
        Self { board: board.clone(), elf, counter: None }
    }

    /// Builds the example `name` of `firmware-sim/examples`.
    ///
    /// # Errors
    /// As [`Simulator::new`](crate::Simulator::new).
    pub fn example(name: &str, options: &Options) -> Result<Self, Error> {
        let board = Board::find(&firmware::boards_dir(options)?, EXAMPLES_BOARD)?;
        if crate::process::find(&board.emulator.program).is_none() {
            return Err(Error::NoEmulator { program: board.emulator.program });
        }
        let sources = options.sources()?;
        let target_dir = options.target_dir(&sources)?;
        let compiler = toolchain::find(EXAMPLES_TARGET, options.toolchain, &mut |_| {})?;
        let build_dir = target_dir.join(compiler.folder("examples"));
        let mut args: Vec<OsString> =
            ["build", "--locked", "--quiet", "--release", "--bin", name].map(Into::into).into();
        if !options.features.is_empty() {
            args.extend(["--features".into(), options.features.join(",").into()]);
        }
        args.extend(compiler.args.iter().cloned());
        let folder = sources.join("examples");
        let lock = firmware::lock(&build_dir)?;
        firmware::cargo("an example", &folder, &build_dir, &args, &compiler.env, options)?;
        let path = build_dir.join(EXAMPLES_TARGET).join("release").join(name);
        let elf = std::fs::read(&path).map_err(Error::io(path.display().to_string()))?;
        drop(lock);
        let counter_dir = target_dir.join(compiler.folder("firmware"));
        std::fs::create_dir_all(&counter_dir).map_err(Error::io(counter_dir.display().to_string()))?;
        let lock = firmware::lock(&counter_dir)?;
        let counter = options.count.then(|| firmware::cargo_counter(&sources, &counter_dir, options).ok());
        drop(lock);
        Ok(Self { board, elf, counter: counter.flatten() })
    }

    /// Boots it. `loads`: what else lies in memory.
    ///
    /// # Errors
    /// The emulator is missing, or files for it cannot be written.
    pub fn run(&self, loads: &[Load<'_>], limit: Duration) -> Result<Ran, Error> {
        let ran = self.boot(loads, limit, self.counter.as_deref())?;
        if ran.code == Some(1) && ran.stderr.contains("plugin") {
            // This QEMU has no plugins, or of another version.
            return self.boot(loads, limit, None);
        }
        Ok(ran)
    }

    fn boot(&self, loads: &[Load<'_>], limit: Duration, counter: Option<&std::path::Path>) -> Result<Ran, Error> {
        let mut board = self.board.clone();
        board.emulator.options.extend(INSTRUCTION_CLOCK.map(String::from));
        let boot = Boot { board: &board, kernel: &self.elf, loads, counter, limit, stop: None, memory: None };
        let mut text = Vec::new();
        let booted = emulator::boot(&boot, |bytes| text.extend_from_slice(bytes))?;
        let regions = booted.counts.as_deref().and_then(|counts| counts::parse(&format!("{counts}mark\n")));
        Ok(Ran {
            code: booted.code,
            text: String::from_utf8_lossy(&text).into_owned(),
            regions: regions.map(|steps| steps.into_iter().flat_map(|StepCount { parts, .. }| parts).collect()),
            stderr: booted.stderr,
        })
    }

    /// What it takes of the memory, where `images` bytes of its constants are student images.
    ///
    /// # Errors
    /// The file is no ELF file.
    pub fn size(&self, images: u64) -> Result<Size, Error> {
        let sections = Elf::parse(&self.elf)?.sections()?;
        let sum = |in_flash: bool| -> u64 {
            let sections = sections.iter().filter(|section| section.in_flash == in_flash);
            sections.map(|section| u64::from(section.bytes)).sum()
        };
        Ok(Size { code: sum(true).saturating_sub(images), statics: sum(false) })
    }

    /// Names of the statics that can be written, initialised or not.
    ///
    /// # Errors
    /// The file is no ELF file.
    pub fn writable(&self) -> Result<Vec<String>, Error> {
        Ok(Elf::parse(&self.elf)?.writable().map(String::from).collect())
    }

    /// Names of what could panic: the panic handler, which every panic ends in, and the library's panicking functions.
    ///
    /// # Errors
    /// The file is no ELF file.
    pub fn panics(&self) -> Result<Vec<String>, Error> {
        const PARTS: [&str; 3] = ["begin_unwind", "panicking", "slice_index_fail"];
        let elf = Elf::parse(&self.elf)?;
        let names = elf.names().filter(|name| PARTS.iter().any(|part| name.contains(part)));
        Ok(names.map(String::from).collect())
    }
}
