//! Plays a scenario: events become power cycles of an emulated board, and each event a row that says what came of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use fewstep_runner::{
    Action, Booted, CommandOutcome, Cut, Device, Drawn, Ending, Error as SimulatorError, Event as Progress, Options,
    PowerCycle, Setup, Torn, Verdict, WireRequest,
};
use serde::Serialize;

use crate::error::Error;
use crate::file::{self, Boot, Draw, Event, Expect, Program, Rot, Running, Scenario, Slot};
use crate::{host, mail};

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scenario's file.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// The board's name.
    pub board: String,
    /// Whether everything was as expected.
    pub passed: bool,
    /// How often the board booted.
    pub boots: u32,
    /// Seconds on this machine's emulator: no measure of the board's speed.
    pub seconds: f64,
    /// What came of each event.
    pub rows: Vec<Row>,
}

/// What came of an event.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The event.
    pub event: String,
    /// What happened.
    pub result: String,
    /// Why that was not as expected.
    pub problem: Option<String>,
    /// Figures.
    pub measured: Measured,
    /// The board's picture.
    #[serde(skip)]
    pub picture: Option<Picture>,
}

/// Figures of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Executed instructions of a picture.
    pub instructions: Option<u64>,
    /// Most instructions between two feedings of the watchdog.
    pub longest_call: Option<u64>,
    /// Bytes of stack in use at most, since the power came on.
    pub stack: Option<u32>,
    /// Bytes of arena in use.
    pub arena: Option<u32>,
    /// Words written and blocks erased.
    pub operations: Option<u32>,
    /// Bytes of the image that an update has in flash.
    pub position: Option<u32>,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Height, width, channels.
    pub shape: [u16; 3],
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Plays scenarios; a board's firmware is built once.
#[derive(Default)]
pub struct Player {
    options: Options,
    devices: BTreeMap<String, Device>,
}

impl Player {
    /// With options of one's own; their time limit is each scenario's.
    pub fn new(options: Options) -> Self {
        Self { options, devices: BTreeMap::new() }
    }

    /// Plays a scenario from a new board on; `board` instead of the file's, if there is one.
    ///
    /// # Errors
    /// The board cannot be simulated here. What the board does is no error: see [`Outcome::passed`].
    pub fn play(
        &mut self,
        scenario: &Scenario,
        board: Option<&str>,
        on_event: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Outcome, Error> {
        let board = board.unwrap_or(&scenario.file.board);
        let device = match self.devices.entry(board.into()) {
            Entry::Occupied(device) => device.into_mut(),
            Entry::Vacant(place) => place.insert(Device::new(board, &self.options, on_event)?),
        };
        let start = Instant::now();
        device.erase()?;
        device.set_time_limit(Duration::from_secs(scenario.file.seconds));
        let mut play = Play { scenario, device, state: State::Off, running: None, boots: 0, rows: Vec::new() };
        play.all(on_event)?;
        let Play { device, boots, rows, .. } = play;
        Ok(Outcome {
            file: scenario.path.display().to_string(),
            name: scenario.file.name.clone(),
            board: device.board().name.clone(),
            passed: rows.iter().all(|row| row.problem.is_none()),
            boots,
            seconds: start.elapsed().as_secs_f64(),
            rows,
        })
    }
}

/// What the board is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    On,
    /// The watchdog came: it boots by itself.
    Resetting,
}

/// The running image.
struct Image {
    booted: Booted,
    /// As the scenario calls it; `None` for one that it does not name.
    name: Option<String>,
}

struct Play<'a> {
    scenario: &'a Scenario,
    device: &'a mut Device,
    state: State,
    running: Option<Image>,
    boots: u32,
    rows: Vec<Row>,
}

