//! Self-attention: scores sixteen products at a time, exponentials four at a time, and the mix of values sixteen channels
//! at a time, each channel's sum in the order of the tokens.
//!
//! Denormals: where every exponential is at least 2^-100, every product and every sum of the mix is a multiple of 2^-123,
//! and none is denormal. Where the scores of a query are further apart than that, the mix runs as the scalar function's.

use core::arch::naked_asm;
use core::f32::consts::LOG2_E;

use super::bare::dot;
use super::norm_act::{CONSTANTS, LN_2_HIGH, LN_2_LOW, ROUNDING, exponential};
use crate::math::rne_i8;
use crate::ops::{self, Attention};
use crate::part::{at as number, part, part_mut, rest};

/// Bound of the scores' factor with which they stay finite.
const FINITE: f32 = 1.0e27;
/// Scores this far below the largest have exponentials above 2^-100.
const SPREAD: f32 = 69.0;
/// Channels of the mix at a time.
const MIXED: usize = 16;

/// [`ops::attention`](crate::ops::attention()).
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads.max(1);
    if !head.is_multiple_of(MIXED) || !(-FINITE < p.a && p.a < FINITE) || p.tokens == 0 {
        return ops::attention(p, qkv, scores, out);
    }
    let scores = part_mut(scores, 0, p.tokens);
    require!(!scores.is_empty());
    // 0, 1, 2 = q, k, v of one token and head.
    let of = |token: usize, which: usize, h: usize| part(qkv, token * 3 * ch + which * ch + h * head, head);
    for h in 0..p.heads {
        for i in 0..p.tokens {
            let q = of(i, 0, h);
            let (mut max, mut min) = (f32::MIN, f32::MAX);
            for (j, score) in scores.iter_mut().enumerate() {
                *score = dot(q, of(j, 1, h), 0) as f32 * p.a;
                max = if *score > max { *score } else { max };
                min = if *score < min { *score } else { min };
            }
            exponentials(scores, max);
            let mut total = 0.0;
            for score in scores.iter() {
                total += *score;
            }
            let factor = p.b / total;
            let close = max - min < SPREAD;
            for d in (0..head).step_by(MIXED) {
                let values = rest(qkv, 2 * ch + h * head + d);
                let sums = if close { mix(scores, values, 3 * ch) } else { mix_exactly(scores, values, 3 * ch) };
                for (out, sum) in part_mut(out, i * ch + h * head + d, MIXED).iter_mut().zip(sums) {
                    *out = rne_i8(sum * factor);
                }
            }
        }
    }
}

/// What the assembly of the exponentials reads, at the offsets that it has in `norm_act`.
#[repr(C)]
struct Table {
    unused: [f32; 8],
    constants: [[f32; 4]; 7],
    scalars: [u32; 5],
}

/// score = exp(score - max), for scores at most `max`.
fn exponentials(scores: &mut [f32], max: f32) {
    static TABLE: Table = Table {
        unused: [0.0; 8],
        constants: CONSTANTS,
        scalars: [LOG2_E.to_bits(), ROUNDING.to_bits(), LN_2_HIGH.to_bits(), LN_2_LOW.to_bits(), 1.0f32.to_bits()],
    };
    // SAFETY: the loop's predicate ends at the length of the scores, which are not none.
    unsafe { exponentials_asm(scores.as_mut_ptr(), scores.len(), max.to_bits(), &TABLE) }
}

#[unsafe(naked)]
unsafe extern "C" fn exponentials_asm(scores: *mut f32, count: usize, max: u32, table: &'static Table) {
    naked_asm!(
        cpu!(),
        "push {{r4-r6, lr}}",
        "vpush {{d8-d15}}",
        "mov r12, r3",
        "vdup.32 q6, r2",
        "add r3, r12, #144",
        "mov lr, r1",
        "ldm r3, {{r2-r6}}",
        "dlstp.32 lr, lr",
        ".p2align 2",
        "2:",
        "vldrw.u32 q1, [r0]",
        "vsub.f32 q1, q1, q6",
        exponential!(),
        "vstrw.32 q1, [r0], #16",
        "letp lr, 2b",
        "vpop {{d8-d15}}",
        "pop {{r4-r6, pc}}",
    )
}

/// For sixteen channels: the sum over j, in order, of scores\[j\] * values\[j * stride + channel\].
fn mix(scores: &[f32], values: &[i8], stride: usize) -> [f32; MIXED] {
    let mut sums = [0.0; MIXED];
    require!(!scores.is_empty() && values.len() >= (scores.len() - 1) * stride + MIXED, sums);
    // SAFETY: the length was checked.
    unsafe { mix_asm(scores.as_ptr(), scores.len(), values.as_ptr(), stride, &mut sums) }
    sums
}

#[unsafe(naked)]
unsafe extern "C" fn mix_asm(
    scores: *const f32,
    count: usize,
    values: *const i8,
    stride: usize,
    sums: &mut [f32; MIXED],
) {
    naked_asm!(
        cpu!(),
        "push {{r4, lr}}",
        "vpush {{d8-d15}}",
        "vmov.i32 q0, #0",
        "vmov.i32 q1, #0",
        "vmov.i32 q2, #0",
        "vmov.i32 q3, #0",
        "dls lr, r1",
        ".p2align 2",
        "2:",
        "ldr r12, [r0], #4",
        "vldrb.s32 q4, [r2]",
        "vldrb.s32 q5, [r2, #4]",
        "vldrb.s32 q6, [r2, #8]",
        "vldrb.s32 q7, [r2, #12]",
        "vcvt.f32.s32 q4, q4",
        "vcvt.f32.s32 q5, q5",
        "vcvt.f32.s32 q6, q6",
        "vcvt.f32.s32 q7, q7",
        "vmul.f32 q4, q4, r12",
        "vmul.f32 q5, q5, r12",
        "vmul.f32 q6, q6, r12",
        "vmul.f32 q7, q7, r12",
        "vadd.f32 q0, q0, q4",
        "vadd.f32 q1, q1, q5",
        "vadd.f32 q2, q2, q6",
        "vadd.f32 q3, q3, q7",
        "add r2, r3",
        "le lr, 2b",
        "ldr r4, [sp, #72]",
        "vstrw.32 q0, [r4]",
        "vstrw.32 q1, [r4, #16]",
        "vstrw.32 q2, [r4, #32]",
        "vstrw.32 q3, [r4, #48]",
        "vpop {{d8-d15}}",
        "pop {{r4, pc}}",
    )
}

/// [`mix`] by the scalar unit.
fn mix_exactly(scores: &[f32], values: &[i8], stride: usize) -> [f32; MIXED] {
    core::array::from_fn(|d| {
        let mut sum = 0.0;
        for (j, &e) in scores.iter().enumerate() {
            sum += e * f32::from(number(values, j * stride + d));
        }
        sum
    })
}
