//! Draws a picture whenever a timer says so, while a watchdog has to be fed: the main loop does one operation a turn and
//! never waits. The longest call is measured, because it is what the watchdog has to allow for.

#![no_std]
#![no_main]

use fewstep_core::{Aligned, Arena, Progress, Request, Session};
use fewstep_examples::{
    Clock, HZ, Once, Pace, Reason, Watchdog, counted, main, show, sleep, student, uart, with_session,
};

static STUDENT: &Aligned<[u8]> = student!("assets/fashion-mnist-student-4.fsw");
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

/// A picture every so many ticks, and so many of them.
const PERIOD: u32 = 4 * HZ;
const PICTURES: u32 = 2;
/// The watchdog's patience. The longest call takes 0.03 s at the emulator's 31 million instructions a second; with the
/// feature `impatient` it may not, and the watchdog bites.
const PATIENCE: u32 = if cfg!(feature = "impatient") { HZ / 50 } else { HZ / 10 };

main!(with_session(&STUDENT.0, &ARENA, run));

fn run(session: &mut Session<'_>) -> Result<(), Reason> {
    let (clock, mut pace, mut watchdog) = (Clock::start(), Pace::every(PERIOD), Watchdog::start(PATIENCE));
    let (mut drawing, mut pictures, mut longest) = (false, 0, 0);
    while pictures < PICTURES {
        watchdog.feed();
        if pace.due() && !drawing {
            let request = Request { seed: 10 + u64::from(pictures), class: 3, w: 1.5, ..Request::default() };
            session.begin(&request).map_err(|_| "the student cannot serve the request")?;
            drawing = true;
        }
        if drawing {
            let start = clock.now();
            let progress = counted(|| session.step_op());
            longest = longest.max(clock.now().wrapping_sub(start));
            if progress == Progress::Done {
                show(session, || watchdog.feed())?;
                drawing = false;
                pictures += 1;
            }
        } else {
            sleep(HZ / 100);
        }
        // Here is room for buttons and a radio.
    }
    uart::line("longest call, ticks", longest);
    Ok(())
}
