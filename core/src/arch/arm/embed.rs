//! The embedding: its eight running sums stay in the FPU's registers.

use crate::ops::Embed;

/// [`ops::embed`](crate::ops::embed()).
#[cfg(all(arm_dsp, target_abi = "eabihf"))]
pub fn embed(p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    use crate::math::silu;
    use crate::ops::embed::{GUIDANCE_FEATURES, dot8, guidance_features};

    require!(first.len().is_multiple_of(8) && !first.is_empty() && second.len() == first.len());
    let features = guidance_features(p.w);
    let rows = p.guidance.chunks_exact(GUIDANCE_FEATURES);
    for (((out, &time), &class), row) in first.iter_mut().zip(p.time).zip(p.class).zip(rows) {
        *out = silu((time + class) + dot8(&features, row, |w| w));
    }
    dense::apply(&p.hidden, first, second);
    for x in second.iter_mut() {
        *x = silu(*x);
    }
    dense::apply(&p.film, second, film);
}

/// [`ops::embed`](crate::ops::embed()).
#[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
pub fn embed(p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    crate::ops::embed(p, first, second, film);
}

#[cfg(all(arm_dsp, target_abi = "eabihf"))]
mod dense {
    use crate::ops::embed::{Dense, Int8Dense};
    use crate::part::rest_mut;
    use core::arch::naked_asm;

    /// What the code reads.
    #[repr(C)]
    struct Rows {
        x: *const f32,
        weights: *const i8,
        scale: *const f32,
        bias: *const f32,
        out: *mut f32,
        rows: usize,
        /// Eights of x.
        eights: usize,
    }

    /// out\[o\] = (weights\[o\] . x) * scale\[o\] + bias\[o\]; the length of x is a multiple of 8 and not 0.
    pub fn apply(p: &Dense<'_>, x: &[f32], out: &mut [f32]) {
        let mut parts = p.parts(x.len());
        while let Some((at, part)) = parts.next() {
            int8(&part, x, rest_mut(out, at));
        }
    }

    /// The same of int8 weights.
    fn int8(p: &Int8Dense<'_>, x: &[f32], out: &mut [f32]) {
        let rows = out.len().min(p.scale.len()).min(p.bias.len()).min(p.weights.len() / x.len());
        if rows == 0 {
            return;
        }
        let rows = Rows {
            x: x.as_ptr(),
            weights: p.weights.as_ptr(),
            scale: p.scale.as_ptr(),
            bias: p.bias.as_ptr(),
            out: out.as_mut_ptr(),
            rows,
            eights: x.len() / 8,
        };
        // SAFETY: weights, scales, biases and outputs of `rows` rows are there; the ABI says that there is an FPU.
        unsafe { run(&rows) }
    }

    /// Four weights of a word.
    macro_rules! four {
        ($word:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "sxtb r6, ",
                $word,
                "\n sxtb r7, ",
                $word,
                ", ror #8\n sxtb r8, ",
                $word,
                ", ror #16\n",
                "asr ",
                $word,
                ", ",
                $word,
                ", #24\n vmov ",
                $a,
                ", ",
                $b,
                ", r6, r7\n",
                "vmov ",
                $c,
                ", ",
                $d,
                ", r8, ",
                $word,
                "\n",
            )
        };
    }

    /// s0-s7 running sums, s8-s15 x, s16-s23 weights. r0 x, r1 weights, r2 scale, r3 bias, r9 output, r10 rows left,
    /// r11 eights left, r12 walks over x, lr eights of x; r4-r8 help.
    #[unsafe(naked)]
    unsafe extern "C" fn run(rows: *const Rows) {
        naked_asm!(
            cpu_and_fpu!(),
            "push {{r4-r11, lr}}",
            "vpush {{s16-s23}}",
            "ldm r0, {{r0, r1, r2, r3, r9, r10, lr}}",
            "1:",
            "mov r12, r0",
            "mov r11, lr",
            "mov.w r4, #0",
            "vmov s0, s1, r4, r4",
            "vmov s2, s3, r4, r4",
            "vmov s4, s5, r4, r4",
            "vmov s6, s7, r4, r4",
            "2:",
            "ldr r4, [r1], #4",
            "ldr r5, [r1], #4",
            four!("r4", "s16", "s17", "s18", "s19"),
            four!("r5", "s20", "s21", "s22", "s23"),
            "vldmia r12!, {{s8-s15}}",
            "vcvt.f32.s32 s16, s16",
            "vcvt.f32.s32 s17, s17",
            "vcvt.f32.s32 s18, s18",
            "vcvt.f32.s32 s19, s19",
            "vcvt.f32.s32 s20, s20",
            "vcvt.f32.s32 s21, s21",
            "vcvt.f32.s32 s22, s22",
            "vcvt.f32.s32 s23, s23",
            "vmla.f32 s0, s8, s16",
            "vmla.f32 s1, s9, s17",
            "vmla.f32 s2, s10, s18",
            "vmla.f32 s3, s11, s19",
            "vmla.f32 s4, s12, s20",
            "vmla.f32 s5, s13, s21",
            "vmla.f32 s6, s14, s22",
            "vmla.f32 s7, s15, s23",
            "subs r11, r11, #1",
            "bne.w 2b",
            // ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), times scale plus bias.
            "vadd.f32 s0, s0, s1",
            "vadd.f32 s2, s2, s3",
            "vadd.f32 s4, s4, s5",
            "vadd.f32 s6, s6, s7",
            "vadd.f32 s0, s0, s2",
            "vadd.f32 s4, s4, s6",
            "vadd.f32 s0, s0, s4",
            "vldmia r2!, {{s1}}",
            "vldmia r3!, {{s2}}",
            "vmla.f32 s2, s0, s1",
            "vstmia r9!, {{s2}}",
            "subs r10, r10, #1",
            "bne.w 1b",
            "vpop {{s16-s23}}",
            "pop {{r4-r11, pc}}",
        )
    }
}
