//! Rehearsals: classes from 65000 on make the firmware fail in a known way, so that the runner's tests see each failure
//! from a real guest.

use core::hint::black_box;
use core::ptr::write_volatile;

use crate::{compare, compare_ops, console};

const PANIC: u16 = 65000;
const BUS_FAULT: u16 = 65001;
const STACK_OVERFLOW: u16 = 65002;
const HANG: u16 = 65003;
const FLOOD: u16 = 65004;
const EXIT_WITHOUT_PICTURE: u16 = 65005;
const DAMAGED_RECORD: u16 = 65006;
const LOG_WHILE_LOGGING: u16 = 65007;
const COMPARE_KERNELS: u16 = 65008;

/// An address that no board has anything at.
const NOWHERE: *mut u32 = 0xd000_0000 as *mut u32;

/// Fails as `class` says; returns for any other class. `memory` is nobody's yet.
pub fn run(class: u16, memory: &mut [u8]) {
    match class {
        PANIC => panic!("drill"),
        // SAFETY: nothing is there, so no memory that Rust knows is written; the CPU faults.
        BUS_FAULT => unsafe { write_volatile(NOWHERE, 1) },
        STACK_OVERFLOW => {
            black_box(deep(u32::MAX));
        }
        HANG => loop {
            black_box(());
        },
        FLOOD => loop {
            console::send(fewstep_wire::Kind::Log, &[&[0xaa; 4096]]);
        },
        EXIT_WITHOUT_PICTURE => console::exit(fewstep_wire::Status::Done),
        DAMAGED_RECORD => {
            console::garble();
            console::exit(fewstep_wire::Status::Done)
        }
        LOG_WHILE_LOGGING => defmt::info!("{}", Nested),
        COMPARE_KERNELS => {
            compare::run(memory);
            compare_ops::run(memory);
        }
        _ => {}
    }
}

/// Logs while it is being logged.
struct Nested;

impl defmt::Format for Nested {
    fn format(&self, _: defmt::Formatter<'_>) {
        defmt::info!("inner");
    }
}

#[expect(unconditional_recursion, reason = "the stack is what it is about")]
fn deep(depth: u32) -> u32 {
    let frame = black_box([depth; 32]);
    deep(depth - 1) + frame[3]
}
