//! Eigenvalues of a real symmetric matrix: Householder reflections to tridiagonal form, then implicitly shifted QL
//! (Wilkinson & Reinsch, *Linear Algebra*, 1971, II/2 and II/4). Small and dense, which is all that is needed here.

use ndarray::{Array2, ArrayView2};

/// QL steps of one eigenvalue; a few suffice for any matrix of numbers.
const MAX_STEPS: usize = 64;

/// Eigenvalues in no order.
pub fn eigenvalues(matrix: ArrayView2<f64>) -> Vec<f64> {
    let (mut d, mut e) = tridiagonal(matrix, None);
    ql(&mut d, &mut e, None);
    d
}

/// Eigenvalues in no order, and their vectors as columns.
pub fn eigen(matrix: ArrayView2<f64>) -> (Vec<f64>, Array2<f64>) {
    let mut vectors = Array2::eye(matrix.nrows());
    let (mut d, mut e) = tridiagonal(matrix, Some(&mut vectors));
    ql(&mut d, &mut e, Some(&mut vectors));
    (d, vectors)
}

/// The matrix of the same vectors with `f` of the eigenvalues.
fn with_values(matrix: ArrayView2<f64>, f: impl Fn(f64) -> f64) -> Array2<f64> {
    let (values, vectors) = eigen(matrix);
    let mut scaled = vectors.clone();
    for (mut column, value) in scaled.columns_mut().into_iter().zip(values) {
        column *= f(value);
    }
    scaled.dot(&vectors.t())
}

/// The symmetric positive semidefinite root; eigenvalues that rounding made negative count as 0.
pub fn root(matrix: ArrayView2<f64>) -> Array2<f64> {
    with_values(matrix, |value| value.max(0.0).sqrt())
}

/// The inverse of the root of a positive definite matrix.
pub fn inverse_root(matrix: ArrayView2<f64>) -> Array2<f64> {
    with_values(matrix, |value| 1.0 / value.max(f64::MIN_POSITIVE).sqrt())
}

/// Diagonal and the elements beside it (the last one 0) of a similar tridiagonal matrix; `q` is multiplied from the
/// right by the reflections that lead to it.
fn tridiagonal(matrix: ArrayView2<f64>, mut q: Option<&mut Array2<f64>>) -> (Vec<f64>, Vec<f64>) {
    let n = matrix.nrows();
    let mut a = matrix.to_owned();
    let mut e = vec![0.0; n];
    for k in 0..n.saturating_sub(1) {
        let mut v: Vec<f64> = (k + 1..n).map(|i| a[[i, k]]).collect();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let end = if v[0] > 0.0 { -length } else { length };
        e[k] = end;
        v[0] -= end;
        let square: f64 = v.iter().map(|x| x * x).sum();
        if square == 0.0 {
            continue;
        }
        // The block B behind column k becomes (1 - 2vv'/v'v) B (1 - 2vv'/v'v) = B - v r' - r v'.
        let mut p: Vec<f64> = (k + 1..n)
            .map(|i| {
                a.row(i).as_slice().expect("rows are contiguous")[k + 1..].iter().zip(&v).map(|(b, v)| b * v).sum()
            })
            .collect();
        p.iter_mut().for_each(|p| *p *= 2.0 / square);
        let half = p.iter().zip(&v).map(|(p, v)| p * v).sum::<f64>() / square;
        let r: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - half * v).collect();
        for i in 0..v.len() {
            let row = &mut a.row_mut(k + 1 + i);
            let row = &mut row.as_slice_mut().expect("rows are contiguous")[k + 1..];
            for (b, (vj, rj)) in row.iter_mut().zip(v.iter().zip(&r)) {
                *b -= v[i] * rj + r[i] * vj;
            }
        }
        if let Some(q) = q.as_deref_mut() {
            for mut row in q.rows_mut() {
                let row = &mut row.as_slice_mut().expect("rows are contiguous")[k + 1..];
                let along = row.iter().zip(&v).map(|(q, v)| q * v).sum::<f64>() * 2.0 / square;
                row.iter_mut().zip(&v).for_each(|(q, v)| *q -= along * v);
            }
        }
    }
    (a.diag().to_vec(), e)
}

