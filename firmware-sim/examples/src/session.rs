//! A student and an arena make a session, as `minimal` does it by itself.

use fewstep_core::{Arena, Model, Session};

use crate::{Once, Reason};

/// Gives `work` a session of `student` in `arena`.
pub fn with_session<const N: usize>(
    student: &'static [u8],
    arena: &'static Once<Arena<N>>,
    work: impl FnOnce(&mut Session<'_>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let model = Model::parse(student).map_err(|_| "the student image is damaged")?;
    let arena = arena.take().ok_or("the arena is taken")?;
    let mut session = Session::new(&model, arena.bytes()).map_err(|_| "the arena is too small")?;
    work(&mut session)
}
