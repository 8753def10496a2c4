//! NEON: vectors of 4 lanes.

use core::arch::aarch64::*;
use core::marker::PhantomData;

use super::words::{self, ByLane};
use crate::arch::generic::winograd::products as winograd;
use crate::arch::generic::{Products, Simd, embed::dot8_rows, padded, put};

/// Proof that the CPU has NEON, and the instructions of the products `P` of int8 inputs.
#[derive(Clone, Copy)]
pub(super) struct Neon<P>(PhantomData<P>);

impl<P> Neon<P> {
    /// # Safety
    ///
    /// The CPU has the instructions of `P`.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// Products of int8 inputs by the instructions of a kind of CPU.
pub(super) trait Kind: Copy + Products<Neon<Self>> {
    /// See [`Simd::ANY_WEIGHT`].
    const ANY_WEIGHT: bool;
    /// See [`Simd::WINOGRAD`].
    const WINOGRAD: bool = false;
}

// SAFETY of every block here: every target of this module has NEON, and loads and stores are of arrays of a vector's
// size.
impl<P: Kind> Simd for Neon<P> {
    type Bytes = P;
    type Words = ByLane;
    type I = int32x4_t;
    type F = float32x4_t;
    type Square = [int32x4_t; 4];

    const LANES: usize = 4;
    const TILE: usize = 8;
    const BYTES: bool = true;
    const ANY_WEIGHT: bool = P::ANY_WEIGHT;
    const WINOGRAD: bool = P::WINOGRAD;

    #[inline(always)]
    fn splat(self, x: i32) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_s32(x) }
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> int32x4_t {
        let from = &from[..4];
        // SAFETY: see above.
        unsafe { vld1q_s32(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: int32x4_t, to: &mut [i32]) {
        let to = &mut to[..4];
        // SAFETY: see above.
        unsafe { vst1q_s32(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_s32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_s32(a, b) }
    }

    #[inline(always)]
    fn and(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vandq_s32(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { veorq_s32(a, b) }
    }

    #[inline(always)]
    fn add_words(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))) }
    }

