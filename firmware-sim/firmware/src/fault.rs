//! Faults, panics and the stack.

use core::ptr::{addr_of, read_volatile};

use fewstep_wire::{Fault, Kind, Status};

use crate::console;
use crate::cpu::STACK_PAINT;

unsafe extern "C" {
    /// Lowest address of the stack; from the linker script.
    static _stack_end: u32;
    /// One past the highest address of the stack; from the linker script.
    static _stack_start: u32;
}

/// Lowest address of the stack, and one past its highest.
pub fn stack() -> (u32, u32) {
    (addr_of!(_stack_end) as u32, addr_of!(_stack_start) as u32)
}

/// Sends the CPU's account of a fault, and exits.
pub fn end(fault: &Fault) -> ! {
    console::send(Kind::Fault, &[&fault.emit()]);
    console::exit(Status::Fault)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Place only: formatting the message would double the firmware.
    let (line, file) = info.location().map_or((0, "?"), |place| (place.line(), place.file()));
    console::send(Kind::Panic, &[&line.to_le_bytes(), file.as_bytes()]);
    console::exit(Status::Panicked)
}

/// Most bytes of stack ever used, and bytes of stack there are: start-up painted all of it.
pub fn stack_usage() -> (u32, u32) {
    let (low, high) = stack();
    let untouched = (low..high)
        .step_by(4)
        // SAFETY: an aligned word within the stack, below every frame in use or part of one.
        .take_while(|&address| unsafe { read_volatile(address as *const u32) } == STACK_PAINT)
        .count() as u32;
    (high - low - 4 * untouched, high - low)
}
