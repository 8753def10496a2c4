//! Convolution without any scratch: the scalar function's loops, four products at a time. Slower than a panel by the
//! unpacking of both operands for every product, and still half of the scalar function's work.

use super::conv::Sink;
use super::panel::{CHANNELS, word};
use super::simd::{highs, lows, pair, smlad, sub16, sxtb16, sxtb16_odd};
use crate::ops::{Conv, ConvIn};
use crate::part::{part, rest};

/// Runs the convolution.
pub fn run(p: &Conv<'_>, input: &ConvIn<'_>, sink: &mut Sink<'_>) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let pad = k / 2;
    let sum = k * k * cin;
    for first in (0..p.cout).step_by(CHANNELS) {
        sink.channels(first, 0);
        for cell in 0..h * w {
            let (y, x) = (cell / w.max(1), cell % w.max(1));
            // Taps that fall outside hold the zero point and contribute nothing: leave them out.
            let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
            let (kx0, kx1) = (pad.saturating_sub(x), k.min(w + pad - x));
            let run = (kx1 - kx0) * cin;
            let mut acc = [0i32; CHANNELS];
            for ky in ky0..ky1 {
                let from = ((y + ky - pad) * w + x + kx0 - pad) * cin;
                let at = (ky * k + kx0) * cin;
                for (channel, acc) in (first..p.cout).zip(&mut acc) {
                    p.weights.each((channel, sum), at, run, |done, some| {
                        *acc += match input {
                            ConvIn::I8(input) => dot(part(input, from + done, some.len()), p.zp, some),
                            ConvIn::I16(input) => dot_wide(part(input, from + done, some.len()), some),
                        };
                    });
                }
            }
            sink.cells(cell, 1, &acc);
        }
    }
}

/// Sum of (q - zp) * w; both of the same length.
#[inline(never)]
fn dot(q: &[i8], zp: i32, w: &[i8]) -> i32 {
    let len = q.len().min(w.len());
    let whole = len / 4 * 4;
    let zero = pair(zp, zp);
    let mut sum = 0;
    for at in (0..whole).step_by(4) {
        // SAFETY: `at` is a multiple of four below `whole`, a multiple of four within both.
        let (q, w) = unsafe { (word(q, at), word(w, at)) };
        sum = smlad(sub16(sxtb16(q), zero), sxtb16(w), sum);
        sum = smlad(sub16(sxtb16_odd(q), zero), sxtb16_odd(w), sum);
    }
    rest(q, whole).iter().zip(rest(w, whole)).fold(sum, |sum, (&q, &w)| sum + (i32::from(q) - zp) * i32::from(w))
}

/// Sum of q * w; both of the same length.
fn dot_wide(q: &[i16], w: &[i8]) -> i32 {
    let len = q.len().min(w.len());
    let whole = len / 4 * 4;
    let mut sum = 0;
    for (at, q) in (0..whole).step_by(4).zip(q.as_chunks::<4>().0) {
        // SAFETY: `at` is a multiple of four below `whole`, a multiple of four within the weights.
        let w = unsafe { word(w, at) };
        let two = |a: i16, b: i16| u32::from(a as u16) | u32::from(b as u16) << 16;
        let (first, second) = (two(q[0], q[1]), two(q[2], q[3]));
        sum = smlad(lows(first, second), sxtb16(w), sum);
        sum = smlad(highs(first, second), sxtb16_odd(w), sum);
    }
    rest(q, whole).iter().zip(rest(w, whole)).fold(sum, |sum, (&q, &w)| sum + i32::from(q) * i32::from(w))
}
