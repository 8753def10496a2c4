//! The custom ops against compositions of candle's own ops, values and gradients.

use super::kernels::{ConvShape, Engine, NormAct, NormScratch, Scratch};
use super::{native, ops};
use crate::noise::{Purpose, Stream};
use candle_core::{Device, Result, Tensor, Var};

fn normal(seed: u64, shape: &[usize], scale: f32) -> Var {
    let mut v = vec![0.0; shape.iter().product()];
    Stream::new(seed, Purpose::Init, 0, 0).normals(&mut v);
    v.iter_mut().for_each(|v| *v *= scale);
    Var::from_tensor(&Tensor::from_vec(v, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Largest difference relative to the larger tensor's root mean square.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (flat(a), flat(b));
    let rms = (b.iter().map(|v| v * v).sum::<f32>() / b.len() as f32).sqrt().max(1e-6);
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / rms
}

/// Values and gradients of two functions of the same variables, under a random linear loss.
fn compare(
    vars: &[Var],
    f: impl Fn(&[&Tensor]) -> Result<Tensor>,
    g: impl Fn(&[&Tensor]) -> Result<Tensor>,
    tolerance: f32,
) {
    let args: Vec<&Tensor> = vars.iter().map(|v| v.as_tensor()).collect();
    let (a, b) = (f(&args).unwrap(), g(&args).unwrap());
    let d = difference(&a, &b);
    assert!(d < tolerance, "values differ by {d}");
    let weights = normal(99, a.dims(), 1.0);
    let grads = |y: &Tensor| y.mul(weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let (ga, gb) = (grads(&a), grads(&b));
    for (i, v) in vars.iter().enumerate() {
        let d = difference(ga.get(v).unwrap(), gb.get(v).unwrap());
        assert!(d < tolerance, "gradients of argument {i} differ by {d}");
    }
}

/// bf16 keeps 8 bits: single products are off by 1/256, sums over hundreds of them by a few percent of their size.
fn tolerance() -> f32 {
    if Engine::current().is_bf16() { 0.06 } else { 1e-4 }
}

#[test]
fn convolution_and_its_gradients_match_candle() {
    for (h, w, cin, cout, kernel) in [
        (14, 14, 32, 32, 3),
        (7, 7, 64, 64, 3),
        (14, 14, 4, 32, 3),
        (14, 14, 32, 4, 3),
        (7, 7, 64, 192, 1),
        (5, 3, 8, 40, 3),
        (1, 1, 72, 8, 3),
        (2, 9, 40, 24, 1),
    ] {
        let vars =
            [normal(1, &[3, h, w, cin], 1.0), normal(2, &[cout, kernel, kernel, cin], 0.1), normal(3, &[cout], 1.0)];
        compare(&vars, |a| ops::conv(a[0], a[1], a[2]), |a| native::conv(a[0], a[1], a[2]), tolerance());
    }
}

#[test]
fn norm_act_and_its_gradients_match_candle() {
    for (h, w, c) in [(14, 14, 32), (7, 7, 64), (3, 5, 8), (2, 2, 24)] {
        for silu in [true, false] {
            let vars = [normal(1, &[2, h, w, c], 3.0), normal(2, &[2, c], 1.0), normal(3, &[2, c], 1.0)];
            compare(
                &vars,
                |a| ops::norm_act(a[0], a[1], a[2], silu),
                |a| native::norm_act(a[0], a[1], a[2], silu),
                2e-4,
            );
        }
    }
}

#[test]
fn residual_block_and_its_gradients_match_candle() {
    for (h, w, c) in [(14, 14, 32), (7, 7, 64), (5, 4, 8)] {
        let k = [3, 3];
        let shape = |cout, cin| [cout, k[0], k[1], cin];
        let vars = [
            normal(1, &[3, h, w, c], 1.0),
            normal(2, &[3, c], 1.0),
            normal(3, &[3, c], 1.0),
            normal(4, &[3, c], 1.0),
            normal(5, &[3, c], 1.0),
            normal(6, &shape(c, c), 0.1),
            normal(7, &[c], 1.0),
            normal(8, &shape(c, c), 0.1),
            normal(9, &[c], 1.0),
        ];
        compare(
            &vars,
            |a| ops::res_blocks(a[0], &Tensor::cat(&a[1..5], 1)?, &[[a[5], a[6], a[7], a[8]]]),
            |a| native::res_block(a[0], [a[1], a[2], a[3], a[4]], [a[5], a[6], a[7], a[8]]),
            if Engine::current().is_bf16() { 0.15 } else { 5e-4 },
        );
    }
}

/// Three in a run; the gradients of all of their parameters.
#[test]
fn runs_of_residual_blocks_and_their_gradients_match_candle() {
    const BLOCKS: usize = 3;
    for (h, w, c) in [(14, 14, 32), (7, 7, 64), (5, 4, 8), (3, 7, 40)] {
        let mut vars = vec![normal(1, &[3, h, w, c], 1.0), normal(2, &[3, BLOCKS * 4 * c], 1.0)];
        for k in 0..2 * BLOCKS as u64 {
            vars.extend([normal(10 + k, &[c, 3, 3, c], 0.3 / (c as f32).sqrt()), normal(20 + k, &[c], 0.3)]);
        }
        compare(
            &vars,
            |a| ops::res_blocks(a[0], a[1], a[2..].as_chunks().0),
            |a| native::res_blocks(a[0], a[1], a[2..].as_chunks().0),
            if Engine::current().is_bf16() { 0.2 } else { 5e-4 },
        );
    }
}

/// Without a way back a run keeps nothing, and says the same.
#[test]
fn runs_without_gradients_give_the_same() {
    let c = 16;
    let mut vars = vec![normal(1, &[2, 5, 6, c], 1.0), normal(2, &[2, 2 * 4 * c], 1.0)];
    (0..4).for_each(|k| vars.extend([normal(10 + k, &[c, 3, 3, c], 0.1), normal(20 + k, &[c], 0.3)]));
    let run = |a: &[Tensor]| {
        let a: Vec<&Tensor> = a.iter().collect();
        let y = ops::res_blocks(a[0], a[1], a[2..].as_chunks().0).unwrap();
        (y.track_op(), y.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    let (tracked, y) = run(&vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>());
    let (untracked, z) = run(&vars.iter().map(|v| v.as_tensor().detach()).collect::<Vec<_>>());
    assert!(tracked && !untracked);
    assert_eq!(y, z);
}

#[test]
fn scales_and_shifts_of_blocks_and_their_gradients_match_candle() {
    for (blocks, c) in [(1, 8), (3, 24)] {
        let vars = [normal(1, &[5, blocks * 2 * c], 1.0), normal(2, &[blocks * 4 * c], 1.0)];
        compare(&vars, |a| ops::affine(a[0], a[1], c), |a| native::affine(a[0], a[1], c), 1e-5);
    }
}

#[test]
fn attention_and_its_gradients_match_candle() {
    for (h, w, c, heads) in [(7, 7, 64, 1), (3, 5, 24, 3), (1, 1, 8, 2), (4, 4, 16, 1)] {
        let vars = [normal(1, &[2, h, w, 3 * c], 1.5)];
        compare(&vars, |a| ops::attention(a[0], heads), |a| native::attention(a[0], heads), 1e-4);
    }
}

#[test]
fn pooling_and_doubling_and_their_gradients_match_candle() {
    let x = [normal(1, &[2, 6, 4, 8], 1.0)];
    compare(&x, |a| ops::avg_pool2(a[0]), |a| native::avg_pool2(a[0]), 1e-5);
    let x = [normal(1, &[2, 6, 4, 8], 1.0), normal(2, &[2, 3, 2, 8], 1.0)];
    compare(&x, |a| ops::add_upsampled(a[0], a[1]), |a| native::add_upsampled(a[0], a[1]), 1e-5);
}

/// Every engine against sums in f64, at sizes around the tiles' edges.
#[test]
fn engines_match_sums_in_double_precision() {
    for engine in Engine::available() {
        let tolerance = if engine.is_bf16() { 0.03 } else { 1e-5 };
        for (h, w, cin, cout, kernel) in [
            (14, 14, 32, 32, 3),
            (7, 7, 33, 31, 3),
            (3, 17, 1, 65, 3),
            (4, 4, 96, 16, 1),
            (1, 31, 8, 8, 3),
            (5, 16, 48, 96, 3),
        ] {
            let s = ConvShape { h, w, cin, cout, kernel };
            let value = |seed, n: usize| {
                let mut v = vec![0.0; n];
                Stream::new(seed, Purpose::Init, 0, 0).normals(&mut v);
                v
            };
            // So many pictures that some are summed together and some wait for the end, whatever an engine groups.
            let pictures: Vec<_> =
                (0..9).map(|i| (value(10 + i, s.input_len()), value(30 + i, s.output_len()))).collect();
            let (wt, mut sum, mut dw) = (value(2, s.weights_len()), s.gradient(engine), vec![0.0; s.weights_len()]);
            let (weights, back) = (s.pack(engine, &wt), s.pack_transposed(engine, &wt));
            let (mut m, mut dw64) = (Scratch::default(), vec![0f64; dw.len()]);
            let check = |what: &str, got: &[f32], want: &[f64], terms: usize| {
                let scale = (terms as f64).sqrt();
                for (g, w) in got.iter().zip(want) {
                    assert!(
                        (f64::from(*g) - w).abs() < tolerance * scale + 1e-9,
                        "{engine:?} {s:?} {what}: {g} against {w}"
                    );
                }
            };
            for (x, g) in &pictures {
                let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
                s.forward(&weights, x, &mut y, &mut m);
                s.transposed().forward(&back, g, &mut dx, &mut m);
                s.add_gradient(x, g, &mut sum, &mut m);
                let (mut y64, mut dx64) = (vec![0f64; y.len()], vec![0f64; dx.len()]);
                products(&s, |b, c, a| {
                    y64[a] += f64::from(x[b]) * f64::from(wt[c]);
                    dx64[b] += f64::from(g[a]) * f64::from(wt[c]);
                    dw64[c] += f64::from(x[b]) * f64::from(g[a]);
                });
                check("forward", &y, &y64, s.taps_len());
                check("backward", &dx, &dx64, s.transposed().taps_len());
            }
            s.finish_gradient(&mut sum, &mut dw);
            check("weights", &dw, &dw64, pictures.len() * h * w);
        }
    }
}

/// The size of vectors does not change a value.
#[test]
fn f32_engines_with_fused_products_agree_to_the_bit() {
    let engines = [Engine::Avx2, Engine::Avx512F32];
    if !engines.iter().all(|e| Engine::available().contains(e)) {
        return;
    }
    for (h, w, cin, cout, kernel) in [(14, 14, 32, 32, 3), (7, 7, 33, 31, 3), (3, 17, 1, 65, 3), (7, 7, 64, 192, 1)] {
        let s = ConvShape { h, w, cin, cout, kernel };
        let value = |seed, n: usize| normal(seed, &[n], 1.0).to_vec1::<f32>().unwrap();
        let (x, wt, g) = (value(1, s.input_len()), value(2, s.weights_len()), value(3, s.output_len()));
        let [a, b] = engines.map(|engine| {
            let (mut y, mut dx, mut dw) = (vec![0.0; g.len()], vec![0.0; x.len()], vec![0.0; wt.len()]);
            let (mut m, mut sum) = (Scratch::default(), s.gradient(engine));
            s.forward(&s.pack(engine, &wt), &x, &mut y, &mut m);
            s.transposed().forward(&s.pack_transposed(engine, &wt), &g, &mut dx, &mut m);
            s.add_gradient(&x, &g, &mut sum, &mut m);
            s.finish_gradient(&mut sum, &mut dw);
            [y, dx, dw]
        });
        assert_eq!(a, b, "{s:?}");
    }
}

/// Calls `f` with the places of input, weight and output of every product of a convolution.
fn products(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let ConvShape { h, w, cin, cout, kernel } = *s;
    let pad = kernel / 2;
    for (yy, xx) in (0..h).flat_map(|yy| (0..w).map(move |xx| (yy, xx))) {
        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
            let (Some(sy), Some(sx)) = ((yy + ky).checked_sub(pad), (xx + kx).checked_sub(pad)) else { continue };
            if sy >= h || sx >= w {
                continue;
            }
            for (o, i) in (0..cout).flat_map(|o| (0..cin).map(move |i| (o, i))) {
                f((sy * w + sx) * cin + i, ((o * kernel + ky) * kernel + kx) * cin + i, (yy * w + xx) * cout + o);
            }
        }
    }
}

/// A result for one picture does not depend on its neighbours in the batch.
#[test]
fn pictures_of_a_batch_are_independent() {
    let k = NormAct { positions: 6, channels: 16, silu: true };
    let x = normal(5, &[1, 6, 16], 1.0).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (mut a, mut b, mut m) = (vec![0.0; 96], vec![0.0; 96], NormScratch::default());
    k.forward(&x, &[1.0; 16], &[0.0; 16], &mut a, &mut m);
    k.forward(&a.clone(), &[2.0; 16], &[1.0; 16], &mut b, &mut m);
    let mut again = vec![0.0; 96];
    k.forward(&x, &[1.0; 16], &[0.0; 16], &mut again, &mut m);
    assert_eq!(a, again);
    assert!(b.iter().all(|v| v.is_finite()));
}
