//! Attention: the keys of a head are packed like a convolution's weights, a query is a tile of one cell.

use super::Simd;
use super::panel::{Bytes, Products, Rows, Words, count, pack};
use super::tile::{CELL, Cell, MAX_TILE, Sums, Taps, tile};
use super::vector::{exp, rne_narrow};
use crate::ops::Attention;

/// Rounds over a head's channels that the patch holds.
const MAX_ROUNDS: usize = 16;

/// Elements of the panel that holds the keys of one head.
#[inline]
pub(in crate::arch) fn panel_len<S: Simd>(p: &Attention) -> usize {
    let group = if S::BYTES { Bytes::GROUP } else { Words::GROUP };
    p.tokens.next_multiple_of(2 * S::LANES) * ((p.channels / p.heads).div_ceil(group) + 1)
}

/// Whether the kernel below takes it with a panel of `panel` elements.
#[inline]
pub(in crate::arch) fn fits<S: Simd>(p: &Attention, panel: usize) -> bool {
    panel_len::<S>(p) <= panel && p.channels / p.heads <= MAX_ROUNDS * CELL * Words::GROUP
}

/// See [`ops::attention`](crate::ops::attention()).
#[inline(always)]
pub(in crate::arch) fn attention<S: Simd>(
    s: S,
    p: &Attention,
    qkv: &[i8],
    scores: &mut [f32],
    out: &mut [i8],
    panel: &mut [i32],
) {
    if S::BYTES {
        heads::<S, Bytes>(s, p, qkv, scores, out, panel, 128);
    } else {
        heads::<S, Words>(s, p, qkv, scores, out, panel, 0);
    }
}

#[inline(always)]
fn heads<S: Simd, P: Products>(
    s: S,
    p: &Attention,
    qkv: &[i8],
    scores: &mut [f32],
    out: &mut [i8],
    panel: &mut [i32],
    excess: i32,
) {
    let (ch, tokens) = (p.channels, p.tokens);
    let head = ch / p.heads;
    let (block, stride) = (2 * S::LANES, 3 * ch);
    let groups = head.div_ceil(P::GROUP);
    let scores = &mut scores[..tokens];
    let mut patch = [Cell([0; CELL]); MAX_ROUNDS];
    let mut sums = Sums([[0; 32]; MAX_TILE]);
    for h in 0..p.heads {
        // A block of keys ends with what to add to their products with a query.
        for (j, panel) in (0..tokens).step_by(block).zip(panel.chunks_exact_mut((groups + 1) * block)) {
            let weights = &qkv[j * stride..];
            let rows = Rows { weights, stride, rows: (tokens - j).min(block), from: ch + h * head, count: head };
            let mut sums = [0i32; 32];
            pack::<S, P, 2>(s, rows, panel);
            count::<S, P, 2>(s, &panel[..groups * block], &mut sums);
            for (offset, &sum) in panel[groups * block..].iter_mut().zip(&sums) {
                *offset = sum * -excess;
            }
        }
        for i in 0..tokens {
            let q = &qkv[i * stride + h * head..][..head];
            for (cell, q) in patch.iter_mut().zip(q.chunks(CELL * P::GROUP)) {
                if P::GROUP == 4 {
                    let cell: &mut [u8; 4 * CELL] = bytemuck::cast_mut(&mut cell.0);
                    for (cell, &q) in cell.iter_mut().zip(q) {
                        *cell = q as u8 ^ 0x80;
                    }
                } else {
                    let cell: &mut [i16; 2 * CELL] = bytemuck::cast_mut(&mut cell.0);
                    for (cell, &q) in cell.iter_mut().zip(q) {
                        *cell = q.into();
                    }
                }
            }

            let a = s.splat_f(p.a);
            let mut max = s.splat_f(f32::MIN);
            for (scores, panel) in scores.chunks_mut(block).zip(panel.chunks_exact((groups + 1) * block)) {
                let (panel, last) = panel.split_at(groups * block);
                let mut offset = [0i32; 32];
                offset[..block].copy_from_slice(last);
                for (round, panel) in panel.chunks(CELL * block).enumerate() {
                    let groups = panel.len() / block;
                    let patch = &patch[round..];
                    let taps = Taps { patch, row_cells: 1, kernel: 1, ky0: 0, ky1: 1, groups, panel };
                    let offset = if round == 0 { offset } else { [0; 32] };
                    tile::<S, P, 2>(s, 1, taps, &offset, round > 0, &mut sums);
                }
                for (at, scores) in scores.chunks_mut(S::LANES).enumerate() {
                    let score = s.mul_f(s.to_f(s.load(&sums.0[0][at * S::LANES..])), a);
                    s.store_f(score, scores);
                    if scores.len() == S::LANES {
                        max = s.max_f(score, max);
                    } else {
                        for &score in &*scores {
                            max = s.max_f(s.splat_f(score), max);
                        }
                    }
                }
            }
            let mut lanes = [f32::MIN; 16];
            s.store_f(max, &mut lanes);
            let max = s.splat_f(lanes.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max }));

            let mut total = 0.0;
            for scores in scores.chunks_mut(S::LANES) {
                s.store_f(exp(s, s.sub_f(s.load_f(scores), max)), scores);
                for &score in &*scores {
                    total += score;
                }
            }

            let factor = s.splat_f(p.b / total);
            let out = &mut out[i * ch + h * head..][..head];
            let mut d = 0;
            // Four vectors of channels at a time hide the latency of the running sums.
            while d < head {
                let values = &qkv[2 * ch + h * head + d..];
                if head - d >= 4 * S::LANES {
                    mix::<S, 4>(s, scores, values, stride, factor, &mut out[d..d + 4 * S::LANES]);
                    d += 4 * S::LANES;
                } else {
                    let n = (head - d).min(S::LANES);
                    mix::<S, 1>(s, scores, values, stride, factor, &mut out[d..d + n]);
                    d += n;
                }
            }
        }
    }
}

/// out = (sum over tokens of score * value) * factor, in the order of the tokens.
#[inline(always)]
fn mix<S: Simd, const N: usize>(s: S, scores: &[f32], values: &[i8], stride: usize, factor: S::F, out: &mut [i8]) {
    let len = out.len();
    let mut sums = [s.splat_f(0.0); N];
    for (j, &score) in scores.iter().enumerate() {
        let score = s.splat_f(score);
        let values = &values[j * stride..][..len];
        for v in 0..N {
            let value = s.to_f(s.widen_i8(&values[v * S::LANES..]));
            sums[v] = s.add_f(sums[v], s.mul_f(score, value));
        }
    }
    for v in 0..N {
        s.narrow_i8(rne_narrow(s, s.mul_f(sums[v], factor)), &mut out[v * S::LANES..]);
    }
}
