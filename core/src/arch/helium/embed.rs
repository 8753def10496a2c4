//! The embedding: its dense layers eight products at a time, in the eight sums of the scalar function.
//!
//! Denormals: where every input is 0 or at least 2^-80, every product and sum is a multiple of 2^-103, and none is
//! denormal. Other inputs take the scalar way.

use core::arch::asm;

use crate::math::silu;
use crate::ops::Embed;
use crate::ops::embed::{Dense, GUIDANCE_FEATURES, dot8, guidance_features};
use crate::part::rest_mut;

/// 2^-80 and 2^60, the bounds of an input that is not 0.
const SMALLEST: f32 = 1.0 / (1u128 << 80) as f32;
const LARGEST: f32 = (1u64 << 60) as f32;

/// [`ops::embed`](crate::ops::embed()).
pub fn embed(p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    let features = guidance_features(p.w);
    let rows = p.guidance.chunks_exact(GUIDANCE_FEATURES);
    for (((out, &time), &class), row) in first.iter_mut().zip(p.time).zip(p.class).zip(rows) {
        *out = silu((time + class) + dot8(&features, row, |w| w));
    }
    apply(&p.hidden, first, second);
    for x in second.iter_mut() {
        *x = silu(*x);
    }
    apply(&p.film, second, film);
}

/// out\[o\] = (weights\[o\] . x) * scale\[o\] + bias\[o\].
fn apply(dense: &Dense<'_>, x: &[f32], out: &mut [f32]) {
    let plain = x.iter().all(|&x| x == 0.0 || (SMALLEST..LARGEST).contains(&x.abs()));
    let mut parts = dense.parts(x.len());
    while let Some((at, part)) = parts.next() {
        let rows = part.weights.chunks_exact(x.len().max(1));
        for (((out, row), &scale), &bias) in rest_mut(out, at).iter_mut().zip(rows).zip(part.scale).zip(part.bias) {
            let sum = if plain { dot(x, row) } else { dot8(x, row, |w: i8| f32::from(w)) };
            *out = sum * scale + bias;
        }
    }
}

/// [`dot8`] of int8; both of the same length, a multiple of eight.
fn dot(x: &[f32], w: &[i8]) -> f32 {
    let mut sums = [0.0f32; 8];
    // SAFETY: the loop reads eight of both as often as the shorter has them.
    unsafe {
        asm!(
            cpu!(),
            "vmov.i32 q0, #0",
            "vmov.i32 q1, #0",
            "wls lr, {count}, 3f",
            "2:",
            "vldrw.u32 q2, [{x}], #32",
            "vldrb.s32 q4, [r0], #8",
            "vldrw.u32 q3, [{x}, #-16]",
            "vcvt.f32.s32 q4, q4",
            "vldrb.s32 q5, [r0, #-4]",
            "vmul.f32 q2, q2, q4",
            "vcvt.f32.s32 q5, q5",
            "vadd.f32 q0, q0, q2",
            "vmul.f32 q3, q3, q5",
            "vadd.f32 q1, q1, q3",
            "le lr, 2b",
            "3:",
            "vstrw.32 q0, [{sums}]",
            "vstrw.32 q1, [{sums}, #16]",
            count = in(reg) x.len().min(w.len()) / 8, x = inout(reg) x.as_ptr() => _, inout("r0") w.as_ptr() => _,
            sums = in(reg) sums.as_mut_ptr(), out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            out("d4") _, out("d5") _, out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            options(nostack),
        );
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}
