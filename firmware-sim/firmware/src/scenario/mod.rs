//! One power cycle of a scenario: boots an image out of two slots, does what the script says, and tells how each command
//! ended. What it leaves in the second flash is what the next power cycle finds.

mod sender;
mod storage;
mod watchdog;

use fewstep_core::slots::{Booted, Fault, Rules, Slot, SlotError, Slots};
use fewstep_wire::{Command, CommandEnd, Kind, Request, Script, Status, Usage, Verdict};

use sender::Sender;
use storage::{Broken, LAYOUT, Storage};
use watchdog::Watchdog;

use crate::{console, draw};

/// Everything a command works with.
struct Device<'a> {
    slots: Slots<Storage>,
    watchdog: Watchdog,
    arena: &'a mut [u8],
    picture: &'a mut [u8],
}

/// Plays a power cycle.
pub fn run(script: &Script<'_>, arena: &mut [u8], picture: &mut [u8]) -> Status {
    let setup = &script.setup;
    let rules = Rules { lowest_version: setup.lowest_version, may_go_down: setup.may_go_down, public_key: setup.key };
    let slots = match Slots::new(Storage::power_on(setup.cut), LAYOUT, rules) {
        Ok(slots) => slots,
        Err(error) => {
            defmt::error!("slots: {}", error);
            return Status::BadRequest;
        }
    };
    let mut device = Device { slots, watchdog: Watchdog::start(0), arena, picture };
    let booted = device.slots.boot();
    console::send(Kind::Booted, &[&wire(booted).emit()]);
    device.watchdog = Watchdog::start(setup.watchdog);
    for command in script.commands().flatten() {
        let before = device.slots.flash().operations;
        device.watchdog.feed();
        let (verdict, position) = device.play(&command);
        device.watchdog.feed();
        let operations = device.slots.flash().operations - before;
        let longest = device.watchdog.take_longest();
        console::send(Kind::Command, &[&CommandEnd { verdict, position, operations, longest }.emit()]);
    }
    let (stack_used, stack_bytes) = crate::fault::stack_usage();
    console::send(Kind::Usage, &[&Usage { stack_used, stack_bytes }.emit()]);
    Status::Done
}

impl Device<'_> {
    /// Does what a command says; how it ended, and the position of an update.
    fn play(&mut self, command: &Command) -> (Verdict, u32) {
        match *command {
            Command::Draw(request) => (self.draw(&request, None), 0),
            Command::Update { mail, bytes, chunk, drawing, cut } => {
                self.slots.flash().cut_next(cut);
                let Some(mail) = storage::mail(mail, bytes) else { return (Verdict::BadManifest, 0) };
                let mut sender = match Sender::connect(&mut self.slots, mail, chunk) {
                    Ok(sender) => sender,
                    Err(verdict) => return (verdict, 0),
                };
                if let Some(request) = drawing {
                    let drawn = self.draw(&request, Some(&mut sender));
                    if drawn != Verdict::Done {
                        return (drawn, 0);
                    }
                }
                while sender.send(&mut self.slots) {
                    self.watchdog.feed();
                }
                self.watchdog.feed();
                sender.finish(&mut self.slots)
            }
            Command::Confirm { cut } => {
                self.slots.flash().cut_next(cut);
                (self.slots.confirm().map_or_else(|error| verdict(&error), |()| Verdict::Done), 0)
            }
            Command::Hang => loop {
                core::hint::black_box(());
            },
        }
    }

    /// Draws with the running image; a sender's pieces arrive between operations.
    fn draw(&mut self, request: &Request, mut sender: Option<&mut Sender>) -> Verdict {
        let running = self.slots.running();
        let Some(image) = running.and_then(|running| storage::image(running.offset, running.bytes)) else {
            return Verdict::NoImage;
        };
        let Self { slots, watchdog, arena, picture } = self;
        let status = draw::draw_request(request, image, arena, picture, &mut || {
            if let Some(sender) = &mut sender {
                sender.send(slots);
            }
            watchdog.feed();
        });
        match status {
            Status::Done => Verdict::Done,
            Status::RequestRefused | Status::BadRequest => Verdict::RequestRefused,
            _ => Verdict::BadImage,
        }
    }
}

/// As the runner wants it.
fn wire(booted: Option<Booted>) -> fewstep_wire::Booted {
    let Some(Booted { slot, offset, bytes, version, trial }) = booted else { return fewstep_wire::Booted::default() };
    let slot = match slot {
        Slot::A => 0,
        Slot::B => 1,
    };
    fewstep_wire::Booted { slot: Some(slot), trial, version, offset, bytes }
}

/// What a refusal of the slots means to a scenario.
fn verdict(error: &SlotError<Broken>) -> Verdict {
    defmt::warn!("slots: {}", error);
    match error {
        SlotError::Flash(_) | SlotError::Layout(_) | SlotError::NoUpdate | SlotError::TooMany { .. } => {
            Verdict::RuleBroken
        }
        SlotError::NotBooted => Verdict::NoImage,
        SlotError::NotConfirmed => Verdict::NotConfirmed,
        SlotError::Length { .. } => Verdict::Length,
        SlotError::Version { .. } => Verdict::Version,
        SlotError::Unsigned => Verdict::Unsigned,
        SlotError::Incomplete { .. } => Verdict::Interrupted,
        SlotError::Damaged(Fault::Signature) => Verdict::Signature,
        SlotError::Damaged(_) => Verdict::Damaged,
        SlotError::Worn => Verdict::Worn,
    }
}
