//! The smallest firmware: one picture, sent row by row.

#![no_std]
#![no_main]

use fewstep_core::{Aligned, Arena, Model, Progress, Request, Session};
use fewstep_examples::{Once, Reason, counted, main, show, student};

static STUDENT: &Aligned<[u8]> = student!("assets/fashion-mnist-student-4.fsw");
/// `fewstep inspect` says how much a student needs.
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

main!(draw());

fn draw() -> Result<(), Reason> {
    let model = Model::parse(&STUDENT.0).map_err(|_| "the student image is damaged")?;
    let arena = ARENA.take().ok_or("the arena is taken")?;
    let mut session = Session::new(&model, arena.bytes()).map_err(|_| "the arena is too small")?;
    let request = Request { seed: 2, class: 8, w: 1.0, ..Request::default() };
    session.begin(&request).map_err(|_| "the student cannot serve the request")?;
    while counted(|| session.step_op()) != Progress::Done {}
    show(&mut session, || ())
}
