//! The measures against independent implementations, and what must hold for any sets.

use fewstep::evaluate::{Gaussian, Manifold, NEIGHBOURS, Root, kid, squared_mmd};
use fewstep_tests::normals;
use ndarray::{Array1, Array2};

// Numbers of numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, prdc 0.2 (`pip install numpy scipy scikit-learn prdc`):
//
// import numpy as np, scipy.linalg
// from sklearn.metrics.pairwise import polynomial_kernel
// from prdc import compute_prdc
// def features(n, d, seed, scale, shift):
//     s, out = seed, []
//     for _ in range(n * d):
//         v = 0.0
//         for _ in range(3):
//             s = (s * 1103515245 + 12345) % 2**31
//             v += (s >> 8) / 2**23 - 0.5
//         out.append(v)
//     x = np.array(out).reshape(n, d)
//     x[:, 1:] += 0.5 * x[:, :-1]
//     return (x * scale + shift).astype(np.float32)
// x, y = features(300, 8, 1, 1.0, 0.0), features(200, 8, 2, 1.3, 0.2)
// def fd(x, y):
//     x, y = x.astype(np.float64), y.astype(np.float64)
//     s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
//     return ((x.mean(0) - y.mean(0))**2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
// def mmd(x, y):
//     k = lambda a, b: polynomial_kernel(a.astype(np.float64), b.astype(np.float64), degree=3, gamma=1 / a.shape[1],
//                                        coef0=1)
//     n, m = len(x), len(y)
//     xx, yy = k(x, x), k(y, y)
//     return (xx.sum() - np.trace(xx)) / n / (n - 1) + (yy.sum() - np.trace(yy)) / m / (m - 1) - 2 * k(x, y).mean()
// print(x[0, :3], y[-1, -3:])
// print("%.12f %.12f" % (fd(x, y), mmd(x, y)), compute_prdc(x.astype(np.float64), y.astype(np.float64), 5))
const CORNER: ([f32; 3], [f32; 3]) =
    ([-0.501_737_36, -0.096_970_68, 3.842_115_4e-4], [1.327_371, 0.802_670_6, 0.640_113_2]);
const FRECHET: f64 = 0.624532191503;
const MMD: f64 = 0.176007313273;
const PRECISION: f64 = 0.72;
const RECALL: f64 = 0.986_666_666_666_666_7;
const DENSITY: f64 = 0.432;
const COVERAGE: f64 = 0.673_333_333_333_333_3;

/// The script's `features`.
fn features(n: usize, d: usize, seed: u64, scale: f64, shift: f64) -> Array2<f32> {
    let mut s = seed;
    let mut next = || {
        s = (s * 1_103_515_245 + 12_345) % (1 << 31);
        (s >> 8) as f64 / f64::from(1 << 23) - 0.5
    };
    let x = Array2::from_shape_simple_fn((n, d), || next() + next() + next());
    Array2::from_shape_fn((n, d), |(i, k)| {
        // Left of a value stands the value before its own addition, as numpy reads the right side first.
        let mixed = x[[i, k]] + if k > 0 { 0.5 * x[[i, k - 1]] } else { 0.0 };
        (mixed * scale + shift) as f32
    })
}

fn sets() -> (Array2<f32>, Array2<f32>) {
    (features(300, 8, 1, 1.0, 0.0), features(200, 8, 2, 1.3, 0.2))
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected}");
}

fn distance(x: &Array2<f32>, y: &Array2<f32>) -> f64 {
    Root::new(Gaussian::of(x.view())).distance(&Gaussian::of(y.view()))
}

fn gaussians(n: usize, d: usize, seed: u64) -> Array2<f32> {
    Array2::from_shape_vec((n, d), normals(seed, n * d)).unwrap()
}

#[test]
fn the_sets_are_those_of_the_script() {
    let (x, y) = sets();
    for k in 0..3 {
        near(f64::from(x[[0, k]]), f64::from(CORNER.0[k]), 1e-7);
        near(f64::from(y[[199, 5 + k]]), f64::from(CORNER.1[k]), 1e-6);
    }
}

#[test]
fn the_frechet_distance_is_scipys() {
    let (x, y) = sets();
    near(distance(&x, &y), FRECHET, 1e-9);
    near(distance(&y, &x), FRECHET, 1e-9);
    let figure = Root::new(Gaussian::of(x.view())).figure(y.view(), 3);
    near(figure.value, FRECHET, 1e-9);
    assert!(figure.low < FRECHET && FRECHET < figure.high, "{figure:?}");
    assert!((0.05..0.5).contains(&(figure.high - figure.low)), "{figure:?}");
}