    #[inline(always)]
    fn mul(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_s32(a, b) }
    }

    #[inline(always)]
    fn sub_words(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_s32_s16(vsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))) }
    }

    #[inline(always)]
    fn shift_left<const N: u32>(self, x: int32x4_t) -> int32x4_t {
        // SAFETY: see above. The count is a constant in the end, and the compiler knows.
        unsafe { vshlq_s32(x, vdupq_n_s32(N as i32)) }
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self, x: int32x4_t) -> int32x4_t {
        // SAFETY: as in `shift_left`; a negative count shifts right.
        unsafe { vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x), vdupq_n_s32(-(N as i32)))) }
    }

    #[inline(always)]
    fn shift_right_signed(self, x: int32x4_t, n: u32) -> int32x4_t {
        // SAFETY: as in `shift_right`.
        unsafe { vshlq_s32(x, vdupq_n_s32(-(n as i32))) }
    }

    #[inline(always)]
    fn dot_words(self, sum: int32x4_t, q: int32x4_t, w: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { words::dot::<0, 1>(sum, vreinterpretq_s16_s32(q), w) }
    }

    #[inline(always)]
    fn pairs(self, w: int32x4_t) -> int32x4_t {
        words::by_input(w)
    }

    #[inline(always)]
    fn round_of_products<const NV: usize, const IN: usize, const M: usize>(
        self,
        round: winograd::Round<'_>,
        acc: &mut [[int32x4_t; NV]; M],
    ) {
        words::round::<P, NV, IN, M>(self, round, acc);
    }

    #[inline(always)]
    fn squares(self, q: int32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_s32(q, q) }
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8]) -> int32x4_t {
        let from: [i8; 4] = padded(from);
        // SAFETY: see above.
        unsafe { vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytemuck::cast::<_, u32>(from).into())))) }
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> int32x4_t {
        let from: [i16; 4] = padded(from);
        // SAFETY: see above.
        unsafe { vmovl_s16(vld1_s16(from.as_ptr())) }
    }

    #[inline(always)]
    fn narrow_i8(self, x: int32x4_t, to: &mut [i8]) {
        // SAFETY: see above.
        let bytes = unsafe {
            let words = vqmovn_s32(x);
            vget_lane_s32::<0>(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words))))
        };
        put(bytemuck::cast::<i32, [i8; 4]>(bytes), to);
    }

    #[inline(always)]
    fn narrow_i16(self, x: int32x4_t, to: &mut [i16]) {
        let mut out = [0i16; 4];
        // SAFETY: see above.
        unsafe { vst1_s16(out.as_mut_ptr(), vqmovn_s32(x)) }
        put(out, to);
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8]) -> int32x4_t {
        let from: [i8; 16] = padded(from);
        // SAFETY: see above.
        unsafe { vreinterpretq_s32_s8(vld1q_s8(from.as_ptr())) }
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16]) -> int32x4_t {
        let from: [i16; 8] = padded(from);
        // SAFETY: see above.
        unsafe { vreinterpretq_s32_s16(vld1q_s16(from.as_ptr())) }
    }

    #[inline(always)]
    fn load_words(self, from: &[i8]) -> int32x4_t {
        let from: [i8; 8] = padded(from);
        // SAFETY: see above.
        unsafe { vreinterpretq_s32_s16(vmovl_s8(vld1_s8(from.as_ptr()))) }
    }

    #[inline(always)]
    fn square(self) -> [int32x4_t; 4] {
        [self.splat(0); 4]
    }

    #[inline(always)]
    fn transpose(self, x: &mut [int32x4_t; 4]) {
        let [a, b, c, d] = *x;
        // SAFETY: see above.
        unsafe {
            let (ab0, ab1) = (vreinterpretq_s64_s32(vzip1q_s32(a, b)), vreinterpretq_s64_s32(vzip2q_s32(a, b)));
            let (cd0, cd1) = (vreinterpretq_s64_s32(vzip1q_s32(c, d)), vreinterpretq_s64_s32(vzip2q_s32(c, d)));
            x[0] = vreinterpretq_s32_s64(vzip1q_s64(ab0, cd0));
            x[1] = vreinterpretq_s32_s64(vzip2q_s64(ab0, cd0));
            x[2] = vreinterpretq_s32_s64(vzip1q_s64(ab1, cd1));
            x[3] = vreinterpretq_s32_s64(vzip2q_s64(ab1, cd1));
        }
    }

    #[inline(always)]
    fn splat_f(self, x: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn load_f(self, from: &[f32]) -> float32x4_t {
        let from: [f32; 4] = padded(from);
        // SAFETY: see above.
        unsafe { vld1q_f32(from.as_ptr()) }
    }

    #[inline(always)]
    fn store_f(self, x: float32x4_t, to: &mut [f32]) {
        let mut out = [0f32; 4];
        // SAFETY: see above.
        unsafe { vst1q_f32(out.as_mut_ptr(), x) }
        put(out, to);
    }

    #[inline(always)]
    fn add_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn max_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min_f(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn at_least(self, x: float32x4_t, bound: f32) -> float32x4_t {
        // The number where the other is none.
        // SAFETY: see above.
        unsafe { vmaxnmq_f32(x, vdupq_n_f32(bound)) }
    }

    #[inline(always)]
    fn at_most(self, x: float32x4_t, bound: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vminnmq_f32(x, vdupq_n_f32(bound)) }
    }

    #[inline(always)]
    fn negate_f(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vnegq_f32(x) }
    }

    #[inline(always)]
    fn to_f(self, x: int32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vcvtq_f32_s32(x) }
    }

    #[inline(always)]
    fn round(self, x: float32x4_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe { vcvtnq_s32_f32(x) }
    }

    #[inline(always)]
    fn round_narrow(self, x: float32x4_t) -> int32x4_t {
        // The conversion saturates, but makes 0 of NaN; the maximum is the number where one is none.
        // SAFETY: see above.
        unsafe { vcvtnq_s32_f32(vmaxnmq_f32(x, vdupq_n_f32(-2_097_152.0))) }
    }

    #[inline(always)]
    fn as_f(self, x: int32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_s32(x) }
    }

    #[inline(always)]
    fn dot8_rows(self, x: &[f32], rows: &[i8]) -> [f32; 4] {
        dot8_rows(self, x, rows)
    }
}
