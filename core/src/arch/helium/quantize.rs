//! z (f32) to the first convolution's input (i16).
//!
//! Denormals: a product that is taken for zero is one that rounds to 0, with a factor below [`LARGEST`]. A factor that is
//! denormal itself would turn an infinite z into no number.

use core::arch::asm;

use crate::ops;

/// Bound of the factor.
const LARGEST: f32 = 1.0e27;

/// [`ops::quantize`](crate::ops::quantize()).
pub fn quantize(a: f32, z: &[f32], out: &mut [i16]) {
    if !(f32::MIN_POSITIVE..LARGEST).contains(&a.abs()) {
        return ops::quantize(a, z, out);
    }
    let count = z.len().min(out.len());
    // SAFETY: the loop's predicate ends at the shorter of both.
    unsafe {
        asm!(
            cpu!(),
            // What is no number gives the lowest one: the larger of the two is the one that is a number.
            "vdup.32 q1, {lowest}",
            "wlstp.32 lr, {count}, 3f",
            "2:",
            "vldrw.u32 q0, [{z}], #16",
            "vmul.f32 q0, q0, {a}",
            "vmaxnm.f32 q0, q0, q1",
            "vcvtn.s32.f32 q0, q0",
            "vqmovnb.s32 q0, q0",
            "vstrh.32 q0, [r0], #8",
            "letp lr, 2b",
            "3:",
            lowest = in(reg) (-65536.0f32).to_bits(), count = in(reg) count, a = in(reg) a.to_bits(),
            z = inout(reg) z.as_ptr() => _, inout("r0") out.as_mut_ptr() => _,
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, options(nostack),
        );
    }
}
