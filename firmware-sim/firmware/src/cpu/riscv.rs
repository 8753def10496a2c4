//! RV32 in machine mode.

use core::arch::{asm, global_asm};

use fewstep_wire::{Fault, RISCV_TRAP};

use crate::{fault, start};

/// What start-up fills the stack with.
pub const STACK_PAINT: u32 = 0xcccc_cccc;

// Reset: interrupts off, stack painted, data copied from flash, the rest zeroed.
global_asm!(
    ".section .init, \"ax\"",
    ".global _start",
    "_start:",
    "csrw mie, zero",
    "la t0, fewstep_trap",
    "csrw mtvec, t0",
    "la sp, _stack_start",
    "la t0, _stack_end",
    "li t1, {paint}",
    "1: sw t1, 0(t0)",
    "addi t0, t0, 4",
    "bltu t0, sp, 1b",
    "la t0, _data_start",
    "la t1, _data_end",
    "la t2, _data_stored",
    "j 3f",
    "2: lw t3, 0(t2)",
    "sw t3, 0(t0)",
    "addi t0, t0, 4",
    "addi t2, t2, 4",
    "3: bltu t0, t1, 2b",
    "la t0, _bss_start",
    "la t1, _bss_end",
    "j 5f",
    "4: sw zero, 0(t0)",
    "addi t0, t0, 4",
    "5: bltu t0, t1, 4b",
    "j {main}",
    main = sym main,
    paint = const STACK_PAINT as i32,
);

extern "C" fn main() -> ! {
    start::run()
}

// Every trap ends the run: no interrupt is enabled. The handler moves to a stack of its own first, because the usual one
// may be what overflowed. The low bits of mtvec are no part of the address.
global_asm!(
    ".section .text.trap, \"ax\"",
    ".balign 4",
    "fewstep_trap:",
    "mv a0, sp",
    "mv a1, ra",
    "la sp, _fault_stack_start",
    "j {report}",
    report = sym report,
);

/// Sends the CPU's account of a trap, with the stack pointer and return address at it, and exits.
unsafe extern "C" fn report(sp: u32, ra: u32) -> ! {
    let (pc, cause, value): (u32, u32, u32);
    // SAFETY: reading these registers changes nothing.
    unsafe {
        asm!("csrr {}, mepc", "csrr {}, mcause", "csrr {}, mtval", out(reg) pc, out(reg) cause, out(reg) value);
    }
    fault::end(&Fault { pc, lr: ra, sp, exception: RISCV_TRAP + cause, bfar: value, ..Fault::default() })
}

/// Makes the addresses below the stack inaccessible: an overflow is a fault also where something would answer there.
pub fn guard_stack() {
    /// Of a region's byte in pmpcfg0 (privileged architecture, 3.7.1): machine mode obeys it too; a power of two at a
    /// multiple of itself; no permission.
    const LOCKED: u32 = 1 << 7;
    const POWER_OF_TWO: u32 = 3 << 3;

    let (low, _) = fault::stack();
    let log2 = low.trailing_zeros().min(super::GUARD_LOG2);
    if low == 0 || log2 < 3 {
        return;
    }
    let base = low - (1 << log2);
    // The size is in the number of ones at the end.
    let address = (base >> 2) | ((1 << (log2 - 3)) - 1);
    // SAFETY: the region covers nothing that Rust knows: flash ends and everything else begins outside.
    unsafe {
        asm!("csrw pmpaddr0, {}", "csrw pmpcfg0, {}", in(reg) address, in(reg) LOCKED | POWER_OF_TWO);
    }
}

/// Runs `work` as one counted region. The marks are hints that a CPU ignores (C.NOP with a number) and that the emulator's
/// plugin sees.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: a hint does nothing. No `nomem`: nothing moves across it.
    unsafe { asm!(".half 0x0001 | 9 << 2") };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!(".half 0x0001 | 10 << 2") };
    result
}

/// A denoising step is done.
pub fn mark_step() {
    // SAFETY: as in `counted`.
    unsafe { asm!(".half 0x0001 | 15 << 2") };
}
