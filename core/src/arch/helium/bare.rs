//! Convolution without scratch, and with factors of any size: the scalar function's loops, sixteen products at a time, and
//! its f32.

use core::arch::asm;

use crate::math::{rne_i8, rne_i16};
use crate::ops::{self, Conv, ConvIn, ConvOut, Weights};
use crate::part::{at as number, part, put};

/// Runs the convolution.
pub fn run(p: &Conv<'_>, input: &ConvIn<'_>, mut out: ConvOut<'_>) {
    let Weights::Int8(weights) = p.weights else { return ops::conv(p, *input, out) };
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let pad = k / 2;
    for (channel, weights) in weights.chunks_exact((k * k * cin).max(1)).enumerate() {
        // taps[ky][kx]: sum of the weights of that tap, for the zero point.
        let mut taps = [[0i32; 3]; 3];
        let mut of_taps = weights.chunks_exact(cin.max(1));
        for row in taps.iter_mut().take(k) {
            for (tap, weights) in row.iter_mut().take(k).zip(&mut of_taps) {
                *tap = weights.iter().map(|&w| i32::from(w)).sum();
            }
        }
        let scale = number(p.scale, channel) * p.a;
        let bias = number(p.bias, channel) * p.b;
        for y in 0..h {
            // Taps that fall outside hold the zero point and contribute nothing: leave them out.
            let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
            for x in 0..w {
                let (kx0, kx1) = (pad.saturating_sub(x), k.min(w + pad - x));
                let run = (kx1 - kx0) * cin;
                let mut acc = 0i32;
                let mut weight_sum = 0i32;
                for (ky, taps) in taps.iter().enumerate().take(ky1).skip(ky0) {
                    let from = ((y + ky - pad) * w + x + kx0 - pad) * cin;
                    let weights = part(weights, (ky * k + kx0) * cin, run);
                    acc = match input {
                        ConvIn::I8(input) => dot(part(input, from, run), weights, acc),
                        ConvIn::I16(input) => dot_wide(part(input, from, run), weights, acc),
                    };
                    weight_sum += taps.iter().take(kx1).skip(kx0).sum::<i32>();
                }
                acc -= p.zp * weight_sum;
                let value = acc as f32 * scale + bias;
                let at = (y * w + x) * p.cout + channel;
                match &mut out {
                    ConvOut::I8(out) => put(out, at, rne_i8(value)),
                    ConvOut::I16(out) => put(out, at, rne_i16(value)),
                    ConvOut::I16Add(out) => {
                        let old = f32::from(number(out, at));
                        put(out, at, rne_i16(value + old * p.c));
                    }
                    ConvOut::F32(out) => put(out, at, value),
                }
            }
        }
    }
}

/// `sum` plus the sum of q * w; both of the same length.
pub fn dot(q: &[i8], w: &[i8], mut sum: i32) -> i32 {
    let n = q.len().min(w.len());
    // SAFETY: the loop's predicate ends at the length of both.
    unsafe {
        asm!(
            cpu!(),
            "wlstp.8 lr, {n}, 3f",
            "2:",
            "vldrb.s8 q0, [{q}], #16",
            "vldrb.s8 q1, [{w}], #16",
            "vmladava.s8 r0, q0, q1",
            "letp lr, 2b",
            "3:",
            n = in(reg) n, q = inout(reg) q.as_ptr() => _, w = inout(reg) w.as_ptr() => _,
            inout("r0") sum, out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            options(readonly, nostack),
        );
    }
    sum
}

/// `sum` plus the sum of q * w; both of the same length.
fn dot_wide(q: &[i16], w: &[i8], mut sum: i32) -> i32 {
    let n = q.len().min(w.len());
    // SAFETY: as in `dot`.
    unsafe {
        asm!(
            cpu!(),
            "wlstp.16 lr, {n}, 3f",
            "2:",
            "vldrh.s16 q0, [{q}], #16",
            "vldrb.s16 q1, [r1], #8",
            "vmladava.s16 r0, q0, q1",
            "letp lr, 2b",
            "3:",
            n = in(reg) n, q = inout(reg) q.as_ptr() => _, inout("r1") w.as_ptr() => _,
            inout("r0") sum, out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            options(readonly, nostack),
        );
    }
    sum
}
