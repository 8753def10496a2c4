//! Boards as data. A board is a folder with a `board.toml`: what the emulator calls it, its CPU, and how flash and RAM
//! are divided. From that one file come the linker script, the constants that the firmware is compiled with, and the
//! places where the runner puts image and request.
//!
//! ```text
//! flash:  | firmware | student image ...                  | request |
//! RAM:    | stack    | data, arena, buffers ...      | fault stack |
//! ```
//!
//! The stack lies below everything else and grows down: when it overflows it leaves the RAM, where the firmware lets
//! the CPU raise a fault, instead of writing over the arena.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod render;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Bytes at the end of the RAM for the handler of a fault, which may not trust the stack.
pub const FAULT_STACK_BYTES: u32 = 1024;
/// Bytes of the request record (`fewstep_wire::Request::BYTES`, which a test of the runner compares).
pub const REQUEST_BYTES: u32 = 64;
/// Student images are used in place and must start at a multiple of this.
pub const IMAGE_ALIGN: u32 = 16;

/// A board.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The folder's name, which is what `--board` takes.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What emulates it.
    pub emulator: Emulator,
    /// What to compile for.
    pub target: Target,
    /// Non-volatile memory.
    pub flash: Flash,
    /// Memory.
    pub ram: Ram,
    /// Where the records go.
    pub uart: Uart,
    /// A second flash, for scenarios.
    #[serde(default)]
    pub storage: Option<Storage>,
    /// The CPU's timer, for scenarios.
    #[serde(default)]
    pub timer: Option<Timer>,
}

/// Flash beside the CPU's own, as serial flash that is mapped into its addresses: two slots for student images lie there.
/// The emulator keeps it in a file, so that it outlives a power cycle. Sizes in bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// First address; slot A, then slot B, then the memory in which a sender's bytes arrive.
    pub origin: u32,
    /// Of each slot.
    pub slot: u32,
    /// Erased at once.
    pub erase: u32,
    /// Written at once.
    pub write: u32,
    /// For what a sender has to say in one power cycle.
    pub mail: u32,
    /// First address of the machine's memory that the emulator can keep in a file.
    pub memory_origin: u32,
    /// All of that memory, as the emulator wants it.
    pub memory_size: u64,
}

impl Storage {
    /// First byte of the sender's memory, from the start of slot A.
    pub fn mail_offset(&self) -> u32 {
        2 * self.slot
    }

    /// The first byte of slot A in the file.
    pub fn file_offset(&self) -> u64 {
        (self.origin - self.memory_origin).into()
    }
}

impl Storage {
    fn check(&self) -> Result<(), String> {
        let Self { origin, slot, erase, write, mail, memory_origin, memory_size } = *self;
        if !write.is_power_of_two() || write > 64 || erase == 0 || !erase.is_multiple_of(write.max(4)) {
            return Err(format!("storage.write = {write} and storage.erase = {erase} are no flash's"));
        }
        for (what, value) in [("origin", origin), ("slot", slot), ("mail", mail)] {
            if !value.is_multiple_of(erase.max(IMAGE_ALIGN)) {
                return Err(format!("storage.{what} = {value:#x} is not a multiple of storage.erase = {erase:#x}"));
            }
        }
        let end = u64::from(origin) + 2 * u64::from(slot) + u64::from(mail);
        if origin < memory_origin || end > u64::from(memory_origin) + memory_size || end > 1 << 32 {
            return Err(format!("storage: two slots and the mail end at {end:#x}, outside the machine's memory"));
        }
        Ok(())
    }
}

/// The timer that plays the watchdog: SysTick, or RISC-V's machine timer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// Ticks a second.
    pub hz: u32,
    /// Address of its registers, where the architecture does not say it.
    #[serde(default)]
    pub base: u32,
}

/// What emulates a board.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// The program.
    pub program: String,
    /// Its name for the machine.
    pub machine: String,
    /// Further options for it.
    #[serde(default)]
    pub options: Vec<String>,
    /// Where its CPU looks for stack pointer and entry after a reset, if that is not the start of the flash: the runner
    /// places those two words there.
    #[serde(default)]
    pub reset: Option<u32>,
}

