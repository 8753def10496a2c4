//! What the firmware and the runner say to each other, written once for both ends. All numbers little endian.
//!
//! - [`Request`]: 64 bytes that the runner places in flash;
//! - [`LayerRequest`]: in its place, a layer to measure;
//! - [`Script`]: in its place, the commands of a power cycle of a scenario;
//! - [`Record`]: what comes back over the UART, each with a CRC-32C, so that a picture is either whole or refused;
//! - [`Status`]: the exit code.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod crc;
mod layer;
mod record;
mod request;
mod scenario;
mod status;

pub use crc::Crc32c;
pub use layer::{LayerPlaces, LayerReport, LayerRequest};
pub use record::{FRAME_BYTES, Fault, HEAD_BYTES, Kind, MAGIC, MAX_PAYLOAD, Model, RISCV_TRAP, Record, Step, Usage};
pub use request::{Attached, Request, RequestError, Sampler, Task};
pub use scenario::{Booted, Command, CommandEnd, Cut, Script, Setup, Torn, Verdict};
pub use status::Status;