#[test]
fn the_mmd_is_that_of_scikit_learns_kernel() {
    let (x, y) = sets();
    near(squared_mmd(x.view(), y.view()), MMD, 1e-6);
    let figure = kid(x.view(), y.view(), 0);
    // Subsets of 20: unbiased, but noisy.
    near(figure.value, MMD, 0.03);
    assert!(figure.low < figure.value && figure.value < figure.high, "{figure:?}");
}

#[test]
fn precision_recall_density_and_coverage_are_prdcs() {
    let (x, y) = sets();
    let origin = Array1::from_elem(8, 0.1);
    let near_sets = Manifold::new(x.view(), origin.view()).neighbours(&Manifold::new(y.view(), origin.view()));
    let share = |v: &[bool]| v.iter().filter(|b| **b).count() as f64 / v.len() as f64;
    near(share(&near_sets.balls.iter().map(|b| *b > 0).collect::<Vec<_>>()), PRECISION, 1e-12);
    near(share(&near_sets.recalled), RECALL, 1e-12);
    let density = near_sets.balls.iter().sum::<u32>() as f64 / (NEIGHBOURS * near_sets.balls.len()) as f64;
    near(density, DENSITY, 1e-12);
    near(share(&near_sets.covered), COVERAGE, 1e-12);
}

#[test]
fn a_set_is_at_no_distance_from_itself_and_from_its_order() {
    let (x, _) = sets();
    near(distance(&x, &x), 0.0, 1e-9);
    let order: Vec<usize> = (0..300).map(|i| i * 7 % 300).collect();
    let mixed = x.select(ndarray::Axis(0), &order);
    near(distance(&x, &mixed), 0.0, 1e-9);
    // Unbiased: a set against itself lies below 0, as the pairs of a row with itself count once only.
    assert!(squared_mmd(x.view(), x.view()) < 0.0);
    let origin = Array1::zeros(8);
    let (a, b) = (Manifold::new(x.view(), origin.view()), Manifold::new(mixed.view(), origin.view()));
    let same = a.neighbours(&b);
    assert!(same.recalled.iter().chain(&same.covered).all(|b| *b) && same.balls.iter().all(|b| *b > 0));
}

#[test]
fn known_gaussians_have_their_distance() {
    // N(0, 1) against N(1, 4) in each of 6 dimensions: 6 * (1 + (2 - 1)^2).
    let x = gaussians(40_000, 6, 1);
    let y = gaussians(40_000, 6, 2).mapv(|v| 2.0 * v + 1.0);
    near(distance(&x, &y), 12.0, 0.25);
    // The same distribution: what is left falls with the number of samples.
    let few = distance(&x, &gaussians(500, 6, 3));
    let many = distance(&x, &gaussians(20_000, 6, 3));
    assert!(many < few / 10.0 && many < 0.005, "{few} {many}");
    // KID is unbiased: near 0 at any size.
    let figure = kid(x.slice(ndarray::s![..4000, ..]), gaussians(4000, 6, 3).view(), 1);
    assert!(figure.low < 0.0 && figure.high > 0.0, "{figure:?}");
}

#[test]
fn a_distance_does_not_depend_on_where_the_origin_lies() {
    let (x, y) = sets();
    let far = |v: &Array2<f32>| v.mapv(|v| v + 64.0);
    near(distance(&far(&x), &far(&y)), FRECHET, 1e-4);
}

#[test]
fn lost_modes_are_recall_and_wrong_pictures_precision() {
    // Real: two clusters. Samples: one of them, and a place where nothing real lies.
    let place = |x: Array2<f32>, at: f32| x.mapv(|v| v + at);
    let real = ndarray::concatenate![ndarray::Axis(0), gaussians(300, 4, 1), place(gaussians(300, 4, 2), 40.0)];
    let samples = ndarray::concatenate![ndarray::Axis(0), gaussians(300, 4, 3), place(gaussians(100, 4, 4), -40.0)];
    let origin = Array1::zeros(4);
    let n = Manifold::new(real.view(), origin.view()).neighbours(&Manifold::new(samples.view(), origin.view()));
    let share = |v: &[bool]| v.iter().filter(|b| **b).count() as f64 / v.len() as f64;
    assert_eq!(share(&n.recalled[300..]), 0.0);
    assert_eq!(share(&n.covered[300..]), 0.0);
    assert!(share(&n.recalled[..300]) > 0.8 && share(&n.covered[..300]) > 0.8);
    assert!(n.balls[300..].iter().all(|b| *b == 0));
    assert!(n.balls[..300].iter().filter(|b| **b > 0).count() > 240);
}
