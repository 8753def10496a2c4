//! A new student arrives in chunks while the old one draws: between two operations the main loop takes what the transport
//! has. The next start draws with the new one, on trial, and confirms it.

#![no_std]
#![no_main]

use fewstep_core::slots::{Booted, Layout, Manifest, Rules, Slots};
use fewstep_core::{Aligned, Arena, Model, Progress, Request, Session};
use fewstep_examples::{Clock, Nor, Once, Reason, end, show, student, uart};

/// What the product was delivered with, and what its maker sends.
static DELIVERED: &Aligned<[u8]> = student!("firmware-sim/runner/tests/data/gray-4.fsw");
static SENT: &Aligned<[u8]> = student!("firmware-sim/runner/tests/data/colour-2.fsw");
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

const LAYOUT: Layout = Layout { a: 0, b: 0x8_0000, bytes: 0x8_0000 };

/// A transport: radio, USB, serial line. This one has some bytes of `SENT` for every call, one time more, one time less.
struct Link {
    left: &'static [u8],
    turn: usize,
}

impl Link {
    fn receive(&mut self) -> &'static [u8] {
        self.turn += 1;
        let (chunk, rest) = self.left.split_at_checked(self.turn * 37 % 613).unwrap_or((self.left, &[]));
        self.left = rest;
        chunk
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    uart::start();
    // SAFETY: the only call.
    end(run(unsafe { Nor::take() }))
}

fn run(flash: Nor) -> Result<(), Reason> {
    let arena = ARENA.take().ok_or("the arena is taken")?;
    let clock = Clock::start();
    let mut slots = Slots::new(flash, LAYOUT, Rules::default()).map_err(|_| "the layout does not suit the flash")?;
    if slots.boot().is_none() {
        deliver(&mut slots)?;
    }
    let old = slots.boot().ok_or("no image boots")?;
    slots.confirm().map_err(|_| "the image is not confirmed")?;

    let mut link = Link { left: &SENT.0, turn: 0 };
    slots.begin(&Manifest::of(&SENT.0, old.version + 1)).map_err(|_| "the update is refused")?;
    let (mut pictures, mut longest) = (0, 0);
    while !link.left.is_empty() {
        draw(old, arena, || {
            let start = clock.now();
            let result = slots.push(link.receive());
            longest = longest.max(clock.now().wrapping_sub(start));
            result.map_err(|_| "the flash refuses")
        })?;
        pictures += 1;
    }
    slots.finish().map_err(|_| "the update is damaged")?;
    uart::line("pictures during the update", pictures);
    uart::line("longest push, ticks", longest);

    // What a reset does.
    let new = slots.boot().ok_or("no image boots")?;
    uart::line("on trial", new.trial.into());
    draw(new, arena, || Ok(()))?;
    slots.confirm().map_err(|_| "the image is not confirmed")?;
    uart::line("version", new.version);
    Ok(())
}

/// The first image, as a programmer would write it.
fn deliver(slots: &mut Slots<Nor>) -> Result<(), Reason> {
    let refused = |_| "the first image is refused";
    slots.begin(&Manifest::of(&DELIVERED.0, 1)).map_err(refused)?;
    slots.push(&DELIVERED.0).map_err(refused)?;
    slots.finish().map_err(refused)
}

/// One picture; `between` has the turn after each operation.
fn draw(
    image: Booted,
    arena: &mut Arena<{ 60 * 1024 }>,
    mut between: impl FnMut() -> Result<(), Reason>,
) -> Result<(), Reason> {
    let model = Model::parse(Nor::mapped(image.offset, image.bytes)).map_err(|_| "the student image is damaged")?;
    let mut session = Session::new(&model, arena.bytes()).map_err(|_| "the arena is too small")?;
    let request = Request { seed: 8, class: 2, w: 1.5, ..Request::default() };
    session.begin(&request).map_err(|_| "the student cannot serve the request")?;
    while session.step_op() != Progress::Done {
        between()?;
    }
    show(&mut session, || ())
}
