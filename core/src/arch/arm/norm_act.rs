//! GroupNorm and SiLU: sums two values at a time, and the exponential without the checks that bounds of the values make
//! idle. Every f32 operation of the scalar function is there, in its order.
//!
//! With an FPU the common case, SiLU, runs in assembly four values at a time. It computes x = -y, which is exact
//! (the factors change their signs, and rounding is symmetric), so that e^-y needs no negation; x / (1 + e^x) times -a
//! is the scalar result. e^x is e^r 2^k with e^r in [0.7, 1.5), and k is added to the exponent of e^r, after it was
//! saturated to -64 ..= 63. That changes no output: below, 1 + e^x is 1 in both ways; above, x / (1 + e^x) is less than
//! 10^-12, which is 0 for every a that comes here.

use core::f32::consts::LOG2_E;

use super::simd::{pair, round_saturated, smlad, smlald};
use crate::math::{exp, inv_std, rne, sqrt};
use crate::ops::norm_act::MAX_GROUP;
use crate::ops::{NormAct, NormOut};
#[cfg(arm_dsp)]
use crate::part::rest;
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
use crate::part::rest_mut;
use crate::part::{at, part, part_mut, put};

/// Bound of a channel's factors with which no sum reaches infinity.
const FINITE: f32 = 1.0e30;

/// Bounds of y, and for int8 of y * a, that the assembly takes: r keeps its meaning, and integers fit i16 with any zero
/// point.
const VALUE: f32 = 1.0e5;
const OUTPUT: f32 = 32_000.0;

/// [`ops::norm_act`](crate::ops::norm_act()).
pub fn norm_act(p: &NormAct<'_>, input: &[i16], mut out: NormOut<'_>) {
    let (ch, group) = (p.channels, p.group);
    for first in (0..ch).step_by(group.max(1)) {
        let mut factors = [(0.0f32, 0.0f32); MAX_GROUP];
        let factors = part_mut(&mut factors, 0, group);
        let (sum, squares) = sums(input, ch, first, group);
        let n = (p.cells * group) as u32;
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, squares, p.b);
        // No value is further from the mean than the root of n standard deviations (Samuelson).
        let spread = sqrt(n as f32);
        let mut most = 0.0f32;
        let mut steepest = 0.0f32;
        for (factor, c) in factors.iter_mut().zip(first..) {
            let (scale, shift) = match p.film {
                Some(film) => (1.0 + at(film, c), at(film, ch + c)),
                None => (1.0, 0.0),
            };
            let (gamma, beta) = (at(p.gamma, c), at(p.beta, c));
            let a = inv_std * gamma * scale;
            let b = (beta * scale + shift) - mean * a;
            most = most.max((gamma * scale).abs() * spread + (beta * scale + shift).abs());
            steepest = steepest.max(a.abs());
            *factor = (a, b);
        }
        let small = |x: f32| -FINITE < x && x < FINITE;
        let finite = p.a.is_finite() && factors.iter().all(|&(a, b)| small(a) && small(b));
        if p.silu
            && finite
            && group.is_multiple_of(4)
            // y is a sum of terms below 32768 * 30, rounded to 1/8 at most: times `a`, far less than OUTPUT leaves.
            && (most < VALUE && steepest < 30.0)
            && (p.zp == 0 && matches!(out, NormOut::I16(_)) || p.a.abs() < 1000.0 && most * p.a.abs() < OUTPUT)
            && silu_of_group(p, input, first, factors, &mut out).is_some()
        {
            continue;
        }
        values(p, input, first, factors, finite, &mut out);
    }
}

