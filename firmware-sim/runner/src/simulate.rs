//! The whole way: board, firmware, flash, boot, picture.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fewstep_board::Board;
use fewstep_wire::{
    Attached, Crc32c, Fault, LayerReport, Model, RISCV_TRAP, Record, Sampler, Status, Step, Task, Usage,
};
use serde::Serialize;

use crate::counts::{self, StepCount};
use crate::elf::Section;
use crate::emulator::{self, Boot, Booted, Load, OUTPUT_BYTES};
use crate::error::Error;
use crate::firmware::{Firmware, Options, Toolchain, boards_dir};
use crate::layer::{self, Layer, LayerOutcome};
use crate::log::{Level, Line, Table};
use crate::stream::Stream;

/// `STKOF` of the configurable fault status (Armv8-M, D1.2.267).
const STACK_LIMIT: u32 = 1 << 20;

/// What to draw, and on what.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of a shipped board, or path of a board file (`.toml`).
    pub board: String,
    /// The student image.
    pub image: Image,
    /// The noise.
    pub seed: u64,
    /// The class.
    pub class: u16,
    /// Guidance strength.
    pub w: f32,
    /// Denoising steps, 0 = the image's own.
    pub steps: u16,
    /// Deterministic or stochastic.
    pub sampler: Sampler,
    /// What is done with them.
    pub task: Task,
    /// The picture that the task starts from, then the mask of an inpainting (a byte a pixel); else empty.
    pub attached: Vec<u8>,
}

impl Request {
    /// A request on a board, without an image and with zeros elsewhere: to fill in.
    pub fn on(board: &str) -> Self {
        Self {
            board: board.into(),
            image: Image::Bytes(Vec::new()),
            seed: 0,
            class: 0,
            w: 0.0,
            steps: 0,
            sampler: Sampler::Deterministic,
            task: Task::Sample,
            attached: Vec::new(),
        }
    }
}

/// A student image.
#[derive(Clone, Debug)]
pub enum Image {
    /// In a file.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

/// What happens on the way, for those who wait.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Something that may take long begins.
    Notice(&'a str),
    /// The firmware logs.
    Log(&'a Line),
    /// A denoising step is done.
    Step {
        /// Steps done.
        done: u16,
        /// Steps of the request.
        steps: u16,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notice(text) => f.write_str(text),
            Self::Log(line) => line.fmt(f),
            Self::Step { done, steps } => write!(f, "step {done} of {steps}"),
        }
    }
}

/// Flash in use, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flash {
    /// The firmware without weights.
    pub firmware_bytes: u32,
    /// The board's budget for it.
    pub firmware_budget: u32,
    /// The student image.
    pub image_bytes: u32,
    /// The board's room for it.
    pub image_budget: u32,
}

/// A run that ended well.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The board's name.
    pub board: String,
    /// Picture height in pixels.
    pub height: u16,
    /// Picture width in pixels.
    pub width: u16,
    /// Picture channels, interleaved.
    pub channels: u16,
    /// The picture: height x width x channels bytes.
    #[serde(skip)]
    pub picture: Vec<u8>,
    /// The firmware's log.
    pub log: Vec<Line>,
    /// Name of the kernels in use.
    pub backend: String,
    /// Multiply-accumulates of a step, as the image states them.
    pub macs_per_step: u64,
    /// Executed instructions per step, by the counter in the emulator; exact. `None` when they were not counted.
    pub steps: Option<Vec<StepCount>>,
    /// Why instructions were not counted.
    pub not_counted: Option<String>,
    /// Arena that the image asks for, in bytes.
    pub arena_bytes: u32,
    /// Arena that the board grants, in bytes.
    pub arena_budget: u32,
    /// Most stack in use at any time, in bytes.
    pub stack_used: u32,
    /// Stack there is, in bytes.
    pub stack_bytes: u32,
    /// RAM of statics (arena budget, picture and log buffer), in bytes.
    pub static_ram_bytes: u32,
    /// RAM of the board's budget, in bytes.
    pub ram_budget: u32,
    /// Flash in use.
    pub flash: Flash,
    /// The firmware's sections.
    pub sections: Vec<Section>,
    /// What compiled the firmware.
    pub toolchain: Toolchain,
    /// Seconds from power-on to exit, on this machine's emulator: no measure of the board's speed.
    pub seconds: f64,
}

