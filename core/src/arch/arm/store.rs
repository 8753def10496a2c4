//! Accumulators of four output channels to outputs, cell after cell, on CPUs with an FPU.
//!
//! VMLA rounds the product before it adds, VCVTR rounds halves to even (the mode that Rust requires) and saturates at
//! i32, so the result is that of the scalar formula for every finite y.

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
pub use asm::{Lines, Run, add_to_i16, to_f32, to_i8, to_i16};

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
mod asm {
    //! r0 accumulators, r1 outputs, r2 cells left of the line, r8 of r9 lines left, r3 bytes from a cell's outputs to
    //! the next, r10, r11 bytes from a line's end to the next line; s0 a, s1 b, s2 c, s4-s7 scale, s8-s11 bias (which
    //! stays at sp) and then y, s12-s15 accumulators, then old values; r4-r7 help.

    use core::arch::naked_asm;

    /// Lines of cells, as the assembly reads them. None of the counts is 0.
    #[repr(C)]
    pub struct Lines {
        /// Bytes from a cell's outputs to the next cell's.
        pub stride: usize,
        /// Scale and bias of the four channels.
        pub scale: *const f32,
        pub bias: *const f32,
        /// Cells of a line.
        pub cells: usize,
        pub lines: usize,
        /// Bytes from the end of a line's accumulators, and outputs, to the next line's.
        pub acc_skip: usize,
        pub out_skip: usize,
        /// [`Conv::a`](crate::ops::Conv::a) over what the accumulators are too large by; `b`; `c`.
        pub a: f32,
        pub b: f32,
        pub c: f32,
    }

    /// Arguments: accumulators, outputs, lines.
    ///
    /// # Safety
    /// There are four accumulators for each of the cells, and four outputs.
    pub type Run = unsafe extern "C" fn(*const i32, *mut u8, &Lines);

    macro_rules! store {
        ($(#[$doc:meta])* $name:ident, $($line:expr),+ $(,)?) => {
            $(#[$doc])*
            ///
            /// # Safety
            /// As [`Run`].
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name(acc: *const i32, out: *mut u8, lines: &Lines) {
                naked_asm!(
                    cpu_and_fpu!(),
                    "push {{r4-r11}}",
                    "ldm r2!, {{r3, r4, r5, r8, r9, r10, r11}}",
                    "vldmia r2, {{s0-s2}}",
                    "vldmia r4, {{s4-s7}}",
                    "vldmia r5, {{s8-s11}}",
                    each!("vmul.f32"; ("s4", "s4", "s0") ("s5", "s5", "s0") ("s6", "s6", "s0") ("s7", "s7", "s0")),
                    each!("vmul.f32"; ("s8", "s8", "s1") ("s9", "s9", "s1") ("s10", "s10", "s1") ("s11", "s11", "s1")),
                    "vpush {{s8-s11}}",
                    "0:",
                    "mov r2, r8",
                    "1:",
                    "vldmia r0!, {{s12-s15}}",
                    "vldmia sp, {{s8-s11}}",
                    "vcvt.f32.s32 s12, s12",
                    "vcvt.f32.s32 s13, s13",
                    "vcvt.f32.s32 s14, s14",
                    "vcvt.f32.s32 s15, s15",
                    "vmla.f32 s8, s12, s4",
                    "vmla.f32 s9, s13, s5",
                    "vmla.f32 s10, s14, s6",
                    "vmla.f32 s11, s15, s7",
                    $($line,)+
                    "add r1, r1, r3",
                    "subs r2, r2, #1",
                    "bne.w 1b",
                    "add r0, r0, r10",
                    "add r1, r1, r11",
                    "subs r9, r9, #1",
                    "bne.w 0b",
                    "add sp, #16",
                    "pop {{r4-r11}}",
                    "bx lr",
                )
            }
        };
    }

    /// y to integers in r4-r7, saturated to $bits.
    macro_rules! rounded {
        ($bits:literal) => {
            concat!(
                "vcvtr.s32.f32 s8, s8\n vcvtr.s32.f32 s9, s9\n vcvtr.s32.f32 s10, s10\n vcvtr.s32.f32 s11, s11\n",
                "vmov r4, r5, s8, s9\n vmov r6, r7, s10, s11\n",
                "ssat r4, #",
                $bits,
                ", r4\n ssat r5, #",
                $bits,
                ", r5\n",
                "ssat r6, #",
                $bits,
                ", r6\n ssat r7, #",
                $bits,
                ", r7\n",
            )
        };
    }

    store!(
        /// out = saturate(rne(acc * scale + bias)).
        to_i8,
        rounded!("8"),
        "strb r4, [r1]",
        "strb r5, [r1, #1]",
        "strb r6, [r1, #2]",
        "strb r7, [r1, #3]",
    );
    store!(
        /// out = saturate(rne(acc * scale + bias)).
        to_i16,
        rounded!("16"),
        "pkhbt r4, r4, r5, lsl #16",
        "pkhbt r6, r6, r7, lsl #16",
        "str r4, [r1]",
        "str r6, [r1, #4]",
    );
    store!(
        /// out = saturate(rne(acc * scale + bias + out * c)).
        add_to_i16,
        "ldr r4, [r1]",
        "ldr r6, [r1, #4]",
        "asr r5, r4, #16",
        "asr r7, r6, #16",
        "sxth r4, r4",
        "sxth r6, r6",
        "vmov s12, s13, r4, r5",
        "vmov s14, s15, r6, r7",
        "vcvt.f32.s32 s12, s12",
        "vcvt.f32.s32 s13, s13",
        "vcvt.f32.s32 s14, s14",
        "vcvt.f32.s32 s15, s15",
        "vmla.f32 s8, s12, s2",
        "vmla.f32 s9, s13, s2",
        "vmla.f32 s10, s14, s2",
        "vmla.f32 s11, s15, s2",
        rounded!("16"),
        "pkhbt r4, r4, r5, lsl #16",
        "pkhbt r6, r6, r7, lsl #16",
        "str r4, [r1]",
        "str r6, [r1, #4]",
    );
    store!(
        /// out = acc * scale + bias.
        to_f32,
        "vstmia r1, {{s8-s11}}",
    );
}
