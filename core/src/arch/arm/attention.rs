//! Self-attention: four queries at a time. Their scores are a matrix product of int16 pairs by SMLAD, and the mix of
//! values keeps 4 channels x 4 queries of sums in the FPU's registers, so that a value is converted once for four.

use super::gemm::{self, MAX_PAIRS, TILE};
use super::panel::{self, CHANNELS, word};
use super::simd::{sxtb16, sxtb16_odd};
use crate::math::rne_i8;
use crate::ops::{self, Attention, ConvIn};
use crate::part::{part, part_mut, rest};

/// Queries at a time: the "output channels" of the matrix product.
const QUERIES: usize = CHANNELS;

/// Most channels of a head: their pairs are one call of the product.
const HEAD: usize = 2 * MAX_PAIRS;

/// Most tokens: the queries' scores lie on the stack.
const TOKENS: usize = 64;

/// [`ops::attention`](crate::ops::attention()).
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads.max(1);
    if !head.is_multiple_of(4) || head > HEAD || p.tokens > TOKENS || p.tokens == 0 {
        return ops::attention(p, qkv, scores, out);
    }
    let tokens = p.tokens;
    let mut weights = [[0.0f32; QUERIES]; TOKENS];
    let mut queries = [0u32; MAX_PAIRS * QUERIES];
    let mut keys = [0u32; MAX_PAIRS * 2];
    for h in 0..p.heads {
        // 0, 1, 2 = q, k, v of one token and head.
        let of = |token: usize, which: usize| part(qkv, token * 3 * ch + which * ch + h * head, head);
        for first in (0..tokens).step_by(QUERIES) {
            let weights = part_mut(&mut weights, 0, tokens);
            // The last queries may be fewer: some are taken twice then.
            for lane in 0..QUERIES {
                queries_of(of((first + lane).min(tokens - 1), 0), &mut queries, lane);
            }
            for (token, scores) in (0..tokens).step_by(2).zip(weights.chunks_mut(2)) {
                for lane in 0..2 {
                    let token = (token + lane).min(tokens - 1);
                    panel::column(&ConvIn::I8(qkv), 0, token * 3 * ch + ch + h * head, head, &mut keys, lane);
                }
                let mut dots = [0i32; TILE];
                gemm::direct(&queries, &keys, head, &mut dots, head / 2);
                for (scores, dots) in scores.iter_mut().zip(dots.as_chunks::<QUERIES>().0) {
                    *scores = dots.map(|dot| dot as f32 * p.a);
                }
            }
            let factors = softmax(weights).map(|total| p.b / total);
            for d in (0..head).step_by(4) {
                let sums = mix(weights, rest(qkv, 2 * ch + h * head + d), 3 * ch);
                for lane in 0..QUERIES {
                    if first + lane >= tokens {
                        break;
                    }
                    let out = part_mut(out, (first + lane) * ch + h * head + d, 4);
                    for (out, sums) in out.iter_mut().zip(&sums) {
                        *out = rne_i8(sums[lane] * factors[lane]);
                    }
                }
            }
        }
    }
}

/// One lane of a panel [pairs][[`QUERIES`]].
fn queries_of(query: &[i8], panel: &mut [u32], lane: usize) {
    for (at, panel) in (0..query.len() / 4 * 4).step_by(4).zip(panel.as_chunks_mut::<{ 2 * QUERIES }>().0) {
        // SAFETY: `at` is a multiple of four below one within the bytes.
        let word = unsafe { word(query, at) };
        panel[lane] = sxtb16(word);
        panel[QUERIES + lane] = sxtb16_odd(word);
    }
}

/// Scores to weights e_j = exp(s_j - max); returns their sums in the order of j.
fn softmax(scores: &mut [[f32; QUERIES]]) -> [f32; QUERIES] {
    let mut totals = [0.0; QUERIES];
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    if !scores.is_empty() {
        // SAFETY: there are as many scores, and not none; the ABI says that there is an FPU.
        unsafe { asm::softmax(scores.as_mut_ptr().cast(), scores.len(), &mut totals, &asm::CONSTANTS) };
    }
    #[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
    for (lane, total) in totals.iter_mut().enumerate() {
        let mut max = f32::MIN;
        for score in scores.iter() {
            max = if score[lane] > max { score[lane] } else { max };
        }
        for score in scores.iter_mut() {
            score[lane] = crate::math::exp(score[lane] - max);
            *total += score[lane];
        }
    }
    totals
}