/// What to compile for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// rustc's name of the target.
    pub triple: String,
    /// rustc's name of the CPU.
    pub cpu: String,
    /// `--cfg` options for rustc: what the CPU has beyond what rustc knows of it.
    #[serde(default)]
    pub cfg: Vec<String>,
    /// Clock assumed for estimates of time, in Hz.
    pub clock_hz: u64,
}

/// Non-volatile memory; sizes in bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// First address.
    pub origin: u32,
    /// All of it.
    pub size: u32,
    /// For the firmware without weights, at the start.
    pub firmware: u32,
    /// For the request, at the end.
    pub request: u32,
}

/// Memory; sizes in bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    /// First address.
    pub origin: u32,
    /// All of it.
    pub size: u32,
    /// For the stack, at the start.
    pub stack: u32,
    /// Largest arena that an image may ask for.
    pub arena: u32,
    /// Largest picture that is drawn: 64 x 64 in three channels where the file does not say.
    #[serde(default = "small_picture")]
    pub picture: u32,
}

fn small_picture() -> u32 {
    64 * 64 * 3
}

/// Where the records go.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Uart {
    /// What drives it.
    pub kind: UartKind,
    /// Address of its registers.
    pub base: u32,
}

/// UARTs that the firmware can drive.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum UartKind {
    /// The Cortex-M System Design Kit's APB UART.
    Cmsdk,
    /// The 16550 of PCs.
    Ns16550,
}

/// Why a board cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No board of that name.
    #[error("no board {name:?} in {}: there are {}", dir.display(), known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// What is there.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a board.
    #[error("{}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The values do not fit each other.
    #[error("{}: {problem}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

impl Board {
    /// Reads the board `name` of a folder of boards; a `name` that ends in `.toml` is a file of one's own.
    ///
    /// # Errors
    /// There is no such board, or its file is wrong.
    pub fn find(dir: &Path, name: &str) -> Result<Self, BoardError> {
        let path = Self::file(dir, name);
        if name.ends_with(".toml") {
            return Self::load(&path);
        }
        // A name is one folder: "../x" is not a board.
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !plain || !path.is_file() {
            return Err(BoardError::Unknown { name: name.into(), dir: dir.into(), known: Self::list(dir) });
        }
        Self::load(&path)
    }

    /// Where [`Board::find`] looks.
    pub fn file(dir: &Path, name: &str) -> PathBuf {
        if name.ends_with(".toml") { name.into() } else { dir.join(name).join("board.toml") }
    }

