//! From reset to exit.

use fewstep_core::Arena;

use crate::{board, console, draw, fault};

/// The largest picture that is sent back: 64 x 64 in three channels.
pub const PICTURE_BYTES: usize = 64 * 64 * 3;

const _: () = assert!(PICTURE_BYTES <= fewstep_wire::MAX_PAYLOAD);

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut ARENA: Arena<{ board::ARENA_BYTES }> = Arena::new();
    static mut PICTURE: [u8; PICTURE_BYTES] = [0; PICTURE_BYTES];

    console::start();
    fault::guard_stack();
    let status = draw::draw(ARENA.bytes(), PICTURE);
    console::exit(status)
}
