//! The core's sampler against a reference of the same quantized network in f64.
//!
//! The reference walks the exporter's graph with plain loops: integers where the core has integers, f64 where it has
//! f32, exact exp, sin, cos and square roots. It rounds where the core rounds. A value that lies within f32's error
//! of a rounding edge may fall to the other side, and single quantized values differ by one step: shallow networks give the
//! same bytes, deep ones the same pictures within a level (root mean square).

use fewstep::diffusion::{depth_to_space, space_to_depth, to_byte, to_signed};
use fewstep::export::{
    Dense, ExportOptions, GROUP, GROUPNORM_EPS, Graph, Input, NodeKind, StudentSpec, random_student, write_image,
};
use fewstep::files::AlignedBytes;
use fewstep::nn::Arch;
use fewstep::noise::sample_noise;
use fewstep_core::format::Element;
use fewstep_core::{Backend, Model, Request, Session};
use ndarray::{Array1, Array2, Array3, s};
use std::f64::consts::FRAC_PI_2;

/// Quantized values [H, W, C] with their scale and zero point.
struct Tensor {
    q: Array3<f64>,
    scale: f64,
    zero: f64,
}

impl Tensor {
    fn real(&self) -> Array3<f64> {
        self.q.mapv(|q| (q - self.zero) * self.scale)
    }
}

fn saturate(element: Element, v: f64) -> f64 {
    match element {
        Element::I8 => v.round_ties_even().clamp(-128.0, 127.0),
        Element::I16 => v.round_ties_even().clamp(-32768.0, 32767.0),
        _ => v,
    }
}

fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}

fn dense(d: &Dense, x: &Array1<f64>) -> Array1<f64> {
    let n = x.len();
    let weights = Array2::from_shape_vec((d.bias.len(), n), d.weights.iter().map(|w| f64::from(*w)).collect()).unwrap();
    let widen = |v: &[f32]| Array1::from_iter(v.iter().map(|v| f64::from(*v)));
    weights.dot(x) * widen(&d.scale) + widen(&d.bias)
}

/// Scales and shifts of all blocks at one step.
fn film(spec: &StudentSpec, step: usize, class: usize, w: f64) -> Array1<f64> {
    let e = spec.arch.embed;
    let u = FRAC_PI_2 * w / 4.0;
    let features: Vec<f64> =
        (1..=4).map(|k| (k as f64 * u).sin()).chain((1..=4).map(|k| (k as f64 * u).cos())).collect();
    let first = Array1::from_shape_fn(e, |i| {
        let guidance: f64 = (0..8).map(|k| f64::from(spec.guidance[i * 8 + k]) * features[k]).sum();
        f64::from(spec.time[step][i]) + f64::from(spec.class[class * e + i]) + guidance
    });
    dense(&spec.film, &dense(&spec.hidden, &first.mapv(silu)).mapv(silu))
}

