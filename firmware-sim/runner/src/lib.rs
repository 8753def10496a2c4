//! Builds the firmware for a board, boots it in QEMU with a student image in its flash, and brings back the picture
//! and what was measured.
//!
//! ```no_run
//! use fewstep_runner::{Image, Options, Request, simulate};
//!
//! let request = Request { image: Image::File("student.fsw".into()), class: 3, w: 1.5, seed: 1, ..Request::on("an500") };
//! let outcome = simulate(&request, &Options::default(), &mut |event| eprintln!("{event}"))?;
//! println!("{} bytes of stack", outcome.stack_used);
//! # Ok::<(), fewstep_runner::Error>(())
//! ```
//!
//! - [`firmware`]: which toolchain, and the build;
//! - [`elf`]: what of the firmware lies where;
//! - [`emulator`]: QEMU, under a time limit, gone on every way out;
//! - [`stream`]: records out of the UART's bytes;
//! - [`log`]: defmt lines out of frames;
//! - [`counts`]: what the instruction counter wrote;
//! - [`Program`]: examples and firmwares in C, booted as they are;
//! - [`c_library`]: the static library for C;
//! - [`Device`]: a board over several power cycles, with a second flash that outlives them;
//! - [`measure_layer`]: one convolution, counted and compared.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod c_library;
pub mod counts;
mod device;
pub mod elf;
pub mod emulator;
mod error;
pub mod firmware;
mod layer;
pub mod log;
mod process;
mod program;
mod simulate;
pub mod stream;
mod toolchain;

pub use device::{Action, CommandOutcome, Device, Drawn, Ending, PowerCycle};
pub use error::Error;
pub use fewstep_board::{Board, BoardError};
pub use fewstep_wire::{Booted, Cut, Fault, Request as WireRequest, Sampler, Setup, Status, Task, Torn, Verdict};
pub use firmware::{Firmware, Options, Toolchain, boards_dir};
pub use layer::{Layer, LayerError, LayerOutcome, measure_layer};
pub use program::{Program, Ran, Size};
pub use simulate::{Event, Flash, Image, Outcome, Request, Simulator, simulate};
