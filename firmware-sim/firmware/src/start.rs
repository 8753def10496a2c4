//! From start-up to exit, on every board.

use core::cell::UnsafeCell;

use fewstep_core::Arena;

use crate::{board, console, cpu, draw};

const _: () = assert!(board::PICTURE_BYTES <= fewstep_wire::MAX_PAYLOAD);

/// The memory of the one drawing.
struct Memory {
    arena: Arena<{ board::ARENA_BYTES }>,
    picture: [u8; board::PICTURE_BYTES],
}

struct Once(UnsafeCell<Memory>);

// SAFETY: only `run` reaches it, which start-up calls once; there is one CPU, and no interrupt is enabled.
unsafe impl Sync for Once {}

static MEMORY: Once = Once(UnsafeCell::new(Memory { arena: Arena::new(), picture: [0; board::PICTURE_BYTES] }));

/// What start-up goes to, once memory is as Rust expects it.
pub fn run() -> ! {
    console::start();
    cpu::guard_stack();
    // SAFETY: this function runs once and does not return, so this is the only reference.
    let memory = unsafe { &mut *MEMORY.0.get() };
    let status = draw::draw(memory.arena.bytes(), &mut memory.picture);
    console::exit(status)
}
