//! The training kernels at the shapes of the default network, for every engine that this CPU has: one thread, one
//! picture at a time, as the trainer calls them.
//!
//! Throughput is multiply-accumulates a second for convolutions, values a second for normalization.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fewstep::nn::kernels::{ConvShape, NormAct, NormScratch, Scratch};
use fewstep::nn::{Engine, native, ops};
use fewstep_benches::Numbers;

fn conv(c: &mut Criterion) {
    for (name, shape) in [
        ("3x3 14x14 32", ConvShape { h: 14, w: 14, cin: 32, cout: 32, kernel: 3 }),
        ("3x3 7x7 64", ConvShape { h: 7, w: 7, cin: 64, cout: 64, kernel: 3 }),
        ("1x1 7x7 64 to 192", ConvShape { h: 7, w: 7, cin: 64, cout: 192, kernel: 1 }),
        ("3x3 14x14 4 to 32", ConvShape { h: 14, w: 14, cin: 4, cout: 32, kernel: 3 }),
    ] {
        let mut n = Numbers::default();
        let (x, g) = (n.normals(shape.input_len(), 1.0), n.normals(shape.output_len(), 1.0));
        let weights = n.normals(shape.weights_len(), 0.05);
        let mut y = vec![0.0; shape.output_len()];
        let mut scratch = Scratch::default();
        let mut group = c.benchmark_group("training conv");
        group.throughput(Throughput::Elements((shape.h * shape.w * shape.weights_len()) as u64));
        for engine in Engine::available() {
            let packed = shape.pack(engine, &weights);
            group.bench_function(BenchmarkId::new(format!("forward {name}"), engine.name()), |b| {
                b.iter(|| {
                    y.fill(0.0);
                    shape.forward(&packed, black_box(&x), &mut y, &mut scratch);
                })
            });
            let mut sum = shape.gradient(engine);
            group.bench_function(BenchmarkId::new(format!("weight gradient {name}"), engine.name()), |b| {
                b.iter(|| shape.add_gradient(black_box(&x), black_box(&g), &mut sum, &mut scratch))
            });
        }
        group.finish();
    }
}

fn norm_act(c: &mut Criterion) {
    for (name, positions, channels) in [("14x14 32", 14 * 14, 32), ("7x7 64", 7 * 7, 64)] {
        let norm = NormAct { positions, channels, silu: true };
        let mut n = Numbers::default();
        let (x, g) = (n.normals(positions * channels, 1.0), n.normals(positions * channels, 1.0));
        let (scale, shift) = (n.normals(channels, 1.0), n.normals(channels, 0.3));
        let (mut y, mut dx, mut dy) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]);
        let (mut dscale, mut dshift) = (vec![0.0; channels], vec![0.0; channels]);
        let mut scratch = NormScratch::default();
        let mut group = c.benchmark_group("training norm_act");
        group.throughput(Throughput::Elements(x.len() as u64));
        group.bench_function(BenchmarkId::new("forward", name), |b| {
            b.iter(|| norm.forward(black_box(&x), &scale, &shift, &mut y, &mut scratch))
        });
        group.bench_function(BenchmarkId::new("backward", name), |b| {
            b.iter(|| {
                dx.fill(0.0);
                dy.copy_from_slice(&g);
                norm.statistics(black_box(&x), &scale, &shift, &mut scratch);
                norm.backward(&x, &scale, &mut dy, &mut y, &mut dx, &mut dscale, &mut dshift, &mut scratch);
            })
        });
        group.finish();
    }
}

/// Residual blocks of the shipped teacher, which has five of each: by the kernels, and as candle's own operations.
fn res_block(c: &mut Criterion) {
    const BATCH: usize = 32;
    for (name, side, channels) in [("14x14 32", 14, 32), ("7x7 64", 7, 64)] {
        let mut n = Numbers::default();
        let mut tensor = |shape: &[usize], deviation| {
            Tensor::from_vec(n.normals(shape.iter().product(), deviation), shape, &Device::Cpu).unwrap()
        };
        let x = tensor(&[BATCH, side, side, channels], 1.0);
        let affine = [0.1; 4].map(|deviation| tensor(&[BATCH, channels], deviation));
        let affine = [&affine[0], &affine[1], &affine[2], &affine[3]];
        let weights = [(); 2].map(|()| (tensor(&[channels, 3, 3, channels], 0.05), tensor(&[channels], 0.1)));
        let weights = [&weights[0].0, &weights[0].1, &weights[1].0, &weights[1].1];
        let mut group = c.benchmark_group("residual block, 32 pictures");
        group.throughput(Throughput::Elements((BATCH * side * side * channels * channels * 9 * 2) as u64));
        group.bench_function(BenchmarkId::new(name, Engine::current().name()), |b| {
            b.iter(|| ops::res_blocks(black_box(&x), &Tensor::cat(&affine, 1).unwrap(), &[weights]).unwrap())
        });
        group.bench_function(BenchmarkId::new(name, "candle"), |b| {
            b.iter(|| native::res_block(black_box(&x), affine, weights).unwrap())
        });
        group.finish();
    }
}

/// Short runs: the whole set takes minutes, not tens of them.
fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = training; config = config(); targets = conv, norm_act, res_block);
criterion_main!(training);
