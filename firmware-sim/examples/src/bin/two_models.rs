//! Two students in flash, one arena: the one-step student draws a preview at once, the four-step student then the picture.

#![no_std]
#![no_main]

use fewstep_core::{Aligned, Arena, Model, Progress, Request, Session};
use fewstep_examples::{Once, Reason, main, show, student, uart};

static QUICK: &Aligned<[u8]> = student!("assets/fashion-mnist-student-1.fsw");
static FINE: &Aligned<[u8]> = student!("assets/fashion-mnist-student-4.fsw");
/// For the larger of the two; they take turns.
static ARENA: Once<Arena<{ 60 * 1024 }>> = Once::new(Arena::new());

main!(run());

fn run() -> Result<(), Reason> {
    let arena = ARENA.take().ok_or("the arena is taken")?;
    let request = Request { seed: 12, class: 9, w: 1.0, ..Request::default() };
    for (name, image) in [("preview\n", &QUICK.0), ("picture\n", &FINE.0)] {
        let model = Model::parse(image).map_err(|_| "a student image is damaged")?;
        let mut session = Session::new(&model, arena.bytes()).map_err(|_| "the arena is too small")?;
        session.begin(&request).map_err(|_| "the student cannot serve the request")?;
        while session.step_op() != Progress::Done {}
        uart::text(name);
        show(&mut session, || ())?;
    }
    Ok(())
}
