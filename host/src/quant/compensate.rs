//! Rounding to four bits that makes up for itself: a convolution's weights are rounded one input after the other, and
//! each error is passed on to the inputs that come later, in the shares that change the outputs least over what the layer
//! reads (Frantar et al., GPTQ, ICLR 2023, arXiv 2210.17323).

use super::groups::{GroupedRow, level, quantize_groups};
use super::observe::{Calibration, walk};
use crate::export::{Graph, Input, NodeKind};
use crate::nn::UNet;
use anyhow::Result;
use candle_core::{D, Tensor};
use fewstep_core::ops::int4::GROUP;
use std::collections::BTreeMap;

/// What is added to the diagonal, as a share of its mean: directions that the inputs hardly have stay harmless.
const DAMPING: f64 = 0.01;
/// Pictures of each evaluation whose inputs are summed: one of each class, where there are few.
const PICTURES: usize = 10;

/// Sums of products of what each convolution reads, by its name: [row][row], a row being [kernel][kernel][cin].
pub type Moments = BTreeMap<String, Vec<f64>>;

/// Sums them over the student's own trajectories.
pub fn moments(
    net: &UNet,
    steps: usize,
    from: Calibration,
    seed: u64,
    progress: impl FnMut(usize, usize),
) -> Result<Moments> {
    let graph = Graph::new(&net.arch);
    let mut sums = Moments::new();
    walk(net, steps, from, seed, progress, |_, name, t| {
        for node in &graph.nodes {
            let (NodeKind::Conv { kernel, .. }, Input::Node(input)) = (node.kind, node.input) else { continue };
            if graph.nodes[input].name != name {
                continue;
            }
            let columns = columns(&t.narrow(0, 0, t.dim(0)?.min(PICTURES))?, kernel)?;
            let product = columns.t()?.matmul(&columns)?.flatten_all()?.to_vec1::<f32>()?;
            let sums = sums.entry(node.name.clone()).or_insert_with(|| vec![0.0; product.len()]);
            sums.iter_mut().zip(product).for_each(|(sum, p)| *sum += f64::from(p));
        }
        Ok(())
    })?;
    Ok(sums)
}

/// The cells under the kernel around every cell of [B, h, w, c]: [B h w][kernel kernel c], 0 outside.
fn columns(x: &Tensor, kernel: usize) -> candle_core::Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let pad = kernel / 2;
    let padded = x.pad_with_zeros(1, pad, pad)?.pad_with_zeros(2, pad, pad)?;
    let taps = (0..kernel * kernel).map(|tap| padded.narrow(1, tap / kernel, h)?.narrow(2, tap % kernel, w));
    let taps = taps.collect::<candle_core::Result<Vec<_>>>()?;
    Tensor::cat(&taps, D::Minus1)?.reshape((b * h * w, kernel * kernel * c))
}

/// U, upper triangular, with U^T U the inverse of the moments.
fn inverse_factor(moments: &[f64], n: usize) -> Vec<f64> {
    let mean = (0..n).map(|i| moments[i * n + i]).sum::<f64>() / n as f64;
    let damping = DAMPING * mean.max(1e-12);
    // R, upper triangular, with R R^T the moments: column after column from the last one.
    let mut r = vec![0.0; n * n];
    for j in (0..n).rev() {
        for i in (0..=j).rev() {
            let (row_i, row_j) = (&r[i * n + j + 1..(i + 1) * n], &r[j * n + j + 1..(j + 1) * n]);
            let rest: f64 = row_i.iter().zip(row_j).map(|(a, b)| a * b).sum();
            let damped = moments[i * n + j] + if i == j { damping } else { 0.0 };
            r[i * n + j] =
                if i == j { (damped - rest).max(1e-3 * damping).sqrt() } else { (damped - rest) / r[j * n + j] };
        }
    }
    // Its inverse, by columns: columns lie together in `t`, its transpose.
    let mut t = vec![0.0; n * n];
    for j in 0..n {
        t[j * n + j] = 1.0 / r[j * n + j];
        for i in (0..j).rev() {
            let (row, column) = (&r[i * n + i + 1..=i * n + j], &t[j * n + i + 1..=j * n + j]);
            let sum: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
            t[j * n + i] = -sum / r[i * n + i];
        }
    }
    (0..n * n).map(|k| t[k % n * n + k / n]).collect()
}

/// Rounds the rows of a layer's weights, each of which meets inputs with these moments.
pub fn quantize_compensated(weights: &[f32], outputs: usize, moments: &[f64]) -> Vec<GroupedRow> {
    let n = weights.len() / outputs;
    let u = inverse_factor(moments, n);
    weights.chunks_exact(n).map(|row| compensate(row, &u, moments)).collect()
}

