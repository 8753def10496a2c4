//! f32 convolution with AVX2 or AVX-512 and fused multiply-add, without im2col and without transposing.
//!
//! * forward: A = picture [position][channel] with a border, B = weights [tap][cin][cout], C = the output itself
//! * weight gradient: A = the same picture, read [channel][position], B = output gradient, C = [tap][cin][cout]
//!
//! B lies in panels of two vectors of columns, each one stream: rows of 64 channels would meet in a quarter of the cache's
//! sets. A tile is R rows of A times a panel. One step broadcasts R values of A and loads a row of B; with 6 x 16 that is 8
//! loads for 12 products, and 12 independent sums hide a product's latency. Together with a row of B and one value of A they
//! leave one of AVX2's registers free. AVX-512 has twice as many, of twice the size: 14 x 32.
//!
//! Every value is summed in the same order whatever the size of a tile, so both give the same to the bit.

use super::conv::ConvShape;
use super::lines::Lines;
use super::tiles::pieces;

/// Working memory of a thread.
#[derive(Default)]
pub struct Buffers {
    picture: Lines,
    gradient: Lines,
    offsets: Vec<usize>,
}

/// Weights [tap][cin][cout] in panels, outputs padded to whole vectors.
pub struct Packed(Lines);

/// Gradient sums [tap][cin][cout], outputs padded to whole vectors.
pub struct Gradient(Lines);

/// A matrix product, `c[r] += sum over i, k of a[steps[i] + r*a_row + k*a_step] * b[i*depth + k]`; all strides in values.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    a: *const f32,
    a_row: usize,
    a_step: usize,
    /// The panel's first row in use.
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    /// Where the operand A of each step begins.
    steps: &'a [usize],
    /// Values in a step.
    depth: usize,
}

/// Vectors of a kind of CPU.
pub trait Vectors {
    /// f32 in a vector.
    const LANES: usize;
    /// Most rows of a tile of one vector and of two.
    const ROWS: [usize; 3];
    /// Columns of a panel, the last one's apart.
    const PANEL: usize = 2 * Self::LANES;

    /// Whether this CPU has the instructions.
    fn available() -> bool;

    /// Channels rounded up to whole vectors.
    fn padded(channels: usize) -> usize {
        channels.next_multiple_of(Self::LANES)
    }

    /// A tile of `rows` times `vectors` of a product, the last of the vectors cut to `last` lanes.
    ///
    /// # Safety
    /// The CPU has the instructions; rows and vectors are at least 1 and at most what [`Vectors::ROWS`] names. For r <
    /// rows, k < depth and every step, the value at `a + step + r*a_row + k*a_step`, the LANES*vectors values at
    /// `b + (i*depth + k) * LANES*vectors`, and the vectors (the last one cut) at `c + r*c_stride` lie inside their
    /// buffers.
    unsafe fn tile(t: &Product, rows: usize, vectors: usize, last: usize);
}

/// Implements [`Vectors`] by the operations of a module.
macro_rules! vectors {
    ($(#[$meta:meta])* $name:ident, $isa:ident, $features:literal, $($vectors:literal: $($rows:literal)*;)*) => {
        $(#[$meta])*
        pub struct $name;

        impl Vectors for $name {
            const LANES: usize = $isa::LANES;
            const ROWS: [usize; 3] = [0 $(, [$($rows),*].len())*];

            fn available() -> bool {
                $isa::available()
            }

            unsafe fn tile(t: &Product, rows: usize, vectors: usize, last: usize) {
                /// # Safety
                /// As [`Vectors::tile`], with R rows and C vectors.
                #[target_feature(enable = $features)]
                unsafe fn tile<const R: usize, const C: usize>(t: &Product, last: usize) {
                    let mut sums = [[$isa::zero(); C]; R];
                    let mut b = t.b;
                    // SAFETY: the caller vouches for every address (see above).
                    unsafe {
                        for step in t.steps {
                            let mut a = t.a.add(*step);
                            for _ in 0..t.depth {
                                let mut columns = [$isa::zero(); C];
                                for (j, v) in columns.iter_mut().enumerate() {
                                    *v = $isa::load(b.add($isa::LANES * j));
                                }
                                for (r, sums) in sums.iter_mut().enumerate() {
                                    let value = $isa::broadcast(&*a.add(r * t.a_row));
                                    for (sum, column) in sums.iter_mut().zip(columns) {
                                        *sum = $isa::multiply_add(value, column, *sum);
                                    }
                                }
                                a = a.add(t.a_step);
                                b = b.add($isa::LANES * C);
                            }
                        }
                        for (r, sums) in sums.iter().enumerate() {
                            for (j, sum) in sums.iter().enumerate() {
                                let at = t.c.add(r * t.c_stride + $isa::LANES * j);
                                let lanes = if j + 1 == C { last } else { $isa::LANES };
                                $isa::add_to(at, *sum, lanes);
                            }
                        }
                    }
                }
                match (vectors, rows) {
                    // SAFETY: the caller's promise.
                    $($(($vectors, $rows) => unsafe { tile::<$rows, $vectors>(t, last) },)*)*
                    _ => unreachable!("a tile of {rows} rows of {vectors} vectors"),
                }
            }
        }
    };
}

vectors! {
    /// 8 lanes, 16 registers.
    Avx2, avx2, "avx2,fma",
    1: 1 2 3 4 5 6 7 8 9 10 11 12;
    2: 1 2 3 4 5 6;
}

vectors! {
    /// 16 lanes, 32 registers.
    Avx512, avx512, "avx512f",
    1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
}

/// 256-bit vectors.
mod avx2 {
    use std::arch::x86_64::*;

    pub const LANES: usize = 8;

    pub fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub fn zero() -> __m256 {
        _mm256_setzero_ps()
    }

    /// # Safety
    /// A vector lies at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn load(at: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub fn broadcast(value: &f32) -> __m256 {
        _mm256_broadcast_ss(value)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }

    /// Adds the first `lanes` of `v` to what lies at `at`.
    ///
    /// # Safety
    /// So many values lie at `at`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn add_to(at: *mut f32, v: __m256, lanes: usize) {
        // SAFETY: the mask cuts load and store to what the caller vouches for.
        unsafe {
            if lanes < LANES {
                let place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), place);
                _mm256_maskstore_ps(at, mask, _mm256_add_ps(_mm256_maskload_ps(at, mask), v));
            } else {
                _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), v));
            }
        }
    }
}

