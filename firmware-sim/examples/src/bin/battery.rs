//! A picture on a battery: the CPU sleeps after every step, as long as a small cell or a solar panel needs to recover, and
//! the arena keeps everything meanwhile. What it was awake for is what the picture costs.

#![no_std]
#![no_main]

use fewstep_core::{Aligned, Arena, Progress, Request, Session};
use fewstep_examples::{Clock, HZ, Once, Reason, main, show, sleep, student, uart, with_session};

static STUDENT: &Aligned<[u8]> = student!("assets/fashion-mnist-student-4.fsw");
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

/// Between two steps.
const REST: u32 = HZ / 2;

main!(with_session(&STUDENT.0, &ARENA, run));

fn run(session: &mut Session<'_>) -> Result<(), Reason> {
    let clock = Clock::start();
    let (mut asleep, mut sleeps) = (0, 0);
    let request = Request { seed: 6, class: 1, w: 0.5, ..Request::default() };
    session.begin(&request).map_err(|_| "the student cannot serve the request")?;
    while session.step() != Progress::Done {
        let start = clock.now();
        sleep(REST);
        asleep += clock.now().wrapping_sub(start);
        sleeps += 1;
    }
    let awake = clock.now().wrapping_sub(asleep);
    show(session, || ())?;
    uart::line("sleeps", sleeps);
    uart::line("ticks asleep", asleep);
    uart::line("ticks awake", awake);
    Ok(())
}