/// One evaluation: v in space-to-depth form.
fn evaluate(
    spec: &StudentSpec,
    graph: &Graph,
    z: &Array3<f64>,
    base: Option<&Array3<f64>>,
    step: usize,
    class: usize,
    w: f64,
) -> Array3<f64> {
    let film = film(spec, step, class, w);
    let mut out: Vec<Tensor> = Vec::new();
    for node in &graph.nodes {
        let (h, wd, c) = (node.height, node.width, node.channels);
        let input = |i: Input| match i {
            Input::State | Input::Base => panic!("only a quantization reads the state or the base"),
            Input::Node(i) => &out[i],
        };
        let (scale, zero) = match spec.activations[step].get(&node.name) {
            Some(q) => (f64::from(q.scale), f64::from(q.zero_point)),
            None if node.kind == NodeKind::AvgPool2 => (input(node.input).scale, 0.0),
            None => (1.0, 0.0),
        };
        let real = match node.kind {
            NodeKind::Quantize if node.input == Input::Base => base.expect("a base").clone(),
            NodeKind::Quantize => z.clone(),
            NodeKind::Conv { kernel, cin, residual } => {
                let (x, conv) = (input(node.input).real(), &spec.convs[&node.name]);
                let pad = kernel / 2;
                Array3::from_shape_fn((h, wd, c), |(y, xx, o)| {
                    let mut sum = 0.0;
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let (Some(sy), Some(sx)) = ((y + ky).checked_sub(pad), (xx + kx).checked_sub(pad)) else {
                                continue;
                            };
                            if sy >= h || sx >= wd {
                                continue;
                            }
                            for i in 0..cin {
                                sum += x[[sy, sx, i]]
                                    * f64::from(conv.weights[((o * kernel + ky) * kernel + kx) * cin + i]);
                            }
                        }
                    }
                    let old = residual.map_or(0.0, |r| out[r].q[[y, xx, o]] * out[r].scale);
                    sum * f64::from(conv.scale[o]) + f64::from(conv.bias[o]) + old
                })
            }
            NodeKind::NormAct { silu: act, per_cell: true, film: at } => {
                let (x, norm) = (input(node.input).real(), &spec.norms[&node.name]);
                Array3::from_shape_fn((h, wd, c), |(y, xx, k)| {
                    let cell = x.slice(s![y, xx, ..]);
                    let mean = cell.mean().unwrap();
                    let inv = 1.0 / (cell.mapv(|v| (v - mean).powi(2)).mean().unwrap() + GROUPNORM_EPS).sqrt();
                    let (fs, fb) = at.map_or((0.0, 0.0), |at| (film[at + k], film[at + c + k]));
                    let a = f64::from(norm.gamma[k]) * (1.0 + fs);
                    let u = (cell[k] - mean) * inv * a + f64::from(norm.beta[k]) * (1.0 + fs) + fb;
                    if act { silu(u) } else { u }
                })
            }
            NodeKind::NormAct { silu: act, film: at, .. } => {
                let (x, norm) = (input(node.input).real(), &spec.norms[&node.name]);
                let mut y = Array3::zeros((h, wd, c));
                for g in (0..c).step_by(GROUP) {
                    let group = x.slice(s![.., .., g..g + GROUP]);
                    let mean = group.mean().unwrap();
                    let var = group.mapv(|v| (v - mean).powi(2)).mean().unwrap();
                    let inv = 1.0 / (var + GROUPNORM_EPS).sqrt();
                    for k in g..g + GROUP {
                        let (fs, fb) = at.map_or((0.0, 0.0), |at| (film[at + k], film[at + c + k]));
                        let a = f64::from(norm.gamma[k]) * (1.0 + fs);
                        let b = f64::from(norm.beta[k]) * (1.0 + fs) + fb;
                        let u = x.slice(s![.., .., k]).mapv(|v| (v - mean) * inv * a + b);
                        y.slice_mut(s![.., .., k]).assign(&if act { u.mapv(silu) } else { u });
                    }
                }
                y
            }
            NodeKind::AvgPool2 => {
                let x = input(node.input);
                Array3::from_shape_fn((h, wd, c), |(y, xx, k)| {
                    let sum: f64 = x.q.slice(s![2 * y..2 * y + 2, 2 * xx..2 * xx + 2, k]).sum();
                    ((sum + 2.0) / 4.0).floor() * x.scale
                })
            }
            NodeKind::UpsampleAdd { stream } => {
                let (x, old) = (input(node.input).real(), out[stream].real());
                Array3::from_shape_fn((h, wd, c), |(y, xx, k)| old[[y, xx, k]] + x[[y / 2, xx / 2, k]])
            }
            NodeKind::Attention { heads } => {
                let x = input(node.input).real();
                let (t, d) = (h * wd, c / heads);
                let flat = x.into_shape_with_order((t, 3 * c)).unwrap();
                let mut y = Array2::zeros((t, c));
                for head in 0..heads {
                    let part = |p: usize| flat.slice(s![.., p * c + head * d..p * c + (head + 1) * d]);
                    let mut scores = part(0).dot(&part(1).t()) / (d as f64).sqrt();
                    for mut row in scores.rows_mut() {
                        let max = row.fold(f64::MIN, |m, v| m.max(*v));
                        row.mapv_inplace(|v| (v - max).exp());
                        let total = row.sum();
                        row /= total;
                    }
                    y.slice_mut(s![.., head * d..(head + 1) * d]).assign(&scores.dot(&part(2)));
                }
                y.into_shape_with_order((h, wd, c)).unwrap()
            }
        };
        let q = real.mapv(|v| if node.element == Element::F32 { v } else { saturate(node.element, v / scale + zero) });
        out.push(Tensor { q, scale, zero });
    }
    out.pop().unwrap().q
}

/// A base for a network that enlarges.
fn base_picture(arch: &Arch) -> Vec<u8> {
    (0..arch.base_shape().picture_len()).map(|i| 60 + (i * i % 131) as u8).collect()
}

/// The bytes of a picture of twice the size of its base: means and coefficients of the Haar wavelet, a quarter each.
fn with_details(arch: &Arch, base: &[u8], details: &[f64]) -> Vec<u8> {
    let (w, c) = (arch.width, arch.base);
    let mut out = vec![0; 4 * base.len()];
    let sign = |on: usize| if on == 0 { 1.0 } else { -1.0 };
    for y in 0..2 * arch.height {
        for x in 0..2 * w {
            for i in 0..c {
                let pixel = (y / 2) * w + x / 2;
                let d = |k: usize| details[(pixel * 3 + k) * c + i] / 4.0;
                let difference = |y: usize, x: usize| sign(x) * d(0) + sign(y) * d(1) + sign(x) * sign(y) * d(2);
                let mean = f64::from(base[pixel * c + i]) / 127.5 - 1.0;
                // The largest share of the differences that keeps all four pixels within -1 and 1.
                let mut share = 1.0f64;
                for difference in [difference(0, 0), difference(0, 1), difference(1, 0), difference(1, 1)] {
                    for edge in [-1.0, 1.0] {
                        if difference * edge > 0.0 {
                            share = share.min((edge - mean) / difference);
                        }
                    }
                }
                out[(y * 2 * w + x) * c + i] = to_byte((mean + share * difference(y % 2, x % 2)) as f32);
            }
        }
    }
    out
}