/// Builds, boots and fetches once.
///
/// # Errors
/// As [`Simulator::new`] and [`Simulator::run`].
pub fn simulate(request: &Request, options: &Options, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Error> {
    let mut options = options.clone();
    if request.task == Task::Enlarge {
        // Of no use to others: their firmware stays smaller.
        options.features.push("enlarge".into());
    }
    Simulator::new(&request.board, &options, on_event)?.run(request, on_event)
}

/// A board with its firmware built, for any number of runs.
#[derive(Debug)]
pub struct Simulator {
    board: Board,
    firmware: Firmware,
    options: Options,
}

impl Simulator {
    /// Finds the board and builds its firmware.
    ///
    /// # Errors
    /// The board is unknown or wrong, a tool is missing ([`Error::is_missing_tool`]), or the build fails.
    pub fn new(board: &str, options: &Options, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Self, Error> {
        let boards = boards_dir(options)?;
        let board_file = Board::file(&boards, board);
        let board = Board::find(&boards, board)?;
        // Before a build of a minute.
        if crate::process::find(&board.emulator.program).is_none() {
            return Err(Error::NoEmulator { program: board.emulator.program });
        }
        let board_file = std::path::absolute(&board_file).map_err(Error::io(board_file.display().to_string()))?;
        let firmware = Firmware::build(&board, &board_file, options, &mut |text| on_event(Event::Notice(text)))?;
        Ok(Self { board, firmware, options: options.clone() })
    }

    pub(crate) fn set_time_limit(&mut self, limit: Duration) {
        self.options.time_limit = limit;
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Its firmware.
    pub fn firmware(&self) -> &Firmware {
        &self.firmware
    }

    /// Boots once and draws what `request` asks for; its board is not looked at.
    ///
    /// # Errors
    /// The image does not fit, the firmware refuses it, or the run goes wrong.
    pub fn run(&self, request: &Request, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Error> {
        let image = match &request.image {
            Image::File(path) => &std::fs::read(path).map_err(Error::io(path.display().to_string()))?,
            Image::Bytes(bytes) => bytes,
        };
        let slot = self.board.image_slot();
        let room = slot.end - slot.start;
        let too_large = |what: &'static str, bytes: u64, room: u32, remedy: &'static str| Error::TooLarge {
            what,
            bytes,
            board: self.board.name.clone(),
            room: room.into(),
            remedy,
        };
        if image.len() as u64 > u64::from(room) {
            let remedy = "export a narrower or shallower student";
            return Err(too_large("the student image", image.len() as u64, room, remedy));
        }
        // The end of the image's slot, behind the image.
        let free = room - (image.len() as u32).next_multiple_of(16).min(room);
        if request.attached.len() as u64 > u64::from(free) {
            let remedy = "take a smaller student, or a board with more flash";
            return Err(too_large("the picture to start from", request.attached.len() as u64, free, remedy));
        }
        let crc = Crc32c::new().update(&request.attached).value();
        let attached = Attached { bytes: request.attached.len() as u32, crc };
        let wire = fewstep_wire::Request {
            seed: request.seed,
            class: request.class,
            w: request.w,
            steps: request.steps,
            sampler: request.sampler,
            task: request.task,
            attached,
        };
        let (wire, reset) = (wire.emit(), self.reset());
        let mut loads = vec![
            Load { address: slot.start, bytes: image },
            Load { address: self.board.request_address(), bytes: &wire },
        ];
        loads.extend(reset.as_ref().map(|(address, bytes)| Load { address: *address, bytes }));
        if !request.attached.is_empty() {
            loads.push(Load { address: slot.end - attached.room(), bytes: &request.attached });
        }
        let start = Instant::now();
        let (booted, guest, not_counted) = self.boot_counted(&loads, on_event)?;
        let seconds = start.elapsed().as_secs_f64();
        self.judge(&booted, &guest)?;
        self.outcome(&booted, guest, not_counted, room, seconds)
    }

    /// Boots once and measures `layer` with `scratch` bytes of scratch and random tensors of `seed`. The firmware has to
    /// have been built with its feature `layer`, as [`measure_layer`](crate::measure_layer) does.
    ///
    /// # Errors
    /// The layer does not fit the board, or the run goes wrong.
    pub fn run_layer(
        &self,
        layer: &Layer,
        scratch: u32,
        seed: u64,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<LayerOutcome, Error> {
        let slot = self.board.image_slot();
        let room = u64::from(slot.end - slot.start);
        let too_large = |bytes: u64| Error::TooLarge {
            what: "the layer",
            bytes,
            board: self.board.name.clone(),
            room,
            remedy: "measure one of fewer channels",
        };
        let (request, tensors) = layer::material(layer, scratch, seed).ok_or_else(|| too_large(1 << 31))?;
        if tensors.len() as u64 > room {
            return Err(too_large(tensors.len() as u64));
        }
        let (request, reset) = (request.emit(), self.reset());
        let mut loads = vec![
            Load { address: slot.start, bytes: &tensors },
            Load { address: self.board.request_address(), bytes: &request },
        ];
        loads.extend(reset.as_ref().map(|(address, bytes)| Load { address: *address, bytes }));
        let (booted, guest, _) = self.boot_counted(&loads, on_event)?;
        self.judge(&booted, &guest)?;
        if let Some(problem) = guest.problem {
            return Err(Error::Malformed(problem));
        }
        let measured = guest.layer.ok_or_else(|| Error::Malformed("it measured no layer".into()))?;
        let counts = booted.counts.as_deref().and_then(counts::parse);
        Ok(LayerOutcome {
            board: self.board.name.clone(),
            instructions: counts.and_then(|steps| Some(steps.first()?.instructions)),
            macs: layer.macs(),
            method: measured.backend,
            scratch_bytes: measured.scratch,
            equal: measured.differing == 0,
        })
    }

    /// Stack pointer and entry, for a CPU that does not start at the start of the flash.
    pub(crate) fn reset(&self) -> Option<(u32, [u8; 8])> {
        let ram = &self.board.ram;
        // Bit 0: Thumb.
        let words = u64::from(ram.origin + ram.stack) | u64::from(self.firmware.entry | 1) << 32;
        Some((self.board.emulator.reset?, words.to_le_bytes()))
    }

    /// Boots with the counter, or without where the emulator refuses it; then the last value says why.
    fn boot_counted(
        &self,
        loads: &[Load<'_>],
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Booted, Guest, Option<String>), Error> {
        let (booted, guest, not_counted) = self.boot(loads, true, on_event)?;
        if booted.code == Some(1) && booted.stderr.contains("plugin") {
            // This QEMU has no plugins, or of another version.
            let reason = booted.stderr;
            let (booted, guest, _) = self.boot(loads, false, on_event)?;
            return Ok((booted, guest, Some(reason)));
        }
        Ok((booted, guest, not_counted))
    }

    /// A boot with `loads` in its flash, and the file of its second flash.
    pub(crate) fn boot_of<'a>(&'a self, loads: &'a [Load<'a>], count: bool, memory: Option<&'a Path>) -> Boot<'a> {
        Boot {
            board: &self.board,
            kernel: &self.firmware.elf,
            loads,
            counter: self.firmware.counter.as_deref().ok().filter(|_| count),
            limit: self.options.time_limit,
            stop: self.options.stop,
            memory,
        }
    }

    fn boot(
        &self,
        loads: &[Load<'_>],
        count: bool,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Booted, Guest, Option<String>), Error> {
        let boot = self.boot_of(loads, count, None);
        let mut guest = Guest::default();
        let mut stream = Stream::default();
        let log = &self.firmware.log;
        let booted = emulator::boot(&boot, |bytes| {
            stream.push(bytes, |kind, payload| guest.take(kind, payload, log, on_event));
        })?;
        guest.skipped = stream.finish(|kind, payload| guest.take(kind, payload, log, on_event));
        Ok((booted, guest, self.firmware.counter.as_ref().err().cloned()))
    }

    /// Whether the run ended well.
    pub(crate) fn judge(&self, booted: &Booted, guest: &Guest) -> Result<(), Error> {
        let last = || guest.log.last().map_or_else(|| "nothing".into(), Line::to_string);
        if booted.timed_out {
            return Err(Error::TimeLimit { limit: self.options.time_limit, last: last() });
        }
        if booted.flooded {
            return Err(Error::Flood { limit: OUTPUT_BYTES, last: last() });
        }
        if let Some(fault) = guest.fault {
            let ram = &self.board.ram;
            // A CPU with a stack limit stops at the limit, and says so.
            let limited = fault.exception < RISCV_TRAP && fault.cfsr & STACK_LIMIT != 0;
            let stack_overflow = limited || !(ram.origin..=ram.origin + ram.stack).contains(&fault.sp);
            return Err(Error::Faulted { fault, stack_overflow });
        }
        if let Some((line, file)) = &guest.panic {
            return Err(Error::Panicked { file: file.clone(), line: *line });
        }
        match booted.code.and_then(Status::from_code) {
            Some(Status::Done) => Ok(()),
            Some(status) => {
                let error = guest.log.iter().rev().find(|line| line.level == Level::Error);
                let detail = error.map_or_else(|| "it did not say more".into(), |line| line.text.clone());
                Err(Error::Refused { status, detail })
            }
            None => Err(Error::Emulator {
                program: self.board.emulator.program.clone(),
                ending: booted.ending.clone(),
                stderr: booted.stderr.clone(),
            }),
        }
    }

    /// Puts together what a good run sent.
    fn outcome(
        &self,
        booted: &Booted,
        guest: Guest,
        not_counted: Option<String>,
        room: u32,
        seconds: f64,
    ) -> Result<Outcome, Error> {
        let malformed = |what: &str| Error::Malformed(what.into());
        if guest.skipped > 0 {
            return Err(Error::Malformed(format!("{} bytes of what it sent are no record", guest.skipped)));
        }
        if let Some(problem) = guest.problem {
            return Err(Error::Malformed(problem));
        }
        let found = guest.found.ok_or_else(|| malformed("it named no image"))?;
        let picture = guest.picture.ok_or_else(|| malformed("it sent no picture"))?;
        let usage = guest.usage.ok_or_else(|| malformed("it did not say what memory it used"))?;
        let Found { height, width, channels, .. } = found;
        let pixels = u64::from(height) * u64::from(width) * u64::from(channels);
        if picture.len() as u64 != pixels {
            let length = picture.len();
            return Err(Error::Malformed(format!(
                "its picture has {length} bytes, not {height} x {width} x {channels} = {pixels}"
            )));
        }
        let steps = match (&not_counted, &booted.counts) {
            (None, Some(text)) => {
                let steps = counts::parse(text).filter(|steps| steps.len() == usize::from(guest.steps));
                Some(steps.ok_or_else(|| malformed("the instruction counter's lines do not fit its steps"))?)
            }
            _ => None,
        };
        let not_counted = match &steps {
            Some(_) => None,
            None => Some(not_counted.unwrap_or_else(|| "the instruction counter wrote nothing".into())),
        };
        let ram = &self.board.ram;
        let in_ram = |section: &&Section| section.address >= ram.origin && section.address - ram.origin < ram.size;
        Ok(Outcome {
            board: self.board.name.clone(),
            height,
            width,
            channels,
            picture,
            log: guest.log,
            backend: found.backend,
            macs_per_step: found.macs_per_step,
            steps,
            not_counted,
            arena_bytes: found.arena_bytes,
            arena_budget: found.arena_budget,
            stack_used: usage.stack_used,
            stack_bytes: usage.stack_bytes,
            static_ram_bytes: self.firmware.sections.iter().filter(in_ram).map(|section| section.bytes).sum(),
            ram_budget: ram.size,
            flash: Flash {
                firmware_bytes: self.firmware.flash_bytes,
                firmware_budget: self.board.flash.firmware,
                image_bytes: found.image_bytes,
                image_budget: room,
            },
            sections: self.firmware.sections.clone(),
            toolchain: self.firmware.toolchain,
            seconds,
        })
    }
}

/// What the guest sent.
#[derive(Default)]
pub(crate) struct Guest {
    pub(crate) log: Vec<Line>,
    pub(crate) found: Option<Found>,
    pub(crate) steps: u16,
    pub(crate) picture: Option<Vec<u8>>,
    pub(crate) usage: Option<Usage>,
    panic: Option<(u32, String)>,
    fault: Option<Fault>,
    layer: Option<Measured>,
    /// The first record that should not have come.
    pub(crate) problem: Option<String>,
    /// Bytes that were no record.
    pub(crate) skipped: usize,
}

struct Measured {
    differing: u32,
    scratch: u32,
    backend: String,
}

pub(crate) struct Found {
    pub(crate) height: u16,
    pub(crate) width: u16,
    pub(crate) channels: u16,
    pub(crate) arena_bytes: u32,
    pub(crate) arena_budget: u32,
    pub(crate) image_bytes: u32,
    pub(crate) macs_per_step: u64,
    pub(crate) backend: String,
}

impl From<Model<'_>> for Found {
    fn from(model: Model<'_>) -> Self {
        let Model { height, width, channels, arena_bytes, arena_budget, image_bytes, macs_per_step, .. } = model;
        let backend = model.backend.into();
        Self { height, width, channels, arena_bytes, arena_budget, image_bytes, macs_per_step, backend }
    }
}

impl Guest {
    pub(crate) fn take(&mut self, kind: u8, payload: &[u8], log: &Table, on_event: &mut dyn FnMut(Event<'_>)) {
        let Some(record) = Record::parse(kind, payload) else {
            self.complain(format!("a record of kind {kind} with {} bytes is unknown", payload.len()));
            return;
        };
        match record {
            Record::Log(frame) => {
                let line = log.line(frame);
                on_event(Event::Log(&line));
                self.log.push(line);
            }
            Record::Model(model) => {
                if self.found.replace(model.into()).is_some() {
                    self.complain("it named two images".into());
                }
            }
            Record::Step(Step { done, steps }) => {
                on_event(Event::Step { done, steps });
                if done != self.steps + 1 || done > steps {
                    self.complain(format!("step {done} of {steps} came after step {}", self.steps));
                }
                self.steps = done;
            }
            Record::Picture(bytes) => {
                if self.picture.replace(bytes.to_vec()).is_some() {
                    self.complain("it sent two pictures".into());
                }
            }
            Record::Usage(usage) => self.usage = Some(usage),
            Record::Panic { line, file } => self.panic = Some((line, file.into())),
            Record::Fault(fault) => self.fault = Some(fault),
            Record::Booted(_) | Record::Command(_) => self.complain("it plays a scenario".into()),
            Record::Layer(report) => {
                let LayerReport { differing, scratch, backend } = report;
                self.layer = Some(Measured { differing, scratch, backend: backend.into() });
            }
        }
    }

    fn complain(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

#[cfg(test)]
mod tests;