    /// Names of the boards in a folder, sorted.
    pub fn list(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().join("board.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Reads and checks a board's file.
    ///
    /// # Errors
    /// The file cannot be read, has unknown or missing fields, or its sizes do not fit each other.
    pub fn load(path: &Path) -> Result<Self, BoardError> {
        let text = std::fs::read_to_string(path).map_err(|source| BoardError::Read { path: path.into(), source })?;
        let mut board: Self =
            toml::from_str(&text).map_err(|source| BoardError::Toml { path: path.into(), source: source.into() })?;
        // boards/an500/board.toml is an500, mine/special.toml is special.
        let stem =
            if path.ends_with("board.toml") { path.parent().and_then(Path::file_name) } else { path.file_stem() };
        board.name = stem.map_or_else(|| "board".into(), |stem| stem.to_string_lossy().into_owned());
        board.check().map_err(|problem| BoardError::Layout { path: path.into(), problem })?;
        Ok(board)
    }

    fn check(&self) -> Result<(), String> {
        let Board { flash, ram, .. } = self;
        let end = |what: &str, origin: u32, size: u32| {
            origin.checked_add(size).ok_or(format!("{what}.origin + {what}.size is beyond the 32-bit address space"))
        };
        end("flash", flash.origin, flash.size)?;
        end("ram", ram.origin, ram.size)?;
        for (what, value) in [
            ("flash.origin", flash.origin),
            ("flash.size", flash.size),
            ("flash.firmware", flash.firmware),
            ("flash.request", flash.request),
            ("ram.origin", ram.origin),
            ("ram.size", ram.size),
            ("ram.stack", ram.stack),
            ("ram.arena", ram.arena),
        ] {
            if !value.is_multiple_of(IMAGE_ALIGN) {
                return Err(format!("{what} = {value:#x} is not a multiple of {IMAGE_ALIGN}"));
            }
        }
        if flash.request < REQUEST_BYTES {
            return Err(format!(
                "flash.request = {} is less than the {REQUEST_BYTES} bytes of a request",
                flash.request
            ));
        }
        let divided = u64::from(flash.firmware) + u64::from(flash.request);
        if divided >= u64::from(flash.size) {
            return Err(format!(
                "flash.firmware + flash.request = {divided} leaves no image in flash.size = {}",
                flash.size
            ));
        }
        let divided = u64::from(ram.stack) + u64::from(ram.arena) + u64::from(FAULT_STACK_BYTES);
        if divided > u64::from(ram.size) {
            return Err(format!(
                "ram.stack + ram.arena + {FAULT_STACK_BYTES} bytes of fault stack = {divided} is more than ram.size = {}",
                ram.size
            ));
        }
        if let Some(storage) = &self.storage {
            storage.check()?;
        }
        if self.timer.as_ref().is_some_and(|timer| timer.hz == 0) {
            return Err("timer.hz is 0".into());
        }
        Ok(())
    }

    /// Bytes of flash for the firmware. That of a scenario has all but the request: its images lie in the storage.
    pub fn firmware_bytes(&self, scenario: bool) -> u32 {
        if scenario { self.flash.size - self.flash.request } else { self.flash.firmware }
    }

    /// Addresses of the student image.
    pub fn image_slot(&self) -> Range<u32> {
        self.flash.origin + self.flash.firmware..self.request_address()
    }

    /// Address of the request.
    pub fn request_address(&self) -> u32 {
        self.flash.origin + self.flash.size - self.flash.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boards() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards")
    }

    /// A board with one line of the an500's file replaced.
    fn edited(from: &str, to: &str) -> Result<Board, BoardError> {
        let text = std::fs::read_to_string(boards().join("an500/board.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fewstep-board-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let board = Board::load(&path);
        std::fs::remove_file(path).unwrap();
        board
    }

    #[test]
    fn shipped_boards_keep_the_budget_of_a_real_part() {
        let names = Board::list(&boards());
        assert_eq!(names, ["an386", "an500", "an505", "an547", "riscv32"]);
        for name in names {
            let board = Board::find(&boards(), &name).unwrap();
            assert_eq!(board.name, name);
            assert!(board.flash.size <= 1 << 20 && board.flash.firmware <= 96 << 10 && board.ram.size <= 256 << 10);
            let slot = board.image_slot();
            assert!(slot.end - slot.start >= 600 << 10, "a student image has up to 600 KB");
            assert!(board.ram.arena >= 128 << 10, "an arena has up to 128 KB");
        }
    }

    #[test]
    fn wrong_files_are_refused_with_the_place() {
        for (from, to, says) in [
            ("size = 0x4_0000", "size = 0x3_0000", "ram.stack + ram.arena"),
            ("firmware = 0x1_8000", "firmware = 0x1_8004", "flash.firmware = 0x18004 is not a multiple of 16"),
            ("firmware = 0x1_8000", "firmware = 0x10_0000", "leaves no image"),
            ("request = 0x1000", "request = 0x30", "less than the 64 bytes"),
            ("origin = 0x2000_0000", "origin = 0xffff_0000", "beyond the 32-bit address space"),
            ("kind = \"cmsdk\"", "kind = \"smoke\"", "unknown variant `smoke`"),
            ("stack = 0x4000", "stak = 0x4000", "unknown field `stak`"),
            ("base = 0x4000_4000", "", "missing field `base`"),
            ("slot = 0x10_0000", "slot = 0x10_0100", "storage.slot = 0x100100 is not a multiple"),
            ("slot = 0x10_0000", "slot = 0x80_0000", "outside the machine's memory"),
            ("write = 4", "write = 3", "are no flash's"),
            ("hz = 25_000_000", "hz = 0", "timer.hz is 0"),
            ("size = 0x10_0000", "size = -1", "invalid value"),
        ] {
            let error = edited(from, to).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
        assert!(edited("0x4000_4000", "0x4000_5000").is_ok());
    }

    #[test]
    fn unknown_boards_are_refused_with_the_known_ones() {
        for name in ["an999", "../boards/an500", "", "."] {
            let error = Board::find(&boards(), name).unwrap_err().to_string();
            assert!(error.contains("an386, an500"), "{error}");
        }
        assert!(matches!(Board::find(&boards(), "/nowhere/x.toml"), Err(BoardError::Read { .. })));
    }
}
