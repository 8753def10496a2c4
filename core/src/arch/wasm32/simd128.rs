//! simd128: vectors of 4 lanes, two int16 products to a lane.

use core::arch::wasm32::*;

use crate::arch::generic::entry::backend;
use crate::arch::generic::{Simd, Words, embed::dot8_rows, padded, put};

/// The instructions are there: the module is compiled for them.
#[derive(Clone, Copy)]
pub(super) struct Simd128(());

impl Simd128 {
    /// # Safety
    ///
    /// None: as the backends of other architectures have it.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY of every block here: loads and stores are of arrays of a vector's size.
impl Simd for Simd128 {
    type Bytes = Words;
    type Words = Words;
    type I = v128;
    type F = v128;
    type Square = [v128; 4];

    const LANES: usize = 4;
    const TILE: usize = 4;
    const BYTES: bool = false;
    const WINOGRAD: bool = true;

    #[inline(always)]
    fn splat(self, x: i32) -> v128 {
        i32x4_splat(x)
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> v128 {
        let from = &from[..4];
        // SAFETY: see above.
        unsafe { v128_load(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, x: v128, to: &mut [i32]) {
        let to = &mut to[..4];
        // SAFETY: see above.
        unsafe { v128_store(to.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        i32x4_add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        i32x4_sub(a, b)
    }

    #[inline(always)]
    fn and(self, a: v128, b: v128) -> v128 {
        v128_and(a, b)
    }

    #[inline(always)]
    fn xor(self, a: v128, b: v128) -> v128 {
        v128_xor(a, b)
    }

    #[inline(always)]
    fn add_words(self, a: v128, b: v128) -> v128 {
        i16x8_add(a, b)
    }

    #[inline(always)]
    fn mul(self, a: v128, b: v128) -> v128 {
        i32x4_mul(a, b)
    }

    #[inline(always)]
    fn sub_words(self, a: v128, b: v128) -> v128 {
        i16x8_sub(a, b)
    }

    #[inline(always)]
    fn shift_left<const N: u32>(self, x: v128) -> v128 {
        i32x4_shl(x, N)
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self, x: v128) -> v128 {
        u32x4_shr(x, N)
    }

    #[inline(always)]
    fn shift_right_signed(self, x: v128, n: u32) -> v128 {
        i32x4_shr(x, n)
    }

    #[inline(always)]
    fn dot_words(self, sum: v128, q: v128, w: v128) -> v128 {
        i32x4_add(sum, i32x4_dot_i16x8(q, w))
    }

    #[inline(always)]
    fn squares(self, q: v128) -> v128 {
        i32x4_mul(q, q)
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8]) -> v128 {
        let from: [i8; 4] = padded(from);
        // SAFETY: see above.
        let bytes = unsafe { v128_load32_zero(from.as_ptr().cast()) };
        i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(bytes))
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> v128 {
        let from: [i16; 4] = padded(from);
        // SAFETY: see above.
        unsafe { i32x4_load_extend_i16x4(from.as_ptr()) }
    }

    #[inline(always)]
    fn narrow_i8(self, x: v128, to: &mut [i8]) {
        let words = i16x8_narrow_i32x4(x, x);
        let bytes = i32x4_extract_lane::<0>(i8x16_narrow_i16x8(words, words));
        put(bytemuck::cast::<i32, [i8; 4]>(bytes), to);
    }

    #[inline(always)]
    fn narrow_i16(self, x: v128, to: &mut [i16]) {
        let mut out = [0i16; 4];
        // SAFETY: see above.
        unsafe { v128_store64_lane::<0>(i16x8_narrow_i32x4(x, x), out.as_mut_ptr().cast()) }
        put(out, to);
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8]) -> v128 {
        let from: [i8; 16] = padded(from);
        // SAFETY: see above.
        unsafe { v128_load(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16]) -> v128 {
        let from: [i16; 8] = padded(from);
        // SAFETY: see above.
        unsafe { v128_load(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_words(self, from: &[i8]) -> v128 {
        let from: [i8; 8] = padded(from);
        // SAFETY: see above.
        unsafe { i16x8_load_extend_i8x8(from.as_ptr()) }
    }

    #[inline(always)]
    fn square(self) -> [v128; 4] {
        [self.splat(0); 4]
    }

    #[inline(always)]
    fn transpose(self, x: &mut [v128; 4]) {
        let [a, b, c, d] = *x;
        let (ab0, ab1) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let (cd0, cd1) = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        x[0] = i64x2_shuffle::<0, 2>(ab0, cd0);
        x[1] = i64x2_shuffle::<1, 3>(ab0, cd0);
        x[2] = i64x2_shuffle::<0, 2>(ab1, cd1);
        x[3] = i64x2_shuffle::<1, 3>(ab1, cd1);
    }

    #[inline(always)]
    fn splat_f(self, x: f32) -> v128 {
        f32x4_splat(x)
    }

    #[inline(always)]
    fn load_f(self, from: &[f32]) -> v128 {
        let from: [f32; 4] = padded(from);
        // SAFETY: see above.
        unsafe { v128_load(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_f(self, x: v128, to: &mut [f32]) {
        let mut out = [0f32; 4];
        // SAFETY: see above.
        unsafe { v128_store(out.as_mut_ptr().cast(), x) }
        put(out, to);
    }

    #[inline(always)]
    fn add_f(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }

    #[inline(always)]
    fn sub_f(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }

    #[inline(always)]
    fn mul_f(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }

    #[inline(always)]
    fn div_f(self, a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }

    #[inline(always)]
    fn max_f(self, a: v128, b: v128) -> v128 {
        // pmax(b, a) is b < a ? a : b.
        f32x4_pmax(b, a)
    }

    #[inline(always)]
    fn min_f(self, a: v128, b: v128) -> v128 {
        // pmin(b, a) is a < b ? a : b.
        f32x4_pmin(b, a)
    }

    #[inline(always)]
    fn negate_f(self, x: v128) -> v128 {
        f32x4_neg(x)
    }

    #[inline(always)]
    fn to_f(self, x: v128) -> v128 {
        f32x4_convert_i32x4(x)
    }

    #[inline(always)]
    fn round(self, x: v128) -> v128 {
        // Within +-2^22 the sum leaves no fraction, and so rounds; its lowest bits are the integer.
        let rounding = 12_582_912.0f32;
        i32x4_sub(f32x4_add(x, f32x4_splat(rounding)), i32x4_splat(rounding.to_bits() as i32))
    }

    #[inline(always)]
    fn round_narrow(self, x: v128) -> v128 {
        let x = self.max_f(x, f32x4_splat(-2_097_152.0));
        self.round(self.min_f(x, f32x4_splat(2_097_152.0)))
    }

    #[inline(always)]
    fn as_f(self, x: v128) -> v128 {
        x
    }

    #[inline(always)]
    fn dot8_rows(self, x: &[f32], rows: &[i8]) -> [f32; 4] {
        dot8_rows(self, x, rows)
    }
}

backend!("simd128", "simd128", Simd128, true);
#[cfg(test)]
crate::arch::generic::entry::methods!("simd128");