/// out = saturate(rne(y * a) + zp) for every value y = q * A + B, or its SiLU, of a group. `finite`: no y is infinite or
/// no number.
#[inline(never)]
fn values(p: &NormAct<'_>, input: &[i16], first: usize, factors: &[(f32, f32)], finite: bool, out: &mut NormOut<'_>) {
    // Two roundings to an integer may not follow each other; two saturations may.
    let round = |y: f32| if finite { round_saturated::<22>(y) } else { rne(y) };
    for (values, from) in input.chunks_exact(p.channels.max(1)).zip((first..).step_by(p.channels.max(1))) {
        for ((&q, &(a, b)), to) in part(values, first, factors.len()).iter().zip(factors).zip(from..) {
            let y = f32::from(q) * a + b;
            let y = if p.silu { silu(y) } else { y };
            let value = round(y * p.a) + p.zp;
            match out {
                NormOut::I8(out) => put(out, to, value.clamp(-128, 127) as i8),
                NormOut::I16(out) => put(out, to, value.clamp(-32768, 32767) as i16),
            }
        }
    }
}

/// out = saturate(rne(SiLU(q * A + B) * a) + zp) for the group of channels from `first` on, a multiple of four, with
/// values within the bounds above; zp is 0 for i16. `None` without an FPU.
fn silu_of_group(
    p: &NormAct<'_>,
    input: &[i16],
    first: usize,
    factors: &[(f32, f32)],
    out: &mut NormOut<'_>,
) -> Option<()> {
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    {
        // Four channels at a time: -B, then -A.
        let mut signed = [0.0f32; 2 * MAX_GROUP];
        for (eight, four) in signed.as_chunks_mut::<8>().0.iter_mut().zip(factors.as_chunks::<4>().0) {
            for (i, (a, b)) in four.iter().enumerate() {
                (eight[i], eight[4 + i]) = (-b, -a);
            }
        }
        let (out, len, size, run): (*mut u8, usize, usize, asm::Run) = match out {
            NormOut::I8(out) => (rest_mut(out, first).as_mut_ptr().cast(), out.len(), 1, asm::to_i8),
            NormOut::I16(out) => (rest_mut(out, first).as_mut_ptr().cast(), out.len(), 2, asm::to_i16),
        };
        require!(p.cells > 0 && input.len() >= p.cells * p.channels && len >= p.cells * p.channels, None);
        require!(first + factors.len() <= p.channels, None);
        let values = asm::Values {
            input: rest(input, first).as_ptr(),
            out,
            cells: p.cells,
            group: factors.len(),
            skip: p.channels - factors.len(),
            factors: signed.as_ptr(),
            a: -p.a,
            zp: pair(p.zp, p.zp),
            skip_out: (p.channels - factors.len()) * size,
        };
        // SAFETY: input and output have `cells` cells of `channels` channels, of which `group` from `first` on are the
        // group, a multiple of four with as many factors; the ABI says that there is an FPU.
        unsafe { run(&values, &asm::CONSTANTS) };
        Some(())
    }
    #[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
    {
        let _ = (p, input, first, factors, out);
        None
    }
}

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
pub mod asm {
    use core::arch::naked_asm;
    use core::f32::consts::LOG2_E;

    /// What the code reads.
    #[repr(C)]
    pub struct Values {
        /// The group's first value of the first cell.
        pub input: *const i16,
        pub out: *mut u8,
        /// Not 0.
        pub cells: usize,
        /// Channels of the group, a multiple of four, not 0; and the others of a cell.
        pub group: usize,
        pub skip: usize,
        /// [group / 4][8]: four -B, four -A.
        pub factors: *const f32,
        /// -a.
        pub a: f32,
        /// Twice.
        pub zp: u32,
        /// Bytes of the other channels' outputs of a cell.
        pub skip_out: usize,
    }

    /// Constants that four values at a time are added to, one for each.
    #[repr(C)]
    pub struct Constants {
        rounding: [f32; 4],
        c1: [f32; 4],
        c2: [f32; 4],
        c3: [f32; 4],
        c4: [f32; 4],
        /// s16-s21: log2(e), rounding, ln 2 in two parts, c0, 1.
        single: [f32; 6],
    }

    #[expect(clippy::excessive_precision, reason = "the scalar function's constants, exact in binary")]
    pub static CONSTANTS: Constants = Constants {
        rounding: [12_582_912.0; 4],
        c1: [0.008_363_774; 4],
        c2: [0.041_666_55; 4],
        c3: [0.166_665_73; 4],
        c4: [0.5; 4],
        single: [LOG2_E, 12_582_912.0, 0.693_115_234_375, 3.194_618_3e-5, 0.001_392_692_7, 1.0],
    };

