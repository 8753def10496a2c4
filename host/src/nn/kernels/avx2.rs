//! f32 convolution with AVX2 and fused multiply-add, without im2col and without transposing.
//!
//! * forward: A = picture [position][channel] with a border, B = weights [tap][cin][cout], C = the output itself
//! * weight gradient: A = the same picture, read [channel][position], B = output gradient, C = [tap][cin][cout]
//!
//! A tile is R rows of A times 8, 16 or 24 columns of B. One step broadcasts R values of A and loads a row of B; with
//! 6 x 16 or 4 x 24 that is 8 or 7 loads for 12 products, and 12 independent sums hide a product's latency. Together
//! with a row of B and one value of A they fill the 16 registers.

use super::conv::ConvShape;
use super::lines::Lines;
use super::tiles::tiles;
use std::arch::x86_64::*;

/// f32 in a vector.
const LANES: usize = 8;
/// Most rows of a tile of one, two and three vectors.
const ROWS: [usize; 4] = [0, 12, 6, 4];

/// Whether this CPU has the instructions.
pub fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Working memory of a thread.
#[derive(Default)]
pub struct Buffers {
    picture: Lines,
    gradient: Lines,
    offsets: Vec<usize>,
}

/// Weights [tap][cin][cout], outputs padded to 8.
pub struct Packed(Lines);

/// Gradient sums [tap][cin][cout], outputs padded to 8.
pub struct Gradient(Lines);

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// A matrix product, `c[r] += sum over i, k of a[steps[i] + r*a_row + k*a_step] * b[i*depth + k]`; all strides in values.
#[derive(Clone, Copy)]
struct Product<'a> {
    a: *const f32,
    a_row: usize,
    a_step: usize,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    /// Where the operand A of each step begins.
    steps: &'a [usize],
    /// Values in a step.
    depth: usize,
}

/// Lanes of the last vector of a tile that are there: 1 to 8.
type Lanes = usize;

/// All bits set in the first `lanes` lanes.
#[target_feature(enable = "avx2,fma")]
fn mask(lanes: Lanes) -> __m256i {
    let place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), place)
}

/// R rows times C vectors of a product.
///
/// # Safety
/// The CPU has AVX2 and FMA. For r < R, k < depth and every step, the value at `a + step + r*a_row + k*a_step`, the 8*C
/// values at row `i*depth + k` of `b`, and the C vectors (the last one cut to `last` lanes) at `c + r*c_stride` lie
/// inside their buffers.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const C: usize>(t: &Product, last: Lanes) {
    let mut sums = [[_mm256_setzero_ps(); C]; R];
    let mut b = t.b;
    // SAFETY: the caller vouches for every address (see above).
    unsafe {
        for step in t.steps {
            let mut a = t.a.add(*step);
            for _ in 0..t.depth {
                let mut columns = [_mm256_setzero_ps(); C];
                for (j, v) in columns.iter_mut().enumerate() {
                    *v = _mm256_loadu_ps(b.add(LANES * j));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = _mm256_broadcast_ss(&*a.add(r * t.a_row));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm256_fmadd_ps(value, column, *sum);
                    }
                }
                a = a.add(t.a_step);
                b = b.add(t.b_stride);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let at = t.c.add(r * t.c_stride + LANES * j);
                if j + 1 == C && last < LANES {
                    let mask = mask(last);
                    _mm256_maskstore_ps(at, mask, _mm256_add_ps(_mm256_maskload_ps(at, mask), *sum));
                } else {
                    _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), *sum));
                }
            }
        }
    }
}

/// One tile of `rows` times `vectors`.
///
/// # Safety
/// As [`tile`], with rows and vectors for R and C; both are at least 1 and at most what [`ROWS`] names.
unsafe fn dispatch(t: &Product, rows: usize, vectors: usize, last: Lanes) {
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
        1 => rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
        2 => rows!(2: 1 2 3 4 5 6),
        3 => rows!(3: 1 2 3 4),
        _ => unreachable!("a tile of {vectors} vectors"),
    }
}

/// `rows` times `columns` of a product.
///
/// # Safety
/// As [`tile`], with rows and columns for R and 8*C.
unsafe fn multiply(t: &Product, rows: usize, columns: usize) {
    tiles(rows, columns.div_ceil(LANES), &ROWS, |part| {
        let last = (columns - part.from * LANES).min(part.vectors * LANES) - (part.vectors - 1) * LANES;
        // SAFETY: the part lies inside the product that the caller vouches for.
        unsafe {
            let product = Product {
                a: t.a.add(part.row * t.a_row),
                b: t.b.add(part.from * LANES),
                c: t.c.add(part.row * t.c_stride + part.from * LANES),
                ..*t
            };
            dispatch(&product, part.height, part.vectors, last);
        }
    });
}

