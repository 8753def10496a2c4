//! AVX-512 with VNNI: vectors of 16 lanes, four byte products to a lane.

use core::arch::x86_64::*;

use super::detect::{Isa, has};
use super::embed::dot8_rows;
use crate::arch::generic::entry::{apart, backend};
use crate::arch::generic::tile::{Panel as TilePanel, Sums, Taps};
use crate::arch::generic::{Bytes, Products, Rows, Simd, Words};

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(());

impl Avx512Vnni {
    /// # Safety
    ///
    /// The CPU has AVX-512 F, BW, DQ, VL and VNNI, and the operating system keeps their registers.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// Mask of the first `n` of 16.
#[inline(always)]
fn first16(n: usize) -> u16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// Mask of the first `n` of 64.
#[inline(always)]
fn first64(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

apart!("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", tile_apart, pack_apart, Avx512Vnni);

// SAFETY of every block here: the token proves the instructions; loads and stores touch only elements of the slice,
// others are masked. Whole vectors go without a mask: masked stores of bytes and words are slow on Zen 4 and 5.
impl Simd for Avx512Vnni {
    type I = __m512i;
    type F = __m512;
    type Square = [__m512i; 16];

    type Bytes = Bytes;
    type Words = Words;

    const LANES: usize = 16;
    const TILE: usize = 14;
    const BYTES: bool = true;

    #[inline(always)]
    fn tile<P: Products<Self>, const NV: usize>(
        self,
        cells: usize,
        taps: &Taps<'_>,
        panel: TilePanel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        // SAFETY: see above.
        unsafe { tile_apart::<P, NV>(self, cells, taps, panel, start, sums) }
    }

    #[inline(always)]
    fn pack<P: Products<Self>, const NV: usize>(self, rows: Rows<'_>, panel: &mut [i32]) {
        // SAFETY: see above.
        unsafe { pack_apart::<P, NV>(self, rows, panel) }
    }

    #[inline(always)]
    fn splat(self, x: i32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> __m512i {
        let from = &from[..16];
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, x: __m512i, to: &mut [i32]) {
        let to = &mut to[..16];
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_add_epi16(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_mullo_epi32(a, b) }
    }

    #[inline(always)]
    fn sub_words(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_slli_epi32::<N>(x) }
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_srli_epi32::<N>(x) }
    }

    #[inline(always)]
    fn shift_right_signed(self, x: __m512i, n: u32) -> __m512i {
        // SAFETY: as in `shift_left`.
        unsafe { _mm512_sra_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }

    #[inline(always)]
    fn dot_bytes(self, sum: __m512i, u: __m512i, w: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sum, u, w) }
    }

    #[inline(always)]
    fn dot_words(self, sum: __m512i, q: __m512i, w: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpwssd_epi32(sum, q, w) }
    }

    #[inline(always)]
    fn squares(self, q: __m512i) -> __m512i {
        // The upper word of one factor is zero.
        self.dot_words(self.splat(0), q, self.and(q, self.splat(0xffff)))
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 16 {
                _mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))
            } else {
                _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first16(from.len()), from.as_ptr()))
            }
        }
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 16 {
                _mm512_cvtepi16_epi32(_mm256_loadu_si256(from.as_ptr().cast()))
            } else {
                _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(first16(from.len()), from.as_ptr()))
            }
        }
    }

    #[inline(always)]
    fn narrow_i8(self, x: __m512i, to: &mut [i8]) {
        // SAFETY: see above.
        unsafe {
            if to.len() >= 16 {
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(x))
            } else {
                _mm_mask_storeu_epi8(to.as_mut_ptr(), first16(to.len()), _mm512_cvtsepi32_epi8(x))
            }
        }
    }

    #[inline(always)]
    fn narrow_i16(self, x: __m512i, to: &mut [i16]) {
        // SAFETY: see above.
        unsafe {
            if to.len() >= 16 {
                _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi16(x))
            } else {
                _mm256_mask_storeu_epi16(to.as_mut_ptr(), first16(to.len()), _mm512_cvtsepi32_epi16(x))
            }
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 64 {
                _mm512_loadu_si512(from.as_ptr().cast())
            } else {
                _mm512_maskz_loadu_epi8(first64(from.len()), from.as_ptr())
            }
        }
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 32 {
                _mm512_loadu_si512(from.as_ptr().cast())
            } else {
                _mm512_maskz_loadu_epi16(first64(from.len()) as u32, from.as_ptr())
            }
        }
    }

    #[inline(always)]
    fn load_words(self, from: &[i8]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 32 {
                _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.as_ptr().cast()))
            } else {
                _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(first64(from.len()) as u32, from.as_ptr()))
            }
        }
    }

    #[inline(always)]
    fn square(self) -> [__m512i; 16] {
        [self.splat(0); 16]
    }

    #[inline(always)]
    fn transpose(self, x: &mut [__m512i; 16]) {
        // SAFETY: see above.
        unsafe {
            // 4x4 squares inside each quarter of four rows, then quarters.
            let mut y = *x;
            for i in 0..4 {
                let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
                let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                y[4 * i] = _mm512_unpacklo_epi64(ab0, cd0);
                y[4 * i + 1] = _mm512_unpackhi_epi64(ab0, cd0);
                y[4 * i + 2] = _mm512_unpacklo_epi64(ab1, cd1);
                y[4 * i + 3] = _mm512_unpackhi_epi64(ab1, cd1);
            }
            for j in 0..4 {
                let [a, b, c, d] = [y[j], y[4 + j], y[8 + j], y[12 + j]];
                let (ab0, ab1) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
                let (cd0, cd1) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
                x[j] = _mm512_shuffle_i32x4::<0x88>(ab0, cd0);
                x[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab0, cd0);
                x[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab1, cd1);
                x[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab1, cd1);
            }
        }
    }

    #[inline(always)]
    fn splat_f(self, x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load_f(self, from: &[f32]) -> __m512 {
        // SAFETY: see above.
        unsafe {
            if from.len() >= 16 {
                _mm512_loadu_ps(from.as_ptr())
            } else {
                _mm512_maskz_loadu_ps(first16(from.len()), from.as_ptr())
            }
        }
    }

    #[inline(always)]
    fn store_f(self, x: __m512, to: &mut [f32]) {
        // SAFETY: see above.
        unsafe {
            if to.len() >= 16 {
                _mm512_storeu_ps(to.as_mut_ptr(), x)
            } else {
                _mm512_mask_storeu_ps(to.as_mut_ptr(), first16(to.len()), x)
            }
        }
    }

    #[inline(always)]
    fn add_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min_f(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn negate_f(self, x: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_xor_ps(x, _mm512_set1_ps(-0.0)) }
    }

    #[inline(always)]
    fn to_f(self, x: __m512i) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_cvtps_epi32(x) }
    }

    #[inline(always)]
    fn round_narrow(self, x: __m512) -> __m512i {
        // The bound comes first, so that NaN passes; the conversion makes i32::MIN of it, and of what is too low.
        self.round(self.min_f(self.splat_f(2_097_152.0), x))
    }

    #[inline(always)]
    fn as_f(self, x: __m512i) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(x) }
    }

    #[inline(always)]
    fn dot8_rows(self, x: &[f32], rows: &[i8]) -> [f32; 4] {
        // SAFETY: see above; the token proves AVX2.
        unsafe { dot8_rows(x, rows) }
    }
}

backend!("avx512-vnni", "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", Avx512Vnni, has(Isa::Avx512Vnni));
