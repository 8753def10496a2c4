//! What differs between architectures, one a file of the same names: start-up, the guard below the stack, faults, and
//! marks for the instruction counter.

#[cfg(target_arch = "arm")]
mod cortex_m;
#[cfg(target_arch = "riscv32")]
mod riscv;

#[cfg(target_arch = "arm")]
pub use cortex_m::{STACK_PAINT, counted, guard_stack, mark_step};
#[cfg(target_arch = "riscv32")]
pub use riscv::{STACK_PAINT, counted, guard_stack, mark_step};

/// Bytes below the stack to guard, as a power of two: more than any frame of this firmware.
#[cfg(not(armv8m))]
const GUARD_LOG2: u32 = 20;