/// Rows of `w` pixels of `c` channels with a border of `pad` pixels, channels padded to `cp`; everything else is zero.
fn load(x: &[f32], (w, c): (usize, usize), pad: usize, cp: usize, buffer: &mut Lines) {
    let (wp, rows) = (w + 2 * pad, x.len() / (w * c));
    let grid = buffer.zeroed::<f32>((rows + 2 * pad) * wp * cp);
    for (y, row) in x.chunks_exact(w * c).enumerate() {
        let to = &mut grid[((y + pad) * wp + pad) * cp..][..w * cp];
        if c == cp {
            to.copy_from_slice(row);
        } else {
            for (pixel, to) in row.chunks_exact(c).zip(to.chunks_exact_mut(cp)) {
                to[..c].copy_from_slice(pixel);
            }
        }
    }
}

/// Packs weights [cout, kernel, kernel, cin].
pub fn pack(s: &ConvShape, weights: &[f32]) -> Packed {
    let (rows, cout) = (s.taps_len(), padded(s.cout));
    let mut packed = Lines::default();
    let out = packed.zeroed::<f32>(rows * cout);
    for (o, row) in weights.chunks_exact(rows).enumerate() {
        for (i, v) in row.iter().enumerate() {
            out[i * cout + o] = *v;
        }
    }
    Packed(packed)
}

/// `y += conv(x)`.
pub fn forward(s: &ConvShape, weights: &Packed, x: &[f32], y: &mut [f32], m: &mut Buffers) {
    let (cout, pad) = (padded(s.cout), s.kernel / 2);
    let wp = s.w + 2 * pad;
    load(x, (s.w, s.cin), pad, s.cin, &mut m.picture);
    m.offsets.clear();
    m.offsets.extend((0..s.kernel).map(|row| row * wp * s.cin));
    let (a, b): (&[f32], &[f32]) = (m.picture.get(), weights.0.get());
    assert!(y.len() == s.output_len() && b.len() >= s.taps_len() * cout);
    for row in 0..s.h {
        // SAFETY: `Weights::Avx2` exists only where `available()` found these features. A step is a row of the kernel,
        // whose taps lie one behind the other: the last value that is read is that of pixel w-1 + 2*pad of row
        // h-1 + 2*pad, the grid's last. Weights hold `taps_len` rows of `cout`; the row's w * cout outputs are in `y`.
        unsafe {
            let product = Product {
                a: a.as_ptr().add(row * wp * s.cin),
                a_row: s.cin,
                a_step: 1,
                b: b.as_ptr(),
                b_stride: cout,
                c: y.as_mut_ptr().add(row * s.w * s.cout),
                c_stride: s.cout,
                steps: &m.offsets,
                depth: s.kernel * s.cin,
            };
            multiply(&product, s.w, s.cout);
        }
    }
}

impl Gradient {
    /// Zero sums for `s`.
    pub fn new(s: &ConvShape) -> Gradient {
        let mut sums = Lines::default();
        sums.zeroed::<f32>(s.taps_len() * padded(s.cout));
        Gradient(sums)
    }

    /// Adds the sums to `dw` [cout, kernel, kernel, cin].
    pub fn finish(&self, s: &ConvShape, dw: &mut [f32]) {
        let (rows, cout) = (s.taps_len(), padded(s.cout));
        let sums: &[f32] = self.0.get();
        for (o, row) in dw.chunks_exact_mut(rows).enumerate() {
            for (i, v) in row.iter_mut().enumerate() {
                *v += sums[i * cout + o];
            }
        }
    }
}

/// Adds one picture's weight gradient.
pub fn add_gradient(s: &ConvShape, x: &[f32], gradient: &[f32], sum: &mut Gradient, m: &mut Buffers) {
    let (cout, pad) = (padded(s.cout), s.kernel / 2);
    let wp = s.w + 2 * pad;
    load(x, (s.w, s.cin), pad, s.cin, &mut m.picture);
    let b: &[f32] = if s.cout == cout {
        gradient
    } else {
        load(gradient, (s.w, s.cout), 0, cout, &mut m.gradient);
        m.gradient.get()
    };
    m.offsets.clear();
    m.offsets.extend((0..s.h).map(|y| y * wp * s.cin));
    let a: &[f32] = m.picture.get();
    let c: &mut [f32] = sum.0.get_mut();
    assert!(c.len() >= s.taps_len() * cout && b.len() >= s.h * s.w * cout);
    for tap in 0..s.kernel * s.kernel {
        // SAFETY: `WeightGradient::Avx2` exists only where `available()` found these features. A step is a row of the
        // picture; the last value that is read is the last channel of the grid's last pixel. There are h * w rows of
        // `cout` in `b`; the sums hold [tap][cin][cout].
        unsafe {
            let product = Product {
                a: a.as_ptr().add((tap / s.kernel * wp + tap % s.kernel) * s.cin),
                a_row: 1,
                a_step: s.cin,
                b: b.as_ptr(),
                b_stride: cout,
                c: c.as_mut_ptr().add(tap * s.cin * cout),
                c_stride: cout,
                steps: &m.offsets,
                depth: s.w,
            };
            multiply(&product, s.cin, cout);
        }
    }
}
