//! Attention: the keys of a head are packed like a convolution's weights, a query is a tile of one cell. Where there is
//! room, the values of a head become f32 once, not for each query.

use super::Simd;
use super::panel::{Products, Rows, groups, pack_taps};
use super::tile::{CELL, Cell, MAX_TILE, NONE, Panel, Sums, Taps};
use super::vector::exp;
use crate::ops::Attention;

/// Rounds over a head's channels that the patch holds.
const MAX_ROUNDS: usize = 16;

/// Elements of the panel that holds the keys of one head.
#[inline]
fn panel_len<S: Simd>(p: &Attention) -> usize {
    let head = p.channels / p.heads;
    let groups = if S::BYTES && S::ANY_WEIGHT { groups::<S, S::Bytes>(head) } else { groups::<S, S::Words>(head) };
    p.tokens.next_multiple_of(2 * S::LANES) * (groups + 1)
}

/// Whether the kernel below takes it with a panel of `panel` elements.
#[inline]
pub(in crate::arch) fn fits<S: Simd>(p: &Attention, panel: usize) -> bool {
    let group =
        if S::BYTES && S::ANY_WEIGHT { <S::Bytes as Products<S>>::GROUP } else { <S::Words as Products<S>>::GROUP };
    panel_len::<S>(p) <= panel && p.channels / p.heads <= MAX_ROUNDS * CELL * group
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
    if S::BYTES && S::ANY_WEIGHT {
        heads::<S, S::Bytes>(s, p, qkv, scores, out, panel);
    } else {
        heads::<S, S::Words>(s, p, qkv, scores, out, panel);
    }
}

#[inline(always)]
fn heads<S: Simd, P: Products<S>>(
    s: S,
    p: &Attention,
    qkv: &[i8],
    scores: &mut [f32],
    out: &mut [i8],
    panel: &mut [i32],
) {
    let (ch, tokens) = (p.channels, p.tokens);
    let head = ch / p.heads;
    let (block, stride) = (2 * S::LANES, 3 * ch);
    let groups = groups::<S, P>(head);
    let scores = &mut scores[..tokens];
    let (panel, floats) = panel.split_at_mut(panel_len::<S>(p));
    let width = head.next_multiple_of(S::LANES);
    let floats: &mut [f32] = bytemuck::cast_slice_mut(floats.get_mut(..tokens * width).unwrap_or_default());
    let mut patch = [NONE; MAX_ROUNDS];
    let mut sums = Sums([[0; 32]; MAX_TILE]);
    for h in 0..p.heads {
        // A block of keys starts with what to add to their products with a query.
        for (j, panel) in (0..tokens).step_by(block).zip(panel.chunks_exact_mut((groups + 1) * block)) {
            let weights = &qkv[j * stride..];
            let (start, panel) = panel.split_at_mut(block);
            start.fill(0);
            let from = ch + h * head;
            for (at, panel) in (0..head).step_by(CELL * P::GROUP).zip(panel.chunks_mut(CELL * block)) {
                let count = (head - at).min(CELL * P::GROUP);
                let rows = Rows { weights, stride, rows: (tokens - j).min(block), from: from + at, count };
                pack_taps::<S, P, 2>(s, rows, 1, count, panel);
                P::count::<2>(s, panel, start);
            }
            for start in start {
                *start *= -i32::from(P::FLIP);
            }
        }
        let bytes = &qkv[2 * ch + h * head..];
        for (values, floats) in bytes.chunks(stride).zip(floats.chunks_exact_mut(width)) {
            for (values, floats) in values[..head].chunks(S::LANES).zip(floats.chunks_exact_mut(S::LANES)) {
                s.store_f(s.to_f(s.widen_i8(values)), floats);
            }
        }
        let values = Values { bytes, stride, floats, width };
        for i in 0..tokens {
            let q = &qkv[i * stride + h * head..][..head];
            for (place, q) in patch.iter_mut().zip(q.chunks(CELL * P::GROUP)) {
                let mut cell = Cell([0; CELL]);
                if P::GROUP == 4 {
                    let cell: &mut [u8; 4 * CELL] = bytemuck::cast_mut(&mut cell.0);
                    for (cell, &q) in cell.iter_mut().zip(q) {
                        *cell = q as u8 ^ P::FLIP;
                    }
                } else {
                    let cell: &mut [i16; 2 * CELL] = bytemuck::cast_mut(&mut cell.0);
                    for (cell, &q) in cell.iter_mut().zip(q) {
                        *cell = q.into();
                    }
                }
                for lane in (0..CELL).step_by(S::LANES) {
                    P::put(s, place, 0, lane, s.load(&cell.0[lane..]), 1);
                }
            }

            let a = s.splat_f(p.a);
            let mut max = s.splat_f(f32::MIN);
            for (scores, panel) in scores.chunks_mut(block).zip(panel.chunks_exact((groups + 1) * block)) {
                let (start, panel) = panel.split_at(block);
                for (round, panel) in panel.chunks(CELL * block).enumerate() {
                    let groups = panel.len() / block;
                    let rows = [&patch[round]; 3];
                    let panel = Panel { values: panel, stride: block, lane: 0 };
                    let taps = Taps { rows, kernel: 1, ky0: 0, ky1: 1, groups };
                    s.tile::<P, 2>(1, &taps, panel, (round == 0).then_some(start), &mut sums);
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
                if head - d >= 4 * S::LANES {
                    values.mix::<S, 4>(s, scores, d, factor, &mut out[d..d + 4 * S::LANES]);
                    d += 4 * S::LANES;
                } else {
                    let n = (head - d).min(S::LANES);
                    values.mix::<S, 1>(s, scores, d, factor, &mut out[d..d + n]);
                    d += n;
                }
            }
        }
    }
}

/// The values of a head, by token.
struct Values<'a> {
    bytes: &'a [i8],
    stride: usize,
    /// The same, or none: [tokens][width].
    floats: &'a [f32],
    width: usize,
}

impl Values<'_> {
    /// out = (sum over tokens of score * value) * factor, in the order of the tokens, for channels from `d` on.
    #[inline(always)]
    fn mix<S: Simd, const N: usize>(&self, s: S, scores: &[f32], d: usize, factor: S::F, out: &mut [i8]) {
        let len = out.len();
        let mut sums = [s.splat_f(0.0); N];
        if self.floats.is_empty() {
            for (&score, values) in scores.iter().zip(self.bytes.chunks(self.stride)) {
                let (score, values) = (s.splat_f(score), &values[d..][..len]);
                for v in 0..N {
                    let value = s.to_f(s.widen_i8(&values[v * S::LANES..]));
                    sums[v] = s.add_f(sums[v], s.mul_f(score, value));
                }
            }
        } else {
            for (&score, values) in scores.iter().zip(self.floats.chunks_exact(self.width)) {
                let (score, values) = (s.splat_f(score), &values[d..][..N * S::LANES]);
                for v in 0..N {
                    let value = s.load_f(&values[v * S::LANES..][..S::LANES]);
                    sums[v] = s.add_f(sums[v], s.mul_f(score, value));
                }
            }
        }
        for v in 0..N {
            s.narrow_i8(s.round_narrow(s.mul_f(sums[v], factor)), &mut out[v * S::LANES..]);
        }
    }
}
