//! What the bf16 engines share: rounding, and the layouts of their operands.

use super::lines::Lines;
use std::arch::x86_64::*;

/// Whether this CPU rounds to bf16 and multiplies it in 512-bit vectors.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// The first `len` of 16 lanes.
fn lanes(len: usize) -> __mmask16 {
    if len < 16 { (1 << len) - 1 } else { !0 }
}

/// Rounds f32 to bf16, nearest even.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn to_bf16(src: &[f32], dst: &mut [u16]) {
    assert_eq!(src.len(), dst.len());
    for (src, dst) in src.chunks(16).zip(dst.chunks_mut(16)) {
        let mask = lanes(src.len());
        // SAFETY: the mask keeps the load and the store inside the slices.
        unsafe {
            let v = _mm512_maskz_loadu_ps(mask, src.as_ptr());
            let h: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
            _mm256_mask_storeu_epi16(dst.as_mut_ptr().cast(), mask, h);
        }
    }
}

/// Where the pixels of a picture lie in a grid, in pixels.
pub struct Place {
    /// The picture's first one.
    pub at: usize,
    /// From one row to the next.
    pub row: usize,
    /// In the whole grid.
    pub pixels: usize,
}

/// The picture x [.., w, c] as bf16 in a grid of `channels` a pixel; everything beside it is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn load(x: &[f32], w: usize, c: usize, channels: usize, place: &Place, buffer: &mut Lines) {
    let grid = buffer.sized::<u16>(place.pixels * channels);
    let mut end = 0;
    for (y, row) in x.chunks_exact(w * c).enumerate() {
        let at = (place.at + y * place.row) * channels;
        grid[end..at].fill(0);
        end = at + w * channels;
        let to = &mut grid[at..end];
        if c == channels {
            to_bf16(row, to);
        } else {
            for (pixel, to) in row.chunks_exact(c).zip(to.chunks_exact_mut(channels)) {
                let (to, padding) = to.split_at_mut(c);
                to_bf16(pixel, to);
                padding.fill(0);
            }
        }
    }
    grid[end..].fill(0);
}

/// Sizes of weights [cout][taps][cin] and of their padded channels.
pub struct Sizes {
    pub taps: usize,
    pub cin: usize,
    pub cout: usize,
    /// Of `cin`, a multiple of 16.
    pub inputs: usize,
    /// Of `cout`, a multiple of 16.
    pub outputs: usize,
}

impl Sizes {
    /// Pairs of packed weights.
    fn pairs(&self) -> usize {
        self.taps * self.inputs * self.outputs / 2
    }
}

/// The first 16 values of both as bf16, zero where there are fewer; those of `low` first.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round(low: &[f32], high: &[f32]) -> __m512i {
    // SAFETY: the masks keep the loads inside the slices.
    unsafe {
        let low = _mm512_maskz_loadu_ps(lanes(low.len()), low.as_ptr());
        let high = _mm512_maskz_loadu_ps(lanes(high.len()), high.as_ptr());
        std::mem::transmute(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Stores `v` at the beginning of `to`.
#[target_feature(enable = "avx512f")]
fn store(v: __m512i, to: &mut [u32]) {
    let to = &mut to[..16];
    // SAFETY: the slice holds 16 values.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
}

/// Weights [cout][taps][cin] to pairs of consecutive inputs [tap][inputs / 2][outputs], padding zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn pack(s: &Sizes, weights: &[f32]) -> Lines {
    let mut packed = Lines::default();
    let out: &mut [u32] = packed.sized(s.pairs());
    for t in 0..s.taps {
        for o in (0..s.outputs).step_by(16) {
            for i in (0..s.inputs).step_by(32) {
                let mut rows = [_mm512_setzero_si512(); 16];
                for (k, row) in rows.iter_mut().enumerate().take(s.cout.saturating_sub(o)) {
                    let tap = &weights[((o + k) * s.taps + t) * s.cin..][..s.cin];
                    *row = round(&tap[i.min(s.cin)..], &tap[(i + 16).min(s.cin)..]);
                }
                for (k, v) in transpose(rows).into_iter().enumerate().take((s.inputs - i) / 2) {
                    store(v, &mut out[((t * s.inputs + i) / 2 + k) * s.outputs + o..]);
                }
            }
        }
    }
    packed
}

/// The weights that carry a gradient of outputs [cout] back to inputs [cin], from the same [cout][taps][cin]: pairs of
/// consecutive outputs [mirrored tap][outputs / 2][inputs], padding zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn pack_transposed(s: &Sizes, weights: &[f32]) -> Lines {
    let mut packed = Lines::default();
    let out: &mut [u32] = packed.sized(s.pairs());
    #[rustfmt::skip]
    let interleave = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
        23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
    );
    for t in 0..s.taps {
        let tap = |o: usize| if o < s.cout { &weights[(o * s.taps + t) * s.cin..][..s.cin] } else { &[] };
        for o in (0..s.outputs).step_by(2) {
            let (low, high) = (tap(o), tap(o + 1));
            let row = ((s.taps - 1 - t) * s.outputs + o) / 2 * s.inputs;
            for i in (0..s.inputs).step_by(16) {
                let v = round(&low[i.min(low.len())..], &high[i.min(high.len())..]);
                store(_mm512_permutexvar_epi16(interleave, v), &mut out[row + i..]);
            }
        }
    }
    packed
}

/// Adds sums [tap][inputs][outputs] to `dw` [cout][taps][cin].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn add_transposed(s: &Sizes, sums: &[f32], dw: &mut [f32]) {
    for t in 0..s.taps {
        for i in (0..s.cin).step_by(16) {
            for o in (0..s.cout).step_by(16) {
                let mut rows = [_mm512_setzero_si512(); 16];
                for (k, row) in rows.iter_mut().enumerate() {
                    let from = &sums[(t * s.inputs + i + k) * s.outputs + o..][..16];
                    // SAFETY: the slice holds 16 values.
                    *row = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
                }
                for (k, v) in transpose(rows).into_iter().enumerate().take(s.cout - o) {
                    let to = &mut dw[((o + k) * s.taps + t) * s.cin..][i..s.cin];
                    let mask = lanes(to.len());
                    // SAFETY: the mask keeps load and store inside the slice.
                    unsafe {
                        let sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to.as_ptr()), _mm512_castsi512_ps(v));
                        _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, sum);
                    }
                }
            }
        }
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
                store(v, &mut planes[((i + k) * rows + p) / 2..]);
            }
        }
    }
}

/// [positions][c] bf16 to [positions / 2][c] pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn to_pairs(grid: &[u16], c: usize, pairs: &mut [u32]) {
    for (rows, out) in grid.chunks_exact(2 * c).zip(pairs.chunks_exact_mut(c)) {
        for (i, to) in out.chunks_exact_mut(16).enumerate() {
            store(pair(&rows[i * 16..], &rows[c + i * 16..]), to);
        }
    }
}