/// 512-bit vectors.
mod avx512 {
    use std::arch::x86_64::*;

    pub const LANES: usize = 16;

    pub fn available() -> bool {
        is_x86_feature_detected!("avx512f")
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn zero() -> __m512 {
        _mm512_setzero_ps()
    }

    /// # Safety
    /// A vector lies at `at`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn load(at: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn broadcast(value: &f32) -> __m512 {
        _mm512_set1_ps(*value)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }

    /// Adds the first `lanes` of `v` to what lies at `at`.
    ///
    /// # Safety
    /// So many values lie at `at`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn add_to(at: *mut f32, v: __m512, lanes: usize) {
        let mask = ((1u32 << lanes) - 1) as __mmask16;
        // SAFETY: the mask cuts load and store to what the caller vouches for.
        unsafe { _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), v)) };
    }
}

/// `rows` times columns `from..` of a product of `columns` columns, as many as the panel has that begins there.
///
/// # Safety
/// As [`Vectors::tile`], with the panel for B.
unsafe fn multiply<V: Vectors>(t: &Product, rows: usize, from: usize, columns: usize) {
    let left = columns - from;
    let vectors = left.div_ceil(V::LANES).min(2);
    let last = left.min(vectors * V::LANES) - (vectors - 1) * V::LANES;
    pieces(rows, V::ROWS[vectors], |row, height| {
        // SAFETY: the part lies inside the product that the caller vouches for.
        unsafe {
            let product = Product { a: t.a.add(row * t.a_row), c: t.c.add(row * t.c_stride + from), ..*t };
            V::tile(&product, height, vectors, last);
        }
    });
}

/// Where row `row` of the panel of column `from` begins, among panels of `rows` rows for `columns` columns.
fn panel<V: Vectors>(from: usize, columns: usize, rows: usize, row: usize) -> usize {
    from * rows + row * V::PANEL.min(V::padded(columns) - from)
}

/// `b` [rows][columns] in panels.
fn to_panels<V: Vectors>(b: &[f32], columns: usize, panels: &mut Lines) {
    let rows = b.len() / columns;
    let out = panels.zeroed::<f32>(rows * V::padded(columns));
    for from in (0..columns).step_by(V::PANEL) {
        let wide = V::PANEL.min(columns - from);
        for (row, b) in b.chunks_exact(columns).enumerate() {
            out[panel::<V>(from, columns, rows, row)..][..wide].copy_from_slice(&b[from..][..wide]);
        }
    }
}

/// The picture with the border of zeros that its kernel needs.
fn bordered<'a>(s: &ConvShape, x: &'a [f32], buffer: &'a mut Lines) -> &'a [f32] {
    let pad = s.kernel / 2;
    if pad == 0 {
        return x;
    }
    let (row, wide) = (s.w * s.cin, (s.w + 2 * pad) * s.cin);
    let grid = buffer.zeroed::<f32>((s.h + 2 * pad) * wide);
    for (y, x) in x.chunks_exact(row).enumerate() {
        grid[(y + pad) * wide + pad * s.cin..][..row].copy_from_slice(x);
    }
    buffer.get()
}

/// Packs weights [cout, kernel, kernel, cin].
pub fn pack<V: Vectors>(s: &ConvShape, weights: &[f32]) -> Packed {
    let rows = s.taps_len();
    let mut packed = Lines::default();
    let out = packed.zeroed::<f32>(rows * V::padded(s.cout));
    for (o, taps) in weights.chunks_exact(rows).enumerate() {
        for (row, v) in taps.iter().enumerate() {
            out[panel::<V>(o / V::PANEL * V::PANEL, s.cout, rows, row) + o % V::PANEL] = *v;
        }
    }
    Packed(packed)
}