    /// # Safety
    /// Input, output and factors are as large as the fields say.
    pub type Run = unsafe extern "C" fn(&Values, &Constants);

    /// r0 input, r1 factors, r2 constants, r3 output, r12 values of the cell left, r4-r11 help. s0-s3 x and then r, s4-s7
    /// and s8-s11 what the comments say, s16-s21 single constants, s22 -a.
    ///
    /// Stack: sp+0 x, +16 cells left, +20 group, +24 skip, +28 factors, +32 zero point, +36 bytes of output to skip.
    macro_rules! silu {
        ($(#[$doc:meta])* $name:ident, $($store:literal,)+) => {
    $(#[$doc])*
    ///
    /// # Safety
    /// As [`Run`].
    #[unsafe(naked)]
    pub unsafe extern "C" fn $name(values: &Values, constants: &Constants) {
        naked_asm!(
            cpu_and_fpu!(),
            "push {{r4-r11, lr}}",
            "vpush {{s16-s23}}",
            "sub sp, #40",
            "mov r2, r1",
            "add r1, r1, #80",
            "vldmia r1, {{s16-s21}}",
            "vldr s22, [r0, #24]",
            "ldrd r11, r12, [r0, #28]",
            "ldm r0, {{r0, r3, r7, r8, r9, r10}}",
            "strd r11, r12, [sp, #32]",
            "add r11, sp, #16",
            "stm r11, {{r7-r10}}",
            // A cell.
            "1:",
            "ldrd lr, r1, [sp, #24]",
            "ldr r12, [sp, #20]",
            // Four values: x = q * -A - B.
            "2:",
            "ldr r4, [r0], #4",
            "ldr r5, [r0], #4",
            "vldmia r1!, {{s0-s7}}",
            "sxth r6, r4",
            "asr r4, r4, #16",
            "sxth r7, r5",
            "asr r5, r5, #16",
            "vmov s8, s9, r6, r4",
            "vmov s10, s11, r7, r5",
            each!("vcvt.f32.s32"; ("s8", "s8") ("s9", "s9") ("s10", "s10") ("s11", "s11")),
            each!("vmla.f32"; ("s0", "s8", "s4") ("s1", "s9", "s5") ("s2", "s10", "s6") ("s3", "s11", "s7")),
            "vstmia sp, {{s0-s3}}",
            // k + rounding, as bits in r4-r7 whose low halves are k; k; r = x - k ln 2.
            "vldmia r2!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s0", "s16") ("s5", "s1", "s16") ("s6", "s2", "s16") ("s7", "s3", "s16")),
            "vmov r4, r5, s4, s5",
            "vmov r6, r7, s6, s7",
            each!("vsub.f32"; ("s4", "s4", "s17") ("s5", "s5", "s17") ("s6", "s6", "s17") ("s7", "s7", "s17")),
            each!("vmls.f32"; ("s0", "s4", "s18") ("s1", "s5", "s18") ("s2", "s6", "s18") ("s3", "s7", "s18")),
            each!("vmls.f32"; ("s0", "s4", "s19") ("s1", "s5", "s19") ("s2", "s6", "s19") ("s3", "s7", "s19")),
            // The polynomial.
            "vldmia r2!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s20", "s0") ("s5", "s20", "s1") ("s6", "s20", "s2") ("s7", "s20", "s3")),
            "vldmia r2!, {{s8-s11}}",
            each!("vmla.f32"; ("s8", "s4", "s0") ("s9", "s5", "s1") ("s10", "s6", "s2") ("s11", "s7", "s3")),
            "vldmia r2!, {{s4-s7}}",
            each!("vmla.f32"; ("s4", "s8", "s0") ("s5", "s9", "s1") ("s6", "s10", "s2") ("s7", "s11", "s3")),
            "vldmia r2!, {{s8-s11}}",
            each!("vmla.f32"; ("s8", "s4", "s0") ("s9", "s5", "s1") ("s10", "s6", "s2") ("s11", "s7", "s3")),
            "sub r2, r2, #80",
            // e^r = (p r^2 + r) + 1; e^x.
            each!("vmul.f32"; ("s4", "s0", "s0") ("s5", "s1", "s1") ("s6", "s2", "s2") ("s7", "s3", "s3")),
            each!("vmla.f32"; ("s0", "s8", "s4") ("s1", "s9", "s5") ("s2", "s10", "s6") ("s3", "s11", "s7")),
            each!("vadd.f32"; ("s0", "s0", "s21") ("s1", "s1", "s21") ("s2", "s2", "s21") ("s3", "s3", "s21")),
            "vmov r8, r9, s0, s1",
            "vmov r10, r11, s2, s3",
            "ssat16 r4, #7, r4",
            "ssat16 r5, #7, r5",
            "ssat16 r6, #7, r6",
            "ssat16 r7, #7, r7",
            "add r8, r8, r4, lsl #23",
            "add r9, r9, r5, lsl #23",
            "add r10, r10, r6, lsl #23",
            "add r11, r11, r7, lsl #23",
            "vmov s0, s1, r8, r9",
            "vmov s2, s3, r10, r11",
            // x / (1 + e^x) * -a, to integers.
            each!("vadd.f32"; ("s0", "s0", "s21") ("s1", "s1", "s21") ("s2", "s2", "s21") ("s3", "s3", "s21")),
            "vldmia sp, {{s4-s7}}",
            each!("vdiv.f32"; ("s4", "s4", "s0") ("s5", "s5", "s1") ("s6", "s6", "s2") ("s7", "s7", "s3")),
            each!("vmul.f32"; ("s4", "s4", "s22") ("s5", "s5", "s22") ("s6", "s6", "s22") ("s7", "s7", "s22")),
            each!("vcvtr.s32.f32"; ("s4", "s4") ("s5", "s5") ("s6", "s6") ("s7", "s7")),
            "vmov r4, r5, s4, s5",
            "vmov r6, r7, s6, s7",
            $($store,)+
            "subs r12, r12, #4",
            "bne.w 2b",
            "add r0, r0, lr, lsl #1",
            "ldr r4, [sp, #36]",
            "add r3, r3, r4",
            "ldr r4, [sp, #16]",
            "subs r4, r4, #1",
            "str r4, [sp, #16]",
            "bne.w 1b",
            "add sp, #40",
            "vpop {{s16-s23}}",
            "pop {{r4-r11, pc}}",
        )
    }
        };
    }

    silu!(
        /// All are within i16: (0, 2) and (1, 3) as pairs, plus the zero point, saturated, as bytes.
        to_i8,
        "ldr r8, [sp, #32]",
        "pkhbt r4, r4, r6, lsl #16",
        "pkhbt r5, r5, r7, lsl #16",
        "qadd16 r4, r4, r8",
        "qadd16 r5, r5, r8",
        "ssat16 r4, #8, r4",
        "ssat16 r5, #8, r5",
        "uxtb16 r4, r4",
        "uxtb16 r5, r5",
        "orr r4, r4, r5, lsl #8",
        "str r4, [r3], #4",
    );
    silu!(
        /// Without a zero point.
        to_i16,
        "ssat r4, #16, r4",
        "ssat r5, #16, r5",
        "ssat r6, #16, r6",
        "ssat r7, #16, r7",
        "pkhbt r4, r4, r5, lsl #16",
        "pkhbt r6, r6, r7, lsl #16",
        "str r4, [r3], #4",
        "str r6, [r3], #4",
    );
}

