//! Cortex-M of Armv7E-M and Armv8-M Mainline. Start-up is cortex-m-rt's.

use core::arch::{asm, global_asm};
use core::ptr::read_volatile;

use cortex_m_rt::exception;
use fewstep_wire::Fault;

use crate::{fault, start};

/// What start-up filled the stack with.
pub const STACK_PAINT: u32 = cortex_m_rt::STACK_PAINT_VALUE;

#[cortex_m_rt::entry]
fn main() -> ! {
    start::run()
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

/// Sends the fault whose frame is at `frame`, if the stack could take it, and exits.
unsafe extern "C" fn report(frame: u32) -> ! {
    let (low, high) = fault::stack();
    // The frame is r0 to r3, r12, lr, pc, xpsr; it is only there when all of it lies in the stack.
    let word = |index: u32| {
        let address = frame.wrapping_add(4 * index);
        let there = frame >= low && frame.is_multiple_of(4) && frame.saturating_add(32) <= high;
        // SAFETY: the address is that of an aligned word within the stack.
        if there { unsafe { read_volatile(address as *const u32) } } else { 0 }
    };
    end(Fault { pc: word(6), lr: word(5), sp: frame, exception: 3, ..Fault::default() })
}

/// No interrupt is enabled: whatever comes is a defect.
#[exception]
unsafe fn DefaultHandler(irqn: i16) -> ! {
    end(Fault { exception: (i32::from(irqn) + 16) as u32, ..Fault::default() })
}

/// Adds the CPU's own account of the fault.
fn end(fault: Fault) -> ! {
    // SAFETY: reading these registers of the system control block (Armv7-M, B3.2.2) changes nothing.
    let register = |address: usize| unsafe { read_volatile(address as *const u32) };
    let (cfsr, hfsr, bfar) = (register(0xe000_ed28), register(0xe000_ed2c), register(0xe000_ed38));
    fault::end(&Fault { cfsr, hfsr, bfar, ..fault })
}

/// Makes the addresses below the stack inaccessible: an overflow is a fault also where something would answer there.
#[cfg(not(armv8m))]
pub fn guard_stack() {
    use core::ptr::write_volatile;

    /// Registers of the memory protection unit (Armv7-M, B3.5).
    const TYPE: usize = 0xe000_ed90;
    const CONTROL: usize = 0xe000_ed94;
    const REGION_BASE: usize = 0xe000_ed9c;
    const REGION_SIZE: usize = 0xe000_eda0;
    const CONTROL_ENABLE_WITH_DEFAULT_MAP: u32 = 0b101;
    const BASE_NAMES_REGION_0: u32 = 1 << 4;
    const SIZE_EXECUTE_NEVER: u32 = 1 << 28;
    const SIZE_ENABLE: u32 = 1;

    let (low, _) = fault::stack();
    // A region starts at a multiple of its size.
    let log2 = low.trailing_zeros().min(super::GUARD_LOG2);
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

/// Sets the limit of the stack pointer: Armv8-M's CPUs compare with it at every change, and fault before anything is
/// written.
#[cfg(armv8m)]
pub fn guard_stack() {
    let (low, _) = fault::stack();
    // SAFETY: the stack pointer is above `low`, and nothing moves it below but a defect.
    unsafe { asm!("msr msplim, {}", in(reg) low) }
}

/// Runs `work` as one counted region. The marks are hints that a Cortex-M ignores and that the emulator's plugin sees.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an unallocated hint executes as NOP (Armv7-M, A5.2.5). No `nomem`: nothing moves across it.
    unsafe { asm!(".inst.n 0xbf90") };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!(".inst.n 0xbfa0") };
    result
}

/// A denoising step is done.
pub fn mark_step() {
    // SAFETY: as in `counted`.
    unsafe { asm!(".inst.n 0xbff0") };
}
