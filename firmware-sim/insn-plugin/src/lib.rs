//! QEMU plugin (API version 1, as QEMU 7.2 has it) that counts executed Thumb instructions, in regions that the guest marks
//! with hints, which do nothing on a Cortex-M:
//!
//! | hint | meaning |
//! |---|---|
//! | `0xbf90` | a region begins |
//! | `0xbfa0` | the region ends |
//! | `0xbf50`, `bf60`, `bf70`, `bf80`, `bfb0` .. `bfe0` | from here on the region is in phase 5, 6, 7, 8, 11 .. 14 |
//! | `0xbff0` | a mark of the guest's own, outside regions |
//!
//! On RISC-V, whose instructions have no class here, the marks are C.NOP with the same number: 9 begins, 10 ends, 15 is the
//! guest's own.
//!
//! Writes lines to the file of its argument `out=FILE`:
//!
//! ```text
//! region <n> insns <total> ld <n> ldm_words <n> st <n> stm_words <n> mac <n> dsp <n> br <n> fp <n> other <n> ph [<16 totals>]
//! mark
//! total insns <total> ld ...
//! ```
//!
//! Exact, not sampled: a block of instructions is counted when it starts, and a mark takes back what follows it there.
//! Marks themselves are not counted. An instruction whose condition fails counts like any other.

mod classes;
mod counts;
// The plugin's symbols come from the QEMU that loads it; a test has none.
#[cfg(not(test))]
mod qemu;