/// Exact sum and sum of squares of `group` channels from `first` on.
fn sums(input: &[i16], ch: usize, first: usize, group: usize) -> (i32, u64) {
    let (mut sum, mut squares) = (0i32, 0i64);
    #[cfg(arm_dsp)]
    if group.is_multiple_of(4) {
        let cells = input.len() / ch.max(1);
        require!(cells > 0 && group > 0 && first + group <= ch, (0, 0));
        let group = Group { input: rest(input, first).as_ptr(), cells, group, skip: 2 * (ch - group) };
        let mut result = [0u32; 3];
        // SAFETY: each of the cells has `group` channels from the first on; cells and group are not 0.
        unsafe { sums_of_group(&group, &mut result) };
        return (result[0] as i32, u64::from(result[2]) << 32 | u64::from(result[1]));
    }
    for cell in input.chunks_exact(ch.max(1)) {
        let (pairs, alone) = part(cell, first, group).as_chunks::<2>();
        for two in pairs {
            let two = pair(two[0].into(), two[1].into());
            sum = smlad(two, pair(1, 1), sum);
            squares = smlald(two, two, squares);
        }
        for &q in alone {
            sum += i32::from(q);
            squares += i64::from(i32::from(q) * i32::from(q));
        }
    }
    (sum, squares as u64)
}