/// sums\[channel\]\[query\] = sum over j, in order, of weights\[j\]\[query\] * values\[j * stride + channel\].
fn mix(weights: &[[f32; QUERIES]], values: &[i8], stride: usize) -> [[f32; QUERIES]; 4] {
    let mut sums = [[0.0f32; QUERIES]; 4];
    require!(!weights.is_empty() && values.len() >= (weights.len() - 1) * stride + 4, sums);
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

/// $max = $x if that is larger.
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
macro_rules! larger {
    ($max:literal, $x:literal) => {
        concat!("vcmp.f32 ", $x, ", ", $max, "\n vmrs APSR_nzcv, fpscr\n it gt\n vmovgt.f32 ", $max, ", ", $x, "\n")
    };
}

/// $x = s22 unless it is larger.
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
macro_rules! clamped {
    ($x:literal) => {
        concat!("vcmp.f32 ", $x, ", s22\n vmrs APSR_nzcv, fpscr\n it le\n vmovle.f32 ", $x, ", s22\n")
    };
}

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
mod asm {
    pub use super::super::norm_act::asm::CONSTANTS;
    use super::super::norm_act::asm::Constants;
    use super::QUERIES;
    use core::arch::naked_asm;

    /// scores: [tokens][4], tokens not 0; totals: zeros, then the sums.
    ///
    /// r0 scores, r1 tokens left, r3 constants, r4-r11 help. s0-s3 scores, then x = s - max and r, s4-s11 help, s16-s21
    /// the constants as in `norm_act`, s22 -87, s24-s27 the largest, s28-s31 sums. The exponential is that of `norm_act`,
    /// with x clamped from below; from above it is 0.
    #[unsafe(naked)]
    pub unsafe extern "C" fn softmax(
        scores: *mut f32,
        tokens: usize,
        totals: &mut [f32; QUERIES],
        constants: &Constants,
    ) {
        naked_asm!(
            cpu_and_fpu!(),
            "push {{r4-r11, lr}}",
            "vpush {{s16-s31}}",
            "vldmia r2, {{s28-s31}}",
            // The lowest finite number, and -87.
            "movw r4, #0xffff",
            "movt r4, #0xff7f",
            "vmov s24, s25, r4, r4",
            "vmov s26, s27, r4, r4",
            "movw r4, #0",
            "movt r4, #0xc2ae",
            "vmov s22, r4",
            "add r4, r3, #80",
            "vldmia r4, {{s16-s21}}",
            "mov r12, r0",
            "mov lr, r1",
            "1:",
            "vldmia r0!, {{s0-s3}}",
            larger!("s24", "s0"),
            larger!("s25", "s1"),
            larger!("s26", "s2"),
            larger!("s27", "s3"),
            "subs r1, r1, #1",
            "bne 1b",
            "2:",
            "vldmia r12, {{s0-s3}}",
            each!("vsub.f32"; ("s0", "s0", "s24") ("s1", "s1", "s25") ("s2", "s2", "s26") ("s3", "s3", "s27")),
            clamped!("s0"),
            clamped!("s1"),
            clamped!("s2"),
            clamped!("s3"),
            "vldmia r3!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s0", "s16") ("s5", "s1", "s16") ("s6", "s2", "s16") ("s7", "s3", "s16")),
            "vmov r4, r5, s4, s5",
            "vmov r6, r7, s6, s7",
            each!("vsub.f32"; ("s4", "s4", "s17") ("s5", "s5", "s17") ("s6", "s6", "s17") ("s7", "s7", "s17")),
            each!("vmls.f32"; ("s0", "s4", "s18") ("s1", "s5", "s18") ("s2", "s6", "s18") ("s3", "s7", "s18")),
            each!("vmls.f32"; ("s0", "s4", "s19") ("s1", "s5", "s19") ("s2", "s6", "s19") ("s3", "s7", "s19")),
            "vldmia r3!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s20", "s0") ("s5", "s20", "s1") ("s6", "s20", "s2") ("s7", "s20", "s3")),
            "vldmia r3!, {{s8-s11}}",
            each!("vmla.f32"; ("s8", "s4", "s0") ("s9", "s5", "s1") ("s10", "s6", "s2") ("s11", "s7", "s3")),
            "vldmia r3!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s8", "s0") ("s5", "s9", "s1") ("s6", "s10", "s2") ("s7", "s11", "s3")),
            "vldmia r3!, {{s8-s11}}",
            each!("vmla.f32"; ("s8", "s4", "s0") ("s9", "s5", "s1") ("s10", "s6", "s2") ("s11", "s7", "s3")),
            "sub r3, r3, #80",
            each!("vmul.f32"; ("s4", "s0", "s0") ("s5", "s1", "s1") ("s6", "s2", "s2") ("s7", "s3", "s3")),
            each!("vmla.f32"; ("s0", "s8", "s4") ("s1", "s9", "s5") ("s2", "s10", "s6") ("s3", "s11", "s7")),
            each!("vadd.f32"; ("s0", "s0", "s21") ("s1", "s1", "s21") ("s2", "s2", "s21") ("s3", "s3", "s21")),
            "vmov r8, r9, s0, s1",
            "vmov r10, r11, s2, s3",
            "add r8, r8, r4, lsl #23",
            "add r9, r9, r5, lsl #23",
            "add r10, r10, r6, lsl #23",
            "add r11, r11, r7, lsl #23",
            "vmov s0, s1, r8, r9",
            "vmov s2, s3, r10, r11",
            each!("vadd.f32"; ("s28", "s28", "s0") ("s29", "s29", "s1") ("s30", "s30", "s2") ("s31", "s31", "s3")),
            "vstmia r12!, {{s0-s3}}",
            "subs lr, lr, #1",
            "bne.w 2b",
            "vstmia r2, {{s28-s31}}",
            "vpop {{s16-s31}}",
            "pop {{r4-r11, pc}}",
        )
    }

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
