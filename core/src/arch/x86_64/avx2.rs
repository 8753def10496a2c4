//! AVX2: vectors of 8 lanes, two int16 products to a lane. `vpmaddubsw` would take bytes, but saturates.

use core::arch::x86_64::*;

use super::detect::{Isa, has};
use super::embed::dot8_rows;
use crate::arch::generic::entry::{apart, backend};
use crate::arch::generic::tile::{Panel as TilePanel, Sums, Taps};
use crate::arch::generic::winograd::products as winograd;
use crate::arch::generic::{Bytes, Products, Rows, Simd, Words, padded, put};

/// Proof that the CPU has AVX2; and AVX-VNNI, if `VNNI`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    ///
    /// The CPU has AVX2, and AVX-VNNI if `VNNI`, and the operating system keeps the registers.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// Mask of the first `n` lanes, at most 8.
///
/// # Safety
///
/// The CPU has AVX2.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &MASKS[8 - n..][..8];
    // SAFETY: as the caller says; the slice has 8 elements.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

apart!("avx2", tile_apart, pack_apart, Avx2<VNNI>, const VNNI: bool);
apart!("avx2,avxvnni", tile_apart_vnni, pack_apart_vnni, Avx2<VNNI>, const VNNI: bool);

/// [`winograd::sums`] as a function.
///
/// # Safety
///
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline(never)]
unsafe fn products_apart<const VNNI: bool, const NV: usize, const IN: usize>(
    s: Avx2<VNNI>,
    p: winograd::Products<'_>,
    sums: &mut winograd::Sums,
) {
    winograd::sums::<Avx2<VNNI>, NV, IN>(s, p, sums);
}