/// Makes a tridiagonal matrix diagonal; `z` is multiplied from the right by the rotations.
fn ql(d: &mut [f64], e: &mut [f64], mut z: Option<&mut Array2<f64>>) {
    let n = d.len();
    for first in 0..n {
        for _ in 0..MAX_STEPS {
            let negligible = |i: usize| e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs());
            let last = (first..n - 1).find(|i| negligible(*i)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            // Wilkinson's shift: the eigenvalue of the leading 2x2 block that is nearer to its corner.
            let half = (d[first + 1] - d[first]) / (2.0 * e[first]);
            let mut g = d[last] - d[first] + e[first] / (half + half.hypot(1.0).copysign(half));
            let (mut sine, mut cosine, mut carried) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (first..last).rev() {
                let (f, b) = (sine * e[i], cosine * e[i]);
                let length = f.hypot(g);
                e[i + 1] = length;
                if length == 0.0 {
                    d[i + 1] -= carried;
                    e[last] = 0.0;
                    split = true;
                    break;
                }
                (sine, cosine) = (f / length, g / length);
                let corner = d[i + 1] - carried;
                let turned = (d[i] - corner) * sine + 2.0 * cosine * b;
                carried = sine * turned;
                d[i + 1] = corner + carried;
                g = cosine * turned - b;
                if let Some(z) = z.as_deref_mut() {
                    for mut row in z.rows_mut() {
                        let (x, y) = (row[i], row[i + 1]);
                        row[i + 1] = sine * x + cosine * y;
                        row[i] = cosine * x - sine * y;
                    }
                }
            }
            if !split {
                d[first] -= carried;
                e[first] = g;
                e[last] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Purpose, Stream};

    /// X'X of random X [rows, n]: rank at most `rows`.
    fn gram(rows: usize, n: usize) -> Array2<f64> {
        let mut v = vec![0f32; rows * n];
        Stream::new(9, Purpose::Init, 0, n as u32).normals(&mut v);
        let x = Array2::from_shape_vec((rows, n), v.into_iter().map(f64::from).collect()).unwrap();
        x.t().dot(&x)
    }

    fn difference(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        (a - b).iter().fold(0.0, |m, d| d.abs().max(m))
    }

    #[test]
    fn vectors_and_values_make_the_matrix_again() {
        for (rows, n) in [(1, 1), (5, 2), (3, 8), (60, 31), (200, 128)] {
            let a = gram(rows, n);
            let (values, vectors) = eigen(a.view());
            let scale = values.iter().fold(1.0, |m: f64, v| m.max(*v));
            let diagonal = Array2::from_diag(&ndarray::Array1::from(values.clone()));
            assert!(difference(&vectors.dot(&diagonal).dot(&vectors.t()), &a) < 1e-12 * scale, "{rows} {n}");
            assert!(difference(&vectors.t().dot(&vectors), &Array2::eye(n)) < 1e-12);
            let (mut alone, mut with) = (eigenvalues(a.view()), values);
            alone.sort_by(f64::total_cmp);
            with.sort_by(f64::total_cmp);
            assert!(alone.iter().zip(&with).all(|(a, b)| (a - b).abs() < 1e-12 * scale));
            assert_eq!(with.iter().filter(|v| **v > 1e-9 * scale).count(), rows.min(n));
            let r = root(a.view());
            assert!(difference(&r.dot(&r), &a) < 1e-11 * scale);
        }
    }

    #[test]
    fn known_matrices() {
        let sorted = |m: &Array2<f64>| {
            let mut v = eigenvalues(m.view());
            v.sort_by(f64::total_cmp);
            v
        };
        assert_eq!(sorted(&Array2::zeros((3, 3))), [0.0; 3]);
        assert_eq!(sorted(&Array2::from_diag(&ndarray::arr1(&[3.0, -1.0, 2.0]))), [-1.0, 2.0, 3.0]);
        // The second difference: 2 - 2 cos(k pi / (n + 1)).
        let n = 20;
        let second = Array2::from_shape_fn((n, n), |(i, k)| [2.0, -1.0].get(i.abs_diff(k)).copied().unwrap_or(0.0));
        for (k, v) in sorted(&second).into_iter().enumerate() {
            let exact = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64).cos();
            assert!((v - exact).abs() < 1e-13, "{v} {exact}");
        }
    }
}
