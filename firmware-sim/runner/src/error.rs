//! Everything that can go wrong, each with what to do.

use std::path::PathBuf;
use std::time::Duration;

use fewstep_board::BoardError;
use fewstep_wire::{Fault, RISCV_TRAP, Status};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The board is unknown or its file wrong.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The firmware's sources are not where this program was built.
    #[error(
        "no firmware sources in {}: set FEWSTEP_FIRMWARE to the firmware-sim folder of a fewstep checkout",
        dir.display()
    )]
    NoSources {
        /// Where they should be.
        dir: PathBuf,
    },
    /// Nothing on this machine compiles for the board.
    #[error(
        "no Rust target {triple}: run `rustup target add {triple}`, or install a rustc with its library sources \
         (Debian: apt install rustc-web rust-web-src). Tried: {}",
        tried.join("; ")
    )]
    NoTarget {
        /// rustc's name of the target.
        triple: String,
        /// What was tried, and why it was no use.
        tried: Vec<String>,
    },
    /// The emulator is not installed.
    #[error(
        "{program} is not on the PATH: install it (Debian: apt install qemu-system-arm qemu-system-misc; macOS: brew install qemu)"
    )]
    NoEmulator {
        /// The program.
        program: String,
    },
    /// The board has nowhere to keep the slots of a scenario.
    #[error("{board} has no [storage] and [timer] in its board.toml, which a scenario needs")]
    NoStorage {
        /// The board.
        board: String,
    },
    /// The caller was asked to stop ([`Options::stop`](crate::Options::stop)).
    #[error("interrupted")]
    Interrupted,
    /// cargo failed.
    #[error("building {what} failed:\n{output}")]
    Build {
        /// What was built.
        what: String,
        /// The end of cargo's output.
        output: String,
    },
    /// A file or process cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// The file or process.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The firmware's ELF file cannot be read.
    #[error("the firmware's ELF file: {0}")]
    Elf(String),
    /// A part is larger than its place.
    #[error("{what} has {bytes} bytes, {board} has {room} bytes for it; {remedy}")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The board.
        board: String,
        /// Bytes there are for it.
        room: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// The firmware did not end in time, and was stopped.
    #[error("the guest did not end within {} s and was stopped; last it said: {last}", limit.as_secs_f32())]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// The last line of its log.
        last: String,
    },
    /// The firmware wrote more than a run writes, and was stopped.
    #[error("the guest wrote more than {limit} bytes and was stopped; last it said: {last}")]
    Flood {
        /// The limit.
        limit: usize,
        /// The last line of its log.
        last: String,
    },
    /// The firmware refused, and said why.
    #[error("{status}: {detail}")]
    Refused {
        /// Its exit status.
        status: Status,
        /// The last line of its log.
        detail: String,
    },
    /// The firmware panicked.
    #[error("the firmware panicked at {file}:{line}")]
    Panicked {
        /// Source file.
        file: String,
        /// Line there.
        line: u32,
    },
    /// The CPU raised a fault.
    #[error(
        "the CPU raised {}: pc {:#010x}, lr {:#010x}, sp {:#010x}, cfsr {:#010x}, hfsr {:#010x}, bfar {:#010x}{}",
        exception(fault), fault.pc, fault.lr, fault.sp, fault.cfsr, fault.hfsr, fault.bfar,
        if *stack_overflow { "; the stack overflowed" } else { "" }
    )]
    Faulted {
        /// The CPU's account.
        fault: Fault,
        /// Whether the stack pointer lies below the stack.
        stack_overflow: bool,
    },
    /// QEMU ended by itself.
    #[error("{program} ended with {ending}{}", if stderr.is_empty() { String::new() } else { format!(": {stderr}") })]
    Emulator {
        /// The program.
        program: String,
        /// Exit code or signal.
        ending: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The firmware ended well, but what it sent is not what it should send.
    #[error("the guest ended well, but {0}")]
    Malformed(String),
}

fn exception(fault: &Fault) -> String {
    match fault.exception {
        3 => "HardFault".into(),
        number if number >= RISCV_TRAP => format!("trap {}", number - RISCV_TRAP),
        number => format!("exception {number}"),
    }
}

impl Error {
    /// An [`Error::Io`].
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }

    /// Whether something is missing on this machine, rather than wrong: the caller may say what to install and go on.
    pub fn is_missing_tool(&self) -> bool {
        matches!(self, Self::NoTarget { .. } | Self::NoEmulator { .. } | Self::NoSources { .. })
    }
}