// SAFETY of every block here: the token proves the instructions, and loads and stores are of arrays of a vector's size.
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type I = __m256i;
    type F = __m256;
    type Square = [__m256i; 8];

    type Bytes = Bytes;
    type Words = Words;

    const LANES: usize = 8;
    const TILE: usize = 6;
    const BYTES: bool = VNNI;
    const WINOGRAD: bool = !VNNI;

    #[inline(always)]
    fn prefetch(self, from: &[i8]) {
        for line in from.chunks(64) {
            // SAFETY: see above; nothing is read that the program sees.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) }
        }
    }

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
        unsafe {
            if VNNI {
                tile_apart_vnni::<VNNI, P, NV>(self, cells, taps, panel, start, sums);
            } else {
                tile_apart::<VNNI, P, NV>(self, cells, taps, panel, start, sums);
            }
        }
    }

    #[inline(always)]
    fn pack<P: Products<Self>, const NV: usize>(self, rows: Rows<'_>, panel: &mut [i32]) {
        // SAFETY: see above.
        unsafe {
            if VNNI {
                pack_apart_vnni::<VNNI, P, NV>(self, rows, panel);
            } else {
                pack_apart::<VNNI, P, NV>(self, rows, panel);
            }
        }
    }

    #[inline(always)]
    fn products<const NV: usize, const IN: usize>(self, p: winograd::Products<'_>, sums: &mut winograd::Sums) {
        // SAFETY: see above.
        unsafe { products_apart::<VNNI, NV, IN>(self, p, sums) }
    }

    #[inline(always)]
    fn splat(self, x: i32) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    fn load(self, from: &[i32]) -> __m256i {
        let from = &from[..8];
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, x: __m256i, to: &mut [i32]) {
        let to = &mut to[..8];
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_add_epi16(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_mullo_epi32(a, b) }
    }

    #[inline(always)]
    fn sub_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m256i) -> __m256i {
        // SAFETY: see above. The count is a constant in the end, and the compiler knows.
        unsafe { _mm256_sll_epi32(x, _mm_cvtsi32_si128(N as i32)) }
    }

    #[inline(always)]
    fn shift_right<const N: u32>(self, x: __m256i) -> __m256i {
        // SAFETY: as in `shift_left`.
        unsafe { _mm256_srl_epi32(x, _mm_cvtsi32_si128(N as i32)) }
    }

    #[inline(always)]
    fn shift_right_signed(self, x: __m256i, n: u32) -> __m256i {
        // SAFETY: as in `shift_left`.
        unsafe { _mm256_sra_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }

    #[inline(always)]
    fn dot_bytes(self, sum: __m256i, u: __m256i, w: __m256i) -> __m256i {
        assert!(VNNI, "bytes need VNNI");
        // SAFETY: see above; the token has VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sum, u, w) }
    }

    #[inline(always)]
    fn dot_words(self, sum: __m256i, q: __m256i, w: __m256i) -> __m256i {
        if VNNI {
            // SAFETY: see above; the token has VNNI.
            unsafe { _mm256_dpwssd_avx_epi32(sum, q, w) }
        } else {
            // SAFETY: see above.
            unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(q, w)) }
        }
    }

    #[inline(always)]
    fn squares(self, q: __m256i) -> __m256i {
        // The upper word of one factor is zero.
        self.dot_words(self.splat(0), q, self.and(q, self.splat(0xffff)))
    }

    #[inline(always)]
    fn pair_sums(self, q: __m256i) -> (__m256i, __m256i) {
        let zero = self.splat(0);
        (self.dot_words(zero, q, self.splat(0x0001_0001)), self.dot_words(zero, q, q))
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8]) -> __m256i {
        let from: [i8; 8] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn widen_i16(self, from: &[i16]) -> __m256i {
        let from: [i16; 8] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn narrow_i8(self, x: __m256i, to: &mut [i8]) {
        let mut out = [0i8; 8];
        // SAFETY: see above.
        unsafe {
            let words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storel_epi64(out.as_mut_ptr().cast(), _mm_packs_epi16(words, words));
        }
        put(out, to);
    }

    #[inline(always)]
    fn narrow_all_i8<const N: usize>(self, x: [__m256i; N], to: &mut [i8]) {
        let (fours, rest) = x.as_chunks::<4>();
        let (whole, tail) = to[..8 * N].split_at_mut(32 * fours.len());
        for (&[a, b, c, d], to) in fours.iter().zip(whole.as_chunks_mut::<32>().0) {
            // SAFETY: see above.
            unsafe {
                // Packing goes by halves: four lanes of each vector, then the other four.
                let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes);
            }
        }
        for (&x, to) in rest.iter().zip(tail.as_chunks_mut::<8>().0) {
            self.narrow_i8(x, to);
        }
    }

    #[inline(always)]
    fn narrow_i16(self, x: __m256i, to: &mut [i16]) {
        let mut out = [0i16; 8];
        // SAFETY: see above.
        unsafe {
            let words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storeu_si128(out.as_mut_ptr().cast(), words);
        }
        put(out, to);
    }

    #[inline(always)]
    fn narrow_all_i16<const N: usize>(self, x: [__m256i; N], to: &mut [i16]) {
        let (pairs, rest) = x.as_chunks::<2>();
        let (whole, tail) = to[..8 * N].split_at_mut(16 * pairs.len());
        for (&[a, b], to) in pairs.iter().zip(whole.as_chunks_mut::<16>().0) {
            // SAFETY: see above.
            unsafe {
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), words);
            }
        }
        for (&x, to) in rest.iter().zip(tail.as_chunks_mut::<8>().0) {
            self.narrow_i16(x, to);
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8]) -> __m256i {
        if from.len() < 32 && from.len().is_multiple_of(4) {
            // SAFETY: see above; the lanes of the mask are within the slice.
            return unsafe { _mm256_maskload_epi32(from.as_ptr().cast(), first(from.len() / 4)) };
        }
        let from: [i8; 32] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_pairs(self, from: &[i16]) -> __m256i {
        if from.len() < 16 && from.len().is_multiple_of(2) {
            // SAFETY: see above; the lanes of the mask are within the slice.
            return unsafe { _mm256_maskload_epi32(from.as_ptr().cast(), first(from.len() / 2)) };
        }
        let from: [i16; 16] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_words(self, from: &[i8]) -> __m256i {
        let from: [i8; 16] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn square(self) -> [__m256i; 8] {
        [self.splat(0); 8]
    }

    #[inline(always)]
    fn transpose(self, x: &mut [__m256i; 8]) {
        // SAFETY: see above.
        unsafe {
            // 4x4 squares inside each half of four rows, then halves.
            let mut y = *x;
            for i in 0..2 {
                let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
                let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                y[4 * i] = _mm256_unpacklo_epi64(ab0, cd0);
                y[4 * i + 1] = _mm256_unpackhi_epi64(ab0, cd0);
                y[4 * i + 2] = _mm256_unpacklo_epi64(ab1, cd1);
                y[4 * i + 3] = _mm256_unpackhi_epi64(ab1, cd1);
            }
            for j in 0..4 {
                x[j] = _mm256_permute2x128_si256::<0x20>(y[j], y[4 + j]);
                x[4 + j] = _mm256_permute2x128_si256::<0x31>(y[j], y[4 + j]);
            }
        }
    }

    #[inline(always)]
    fn splat_f(self, x: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load_f(self, from: &[f32]) -> __m256 {
        let from: [f32; 8] = padded(from);
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store_f(self, x: __m256, to: &mut [f32]) {
        let mut out = [0f32; 8];
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) };
        put(out, to);
    }

    #[inline(always)]
    fn add_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn max_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min_f(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn negate_f(self, x: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_xor_ps(x, _mm256_set1_ps(-0.0)) }
    }

    #[inline(always)]
    fn to_f(self, x: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_cvtps_epi32(x) }
    }

    #[inline(always)]
    fn round_narrow(self, x: __m256) -> __m256i {
        // The bound comes first, so that NaN passes; the conversion makes i32::MIN of it, and of what is too low.
        self.round(self.min_f(self.splat_f(2_097_152.0), x))
    }

    #[inline(always)]
    fn as_f(self, x: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_castsi256_ps(x) }
    }

    #[inline(always)]
    fn dot8_rows(self, x: &[f32], rows: &[i8]) -> [f32; 4] {
        // SAFETY: see above; the token proves AVX2.
        unsafe { dot8_rows(x, rows) }
    }
}

backend!("avx2", "avx2", Avx2<false>, has(Isa::Avx2));
#[cfg(test)]
crate::arch::generic::entry::methods!("avx2");