/// What [`sums_of_group`] reads.
#[cfg(arm_dsp)]
#[repr(C)]
struct Group {
    input: *const i16,
    /// Not 0.
    cells: usize,
    /// A multiple of four, not 0.
    group: usize,
    /// Bytes of the other channels of a cell.
    skip: usize,
}

/// Result: sum, sum of squares (low half first). r2 input, r3 cells left, r4 group, r5 skip, r6 values of the cell left,
/// r7 sum, r8, r9 squares, r10 two ones, r11, r12 values.
///
/// # Safety
/// The fields say the truth.
#[cfg(arm_dsp)]
#[unsafe(naked)]
unsafe extern "C" fn sums_of_group(group: &Group, result: &mut [u32; 3]) {
    core::arch::naked_asm!(
        cpu!(),
        "push {{r4-r11}}",
        "ldm r0, {{r2, r3, r4, r5}}",
        "mov.w r7, #0",
        "mov.w r8, #0",
        "mov.w r9, #0",
        "mov.w r10, #0x00010001",
        "1:",
        "mov r6, r4",
        "2:",
        "ldr r11, [r2], #4",
        "ldr r12, [r2], #4",
        "smlad r7, r11, r10, r7",
        "smlald r8, r9, r11, r11",
        "smlad r7, r12, r10, r7",
        "smlald r8, r9, r12, r12",
        "subs r6, r6, #4",
        "bne.w 2b",
        "add r2, r2, r5",
        "subs r3, r3, #1",
        "bne.w 1b",
        "stm r1, {{r7, r8, r9}}",
        "pop {{r4-r11}}",
        "bx lr",
    )
}

/// [`math::silu`](crate::math::silu).
#[inline(always)]
fn silu(y: f32) -> f32 {
    y / (1.0 + exp_within(-y))
}

/// [`math::exp`](crate::math::exp), the same operations: only the clamp of a number that is within +-87 already is left
/// out, and the second one, of a product that then is within +-126.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the scalar function's constants, exact in binary")]
fn exp_within(x: f32) -> f32 {
    if x.to_bits() & 0x7fff_ffff > 87.0f32.to_bits() {
        return exp(x);
    }
    // 1.5 * 2^23: the sum has no fraction bits, and its lowest bits are the integer.
    const ROUNDING: f32 = 12_582_912.0;
    let rounded = x * LOG2_E + ROUNDING;
    let kf = rounded - ROUNDING;
    let r = (x - kf * 0.693_115_234_375) - kf * 3.194_618_3e-5;
    let p = 0.001_392_692_7;
    let p = p * r + 0.008_363_774;
    let p = p * r + 0.041_666_55;
    let p = p * r + 0.166_665_73;
    let p = p * r + 0.5;
    let e = (p * (r * r) + r) + 1.0;
    e * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_the_same() {
        for i in 0..2_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2147) ^ i << 31);
            if x.is_finite() {
                assert_eq!(exp_within(x).to_bits(), exp(x).to_bits(), "{x:e}");
            }
        }
        for i in -900_000..900_000 {
            let x = i as f32 * 1.0e-4;
            assert_eq!(exp_within(x).to_bits(), exp(x).to_bits(), "{x:e}");
        }
    }
}
