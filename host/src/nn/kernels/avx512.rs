//! bf16 convolution with AVX-512 BF16 dot products, f32 accumulators, without im2col.
//!
//! Operands lie as for AMX ([`super::amx`]), but only channels are padded, to 16, and a picture's columns are exact:
//!
//! * forward: A = picture [position][channel] with a border, B = weights in channel pairs, C = the output itself
//! * weight gradient: A = picture [channel][position], B = output gradient in position pairs, C = [tap][cin][cout]
//!
//! A tile is R rows of A times 16, 32 or 48 columns of B. One product needs a broadcast pair of A and a vector of B;
//! with 14 x 32 or 8 x 48 the 16 loads a pair stay below the 28 or 24 products, and these are enough independent
//! sums to hide a product's latency.

use super::bf16::{self, Place, Sizes, load, to_pairs, to_planes};
use super::conv::ConvShape;
use super::lines::Lines;
use super::tiles::tiles;
use std::arch::x86_64::*;

/// f32 in a vector.
const LANES: usize = 16;
/// Most rows of a tile of one or two vectors, and of three.
const ROWS: [usize; 4] = [0, 14, 14, 8];

/// Working memory of a thread.
#[derive(Default)]
pub struct Buffers {
    picture: Lines,
    planes: Lines,
    pairs: Lines,
    offsets: Vec<usize>,
}

/// Weights [tap][cin/2][cout] as pairs of bf16 (two consecutive input channels), channels padded to 16.
pub struct Packed(Lines);

/// Gradient sums [tap][cin][cout] f32, channels padded to 16.
pub struct Gradient(Lines);

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// A matrix product, `c += sum over i of a[steps[i]..] * b[i*depth..]`; strides in bytes.
#[derive(Clone, Copy)]
struct Product<'a> {
    a: *const u8,
    a_stride: usize,
    b: *const u8,
    b_stride: usize,
    c: *mut f32,
    /// In values.
    c_stride: usize,
    /// Where the operand A of each step begins, in bytes.
    steps: &'a [usize],
    /// Pairs in a step.
    depth: usize,
}

/// Lanes of the last vector of a tile.
type Mask = __mmask16;

/// R rows times C vectors of a product.
///
/// # Safety
/// The CPU has AVX-512 BF16. For r < R, k < depth and every step, the 4 bytes at `a + step + r*a_stride + 4*k`, the
/// 64*C bytes at row `i*depth + k` of `b`, and the C vectors (the last one masked) at `c + r*c_stride` lie inside
/// their buffers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile<const R: usize, const C: usize>(t: &Product, last: Mask) {
    let mut sums = [[_mm512_setzero_ps(); C]; R];
    let mut b = t.b;
    // SAFETY: the caller vouches for every address (see above).
    unsafe {
        for step in t.steps {
            let mut a = t.a.add(*step);
            for _ in 0..t.depth {
                let mut columns = [_mm512_setzero_si512(); C];
                for (j, v) in columns.iter_mut().enumerate() {
                    *v = _mm512_loadu_si512(b.add(64 * j).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32(a.add(r * t.a_stride).cast::<i32>().read_unaligned());
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(
                            *sum,
                            std::mem::transmute::<__m512i, __m512bh>(pair),
                            std::mem::transmute::<__m512i, __m512bh>(column),
                        );
                    }
                }
                a = a.add(4);
                b = b.add(t.b_stride);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let at = t.c.add(r * t.c_stride + LANES * j);
                let mask = if j + 1 == C { last } else { !0 };
                _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), *sum));
            }
        }
    }
}

