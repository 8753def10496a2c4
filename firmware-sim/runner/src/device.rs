//! A board over several power cycles: its second flash, with two slots for images, outlives them. The firmware is built
//! with its feature `scenario` and does in the emulator what it is told: boots an image, draws, receives updates, loses its
//! power within an operation of the flash, hangs until the watchdog comes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fewstep_board::{Board, Storage, Timer};
use fewstep_wire::{Booted, Command, CommandEnd, Cut, Record, Request, Script, Setup, Verdict};

use crate::counts::{self, StepCount};
use crate::emulator::{self, CLOCK_SHIFT, Load, Scratch};
use crate::error::Error;
use crate::firmware::{Options, SCENARIO};
use crate::log::Line;
use crate::simulate::{Event, Found, Guest, Simulator};
use crate::stream::Stream;

/// What flash holds after an erase.
const BLANK: u8 = 0xff;

/// What the firmware is to do in a power cycle.
#[derive(Clone, Debug)]
pub enum Action {
    /// A picture.
    Draw(Request),
    /// An update arrives.
    Update {
        /// A manifest, then the image, as far as the connection lasts.
        mail: Vec<u8>,
        /// Most bytes of a piece.
        chunk: u32,
        /// A picture that is drawn meanwhile.
        drawing: Option<Request>,
        /// The power fails meanwhile.
        cut: Option<Cut>,
    },
    /// The running image is good.
    Confirm {
        /// The power fails meanwhile.
        cut: Option<Cut>,
    },
    /// The firmware hangs.
    Hang,
}

/// How a power cycle ended.
#[derive(Debug)]
pub enum Ending {
    /// Everything was done, and the power went off.
    Done,
    /// The power failed, as asked.
    PowerCut,
    /// The watchdog came.
    Watchdog,
    /// Otherwise: a hang without watchdog, a panic, a fault, records that are none.
    Failed(Error),
}

/// What came of a power cycle.
#[derive(Debug)]
pub struct PowerCycle {
    /// The image that was chosen; `None` when it ended before.
    pub booted: Option<Booted>,
    /// The actions that ended, in order.
    pub ended: Vec<CommandOutcome>,
    /// How it ended.
    pub ending: Ending,
    /// The firmware's log.
    pub log: Vec<Line>,
    /// Most stack in use at any time and stack there is, in bytes; `None` when it ended early.
    pub stack: Option<(u32, u32)>,
    /// Seconds on this machine's emulator: no measure of the board's speed.
    pub seconds: f64,
}

/// What came of an action.
#[derive(Clone, Debug)]
pub struct CommandOutcome {
    /// How it ended.
    pub verdict: Verdict,
    /// Of an update: bytes of the image in flash.
    pub position: u32,
    /// Words written and blocks erased.
    pub operations: u32,
    /// Most instructions between two feedings of the watchdog, to a tick of its timer; `None` without one.
    pub longest: Option<u64>,
    /// The picture, if one was drawn.
    pub drawn: Option<Drawn>,
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Height, width, channels.
    pub shape: [u16; 3],
    /// Its bytes.
    pub picture: Vec<u8>,
    /// Name of the kernels in use.
    pub backend: String,
    /// Arena that the image asks for and that the board grants, in bytes.
    pub arena: (u32, u32),
    /// Executed instructions of each step; `None` when they were not counted.
    pub steps: Option<Vec<StepCount>>,
    /// Most stack in use so far and stack there is, in bytes.
    pub stack: (u32, u32),
}

/// A board with a second flash in a file.
pub struct Device {
    simulator: Simulator,
    storage: Storage,
    timer: Timer,
    file: PathBuf,
    /// Whether this machine's emulator counts instructions.
    counts: bool,
    /// Goes with the device.
    _folder: Scratch,
}

impl Device {
    /// Finds the board, builds its firmware, and erases its second flash.
    ///
    /// # Errors
    /// As [`Simulator::new`]; the board has no second flash.
    pub fn new(board: &str, options: &Options, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Self, Error> {
        let mut options = options.clone();
        options.features.push(SCENARIO.into());
        // Before a build of a minute.
        let found = Board::find(&crate::boards_dir(&options)?, board)?;
        let (Some(storage), Some(timer)) = (found.storage, found.timer) else {
            return Err(Error::NoStorage { board: found.name });
        };
        let simulator = Simulator::new(board, &options, on_event)?;
        let folder = Scratch::new()?;
        let file = folder.file("memory");
        let io = Error::io(file.display().to_string());
        File::create(&file).and_then(|file| file.set_len(storage.memory_size)).map_err(io)?;
        let mut device = Self { simulator, storage, timer, file, counts: true, _folder: folder };
        device.erase()?;
        Ok(device)
    }

    /// Sets how long a power cycle may take on this machine.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.simulator.set_time_limit(limit);
    }