/// Packs weights of `s` for [`ConvShape::transposed`].
pub fn pack_transposed<V: Vectors>(s: &ConvShape, weights: &[f32]) -> Packed {
    let (taps, columns) = (s.kernel * s.kernel, s.cin);
    let rows = taps * s.cout;
    let mut packed = Lines::default();
    let out = packed.zeroed::<f32>(rows * V::padded(columns));
    for (o, row) in weights.chunks_exact(s.taps_len()).enumerate() {
        for (t, tap) in row.chunks_exact(columns).enumerate() {
            let to = (taps - 1 - t) * s.cout + o;
            for (i, v) in tap.chunks(V::PANEL).enumerate() {
                out[panel::<V>(i * V::PANEL, columns, rows, to)..][..v.len()].copy_from_slice(v);
            }
        }
    }
    Packed(packed)
}

/// `y += conv(x)`.
pub fn forward<V: Vectors>(s: &ConvShape, weights: &Packed, x: &[f32], y: &mut [f32], m: &mut Buffers) {
    // Without neighbours, rows need not be kept apart.
    let s = if s.kernel == 1 { &ConvShape { h: 1, w: s.h * s.w, ..*s } } else { s };
    let (a, b) = (bordered(s, x, &mut m.picture), weights.0.get::<f32>());
    let (rows, wide) = (s.taps_len(), (s.w + s.kernel - 1) * s.cin);
    assert!(y.len() == s.output_len() && b.len() >= rows * V::padded(s.cout));
    // A row of the kernel at a time, whose taps lie one behind the other: so many weights stay in the nearest cache while
    // the picture passes over them.
    let depth = s.kernel * s.cin;
    for ky in 0..s.kernel {
        for from in (0..s.cout).step_by(V::PANEL) {
            for row in 0..s.h {
                // SAFETY: packed weights exist only where `available()` found these features. The last value that is
                // read is that of the last pixel of row h-1 + ky of the bordered picture. A panel has `taps_len` rows;
                // the row's w * cout outputs are in `y`.
                unsafe {
                    let product = Product {
                        a: a.as_ptr().add((row + ky) * wide),
                        a_row: s.cin,
                        a_step: 1,
                        b: b.as_ptr().add(panel::<V>(from, s.cout, rows, ky * depth)),
                        c: y.as_mut_ptr().add(row * s.w * s.cout),
                        c_stride: s.cout,
                        steps: &[0],
                        depth,
                    };
                    multiply::<V>(&product, s.w, from, s.cout);
                }
            }
        }
    }
}

impl Gradient {
    /// Zero sums for `s`.
    pub fn new<V: Vectors>(s: &ConvShape) -> Gradient {
        let mut sums = Lines::default();
        sums.zeroed::<f32>(s.taps_len() * V::padded(s.cout));
        Gradient(sums)
    }

    /// Adds the sums to `dw` [cout, kernel, kernel, cin].
    pub fn finish<V: Vectors>(&self, s: &ConvShape, dw: &mut [f32]) {
        let (rows, cout) = (s.taps_len(), V::padded(s.cout));
        let sums: &[f32] = self.0.get();
        for (o, row) in dw.chunks_exact_mut(rows).enumerate() {
            for (i, v) in row.iter_mut().enumerate() {
                *v += sums[i * cout + o];
            }
        }
    }
}

/// Adds one picture's weight gradient.
pub fn add_gradient<V: Vectors>(s: &ConvShape, x: &[f32], gradient: &[f32], sum: &mut Gradient, m: &mut Buffers) {
    let cout = V::padded(s.cout);
    let a = bordered(s, x, &mut m.picture);
    to_panels::<V>(gradient, s.cout, &mut m.gradient);
    let b: &[f32] = m.gradient.get();
    let (positions, wide) = (s.h * s.w, (s.w + s.kernel - 1) * s.cin);
    m.offsets.clear();
    m.offsets.extend((0..s.h).map(|y| y * wide));
    let c: &mut [f32] = sum.0.get_mut();
    assert!(c.len() >= s.taps_len() * cout && b.len() >= positions * cout);
    for from in (0..s.cout).step_by(V::PANEL) {
        for tap in 0..s.kernel * s.kernel {
            // SAFETY: a sum exists only where `available()` found these features. A step is a row of
            // the picture; the last value that is read is the last channel of the bordered picture's last pixel. A
            // panel has h * w rows; the sums hold [tap][cin][cout].
            unsafe {
                let product = Product {
                    a: a.as_ptr().add(tap / s.kernel * wide + tap % s.kernel * s.cin),
                    a_row: 1,
                    a_step: s.cin,
                    b: b.as_ptr().add(panel::<V>(from, s.cout, positions, 0)),
                    c: c.as_mut_ptr().add(tap * s.cin * cout),
                    c_stride: cout,
                    steps: &m.offsets,
                    depth: s.w,
                };
                multiply::<V>(&product, s.cin, from, s.cout);
            }
        }
    }
}
