//! Self-attention: four queries at a time. Their scores are a matrix product of int16 pairs by SMLAD, and the mix of
//! values keeps 4 channels x 4 queries of sums in the FPU's registers, so that a value is converted once for four.

use super::gemm::{self, MAX_PAIRS, TILE};
use super::panel::{CHANNELS, word};
use super::simd::{sxtb16, sxtb16_odd};
use crate::math::{exp, rne_i8};
use crate::ops::{self, Attention};

/// Queries at a time: the "output channels" of the matrix product.
const QUERIES: usize = CHANNELS;

/// Most channels of a head: their pairs are one call of the product.
const HEAD: usize = 2 * MAX_PAIRS;

/// Most tokens: the queries' scores lie on the stack.
const TOKENS: usize = 64;

/// [`ops::attention`](crate::ops::attention()).
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads;
    if !head.is_multiple_of(4) || head > HEAD || p.tokens > TOKENS || p.tokens == 0 {
        return ops::attention(p, qkv, scores, out);
    }
    let tokens = p.tokens;
    let mut weights = [[0.0f32; QUERIES]; TOKENS];
    for h in 0..p.heads {
        // part 0, 1, 2 = q, k, v of one token and head.
        let of = |token: usize, part: usize| &qkv[token * 3 * ch + part * ch + h * head..][..head];
        for first in (0..tokens).step_by(QUERIES) {
            // The last queries may be fewer: some are taken twice then.
            let query = |lane: usize| (first + lane).min(tokens - 1);
            let weights = &mut weights[..tokens];
            products(|lane| of(query(lane), 0), |token| of(token, 1), head, p.a, weights);
            let factors: [f32; QUERIES] = core::array::from_fn(|lane| p.b / softmax(weights, lane));
            for d in (0..head).step_by(4) {
                let sums = mix(weights, &qkv[2 * ch + h * head + d..], 3 * ch);
                for lane in 0..QUERIES.min(tokens - first) {
                    let out = &mut out[(first + lane) * ch + h * head + d..][..4];
                    for (out, sums) in out.iter_mut().zip(&sums) {
                        *out = rne_i8(sums[lane] * factors[lane]);
                    }
                }
            }
        }
    }
}

/// scores\[token\]\[query\] = (q . k) * a.
fn products<'a>(
    q: impl Fn(usize) -> &'a [i8],
    k: impl Fn(usize) -> &'a [i8],
    head: usize,
    a: f32,
    scores: &mut [[f32; QUERIES]],
) {
    let pairs = head / 2;
    let mut queries = [0u32; MAX_PAIRS * QUERIES];
    for lane in 0..QUERIES {
        fill::<QUERIES>(q(lane), &mut queries[..pairs * QUERIES], lane);
    }
    let tokens = scores.len();
    for (at, scores) in (0..tokens).step_by(2).zip(scores.chunks_mut(2)) {
        let mut keys = [0u32; MAX_PAIRS * 2];
        for lane in 0..2 {
            fill::<2>(k((at + lane).min(tokens - 1)), &mut keys[..pairs * 2], lane);
        }
        let mut dots = [0i32; TILE];
        gemm::direct(&queries, &keys, pairs * 2, &mut dots, pairs);
        for (scores, dots) in scores.iter_mut().zip(dots.chunks_exact(QUERIES)) {
            for (score, &dot) in scores.iter_mut().zip(dots) {
                *score = dot as f32 * a;
            }
        }
    }
}

/// One lane of a panel [pairs][LANES].
#[inline(always)]
fn fill<const LANES: usize>(bytes: &[i8], panel: &mut [u32], lane: usize) {
    for (at, panel) in (0..bytes.len() / 4 * 4).step_by(4).zip(panel.chunks_exact_mut(2 * LANES)) {
        // SAFETY: `at` is a multiple of four below one within the bytes.
        let word = unsafe { word(bytes, at) };
        panel[lane] = sxtb16(word);
        panel[LANES + lane] = sxtb16_odd(word);
    }
}

/// Scores of one query to weights e_j = exp(s_j - max); returns their sum in the order of j.
fn softmax(scores: &mut [[f32; QUERIES]], lane: usize) -> f32 {
    let mut max = f32::MIN;
    for score in scores.iter() {
        max = if score[lane] > max { score[lane] } else { max };
    }
    let mut total = 0.0;
    for score in scores.iter_mut() {
        score[lane] = exp(score[lane] - max);
        total += score[lane];
    }
    total
}

/// sums\[channel\]\[query\] = sum over j, in order, of weights\[j\]\[query\] * values\[j * stride + channel\].
fn mix(weights: &[[f32; QUERIES]], values: &[i8], stride: usize) -> [[f32; QUERIES]; 4] {
    assert!(!weights.is_empty() && values.len() >= (weights.len() - 1) * stride + 4);
    let mut sums = [[0.0f32; QUERIES]; 4];
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    // SAFETY: the lengths were checked; the ABI says that there is an FPU.
    unsafe {
        asm::mix(weights.as_ptr().cast(), values.as_ptr(), stride, weights.len(), sums.as_mut_ptr().cast());
    }
    #[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
    for (j, weights) in weights.iter().enumerate() {
        for (sums, &value) in sums.iter_mut().zip(&values[j * stride..]) {
            for (sum, e) in sums.iter_mut().zip(weights) {
                *sum += e * f32::from(value);
            }
        }
    }
    sums
}

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
mod asm {
    use core::arch::naked_asm;

    /// The sums of one channel, whose value is in $value.
    macro_rules! channel {
        ($value:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "vmla.f32 ",
                $a,
                ", s4, ",
                $value,
                "\n vmla.f32 ",
                $b,
                ", s5, ",
                $value,
                "\n",
                "vmla.f32 ",
                $c,
                ", s6, ",
                $value,
                "\n vmla.f32 ",
                $d,
                ", s7, ",
                $value,
                "\n",
            )
        };
    }

    /// weights: [tokens][4]; values: four bytes every `stride`; sums: [channel 4][query 4].
    ///
    /// s0-s3 values, s4-s7 weights, s16-s31 sums.
    #[unsafe(naked)]
    pub unsafe extern "C" fn mix(weights: *const f32, values: *const i8, stride: usize, tokens: usize, sums: *mut f32) {
        naked_asm!(
            cpu_and_fpu!(),
            "ldr r12, [sp]",
            "push {{r4-r7}}",
            "vpush {{s16-s31}}",
            "vldmia r12, {{s16-s31}}",
            "1:",
            "ldr r4, [r1]",
            "add r1, r1, r2",
            "sxtb r5, r4",
            "sxtb r6, r4, ror #8",
            "sxtb r7, r4, ror #16",
            "asr r4, r4, #24",
            "vmov s0, s1, r5, r6",
            "vmov s2, s3, r7, r4",
            "vldmia r0!, {{s4-s7}}",
            "vcvt.f32.s32 s0, s0",
            "vcvt.f32.s32 s1, s1",
            "vcvt.f32.s32 s2, s2",
            "vcvt.f32.s32 s3, s3",
            channel!("s0", "s16", "s17", "s18", "s19"),
            channel!("s1", "s20", "s21", "s22", "s23"),
            channel!("s2", "s24", "s25", "s26", "s27"),
            channel!("s3", "s28", "s29", "s30", "s31"),
            "subs r3, r3, #1",
            "bne.w 1b",
            "vstmia r12, {{s16-s31}}",
            "vpop {{s16-s31}}",
            "pop {{r4-r7}}",
            "bx lr",
        )
    }
}
