//! What the bf16 engines share: rounding, and the layouts of their operands.

use std::arch::x86_64::*;

/// Whether this CPU rounds to bf16 and multiplies it in 512-bit vectors.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// Rounds f32 to bf16, nearest even.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn to_bf16(src: &[f32], dst: &mut [u16]) {
    assert_eq!(src.len(), dst.len());
    let mut i = 0;
    while i < src.len() {
        let left = (src.len() - i).min(16);
        let mask = (0xffff_u32 >> (16 - left)) as u16;
        // SAFETY: the mask keeps the load and the store inside the slices.
        unsafe {
            let v = _mm512_maskz_loadu_ps(mask, src.as_ptr().add(i));
            let h: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
            _mm256_mask_storeu_epi16(dst.as_mut_ptr().add(i).cast(), mask, h);
        }
        i += 16;
    }
}

/// Two rows of 16 bf16 as 16 pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pair(low: &[u16], high: &[u16]) -> __m512i {
    let (low, high) = (&low[..16], &high[..16]);
    // SAFETY: both slices hold 16 values.
    unsafe {
        let l = _mm512_cvtepu16_epi32(_mm256_loadu_si256(low.as_ptr().cast()));
        let h = _mm512_cvtepu16_epi32(_mm256_loadu_si256(high.as_ptr().cast()));
        _mm512_or_si512(l, _mm512_slli_epi32::<16>(h))
    }
}

/// Transposes 16 x 16 32-bit values.
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in (0..16).step_by(4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // u[4*i + k] holds, in 128-bit lane L, column 4*L + k of rows 4*i .. 4*i + 3.
    let mut out = u;
    for k in 0..4 {
        let a = _mm512_shuffle_i32x4::<0x88>(u[k], u[4 + k]);
        let b = _mm512_shuffle_i32x4::<0x88>(u[8 + k], u[12 + k]);
        let c = _mm512_shuffle_i32x4::<0xdd>(u[k], u[4 + k]);
        let d = _mm512_shuffle_i32x4::<0xdd>(u[8 + k], u[12 + k]);
        out[k] = _mm512_shuffle_i32x4::<0x88>(a, b);
        out[4 + k] = _mm512_shuffle_i32x4::<0x88>(c, d);
        out[8 + k] = _mm512_shuffle_i32x4::<0xdd>(a, b);
        out[12 + k] = _mm512_shuffle_i32x4::<0xdd>(c, d);
    }
    out
}

/// [rows][c] bf16 to [c][rows]; both multiples of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn to_planes(grid: &[u16], rows: usize, c: usize, planes: &mut [u32]) {
    for p in (0..rows).step_by(32) {
        for i in (0..c).step_by(16) {
            let mut pairs = [_mm512_setzero_si512(); 16];
            for (j, v) in pairs.iter_mut().enumerate() {
                let at = (p + 2 * j) * c + i;
                *v = pair(&grid[at..], &grid[at + c..]);
            }
            for (k, v) in transpose(pairs).into_iter().enumerate() {
                let to = &mut planes[((i + k) * rows + p) / 2..][..16];
                // SAFETY: `to` holds 16 values.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
            }
        }
    }
}

/// [positions][c] bf16 to [positions / 2][c] pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn to_pairs(grid: &[u16], c: usize, pairs: &mut [u32]) {
    for (rows, out) in grid.chunks_exact(2 * c).zip(pairs.chunks_exact_mut(c)) {
        for (i, to) in out.chunks_exact_mut(16).enumerate() {
            let v = pair(&rows[i * 16..], &rows[c + i * 16..]);
            // SAFETY: `to` holds 16 values.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
        }
    }
}
