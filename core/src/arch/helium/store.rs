//! Accumulators of one output channel to outputs, four cells at a time.
//!
//! Every factor is below [`FINITE`](super::conv::FINITE), so no sum is infinite. Denormals: a product or factor that is
//! taken for zero is below 2^-95 (an accumulator is below 2^31); where the bias or the residual is above 2^-68, that is
//! less than half a unit of the sum's last place and both sums are the same, and else both round to 0.

use core::arch::asm;

/// Scale and bias of an output channel, and the factor of the old values.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    pub scale: f32,
    pub bias: f32,
    pub c: f32,
}

/// The loop: {acc} walks over the accumulators, q7 holds the distances of four cells in bytes.
macro_rules! store {
    ($acc:ident, $cells:ident, $out:ident, $stride:ident, $factors:ident, [$($old:literal),*], [$($narrow:literal),*]) => {{
        let zero: u32 = 0;
        asm!(
            cpu!(),
            // Distances 0, 1, 2, 3 times the stride.
            "vidup.u32 q7, r0, #1",
            "vmul.i32 q7, q7, {stride}",
            "dlstp.32 lr, {cells}",
            "2:",
            "vldrw.u32 q0, [{acc}], #16",
            "vcvt.f32.s32 q0, q0",
            "vmul.f32 q0, q0, {scale}",
            "vadd.f32 q0, q0, {bias}",
            $($old,)*
            "vcvtn.s32.f32 q0, q0",
            $($narrow,)*
            "add {out}, {out}, {stride}, lsl #2",
            "letp lr, 2b",
            acc = inout(reg) $acc => _,
            cells = in(reg) $cells,
            out = inout(reg) $out => _,
            stride = in(reg) $stride,
            scale = in(reg) $factors.scale.to_bits(),
            bias = in(reg) $factors.bias.to_bits(),
            c = in(reg) $factors.c.to_bits(),
            inout("r0") zero => _,
            out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d14") _, out("d15") _,
            options(nostack),
        )
    }};
}

/// out\[cell * channels\] = saturate(rne(acc * scale + bias)), for int8.
///
/// # Safety
/// `acc` and, `channels` apart, `out` are `cells` valid elements.
pub unsafe fn bytes(acc: *const i32, cells: usize, out: *mut i8, channels: usize, factors: Factors) {
    let stride = channels;
    // SAFETY: the caller allows it; the loop's predicate ends at `cells`.
    unsafe {
        store!(
            acc,
            cells,
            out,
            stride,
            factors,
            ["/* {c} */"],
            ["vqmovnb.s32 q0, q0", "vqmovnb.s16 q0, q0", "vstrb.32 q0, [{out}, q7]"]
        );
    }
}

/// out\[cell * channels\] = saturate(rne(acc * scale + bias)), for int16.
///
/// # Safety
/// As for [`bytes`].
pub unsafe fn words(acc: *const i32, cells: usize, out: *mut i16, channels: usize, factors: Factors) {
    let stride = 2 * channels;
    // SAFETY: as in `bytes`.
    unsafe {
        store!(acc, cells, out, stride, factors, ["/* {c} */"], ["vqmovnb.s32 q0, q0", "vstrh.32 q0, [{out}, q7]"]);
    }
}

/// out\[cell * channels\] = saturate(rne(acc * scale + bias + out * c)), for int16.
///
/// # Safety
/// As for [`bytes`].
pub unsafe fn words_added(acc: *const i32, cells: usize, out: *mut i16, channels: usize, factors: Factors) {
    let stride = 2 * channels;
    // SAFETY: as in `bytes`.
    unsafe {
        store!(
            acc,
            cells,
            out,
            stride,
            factors,
            ["vldrh.s32 q1, [{out}, q7]", "vcvt.f32.s32 q1, q1", "vmul.f32 q1, q1, {c}", "vadd.f32 q0, q0, q1"],
            ["vqmovnb.s32 q0, q0", "vstrh.32 q0, [{out}, q7]"]
        );
    }
}
