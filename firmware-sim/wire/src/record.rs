//! Records: what the firmware sends.
//!
//! ```text
//! 0  magic 0xa5   1  kind   2  length L, u16   4  payload, L bytes   4+L  CRC-32C of bytes 1 to 4+L
//! ```
//!
//! A record that a fault cuts off is followed by the record of that fault: a reader that meets a wrong checksum drops
//! the magic and looks for the next one.

use crate::bytes::{Reader, Writer};
use crate::layer::LayerReport;
use crate::scenario::{Booted, CommandEnd};

/// First byte of a record.
pub const MAGIC: u8 = 0xa5;
/// Bytes before the payload.
pub const HEAD_BYTES: usize = 4;
/// Bytes beside the payload.
pub const FRAME_BYTES: usize = HEAD_BYTES + 4;
/// Longest payload: a picture of 128 x 128 in three channels. A head that says more is not one.
pub const MAX_PAYLOAD: usize = 48 << 10;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A piece of the defmt stream.
    Log = 1,
    /// The image that was found, and the memory it gets.
    Model = 2,
    /// A denoising step is done.
    Step = 3,
    /// The picture.
    Picture = 4,
    /// Memory used, sent last.
    Usage = 5,
    /// A panic.
    Panic = 6,
    /// A CPU fault.
    Fault = 7,
    /// A layer was measured.
    Layer = 8,
    /// A scenario's firmware chose an image.
    Booted = 9,
    /// A command of a scenario ended.
    Command = 10,
}

/// Bytes of [`Model`] before the backend's name.
const MODEL_BYTES: usize = 28;

/// The image that was found: payload of [`Kind::Model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model<'a> {
    /// Picture height in pixels.
    pub height: u16,
    /// Picture width in pixels.
    pub width: u16,
    /// Picture channels.
    pub channels: u16,
    /// Operations of a network evaluation.
    pub ops: u16,
    /// Bytes of arena that the image asks for.
    pub arena_bytes: u32,
    /// Bytes of arena that the board grants.
    pub arena_budget: u32,
    /// Bytes of the image.
    pub image_bytes: u32,
    /// Multiply-accumulates of a step.
    pub macs_per_step: u64,
    /// Name of the kernels in use.
    pub backend: &'a str,
}

impl<'a> Model<'a> {
    /// The payload without the backend's name, which follows.
    pub fn emit(&self) -> [u8; MODEL_BYTES] {
        let mut bytes = [0; MODEL_BYTES];
        let mut writer = Writer(&mut bytes);
        for value in [self.height, self.width, self.channels, self.ops] {
            writer.put(&value.to_le_bytes());
        }
        for value in [self.arena_bytes, self.arena_budget, self.image_bytes] {
            writer.put(&value.to_le_bytes());
        }
        writer.put(&self.macs_per_step.to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        Some(Self {
            height: reader.u16()?,
            width: reader.u16()?,
            channels: reader.u16()?,
            ops: reader.u16()?,
            arena_bytes: reader.u32()?,
            arena_budget: reader.u32()?,
            image_bytes: reader.u32()?,
            macs_per_step: reader.u64()?,
            backend: reader.text()?,
        })
    }
}

/// A denoising step is done: payload of [`Kind::Step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Steps done, from 1.
    pub done: u16,
    /// Steps of the request.
    pub steps: u16,
}

impl Step {
    /// The payload.
    pub fn emit(&self) -> [u8; 4] {
        let mut bytes = [0; 4];
        let mut writer = Writer(&mut bytes);
        writer.put(&self.done.to_le_bytes());
        writer.put(&self.steps.to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let step = Self { done: reader.u16()?, steps: reader.u16()? };
        reader.end().map(|()| step)
    }
}

/// Memory used: payload of [`Kind::Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Most bytes of stack in use at any time.
    pub stack_used: u32,
    /// Bytes of stack there are.
    pub stack_bytes: u32,
}

impl Usage {
    /// The payload.
    pub fn emit(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let mut writer = Writer(&mut bytes);
        writer.put(&self.stack_used.to_le_bytes());
        writer.put(&self.stack_bytes.to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let usage = Self { stack_used: reader.u32()?, stack_bytes: reader.u32()? };
        reader.end().map(|()| usage)
    }
}

/// Added to the number of a RISC-V trap in [`Fault::exception`].
pub const RISCV_TRAP: u32 = 0x100;

/// Number of SysTick's exception on a Cortex-M.
const SYSTICK: u32 = 15;
/// `mcause` of the machine timer's interrupt (RISC-V privileged architecture, 3.1.15).
const MACHINE_TIMER: u32 = 0x8000_0007;

/// A CPU fault: payload of [`Kind::Fault`]. Names are the architecture's (Armv7-M, B3.2); RISC-V has `pc`, `lr` (ra), `sp`,
/// the number of the trap and its value, in `bfar`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Where the fault was raised; 0 when the stack could not take the frame.
    pub pc: u32,
    /// Return address there; 0 when the stack could not take the frame.
    pub lr: u32,
    /// The stack pointer after the frame was pushed.
    pub sp: u32,
    /// Number of the exception: 3 is HardFault; from [`RISCV_TRAP`] on `mcause` of a RISC-V trap.
    pub exception: u32,
    /// Configurable fault status.
    pub cfsr: u32,
    /// HardFault status.
    pub hfsr: u32,
    /// Address of a bus fault, if `cfsr` says that it is valid.
    pub bfar: u32,
}