fn compensate(row: &[f32], u: &[f64], moments: &[f64]) -> GroupedRow {
    let n = row.len();
    let mut out = quantize_groups(row);
    let mut w: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
    for i in 0..n {
        let m = f32::from(out.multipliers[i / GROUP]);
        let rounded = level(w[i] as f32, m * out.scale) * m;
        out.weights[i] = rounded as i8;
        let error = (w[i] - f64::from(rounded * out.scale)) / u[i * n + i];
        w[i + 1..].iter_mut().zip(&u[i * n + i + 1..(i + 1) * n]).for_each(|(w, u)| *w -= error * u);
    }
    // The scale with which these integers give the outputs best.
    let (mut vp, mut pp) = (0.0, 0.0);
    for (i, &p) in out.weights.iter().enumerate().filter(|(_, p)| **p != 0) {
        let row_of = |values: &mut dyn Iterator<Item = f64>| -> f64 {
            moments[i * n..(i + 1) * n].iter().zip(values).map(|(h, v)| h * v).sum()
        };
        vp += f64::from(p) * row_of(&mut row.iter().map(|v| f64::from(*v)));
        pp += f64::from(p) * row_of(&mut out.weights.iter().map(|p| f64::from(*p)));
    }
    let scale = (vp / pp) as f32;
    if (0.8..1.25).contains(&(scale / out.scale)) {
        out.scale = scale;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Numbers that look random.
    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin() * 43.7585).map(|x| x.fract()).collect()
    }

    /// Inputs that are hardly more than eight numbers mixed: then there is much to make up with.
    fn inputs(n: usize, samples: usize) -> Vec<Vec<f32>> {
        let mix = numbers(8 * n, 0.3);
        (0..samples)
            .map(|s| {
                let (few, own) = (numbers(8, s as f32 * 17.0), numbers(n, s as f32 * 31.0));
                (0..n).map(|i| (0..8).map(|k| few[k] * mix[k * n + i]).sum::<f32>() + 0.1 * own[i]).collect()
            })
            .collect()
    }

    #[test]
    fn outputs_are_nearer_than_by_plain_rounding() {
        let (n, samples) = (72, inputs(72, 300));
        let mut moments = vec![0.0; n * n];
        for x in &samples {
            for (k, sum) in moments.iter_mut().enumerate() {
                *sum += f64::from(x[k / n] * x[k % n]);
            }
        }
        let rows = numbers(3 * n, 0.7);
        let error = |row: &[f32], got: &GroupedRow| -> f32 {
            let apart = |x: &Vec<f32>| -> f32 {
                let terms = x.iter().zip(row).zip(&got.weights);
                terms.map(|((x, v), q)| x * (v - f32::from(*q) * got.scale)).sum()
            };
            samples.iter().map(|x| apart(x).powi(2)).sum()
        };
        for (row, got) in rows.chunks(n).zip(quantize_compensated(&rows, 3, &moments)) {
            let (plain, now) = (error(row, &quantize_groups(row)), error(row, &got));
            assert!(now < 0.6 * plain, "{now} {plain}");
            for (i, w) in got.weights.iter().enumerate() {
                let m = got.multipliers[i / GROUP] as i8;
                assert!(w % m == 0 && (-8..8).contains(&(w / m)));
            }
        }
    }

    #[test]
    fn the_factor_is_the_inverses() {
        let n = 12;
        let a = numbers(n * n, 0.2);
        let h: Vec<f64> =
            (0..n * n).map(|k| (0..n).map(|j| f64::from(a[k / n * n + j] * a[k % n * n + j])).sum::<f64>()).collect();
        let u = inverse_factor(&h, n);
        let damping = DAMPING * (0..n).map(|i| h[i * n + i]).sum::<f64>() / n as f64;
        for i in 0..n {
            for j in 0..n {
                // (U^T U) H = 1
                let inverse = |k: usize| (0..n).map(|l| u[l * n + i] * u[l * n + k]).sum::<f64>();
                let damped = |k: usize| h[k * n + j] + if k == j { damping } else { 0.0 };
                let got: f64 = (0..n).map(|k| inverse(k) * damped(k)).sum();
                assert!((got - f64::from(i == j)).abs() < 1e-6, "{i} {j} {got}");
            }
        }
    }

    #[test]
    fn columns_are_what_a_kernel_sees() {
        let x = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((1, 3, 4, 2)).unwrap();
        let got = columns(&x, 3).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!((got.len(), got[0].len()), (12, 18));
        // The first cell sees nothing above and to the left.
        assert_eq!(got[0][..8], [0.0; 8]);
        assert_eq!(got[0][8..], [0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(columns(&x, 1).unwrap().to_vec2::<f32>().unwrap()[5], [10.0, 11.0]);
    }
}