impl Play<'_> {
    fn all(&mut self, on_event: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        let events = &self.scenario.file.events;
        let mut next = 0;
        while let Some(event) = events.get(next) {
            if self.state == State::Resetting && in_a_power_cycle(event) {
                let group = group(&events[next..]);
                next += group.len();
                self.power_cycle("reset by the watchdog".into(), &Boot { cut: None }, group, None, on_event)?;
                continue;
            }
            next += 1;
            match event {
                Event::PowerOn(boot) | Event::Reset(boot) => {
                    let expected = if matches!(event, Event::Reset(_)) { State::On } else { State::Off };
                    let problem = match (self.state, expected) {
                        (State::On, State::Off) => Some("the power is on already: reset, or power_off first"),
                        (State::Off, State::On) => Some("the power is off: power_on"),
                        _ => None,
                    };
                    let group = group(&events[next..]);
                    next += group.len();
                    self.power_cycle(event.to_string(), boot, group, problem, on_event)?;
                }
                Event::Draw(_) | Event::Update(_) | Event::Confirm(_) | Event::Hang(_) => {
                    self.row(event, "not reached", Some("nothing runs here: power_on or reset first".into()));
                }
                Event::PowerOff(_) => {
                    (self.state, self.running) = (State::Off, None);
                    self.row(event, "off", None);
                }
                Event::Program(program) => self.program(event, program)?,
                Event::Rot(rot) => self.rot(event, rot)?,
                Event::Expect(expect) => self.expect(event, expect),
            }
        }
        Ok(())
    }

    fn row(&mut self, event: &Event, result: impl Into<String>, problem: Option<String>) {
        self.push(event.to_string(), result, problem);
    }

    fn push(&mut self, event: String, result: impl Into<String>, problem: Option<String>) {
        let measured = Measured::default();
        self.rows.push(Row { event, result: result.into(), problem, measured, picture: None });
    }

    /// Where a slot starts in the second flash.
    fn start(&self, slot: Slot) -> u32 {
        match slot {
            Slot::A => 0,
            Slot::B => self.device.storage().slot,
        }
    }

    /// The flash is written and changed from outside while the power is off.
    fn off(&self) -> Option<String> {
        (self.state != State::Off).then(|| "the power is on: power_off first".into())
    }

    fn program(&mut self, event: &Event, program: &Program) -> Result<(), Error> {
        let (image, signer) = (&self.scenario.images[&program.image], program.sign.as_ref());
        let signer = signer.map(|key| &self.scenario.signers[key]);
        let storage = self.device.storage();
        let write_size = storage.write as usize;
        let bytes = mail::slot(image, program.version, program.sequence, signer, write_size);
        let room = storage.slot as usize;
        let problem = match &bytes {
            Some(bytes) if bytes.len() > room => Some(format!("a slot has {room} bytes, the image {}", bytes.len())),
            Some(_) => self.off(),
            None => Some(format!("storage.write = {write_size} has no slots")),
        };
        if let (None, Some(mut bytes)) = (&problem, bytes) {
            bytes.resize(room, 0xff);
            self.device.write(self.start(program.slot), &bytes)?;
        }
        self.row(event, "written", problem);
        Ok(())
    }

    fn rot(&mut self, event: &Event, rot: &Rot) -> Result<(), Error> {
        let room = self.device.storage().slot;
        let inside = u64::from(rot.at) + u64::from(rot.bytes) <= room.into();
        let problem = if inside { self.off() } else { Some(format!("a slot has {room} bytes")) };
        if problem.is_none() {
            let at = self.start(rot.slot) + rot.at;
            let mut bytes = self.device.read(at, rot.bytes as usize)?;
            bytes.iter_mut().for_each(|byte| *byte ^= rot.xor);
            self.device.write(at, &bytes)?;
        }
        self.row(event, "changed", problem);
        Ok(())
    }

    fn expect(&mut self, event: &Event, expect: &Expect) {
        let mut wrong = Vec::new();
        let alive = self.state != State::Off;
        let about_image =
            expect.slot.is_some() || expect.image.is_some() || expect.version.is_some() || expect.trial.is_some();
        if about_image && !alive {
            wrong.push("the power is off".to_string());
        } else {
            let booted = self.running.as_ref().map(|image| image.booted);
            let slot = match booted.and_then(|booted| booted.slot) {
                None => Running::None,
                Some(0) => Running::A,
                Some(_) => Running::B,
            };
            let name = self.running.as_ref().and_then(|image| image.name.as_deref());
            let mut check = |right: bool, what: String| {
                if !right {
                    wrong.push(what);
                }
            };
            check(expect.slot.is_none_or(|want| want == slot), format!("slot is {slot:?}").to_lowercase());
            check(
                expect.image.as_deref().is_none_or(|want| Some(want) == name),
                format!("image is {}", name.unwrap_or("none of those named")),
            );
            let version = booted.map_or(0, |booted| booted.version);
            check(expect.version.is_none_or(|want| want == version), format!("version is {version}"));
            let trial = booted.is_some_and(|booted| booted.trial);
            check(expect.trial.is_none_or(|want| want == trial), format!("trial is {trial}"));
        }
        if expect.boots.is_some_and(|want| want != self.boots) {
            wrong.push(format!("boots are {}", self.boots));
        }
        let problem = (!wrong.is_empty()).then(|| wrong.join(", "));
        self.row(event, if problem.is_none() { "so it is" } else { "it is not so" }, problem);
    }

    /// Boots, does what the events of a group say, and judges each.
    fn power_cycle(
        &mut self,
        title: String,
        boot: &Boot,
        group: &[Event],
        problem: Option<&str>,
        on_event: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        if let Some(problem) = problem {
            self.push(title, "not done", Some(problem.into()));
            group.iter().for_each(|event| self.row(event, "not reached", Some("the board did not boot".into())));
            return Ok(());
        }
        let mut actions = Vec::new();
        for event in group {
            match self.action(event) {
                Ok(action) => actions.extend(action),
                Err(problem) => {
                    self.row(event, "not done", Some(problem));
                    self.state = State::Off;
                    return Ok(());
                }
            }
        }
        let rules = &self.scenario.file.rules;
        let setup = Setup {
            lowest_version: rules.lowest_version,
            may_go_down: rules.may_go_down,
            key: self.scenario.key,
            cut: boot.cut.map(wire_cut),
            watchdog: 0,
        };
        let cycle = self.device.power_cycle(&setup, self.scenario.file.watchdog, &actions, on_event)?;
        self.running = match cycle.booted.filter(|booted| booted.slot.is_some()) {
            Some(booted) => Some(self.identify(booted)?),
            None => None,
        };
        self.boots += u32::from(cycle.booted.is_some());
        self.state = State::On;
        self.booted_row(title, boot, &cycle);
        self.judge(group, &cycle);
        self.state = match cycle.ending {
            Ending::Done => State::On,
            Ending::Watchdog => State::Resetting,
            Ending::PowerCut | Ending::Failed(_) => State::Off,
        };
        if self.state != State::On {
            self.running = None;
        }
        Ok(())
    }

    /// What the firmware is told for an event; nothing for an expectation.
    fn action(&self, event: &Event) -> Result<Option<Action>, String> {
        Ok(Some(match event {
            Event::Draw(draw) => Action::Draw(request(draw)),
            Event::Update(update) => Action::Update {
                mail: mail::update(self.scenario, update)?,
                chunk: update.chunk,
                drawing: update.drawing.as_ref().map(request),
                cut: update.cut.map(wire_cut),
            },
            Event::Confirm(boot) => Action::Confirm { cut: boot.cut.map(wire_cut) },
            Event::Hang(_) => Action::Hang,
            _ => return Ok(None),
        }))
    }

    /// Which of the scenario's images runs: by its bytes, not by what the firmware says.
    fn identify(&self, booted: Booted) -> Result<Image, Error> {
        let bytes = self.device.read(booted.offset, booted.bytes as usize)?;
        let name = self.scenario.images.iter().find(|(_, image)| **image == bytes).map(|(name, _)| name.clone());
        Ok(Image { booted, name })
    }

    fn booted_row(&mut self, title: String, boot: &Boot, cycle: &PowerCycle) {
        let result = match (&cycle.booted, &self.running) {
            (None, _) => ending(&cycle.ending).to_string(),
            (_, None) => "no image".into(),
            (_, Some(Image { booted, name })) => {
                let slot = if booted.slot == Some(0) { "a" } else { "b" };
                let name = name.as_deref().unwrap_or("an unknown image");
                let trial = if booted.trial { ", on trial" } else { "" };
                format!("slot {slot}: {name}, version {}{trial}", booted.version)
            }
        };
        let cut_here = cycle.booted.is_none() && matches!(cycle.ending, Ending::PowerCut);
        let problem = match (boot.cut, &cycle.booted) {
            (Some(_), Some(_)) => Some("the power was to fail, but the boot has fewer operations".into()),
            (None, None) => Some(why(&cycle.ending)),
            (Some(_), None) if !cut_here => Some(why(&cycle.ending)),
            _ => None,
        };
        self.push(title, result, problem);
    }

    fn judge(&mut self, group: &[Event], cycle: &PowerCycle) {
        let mut ended = cycle.ended.iter();
        // The event in which the power cycle ended, once there is one; none after a boot that did not end.
        let mut open = cycle.booted.is_some();
        for event in group {
            if let Event::Expect(expect) = event {
                if !open {
                    self.state = State::Off;
                }
                self.expect(event, expect);
                continue;
            }
            let expected = expected(event, self.scenario.file.watchdog.is_some());
            match ended.next() {
                Some(outcome) => self.ended(event, outcome, expected),
                None if open && !matches!(cycle.ending, Ending::Done) => {
                    open = false;
                    let result = ending(&cycle.ending);
                    let problem = (result != expected).then(|| format!("{}, not {expected}", why(&cycle.ending)));
                    self.row(event, result, problem);
                }
                None => self.row(event, "not reached", Some("the power cycle ended before".into())),
            }
        }
        // A command that nobody waits for: after the last one the firmware failed.
        if let (true, Ending::Failed(error)) = (open, &cycle.ending) {
            self.push("end of the power cycle".into(), "failed", Some(error.to_string()));
        }
    }

    /// An event that the firmware says has ended.
    fn ended(&mut self, event: &Event, outcome: &CommandOutcome, expected: &str) {
        let verdict = outcome.verdict.name();
        let mut problems = Vec::new();
        if verdict != expected {
            problems.push(format!("{verdict}, not {expected}"));
        }
        let mut result = verdict.to_string();
        let asked = match event {
            Event::Draw(draw) => Some(draw),
            Event::Update(update) => update.drawing.as_ref(),
            _ => None,
        };
        if let (Event::Confirm(_), Verdict::Done, Some(image)) = (event, outcome.verdict, &mut self.running) {
            image.booted.trial = false;
        }
        if let (Some(asked), Some(drawn)) = (asked, &outcome.drawn) {
            match self.compare(asked, drawn) {
                Ok(()) if matches!(event, Event::Draw(_)) => result = "equal to the host's picture".into(),
                Ok(()) => result += ", picture equal to the host's",
                Err(problem) => problems.push(problem),
            }
        } else if asked.is_some() && outcome.verdict == Verdict::Done {
            problems.push("there is no picture".into());
        }
        let writes = matches!(event, Event::Update(_) | Event::Confirm(_));
        let measured = Measured {
            instructions: outcome.drawn.as_ref().and_then(instructions),
            longest_call: outcome.longest,
            stack: outcome.drawn.as_ref().map(|drawn| drawn.stack.0),
            arena: outcome.drawn.as_ref().map(|drawn| drawn.arena.0),
            operations: writes.then_some(outcome.operations),
            position: matches!(event, Event::Update(_)).then_some(outcome.position),
        };
        problems.extend(self.over_limits(&measured, outcome.drawn.is_some()));
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        let picture = outcome.drawn.as_ref().map(|d| Picture { shape: d.shape, bytes: d.picture.clone() });
        self.rows.push(Row { event: event.to_string(), result, problem, measured, picture });
    }

    /// The board's picture against what this machine draws with the image that the board runs.
    fn compare(&self, asked: &Draw, drawn: &Drawn) -> Result<(), String> {
        let name = self.running.as_ref().and_then(|image| image.name.as_ref());
        let image = name.and_then(|name| self.scenario.images.get(name));
        let image = image.ok_or("the running image is none of those named")?;
        let expected = host::picture(image, &request(asked))?;
        let differing = expected.iter().zip(&drawn.picture).filter(|(a, b)| a != b).count();
        if expected.len() != drawn.picture.len() || differing > 0 {
            return Err(format!("{differing} of {} bytes differ from the host's picture", expected.len()));
        }
        Ok(())
    }

    fn over_limits(&self, measured: &Measured, drawn: bool) -> Vec<String> {
        let limits = &self.scenario.file.limits;
        let per_picture = [
            ("instructions", measured.instructions, limits.instructions),
            ("bytes of stack", measured.stack.map(u64::from), limits.stack.map(u64::from)),
            ("bytes of arena", measured.arena.map(u64::from), limits.arena.map(u64::from)),
        ];
        let mut problems = Vec::new();
        for (what, measured, limit) in per_picture.into_iter().filter(|_| drawn) {
            match (measured, limit) {
                (Some(measured), Some(limit)) if measured > limit => {
                    problems.push(format!("{measured} {what}, the limit is {limit}"));
                }
                (None, Some(_)) => problems.push(format!("{what} were not measured: this QEMU has no plugins")),
                _ => {}
            }
        }
        if let (Some(measured), Some(limit)) = (measured.longest_call, limits.longest_call)
            && measured > limit
        {
            problems.push(format!("{measured} instructions between two feedings, the limit is {limit}"));
        }
        problems
    }
}