impl Fault {
    /// The payload.
    pub fn emit(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let mut writer = Writer(&mut bytes);
        for value in [self.pc, self.lr, self.sp, self.exception, self.cfsr, self.hfsr, self.bfar] {
            writer.put(&value.to_le_bytes());
        }
        bytes
    }

    /// Whether the CPU's timer raised it, which plays the watchdog of a scenario.
    pub fn is_timer(&self) -> bool {
        self.exception == SYSTICK || self.exception == RISCV_TRAP + MACHINE_TIMER
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let fault = Self {
            pc: reader.u32()?,
            lr: reader.u32()?,
            sp: reader.u32()?,
            exception: reader.u32()?,
            cfsr: reader.u32()?,
            hfsr: reader.u32()?,
            bfar: reader.u32()?,
        };
        reader.end().map(|()| fault)
    }
}

/// A record's payload, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A piece of the defmt stream.
    Log(&'a [u8]),
    /// The image that was found.
    Model(Model<'a>),
    /// A step is done.
    Step(Step),
    /// The picture: height x width x channels bytes.
    Picture(&'a [u8]),
    /// Memory used.
    Usage(Usage),
    /// A panic, at this line of this file.
    Panic {
        /// Line in the file.
        line: u32,
        /// Source file.
        file: &'a str,
    },
    /// A CPU fault.
    Fault(Fault),
    /// A layer was measured.
    Layer(LayerReport<'a>),
    /// A scenario's firmware chose an image.
    Booted(Booted),
    /// A command of a scenario ended.
    Command(CommandEnd),
}

impl<'a> Record<'a> {
    /// Reads a payload of a kind; `None` for an unknown kind or a payload that does not fit it.
    pub fn parse(kind: u8, payload: &'a [u8]) -> Option<Self> {
        Some(match kind {
            k if k == Kind::Log as u8 => Self::Log(payload),
            k if k == Kind::Model as u8 => Self::Model(Model::parse(payload)?),
            k if k == Kind::Step as u8 => Self::Step(Step::parse(payload)?),
            k if k == Kind::Picture as u8 => Self::Picture(payload),
            k if k == Kind::Usage as u8 => Self::Usage(Usage::parse(payload)?),
            k if k == Kind::Panic as u8 => {
                let mut reader = Reader(payload);
                Self::Panic { line: reader.u32()?, file: reader.text()? }
            }
            k if k == Kind::Fault as u8 => Self::Fault(Fault::parse(payload)?),
            k if k == Kind::Layer as u8 => Self::Layer(LayerReport::parse(payload)?),
            k if k == Kind::Booted as u8 => Self::Booted(Booted::parse(payload)?),
            k if k == Kind::Command as u8 => Self::Command(CommandEnd::parse(payload)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back() {
        let model = Model {
            height: 28,
            width: 27,
            channels: 3,
            ops: 60,
            arena_bytes: 100_000,
            arena_budget: 196_608,
            image_bytes: 500_000,
            macs_per_step: 5_000_000_000,
            backend: "",
        };
        assert_eq!(Model::parse(&model.emit()), Some(model));
        let step = Step { done: 1, steps: 4 };
        assert_eq!(Step::parse(&step.emit()), Some(step));
        let usage = Usage { stack_used: 1234, stack_bytes: 16384 };
        assert_eq!(Usage::parse(&usage.emit()), Some(usage));
        let fault = Fault { pc: 1, lr: 2, sp: 3, exception: 4, cfsr: 5, hfsr: 6, bfar: 7 };
        assert_eq!(Fault::parse(&fault.emit()), Some(fault));
    }

    #[test]
    fn payloads_of_another_length_are_refused() {
        for length in (0..40).filter(|length| *length != 28) {
            assert_eq!(Fault::parse(&[0; 64][..length]), None);
        }
        assert_eq!(Step::parse(&[0; 5]), None);
        assert_eq!(Usage::parse(&[0; 7]), None);
        assert_eq!(Model::parse(&[0; 27]), None);
        assert_eq!(Record::parse(99, &[]), None);
        assert_eq!(Record::parse(Kind::Panic as u8, &[1, 0, 0, 0, 0xff]), None, "not UTF-8");
    }
}
