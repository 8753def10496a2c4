//! Faults, panics and the stack.

use core::arch::{asm, global_asm};
use core::ptr::{addr_of, read_volatile, write_volatile};

use cortex_m_rt::{STACK_PAINT_VALUE, exception};
use fewstep_wire::{Fault, Kind, Status};

use crate::console;

unsafe extern "C" {
    /// Lowest address of the stack; from the linker script.
    static _stack_end: u32;
    /// One past the highest address of the stack; from the linker script.
    static _stack_start: u32;
}

// cortex-m-rt takes this HardFault in place of its own. It moves to a stack of its own first: the usual one may be
// what overflowed.
global_asm!(
    ".section .HardFault.fewstep, \"ax\"",
    ".global HardFault",
    ".type HardFault,%function",
    ".thumb_func",
    "HardFault:",
    "mrs r0, msp",
    "ldr r1, =_fault_stack_start",
    "mov sp, r1",
    "bl {report}",
    "udf #0",
    ".pool",
    ".size HardFault, . - HardFault",
    report = sym report,
);

fn stack() -> (u32, u32) {
    (addr_of!(_stack_end) as u32, addr_of!(_stack_start) as u32)
}

/// Sends the fault whose frame is at `frame`, if the stack could take it, and exits.
unsafe extern "C" fn report(frame: u32) -> ! {
    let (low, high) = stack();
    // The frame is r0 to r3, r12, lr, pc, xpsr; it is only there when all of it lies in the stack.
    let word = |index: u32| {
        let address = frame.wrapping_add(4 * index);
        let there = frame >= low && frame.is_multiple_of(4) && frame.saturating_add(32) <= high;
        // SAFETY: the address is that of an aligned word within the stack.
        if there { unsafe { read_volatile(address as *const u32) } } else { 0 }
    };
    send(Fault { pc: word(6), lr: word(5), sp: frame, exception: 3, ..Fault::default() })
}

/// Makes the addresses below the stack inaccessible: an overflow is a fault also where something would answer there.
pub fn guard_stack() {
    /// Registers of the memory protection unit (Armv7-M, B3.5).
    const TYPE: usize = 0xe000_ed90;
    const CONTROL: usize = 0xe000_ed94;
    const REGION_BASE: usize = 0xe000_ed9c;
    const REGION_SIZE: usize = 0xe000_eda0;
    const CONTROL_ENABLE_WITH_DEFAULT_MAP: u32 = 0b101;
    const BASE_NAMES_REGION_0: u32 = 1 << 4;
    const SIZE_EXECUTE_NEVER: u32 = 1 << 28;
    const SIZE_ENABLE: u32 = 1;
    /// More than any frame of this firmware.
    const LARGEST: u32 = 20;

    let (low, _) = stack();
    // A region starts at a multiple of its size.
    let log2 = low.trailing_zeros().min(LARGEST);
    // SAFETY: reading this register changes nothing.
    let regions = unsafe { read_volatile(TYPE as *const u32) } >> 8 & 0xff;
    if low == 0 || log2 < 5 || regions == 0 {
        return;
    }
    // SAFETY: region 0 covers nothing that Rust knows (everything of this firmware lies above `low` or in flash), and
    // everything else keeps the default map. No access permission is the zero of its field.
    unsafe {
        write_volatile(REGION_BASE as *mut u32, (low - (1 << log2)) | BASE_NAMES_REGION_0);
        write_volatile(REGION_SIZE as *mut u32, SIZE_EXECUTE_NEVER | (log2 - 1) << 1 | SIZE_ENABLE);
        write_volatile(CONTROL as *mut u32, CONTROL_ENABLE_WITH_DEFAULT_MAP);
        asm!("dsb", "isb");
    }
}

/// Adds the CPU's own account of the fault.
fn send(fault: Fault) -> ! {
    // SAFETY: reading these registers of the system control block (Armv7-M, B3.2.2) changes nothing.
    let register = |address: usize| unsafe { read_volatile(address as *const u32) };
    let (cfsr, hfsr, bfar) = (register(0xe000_ed28), register(0xe000_ed2c), register(0xe000_ed38));
    console::send(Kind::Fault, &[&Fault { cfsr, hfsr, bfar, ..fault }.emit()]);
    console::exit(Status::Fault)
}

/// No interrupt is enabled: whatever comes is a defect.
#[exception]
unsafe fn DefaultHandler(irqn: i16) -> ! {
    send(Fault { exception: (i32::from(irqn) + 16) as u32, ..Fault::default() })
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
        .take_while(|&address| unsafe { read_volatile(address as *const u32) } == STACK_PAINT_VALUE)
        .count() as u32;
    (high - low - 4 * untouched, high - low)
}
