//! f32 convolution by im2col and `matrixmultiply`.

use super::conv::ConvShape;

/// Columns [h*w, kernel*kernel*cin] of a picture; positions outside it are zero.
fn im2col(s: &ConvShape, x: &[f32], columns: &mut Vec<f32>) {
    let (taps, pad) = (s.taps_len(), s.kernel / 2);
    columns.clear();
    columns.resize(s.h * s.w * taps, 0.0);
    for y in 0..s.h {
        for ky in 0..s.kernel {
            let Some(sy) = (y + ky).checked_sub(pad).filter(|v| *v < s.h) else { continue };
            for xo in 0..s.w {
                for kx in 0..s.kernel {
                    let Some(sx) = (xo + kx).checked_sub(pad).filter(|v| *v < s.w) else { continue };
                    let to = (y * s.w + xo) * taps + (ky * s.kernel + kx) * s.cin;
                    let from = (sy * s.w + sx) * s.cin;
                    columns[to..to + s.cin].copy_from_slice(&x[from..from + s.cin]);
                }
            }
        }
    }
}

/// `c[m, n] += alpha * a[m, k] * b[k, n]`; strides of a and b are (row, column), c's is from row to row, in elements.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    (m, k, n): (usize, usize, usize),
    alpha: f32,
    a: &[f32],
    sa: (usize, usize),
    b: &[f32],
    sb: (usize, usize),
    c: &mut [f32],
    sc: usize,
) {
    let last = |rows: usize, columns: usize, s: (usize, usize)| (rows - 1) * s.0 + (columns - 1) * s.1;
    assert!(a.len() > last(m, k, sa) && b.len() > last(k, n, sb) && c.len() > last(m, n, (sc, 1)) && sc >= n);
    let i = |v: usize| v as isize;
    // SAFETY: the assertion keeps the last element of each matrix inside its slice, strides are not negative,
    // and `c`'s rows are no shorter than n, so that its elements do not alias.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            alpha,
            a.as_ptr(),
            i(sa.0),
            i(sa.1),
            b.as_ptr(),
            i(sb.0),
            i(sb.1),
            1.0,
            c.as_mut_ptr(),
            i(sc),
            1,
        );
    }
}

/// Weights for [`ConvShape::transposed`]: taps mirrored, channels exchanged.
pub fn transpose(s: &ConvShape, weights: &[f32]) -> Vec<f32> {
    let taps = s.kernel * s.kernel;
    let mut out = vec![0.0; weights.len()];
    for (o, row) in weights.chunks_exact(s.taps_len()).enumerate() {
        for (t, tap) in row.chunks_exact(s.cin).enumerate() {
            for (i, v) in tap.iter().enumerate() {
                out[(i * taps + (taps - 1 - t)) * s.cout + o] = *v;
            }
        }
    }
    out
}

/// `y += conv(x)`.
pub fn forward(s: &ConvShape, weights: &[f32], x: &[f32], y: &mut [f32], columns: &mut Vec<f32>) {
    let taps = s.taps_len();
    let columns: &[f32] = if s.kernel == 1 {
        x
    } else {
        im2col(s, x, columns);
        columns
    };
    gemm((s.h * s.w, taps, s.cout), 1.0, columns, (taps, 1), weights, (1, taps), y, s.cout);
}

/// `dw[cout, taps] += g^T * columns(x)`.
pub fn add_gradient(s: &ConvShape, x: &[f32], g: &[f32], dw: &mut [f32], columns: &mut Vec<f32>) {
    let taps = s.taps_len();
    let columns: &[f32] = if s.kernel == 1 {
        x
    } else {
        im2col(s, x, columns);
        columns
    };
    gemm((s.cout, s.h * s.w, taps), 1.0, g, (1, s.cout), columns, (taps, 1), dw, taps);
}
