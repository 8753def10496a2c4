//! Guidance as a knob: a potentiometer at an analogue input is read before every step, so that turning it moves a picture
//! that is being drawn.

#![no_std]
#![no_main]

use fewstep_core::{Aligned, Arena, Progress, Request, Session, Stage};
use fewstep_examples::{Once, Reason, main, show, student, uart, with_session};

static STUDENT: &Aligned<[u8]> = student!("assets/fashion-mnist-student-4.fsw");
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

/// An analogue-to-digital converter of 12 bits. The emulator has none: this one plays a hand that turns the knob.
struct Adc {
    turn: core::slice::Iter<'static, u16>,
}

impl Adc {
    fn read(&mut self) -> u16 {
        self.turn.next().copied().unwrap_or(4095)
    }
}

main!(with_session(&STUDENT.0, &ARENA, run));

fn run(session: &mut Session<'_>) -> Result<(), Reason> {
    let mut adc = Adc { turn: [0, 0, 0, 0, 0, 700, 2048, 4095].iter() };
    let info = session.model().info();
    for _ in 0..2 {
        let request = Request { seed: 4, class: 7, w: info.w_min, ..Request::default() };
        session.begin(&request).map_err(|_| "the student cannot serve the request")?;
        loop {
            if session.stage() == Some(Stage::Embed) {
                let knob = adc.read();
                uart::line("knob", knob.into());
                let w = info.w_min + (info.w_max - info.w_min) * (f32::from(knob) / 4095.0);
                session.set_guidance(w).map_err(|_| "the student was not trained for this strength")?;
            }
            if session.step_op() == Progress::Done {
                break;
            }
        }
        show(session, || ())?;
    }
    Ok(())
}