    /// The board.
    pub fn board(&self) -> &Board {
        self.simulator.board()
    }

    /// Its second flash.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Erases the second flash: a new board.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn erase(&mut self) -> Result<(), Error> {
        self.write(0, &vec![BLANK; 2 * self.storage.slot as usize])
    }

    /// Writes at a byte of the second flash, as a programmer that erases first would.
    ///
    /// # Errors
    /// The bytes do not fit, or the file cannot be written.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Error> {
        self.inside("what is written", at, bytes.len())?;
        let mut file = self.at(at)?;
        file.write_all(bytes).map_err(Error::io(self.file.display().to_string()))
    }

    /// Reads from a byte of the second flash.
    ///
    /// # Errors
    /// There are fewer bytes, or the file cannot be read.
    pub fn read(&self, at: u32, bytes: usize) -> Result<Vec<u8>, Error> {
        self.inside("what is read", at, bytes)?;
        let mut read = vec![0; bytes];
        self.at(at)?.read_exact(&mut read).map_err(Error::io(self.file.display().to_string()))?;
        Ok(read)
    }

    fn inside(&self, what: &'static str, at: u32, bytes: usize) -> Result<(), Error> {
        let room = 2 * u64::from(self.storage.slot) + u64::from(self.storage.mail);
        let end = u64::from(at) + bytes as u64;
        let board = self.board().name.clone();
        let remedy = "stay within both slots";
        if end > room { Err(Error::TooLarge { what, bytes: end, board, room, remedy }) } else { Ok(()) }
    }

    /// The file at a byte of the second flash.
    fn at(&self, at: u32) -> Result<File, Error> {
        let place = SeekFrom::Start(self.storage.file_offset() + u64::from(at));
        let open = || {
            let mut file = OpenOptions::new().read(true).write(true).open(&self.file)?;
            file.seek(place)?;
            Ok(file)
        };
        open().map_err(Error::io(self.file.display().to_string()))
    }

    /// Ticks of the timer in which so many instructions are executed, and the other way round.
    fn ticks(&self, instructions: u64) -> u32 {
        let nanoseconds = u128::from(instructions) << CLOCK_SHIFT;
        u32::try_from(nanoseconds * u128::from(self.timer.hz) / 1_000_000_000).unwrap_or(u32::MAX)
    }

    fn instructions(&self, ticks: u32) -> u64 {
        (u64::from(ticks) * 1_000_000_000 / u64::from(self.timer.hz)) >> CLOCK_SHIFT
    }

    /// The power comes on. The watchdog of `setup` counts instructions here; `setup.watchdog` is not looked at.
    ///
    /// # Errors
    /// There are more actions, or they have more to say, than fits a power cycle; the emulator is missing or its files
    /// cannot be written; the caller was asked to stop. What goes wrong in the firmware is no error but an ending.
    pub fn power_cycle(
        &mut self,
        setup: &Setup,
        watchdog: Option<u64>,
        actions: &[Action],
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<PowerCycle, Error> {
        let (commands, mail) = self.commands(actions)?;
        self.write(self.storage.mail_offset(), &mail)?;
        let setup = Setup { watchdog: watchdog.map_or(0, |instructions| self.ticks(instructions).max(1)), ..*setup };
        let mut script = vec![0; Script::MAX_BYTES];
        let length = Script::emit(&setup, &commands, &mut script).ok_or_else(|| Error::TooLarge {
            what: "the list of actions",
            bytes: commands.len() as u64,
            board: self.board().name.clone(),
            room: Script::MAX_COMMANDS as u64,
            remedy: "reset the board in between",
        })?;
        let reset = self.simulator.reset();
        let mut loads = vec![Load { address: self.board().request_address(), bytes: &script[..length] }];
        loads.extend(reset.as_ref().map(|(address, bytes)| Load { address: *address, bytes }));
        let start = Instant::now();
        let mut cycle = self.boot(&loads, setup.watchdog > 0, on_event)?;
        cycle.seconds = start.elapsed().as_secs_f64();
        Ok(cycle)
    }

    /// The actions as the firmware reads them, and what their senders have to say.
    fn commands(&self, actions: &[Action]) -> Result<(Vec<Command>, Vec<u8>), Error> {
        let mut all = Vec::new();
        let mut commands = Vec::new();
        for action in actions {
            commands.push(match action {
                Action::Draw(request) => Command::Draw(*request),
                Action::Update { mail, chunk, drawing, cut } => {
                    let place = all.len() as u32;
                    all.extend_from_slice(mail);
                    // Images are read where they lie, by words.
                    all.resize(all.len().next_multiple_of(16), 0);
                    let bytes = mail.len() as u32;
                    Command::Update { mail: place, bytes, chunk: *chunk, drawing: *drawing, cut: *cut }
                }
                Action::Confirm { cut } => Command::Confirm { cut: *cut },
                Action::Hang => Command::Hang,
            });
            if all.len() > self.storage.mail as usize {
                return Err(Error::TooLarge {
                    what: "what senders send in one power cycle",
                    bytes: all.len() as u64,
                    board: self.board().name.clone(),
                    room: self.storage.mail.into(),
                    remedy: "reset the board in between",
                });
            }
        }
        Ok((commands, all))
    }

    fn boot(
        &mut self,
        loads: &[Load<'_>],
        watched: bool,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<PowerCycle, Error> {
        let mut story = Story::default();
        let mut stream = Stream::default();
        let log = &self.simulator.firmware().log;
        let boot = self.simulator.boot_of(loads, self.counts, Some(&self.file));
        let booted = emulator::boot(&boot, |bytes| {
            stream.push(bytes, |kind, payload| story.take(kind, payload, log, on_event));
        })?;
        if self.counts && booted.code == Some(1) && booted.stderr.contains("plugin") {
            // This QEMU has no plugins, or of another version.
            self.counts = false;
            return self.boot(loads, watched, on_event);
        }
        let mut skipped = stream.finish(|kind, payload| story.take(kind, payload, log, on_event));
        let ending = match self.simulator.judge(&booted, &story.guest) {
            Ok(()) => Ending::Done,
            Err(Error::Refused { status: fewstep_wire::Status::PowerCut, .. }) => Ending::PowerCut,
            Err(Error::Faulted { fault, .. }) if fault.is_timer() => {
                // It may come in the middle of a record.
                skipped = 0;
                Ending::Watchdog
            }
            Err(error) => Ending::Failed(error),
        };
        let problem = story
            .problem
            .or(story.guest.problem)
            .or_else(|| (skipped > 0).then(|| format!("{skipped} bytes of what it sent are no record")));
        let ending = match (ending, problem) {
            (Ending::Failed(error), _) => Ending::Failed(error),
            (_, Some(problem)) => Ending::Failed(Error::Malformed(problem)),
            (ending, None) => ending,
        };
        let counted = booted.counts.as_deref().and_then(counts::parse_cut);
        let mut steps = counted.map(|(steps, _)| steps.into_iter());
        let mut all_lines = Vec::new();
        let mut ended = Vec::new();
        for (end, guest) in story.ended {
            let steps = match (&mut steps, guest.steps) {
                (Some(steps), 1..) => Some(steps.by_ref().take(guest.steps.into()).collect::<Vec<_>>()),
                _ => None,
            };
            let steps = steps.filter(|steps| steps.len() == usize::from(guest.steps));
            all_lines.extend(guest.log.iter().cloned());
            ended.push(CommandOutcome {
                verdict: end.verdict,
                position: end.position,
                operations: end.operations,
                longest: watched.then(|| self.instructions(end.longest)),
                drawn: drawn(guest, steps),
            });
        }
        all_lines.extend(story.guest.log);
        let stack = story.guest.usage.map(|usage| (usage.stack_used, usage.stack_bytes));
        Ok(PowerCycle { booted: story.booted, ended, ending, log: all_lines, stack, seconds: 0.0 })
    }
}

/// The picture of a command that sent a whole one.
fn drawn(guest: Guest, steps: Option<Vec<StepCount>>) -> Option<Drawn> {
    let Found { height, width, channels, backend, arena_bytes, arena_budget, .. } = guest.found?;
    let (picture, usage) = (guest.picture?, guest.usage?);
    let shape = [height, width, channels];
    if picture.len() as u64 != shape.map(u64::from).iter().product::<u64>() {
        return None;
    }
    let (arena, stack) = ((arena_bytes, arena_budget), (usage.stack_used, usage.stack_bytes));
    Some(Drawn { shape, picture, backend, arena, steps, stack })
}

/// What the firmware of a scenario sends: everything since the last command that ended is in `guest`.
#[derive(Default)]
struct Story {
    booted: Option<Booted>,
    ended: Vec<(CommandEnd, Guest)>,
    guest: Guest,
    problem: Option<String>,
}

impl Story {
    fn take(&mut self, kind: u8, payload: &[u8], log: &crate::log::Table, on_event: &mut dyn FnMut(Event<'_>)) {
        match Record::parse(kind, payload) {
            Some(Record::Booted(booted)) => {
                if self.booted.replace(booted).is_some() {
                    self.problem.get_or_insert("it booted twice".into());
                }
            }
            Some(Record::Command(end)) => {
                let guest = std::mem::take(&mut self.guest);
                if let Some(problem) = &guest.problem {
                    self.problem.get_or_insert(problem.clone());
                }
                self.ended.push((end, guest));
            }
            _ => self.guest.take(kind, payload, log, on_event),
        }
    }
}
