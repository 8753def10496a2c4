//! The dense layers of the embedding. Their eight running sums are the lanes of a vector of AVX2, which all backends of
//! x86-64 have.

use core::arch::x86_64::*;

/// [`Simd::dot8_rows`](crate::arch::generic::Simd::dot8_rows).
///
/// # Safety
///
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn dot8_rows<'a>(x: &[f32], rows: &'a [i8]) -> [f32; 4] {
    // SAFETY: as the caller says; the slices are checked.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); 4];
        let ((ab, cd), e) = (rows[..4 * x.len()].split_at(2 * x.len()), x.len());
        let ((a, b), (c, d)) = (ab.split_at(e), cd.split_at(e));
        let two = |x: &'a [i8], y: &'a [i8]| x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0);
        for (from, ((a, b), (c, d))) in x.as_chunks::<8>().0.iter().zip(two(a, b).zip(two(c, d))) {
            let from = _mm256_loadu_ps(from.as_ptr());
            for (sum, w) in sums.iter_mut().zip([a, b, c, d]) {
                let w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(w.as_ptr().cast())));
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(from, w));
            }
        }
        // (0+1) (2+3) of two outputs, then (0+1)+(2+3) of four; the upper halves hold 4 to 7.
        let [a, b, c, d] = sums;
        let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let mut dots = [0f32; 4];
        let total = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
        _mm_storeu_ps(dots.as_mut_ptr(), total);
        dots
    }
}