/// The picture's bytes by the reference.
fn reference(spec: &StudentSpec, request: &Request) -> Vec<u8> {
    let (arch, graph) = (&spec.arch, Graph::new(&spec.arch));
    let (h, w) = arch.level_size(0);
    let len = arch.picture_len();
    let (mut noise, mut depth) = (vec![0.0; len], vec![0.0; len]);
    let bytes = base_picture(arch);
    let base = (arch.base > 0).then(|| {
        let values: Vec<f32> = bytes.iter().map(|v| to_signed(*v)).collect();
        let mut depth = vec![0.0; values.len()];
        space_to_depth(&arch.base_shape(), &values, &mut depth);
        let values = depth.iter().map(|v| f64::from(*v)).collect();
        Array3::from_shape_vec((h, w, arch.base_shape().patch_channels()), values).unwrap()
    });
    // Details have the streams of noise from 2^30 on.
    sample_noise(request.seed, if base.is_some() { 1 << 30 } else { 0 }, len, &mut noise);
    space_to_depth(arch, &noise, &mut depth);
    let mut z =
        Array3::from_shape_vec((h, w, arch.patch_channels()), depth.iter().map(|v| f64::from(*v)).collect()).unwrap();
    let own = spec.steps();
    let steps = if request.steps == 0 { own } else { request.steps.into() };
    let d = FRAC_PI_2 / steps as f64;
    for step in 0..steps {
        let v = evaluate(spec, &graph, &z, base.as_ref(), step * own / steps, request.class.into(), request.w.into());
        z = z * d.cos() - v * d.sin();
    }
    let (flat, mut picture): (Vec<f32>, Vec<f32>) = (z.iter().map(|v| *v as f32).collect(), vec![0.0; len]);
    depth_to_space(arch, &flat, &mut picture);
    if arch.base > 0 {
        return with_details(arch, &bytes, &picture.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    }
    picture.into_iter().map(to_byte).collect()
}

/// The picture's bytes by the core, with a backend.
fn sampled(spec: &StudentSpec, request: &Request, backend: Backend) -> Vec<u8> {
    let image = AlignedBytes::from(write_image(spec, &ExportOptions::default()).unwrap().bytes.as_slice());
    let model = Model::parse(&image).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut out = vec![0; model.output_bytes()];
    let base = base_picture(&spec.arch);
    let mut session = Session::with_backend(&model, &mut arena, backend).unwrap();
    match spec.arch.base {
        0 => session.sample(request, &mut out).unwrap(),
        _ => session.enlarge(request, &base, &mut out).unwrap(),
    }
    out
}

#[test]
fn the_core_draws_what_the_reference_in_f64_draws() {
    let small = Arch {
        widths: vec![16, 24],
        encoder: vec![1],
        middle: 2,
        decoder: vec![1],
        attention_heads: 3,
        embed: 16,
        ..Arch::for_pictures(12, 16, 3, 5)
    };
    let three_levels = Arch {
        widths: vec![8, 16, 24],
        encoder: vec![1, 1],
        middle: 1,
        decoder: vec![1, 2],
        attention_heads: 0,
        embed: 8,
        ..Arch::for_pictures(16, 16, 1, 2)
    };
    let folded = Arch {
        widths: vec![16, 24],
        encoder: vec![1],
        middle: 1,
        decoder: vec![1],
        ..Arch::for_pictures(64, 64, 3, 3)
    };
    assert_eq!((folded.patch, folded.level_size(0)), (4, (16, 16)));
    let enlarging = Arch { widths: vec![16], middle: 1, ..Arch::for_enlarging(16, 12, 3, 2) };
    let mut exact = 0;
    for (arch, steps) in
        [(small, 4), (three_levels, 2), (Arch::for_pictures(28, 28, 1, 10), 2), (folded, 2), (enlarging, 2)]
    {
        let spec = random_student(&arch, steps, 3);
        for (seed, class, w, steps) in [(1, 0, 0.0, 0), (2, 1, 1.5, 0), (3, 1, 4.0, 1)] {
            let request = Request { seed, class, w, steps, ..Request::default() };
            let want = reference(&spec, &request);
            assert!(want.iter().any(|v| *v != want[0]), "a picture of one colour proves nothing");
            for backend in Backend::all() {
                let got = sampled(&spec, &request, backend);
                let apart: Vec<f64> = got.iter().zip(&want).map(|(a, b)| f64::from(a.abs_diff(*b))).collect();
                let rms = (apart.iter().map(|d| d * d).sum::<f64>() / apart.len() as f64).sqrt();
                let worst = apart.iter().copied().fold(0.0, f64::max);
                println!("{} {request:?}: rms {rms:.3} levels, worst {worst}", backend.name());
                // Where a rounding falls to the other side, what follows moves by fractions of a level, more in a
                // deeper network; a wrong formula moves it by tens.
                assert!(rms < 1.0 && worst < 8.0, "{}: seed {seed}: rms {rms} levels, worst {worst}", backend.name());
                exact += usize::from(rms == 0.0);
            }
        }
    }
    assert!(exact >= 3, "no picture of the shallow networks was equal in every byte");
}
