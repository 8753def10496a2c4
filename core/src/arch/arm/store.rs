//! Four accumulators to four int16 outputs, on CPUs with an FPU: the whole formula without leaving its registers.
//!
//! VMLA rounds the product before it adds, VCVT divides by the power of two exactly, and VCVTR rounds halves to even
//! (the mode that Rust requires), so the result is that of the scalar formula for every finite y.

use super::panel::CHANNELS;

/// Scale and bias of four output channels, as the assembly reads them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Factors {
    /// Scale of the weights times [`Conv::a`](crate::ops::Conv::a).
    pub scale: [f32; CHANNELS],
    /// Bias times [`Conv::b`](crate::ops::Conv::b).
    pub bias: [f32; CHANNELS],
}

/// s0-s3 accumulators, s4-s7 scale, s8-s11 bias and then y, s12-s15 old values, {c} the factor of the old values.
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
macro_rules! store {
    ($fraction:literal, $add:literal, $acc:ident, $factors:ident, $c:ident, $out:ident) => {
        core::arch::asm!(
            "vldmia {acc}, {{s0-s3}}",
            "vldmia {factors}, {{s4-s11}}",
            concat!("vcvt.f32.s32 s0, s0", $fraction),
            concat!("vcvt.f32.s32 s1, s1", $fraction),
            concat!("vcvt.f32.s32 s2, s2", $fraction),
            concat!("vcvt.f32.s32 s3, s3", $fraction),
            "vmla.f32 s8, s0, s4",
            "vmla.f32 s9, s1, s5",
            "vmla.f32 s10, s2, s6",
            "vmla.f32 s11, s3, s7",
            concat!(".if ", $add),
            "vmov s0, {c}",
            "ldrsh {a}, [{out}]",
            "ldrsh {b}, [{out}, #2]",
            "vmov s12, {a}",
            "vmov s13, {b}",
            "ldrsh {a}, [{out}, #4]",
            "ldrsh {b}, [{out}, #6]",
            "vmov s14, {a}",
            "vmov s15, {b}",
            "vcvt.f32.s32 s12, s12",
            "vcvt.f32.s32 s13, s13",
            "vcvt.f32.s32 s14, s14",
            "vcvt.f32.s32 s15, s15",
            "vmla.f32 s8, s12, s0",
            "vmla.f32 s9, s13, s0",
            "vmla.f32 s10, s14, s0",
            "vmla.f32 s11, s15, s0",
            ".endif",
            "vcvtr.s32.f32 s8, s8",
            "vcvtr.s32.f32 s9, s9",
            "vcvtr.s32.f32 s10, s10",
            "vcvtr.s32.f32 s11, s11",
            "vmov {a}, s8",
            "vmov {b}, s9",
            "ssat {a}, #16, {a}",
            "ssat {b}, #16, {b}",
            "strh {a}, [{out}]",
            "strh {b}, [{out}, #2]",
            "vmov {a}, s10",
            "vmov {b}, s11",
            "ssat {a}, #16, {a}",
            "ssat {b}, #16, {b}",
            "strh {a}, [{out}, #4]",
            "strh {b}, [{out}, #6]",
            acc = in(reg) $acc, factors = in(reg) $factors, c = in(reg) $c.to_bits(), out = in(reg) $out,
            a = out(reg) _, b = out(reg) _,
            out("s0") _, out("s1") _, out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _,
            out("s8") _, out("s9") _, out("s10") _, out("s11") _, out("s12") _, out("s13") _, out("s14") _,
            out("s15") _, options(nostack, preserves_flags),
        )
    };
}

/// out = saturate(rne(acc / 2^SHIFT * scale + bias \[+ old * c\])), the old values where ADD.
///
/// acc, out: four; `None` where it cannot be done here: without an FPU, or for another SHIFT than 0 or 2.
#[inline(always)]
pub fn four<const SHIFT: u32, const ADD: bool>(
    acc: &[i32; 4],
    factors: &Factors,
    c: f32,
    out: &mut [i16; 4],
) -> Option<()> {
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    {
        let (acc, out) = (acc.as_ptr(), out.as_mut_ptr());
        let factors: *const Factors = factors;
        // SAFETY: it reads four accumulators and eight factors, and changes four outputs; all are borrowed for it. The
        // ABI says that there is an FPU.
        unsafe {
            match (SHIFT, ADD) {
                (0, false) => store!("", "0", acc, factors, c, out),
                (0, true) => store!("", "1", acc, factors, c, out),
                (2, false) => store!(", #2", "0", acc, factors, c, out),
                (2, true) => store!(", #2", "1", acc, factors, c, out),
                _ => return None,
            }
        }
        Some(())
    }
    #[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
    {
        let _ = (acc, factors, c, out);
        None
    }
}
