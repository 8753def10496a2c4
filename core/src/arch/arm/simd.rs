//! The instructions of the DSP extension that the kernels use, each as a function: one instruction on Arm, its
//! definition in plain Rust elsewhere. A "pair" is a register with two i16, the low half first.

/// One instruction `$name rd, rn, rm` on two pairs, or its definition.
macro_rules! two_operands {
    ($(#[$doc:meta])* $name:ident, $text:literal, |$a:ident, $b:ident| $model:expr) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name($a: u32, $b: u32) -> u32 {
            portable_or!(
                {
                    let result: u32;
                    // SAFETY: the instruction reads and writes registers only; every CPU of this build has it.
                    unsafe {
                        core::arch::asm!($text, d = lateout(reg) result, n = in(reg) $a, m = in(reg) $b,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    result
                },
                $model
            )
        }
    };
}

/// One instruction on one register, or its definition.
macro_rules! one_operand {
    ($(#[$doc:meta])* $name:ident, $text:literal, |$a:ident| $model:expr) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name($a: u32) -> u32 {
            portable_or!(
                {
                    let result: u32;
                    // SAFETY: the instruction reads and writes registers only; every CPU of this build has it.
                    unsafe {
                        core::arch::asm!($text, d = lateout(reg) result, n = in(reg) $a,
                            options(pure, nomem, nostack, preserves_flags));
                    }
                    result
                },
                $model
            )
        }
    };
}

one_operand!(
    /// Bytes 0 and 2, sign-extended.
    sxtb16, "sxtb16 {d}, {n}", |x| pair(x as i8 as i32, (x >> 16) as i8 as i32)
);
one_operand!(
    /// Bytes 1 and 3, sign-extended.
    sxtb16_odd, "sxtb16 {d}, {n}, ror #8", |x| pair((x >> 8) as i8 as i32, (x >> 24) as i8 as i32)
);
two_operands!(
    /// Sums of halves; they wrap.
    add16, "sadd16 {d}, {n}, {m}", |a, b| pair(low(a) + low(b), high(a) + high(b))
);
two_operands!(
    /// Differences of halves; they wrap.
    sub16, "ssub16 {d}, {n}, {m}", |a, b| pair(low(a) - low(b), high(a) - high(b))
);
two_operands!(
    /// The low halves of `a` and of `b`.
    lows, "pkhbt {d}, {n}, {m}, lsl #16", |a, b| a & 0xffff | b << 16
);
two_operands!(
    /// The high halves of `a` and of `b`.
    highs, "pkhtb {d}, {m}, {n}, asr #16", |a, b| a >> 16 | b & 0xffff_0000
);

/// `acc` + low * low + high * high, wrapping.
#[inline(always)]
pub fn smlad(a: u32, b: u32, acc: i32) -> i32 {
    portable_or!(
        {
            let result: i32;
            // SAFETY: the instruction reads and writes registers only; every CPU of this build has it.
            unsafe {
                core::arch::asm!("smlad {d}, {n}, {m}, {a}", d = lateout(reg) result, n = in(reg) a, m = in(reg) b,
                    a = in(reg) acc, options(pure, nomem, nostack, preserves_flags));
            }
            result
        },
        acc.wrapping_add(low(a) * low(b)).wrapping_add(high(a) * high(b))
    )
}

/// `acc` + low * low + high * high, in 64 bits.
#[inline(always)]
pub fn smlald(a: u32, b: u32, acc: i64) -> i64 {
    portable_or!(
        {
            let (mut least, mut most) = (acc as u32, (acc >> 32) as u32);
            // SAFETY: the instruction reads and writes registers only; every CPU of this build has it.
            unsafe {
                core::arch::asm!("smlald {l}, {h}, {n}, {m}", l = inout(reg) least, h = inout(reg) most,
                    n = in(reg) a, m = in(reg) b, options(pure, nomem, nostack, preserves_flags));
            }
            i64::from(most as i32) << 32 | i64::from(least)
        },
        acc + i64::from(low(a)) * i64::from(low(b)) + i64::from(high(a)) * i64::from(high(b))
    )
}

/// `x` to the nearest integer, halves to even, saturated to BITS bits, for finite `x`.
#[inline(always)]
pub fn round_saturated<const BITS: u32>(x: f32) -> i32 {
    #[cfg(all(arm_dsp, target_abi = "eabihf"))]
    {
        let rounded: i32;
        // SAFETY: the instructions read and write registers only; the ABI says that there is an FPU. It rounds as
        // FPSCR says, which Rust requires to be to nearest, halves to even. The conversion saturates at i32. (By name,
        // because the compiler offers its FPU registers only where the FPU has doubles too.)
        unsafe {
            core::arch::asm!("vmov s0, {r}", "vcvtr.s32.f32 s0, s0", "vmov {r}, s0", "ssat {r}, #{bits}, {r}",
                r = inlateout(reg) x.to_bits() as i32 => rounded, bits = const BITS, out("s0") _,
                options(pure, nomem, nostack, preserves_flags));
        }
        rounded
    }
    #[cfg(not(all(arm_dsp, target_abi = "eabihf")))]
    {
        let bound = 1 << (BITS - 1);
        crate::math::rne(x).clamp(-bound, bound - 1)
    }
}

/// Two i16, wrapped, as a pair.
pub const fn pair(low: i32, high: i32) -> u32 {
    low as u32 & 0xffff | (high as u32) << 16
}

#[cfg(not(arm_dsp))]
fn low(x: u32) -> i32 {
    x as i16 as i32
}

#[cfg(not(arm_dsp))]
fn high(x: u32) -> i32 {
    x as i32 >> 16
}