/// One tile of `rows` times `vectors`.
///
/// # Safety
/// As [`tile`], with rows and vectors for R and C; both are at least 1 and at most what [`ROWS`] names.
unsafe fn dispatch(t: &Product, rows: usize, vectors: usize, last: Mask) {
    macro_rules! rows {
        ($c:literal: $($r:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($r => unsafe { tile::<$r, $c>(t, last) },)*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    match vectors {
        1 => rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        2 => rows!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        3 => rows!(3: 1 2 3 4 5 6 7 8),
        _ => unreachable!("a tile of {vectors} vectors"),
    }
}

/// `rows` times `columns` of a product.
///
/// # Safety
/// As [`tile`], with rows and columns for R and 16*C.
unsafe fn multiply(t: &Product, rows: usize, columns: usize) {
    tiles(rows, columns.div_ceil(LANES), &ROWS, |part| {
        let left = columns - part.from * LANES;
        let last = if left >= part.vectors * LANES { !0 } else { ((1u32 << (left % LANES)) - 1) as Mask };
        // SAFETY: the part lies inside the product that the caller vouches for.
        unsafe {
            let product = Product {
                a: t.a.add(part.row * t.a_stride),
                b: t.b.add(part.from * LANES * 4),
                c: t.c.add(part.row * t.c_stride + part.from * LANES),
                ..*t
            };
            dispatch(&product, part.height, part.vectors, last);
        }
    });
}

fn sizes(s: &ConvShape) -> Sizes {
    let (inputs, outputs) = (padded(s.cin), padded(s.cout));
    Sizes { taps: s.kernel * s.kernel, cin: s.cin, cout: s.cout, inputs, outputs }
}

/// Packs weights [cout, kernel, kernel, cin].
pub fn pack(s: &ConvShape, weights: &[f32]) -> Packed {
    // SAFETY: packing for this engine happens only where `bf16::available()` found these features.
    Packed(unsafe { bf16::pack(&sizes(s), weights) })
}

/// Packs weights of `s` for [`ConvShape::transposed`].
pub fn pack_transposed(s: &ConvShape, weights: &[f32]) -> Packed {
    // SAFETY: as for `pack`.
    Packed(unsafe { bf16::pack_transposed(&sizes(s), weights) })
}

/// `y += conv(x)`.
pub fn forward(s: &ConvShape, weights: &Packed, x: &[f32], y: &mut [f32], m: &mut Buffers) {
    let (cin, cout, pad) = (padded(s.cin), padded(s.cout), s.kernel / 2);
    let wp = s.w + 2 * pad;
    // SAFETY: `Weights::Avx512` exists only where `bf16::available()` found these features.
    unsafe {
        let place = Place { at: pad * wp + pad, row: wp, pixels: (s.h + 2 * pad) * wp };
        load(x, s.w, s.cin, cin, &place, &mut m.picture);
    }
    m.offsets.clear();
    m.offsets.extend((0..s.kernel * s.kernel).map(|tap| (tap / s.kernel * wp + tap % s.kernel) * cin * 2));
    let (a, b): (&[u16], &[u16]) = (m.picture.get(), weights.0.get());
    assert!(y.len() == s.output_len() && b.len() >= s.kernel * s.kernel * cin * cout);
    for row in 0..s.h {
        // SAFETY: pixel row*wp + w-1 plus the largest tap's offset is the grid's last at row = h-1; weights hold
        // taps * cin/2 rows of `cout` pairs; the row's w * cout outputs are in `y`, and columns past them are masked.
        unsafe {
            let product = Product {
                a: a.as_ptr().add(row * wp * cin).cast(),
                a_stride: cin * 2,
                b: b.as_ptr().cast(),
                b_stride: cout * 4,
                c: y.as_mut_ptr().add(row * s.w * s.cout),
                c_stride: s.cout,
                steps: &m.offsets,
                depth: cin / 2,
            };
            multiply(&product, s.w, s.cout);
        }
    }
}

impl Gradient {
    /// Zero sums for `s`.
    pub fn new(s: &ConvShape) -> Gradient {
        let mut sums = Lines::default();
        sums.zeroed::<f32>(s.kernel * s.kernel * padded(s.cin) * padded(s.cout));
        Gradient(sums)
    }

    /// Adds the sums to `dw` [cout, kernel, kernel, cin].
    pub fn finish(&self, s: &ConvShape, dw: &mut [f32]) {
        // SAFETY: `WeightGradient::Avx512` exists only where `bf16::available()` found these features.
        unsafe { bf16::add_transposed(&sizes(s), self.0.get(), dw) };
    }
}

/// Adds one picture's weight gradient.
pub fn add_gradient(s: &ConvShape, x: &[f32], gradient: &[f32], sum: &mut Gradient, m: &mut Buffers) {
    let (cin, cout, pad) = (padded(s.cin), padded(s.cout), s.kernel / 2);
    // Rows of the gradient end with a zero pixel where w is odd, so that pairs do not cross rows. Its partner in A is
    // any pixel of the picture, so A needs one more than the border.
    let (even, wp) = (s.w.next_multiple_of(2), s.w + 2 * pad);
    let inputs = ((s.h + 2 * pad) * wp + 1).next_multiple_of(32);
    // SAFETY: `WeightGradient::Avx512` exists only where `bf16::available()` found these features.
    unsafe {
        load(gradient, s.w, s.cout, cout, &Place { at: 0, row: even, pixels: s.h * even }, &mut m.picture);
        to_pairs(&m.picture.get::<u16>()[..s.h * even * cout], cout, m.pairs.sized(s.h * even / 2 * cout));
        load(x, s.w, s.cin, cin, &Place { at: pad * wp + pad, row: wp, pixels: inputs }, &mut m.picture);
        to_planes(&m.picture.get::<u16>()[..inputs * cin], inputs, cin, m.planes.sized(inputs * cin / 2));
    }
    m.offsets.clear();
    m.offsets.extend((0..s.h).map(|y| y * wp * 2));
    let (a, b): (&[u16], &[u32]) = (m.planes.get(), m.pairs.get());
    let c: &mut [f32] = bytemuck::cast_slice_mut(&mut sum.0.0);
    assert!(c.len() >= s.kernel * s.kernel * cin * cout);
    for tap in 0..s.kernel * s.kernel {
        // SAFETY: a plane holds `inputs` positions, more than the last row's last pair behind the largest tap's
        // offset; there are h * even/2 rows of `cout` pairs; the sums hold [tap][cin][cout].
        unsafe {
            let product = Product {
                a: a.as_ptr().add(tap / s.kernel * wp + tap % s.kernel).cast(),
                a_stride: inputs * 2,
                b: b.as_ptr().cast(),
                b_stride: cout * 4,
                c: c.as_mut_ptr().add(tap * cin * cout),
                c_stride: cout,
                steps: &m.offsets,
                depth: even / 2,
            };
            multiply(&product, s.cin, cout);
        }
    }
}