/// Whether the firmware does it, or it is expected of one that runs.
fn in_a_power_cycle(event: &Event) -> bool {
    matches!(event, Event::Draw(_) | Event::Update(_) | Event::Confirm(_) | Event::Hang(_) | Event::Expect(_))
}

/// The events from the front that one power cycle does; a hang is its last.
fn group(events: &[Event]) -> &[Event] {
    let mut length = events.iter().take_while(|event| in_a_power_cycle(event)).count();
    if let Some(hang) = events[..length].iter().position(|event| matches!(event, Event::Hang(_))) {
        length = hang + 1;
    }
    &events[..length]
}

fn request(draw: &Draw) -> WireRequest {
    let Draw { seed, class, w, steps, .. } = *draw;
    WireRequest { seed, class, w, steps, ..WireRequest::default() }
}

fn wire_cut(cut: file::Cut) -> Cut {
    let torn = match cut.torn {
        file::Torn::Not => Torn::Not,
        file::Torn::Partly => Torn::Partly,
        file::Torn::Wholly => Torn::Wholly,
    };
    Cut { after: cut.after, torn }
}

/// How an event is to end.
fn expected(event: &Event, watched: bool) -> &str {
    let unless_cut = |cut: Option<file::Cut>| if cut.is_some() { "power-cut" } else { "done" };
    match event {
        Event::Draw(draw) => &draw.ends,
        Event::Update(update) => update.ends.as_deref().unwrap_or(unless_cut(update.cut)),
        Event::Confirm(boot) => unless_cut(boot.cut),
        Event::Hang(hang) => hang.ends.as_deref().unwrap_or(if watched { "watchdog" } else { "time-limit" }),
        _ => "done",
    }
}

/// An ending as scenario files call it.
fn ending(ending: &Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::PowerCut => "power-cut",
        Ending::Watchdog => "watchdog",
        Ending::Failed(SimulatorError::TimeLimit { .. }) => "time-limit",
        Ending::Failed(_) => "failed",
    }
}

fn why(ended: &Ending) -> String {
    match ended {
        Ending::Failed(error) => error.to_string(),
        other => ending(other).into(),
    }
}

/// All instructions of a picture.
fn instructions(drawn: &Drawn) -> Option<u64> {
    drawn.steps.as_ref().map(|steps| steps.iter().map(|step| step.instructions).sum())
}
