//! The end of an example, which a product does not have, and what the emulator is told.

use core::arch::asm;
use core::ptr::addr_of;

use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};

use crate::{Reason, uart};

unsafe extern "C" {
    /// Lowest address of the stack; from memory.x.
    static _stack_end: u32;
    /// One past its highest; from memory.x.
    static _stack_start: u32;
}

/// Bytes of stack that were ever used: start-up has painted all of it.
pub fn stack_used() -> u32 {
    let (low, high) = (addr_of!(_stack_end) as u32, addr_of!(_stack_start) as u32);
    let mut free = low;
    // SAFETY: aligned words between the ends of the stack.
    while free < high && unsafe { (free as *const u32).read_volatile() } == STACK_PAINT_VALUE {
        free += 4;
    }
    high - free
}

/// Says how it ended, and ends the emulator: exit code 0, or 1.
pub fn end(result: Result<(), Reason>) -> ! {
    match result {
        Ok(()) => uart::line("stack", stack_used()),
        Err(reason) => {
            uart::text("error: ");
            uart::text(reason);
            uart::text("\n");
        }
    }
    uart::flush();
    exit(result.is_err().into())
}

/// SYS_EXIT_EXTENDED of Arm's semihosting.
fn exit(code: u32) -> ! {
    const EXIT: u32 = 0x20;
    const APPLICATION_EXIT: u32 = 0x2_0026;
    let block = [APPLICATION_EXIT, code];
    loop {
        // SAFETY: the debugger or emulator reads two words at r1. Where there is neither, the breakpoint is a fault.
        unsafe { asm!("bkpt 0xab", in("r0") EXIT, in("r1") block.as_ptr()) };
    }
}

/// Runs `work` between two marks that the project's instruction counter sees. They are hints that a CPU ignores.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an unallocated hint executes as NOP (Armv7-M, A5.2.5).
    unsafe { asm!(".inst.n 0xbf90") };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!(".inst.n 0xbfa0") };
    result
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    uart::line("fault at", frame.pc());
    end(Err("the CPU raised a fault"))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(Err("panic"))
}
