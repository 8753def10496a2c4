//! Convolution without any scratch: the scalar function's loops, four products at a time. Slower than a panel by the
//! unpacking of both operands for every product, and still half of the scalar function's work.

use super::conv::Sink;
use super::panel::{CHANNELS, word};
use super::simd::{highs, lows, smlad, sxtb16, sxtb16_odd};
use crate::ops::{Conv, ConvIn};

/// Runs the convolution.
pub fn run(p: &Conv<'_>, input: &ConvIn<'_>, sink: &mut Sink<'_>) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let pad = k / 2;
    let sum = k * k * cin;
    for first in (0..p.cout).step_by(CHANNELS) {
        sink.channels(first, 0);
        let count = CHANNELS.min(p.cout - first);
        let weights = &p.weights[first * sum..(first + count) * sum];
        // taps[ky][channel][kx]: sum of the weights of that tap, for the zero point.
        let mut taps = [[[0i32; 3]; CHANNELS]; 3];
        for (i, weights) in weights.chunks_exact(sum).enumerate() {
            for (tap, weights) in weights.chunks_exact(cin).enumerate() {
                taps[tap / k][i][tap % k] = weights.iter().map(|&w| i32::from(w)).sum();
            }
        }
        for cell in 0..h * w {
            let (y, x) = (cell / w, cell % w);
            // Taps that fall outside hold the zero point and contribute nothing: leave them out.
            let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
            let (kx0, kx1) = (pad.saturating_sub(x), k.min(w + pad - x));
            let run = (kx1 - kx0) * cin;
            let mut acc = [0i32; CHANNELS];
            for (ky, taps) in taps.iter().enumerate().take(ky1).skip(ky0) {
                let from = ((y + ky - pad) * w + x + kx0 - pad) * cin;
                let at = (ky * k + kx0) * cin;
                for (i, acc) in acc[..count].iter_mut().enumerate() {
                    let weights = &weights[i * sum + at..][..run];
                    *acc += match input {
                        ConvIn::I8(input) => dot(&input[from..from + run], weights),
                        ConvIn::I16(input) => dot_wide(&input[from..from + run], weights),
                    };
                    *acc -= p.zp * taps[i][kx0..kx1].iter().sum::<i32>();
                }
            }
            sink.cells(cell, 1, &acc);
        }
    }
}

/// Sum of q * w; both of the same length.
#[inline(never)]
fn dot(q: &[i8], w: &[i8]) -> i32 {
    let w = &w[..q.len()];
    let whole = q.len() / 4 * 4;
    let mut sum = 0;
    for at in (0..whole).step_by(4) {
        // SAFETY: `at` is a multiple of four below `whole`, a multiple of four within both.
        let (q, w) = unsafe { (word(q, at), word(w, at)) };
        sum = smlad(sxtb16_odd(q), sxtb16_odd(w), smlad(sxtb16(q), sxtb16(w), sum));
    }
    q[whole..].iter().zip(&w[whole..]).fold(sum, |sum, (&q, &w)| sum + i32::from(q) * i32::from(w))
}

/// Sum of q * w; both of the same length.
fn dot_wide(q: &[i16], w: &[i8]) -> i32 {
    let w = &w[..q.len()];
    let whole = q.len() / 4 * 4;
    let mut sum = 0;
    for (at, q) in (0..whole).step_by(4).zip(q.chunks_exact(4)) {
        // SAFETY: `at` is a multiple of four below `whole`, a multiple of four within the weights.
        let w = unsafe { word(w, at) };
        let two = |i: usize| u32::from(q[i] as u16) | u32::from(q[i + 1] as u16) << 16;
        sum = smlad(lows(two(0), two(2)), sxtb16(w), sum);
        sum = smlad(highs(two(0), two(2)), sxtb16_odd(w), sum);
    }
    q[whole..].iter().zip(&w[whole..]).fold(sum, |sum, (&q, &w)| sum + i32::from(q) * i32::from(w))
}
