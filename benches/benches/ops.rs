//! Every operation of the core at the shapes of the shipped student, for every backend that this CPU runs.
//!
//! Throughput is multiply-accumulates a second for convolution, attention and embedding, values a second elsewhere.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fewstep_benches::Numbers;
use fewstep_core::ops::embed::{Dense, GUIDANCE_FEATURES};
use fewstep_core::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample, Weights};
use fewstep_core::sampler::noise::normals;
use fewstep_core::sampler::picture::Geometry;
use fewstep_core::{Arena, Backend};

/// Runs `run` for every backend under `group/name/backend`.
fn each_backend(c: &mut Criterion, group: &str, name: &str, work: u64, mut run: impl FnMut(Backend)) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(work));
    for backend in Backend::all() {
        group.bench_function(BenchmarkId::new(name, backend.name()), |b| b.iter(|| run(backend)));
    }
    group.finish();
}

/// The kinds of convolution in a student.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// int8 to int16: first convolution of a block, qkv and output projections.
    Plain,
    /// int8 onto the residual stream: second convolution of a block.
    Residual,
    /// int16 to int16: first convolution of the network, down and up.
    Wide,
    /// int16 to f32: last convolution of the network.
    Last,
}

fn conv(c: &mut Criterion) {
    for (name, side, cin, cout, kernel, kind) in [
        ("3x3 14x14 32", 14, 32, 32, 3, Kind::Plain),
        ("3x3 14x14 32 residual", 14, 32, 32, 3, Kind::Residual),
        ("3x3 16x16 32", 16, 32, 32, 3, Kind::Plain),
        ("3x3 8x8 64", 8, 64, 64, 3, Kind::Plain),
        ("3x3 7x7 64", 7, 64, 64, 3, Kind::Plain),
        ("3x3 7x7 64 residual", 7, 64, 64, 3, Kind::Residual),
        ("1x1 7x7 64 to 192", 7, 64, 192, 1, Kind::Plain),
        ("1x1 i16 7x7 32 to 64", 7, 32, 64, 1, Kind::Wide),
        ("3x3 i16 14x14 4 to 32", 14, 4, 32, 3, Kind::Wide),
        ("3x3 i16 to f32 14x14 32 to 4", 14, 32, 4, 3, Kind::Last),
    ] {
        let mut n = Numbers::default();
        let weights = n.weights(cout * kernel * kernel * cin);
        let (scale, bias) = (n.scales(cout, 1e-3), n.normals(cout, 0.1));
        let wide_input = matches!(kind, Kind::Wide | Kind::Last);
        let (q8, q16) = (n.i8s(side * side * cin), n.i16s(side * side * cin));
        let p = Conv {
            height: side,
            width: side,
            cin,
            cout,
            kernel,
            weights: Weights::Int8(&weights),
            scale: &scale,
            bias: &bias,
            a: if wide_input { 0.01 } else { 1.0 },
            b: 100.0,
            c: 0.9,
            zp: if wide_input { 0 } else { -100 },
        };
        let mut narrow = n.i16s(side * side * cout);
        let mut float = vec![0.0; side * side * cout];
        let mut scratch = Arena::<{ 20 * 1024 }>::new();
        let macs = (side * side * cout * kernel * kernel * cin) as u64;
        each_backend(c, "conv", name, macs, |backend| {
            let input = if wide_input { ConvIn::I16(&q16) } else { ConvIn::I8(&q8) };
            let out = match kind {
                Kind::Plain | Kind::Wide => ConvOut::I16(&mut narrow),
                Kind::Residual => ConvOut::I16Add(&mut narrow),
                Kind::Last => ConvOut::F32(&mut float),
            };
            (backend.kernels().conv)(black_box(&p), black_box(input), out, scratch.bytes());
        });
    }
}

fn norm_act(c: &mut Criterion) {
    for (name, side, channels, silu) in
        [("14x14 32 silu", 14, 32, true), ("7x7 64 silu", 7, 64, true), ("7x7 64", 7, 64, false)]
    {
        let mut n = Numbers::default();
        let cells = side * side;
        let input = n.i16s(cells * channels);
        let (gamma, beta, film) = (n.normals(channels, 1.0), n.normals(channels, 0.3), n.normals(2 * channels, 0.3));
        let film = silu.then_some(film.as_slice());
        let p =
            NormAct { cells, channels, group: 8, gamma: &gamma, beta: &beta, film, silu, a: 50.0, b: 10.0, zp: -100 };
        let mut out = vec![0; input.len()];
        each_backend(c, "norm_act", name, input.len() as u64, |backend| {
            (backend.kernels().norm_act)(black_box(&p), black_box(&input), NormOut::I8(&mut out));
        });
    }
}

fn attention(c: &mut Criterion) {
    let (tokens, channels) = (49, 64);
    for heads in [1, 4] {
        let p = Attention { tokens, channels, heads, a: 1e-4, b: 1.0 };
        let qkv = Numbers::default().i8s(tokens * 3 * channels);
        let (mut scores, mut out) = (vec![0.0; tokens], vec![0; tokens * channels]);
        let macs = (2 * tokens * tokens * channels) as u64;
        each_backend(c, "attention", &format!("7x7 64, {heads} heads"), macs, |backend| {
            (backend.kernels().attention)(black_box(&p), black_box(&qkv), &mut scores, &mut out);
        });
    }
}

fn embed(c: &mut Criterion) {
    // The film of 2 + 3 blocks of 32 channels and 5 of 64.
    let (e, f) = (64, 2 * (5 * 32 + 5 * 64));
    let mut n = Numbers::default();
    let (time, class, guidance) = (n.normals(e, 1.0), n.normals(e, 1.0), n.normals(e * GUIDANCE_FEATURES, 0.3));
    let (hidden_weights, hidden_scale, hidden_bias) = (n.weights(e * e), n.scales(e, 1e-3), n.normals(e, 0.1));
    let (film_weights, film_scale, film_bias) = (n.weights(f * e), n.scales(f, 1e-3), n.normals(f, 0.1));
    let p = Embed {
        time: &time,
        class: &class,
        guidance: &guidance,
        hidden: Dense { weights: Weights::Int8(&hidden_weights), scale: &hidden_scale, bias: &hidden_bias },
        film: Dense { weights: Weights::Int8(&film_weights), scale: &film_scale, bias: &film_bias },
        w: 1.5,
    };
    let (mut first, mut second, mut film) = (vec![0.0; e], vec![0.0; e], vec![0.0; f]);
    let macs = (e * GUIDANCE_FEATURES + e * e + f * e) as u64;
    each_backend(c, "embed", "64 to 960", macs, |backend| {
        (backend.kernels().embed)(black_box(&p), &mut first, &mut second, &mut film);
    });
}

fn elementwise(c: &mut Criterion) {
    let mut n = Numbers::default();
    let (high, low) = (n.i16s(14 * 14 * 32), n.i16s(7 * 7 * 32));

    let p = Pool { height: 14, width: 14, channels: 32 };
    let mut out = low.clone();
    each_backend(c, "avg_pool2", "14x14 32", high.len() as u64, |backend| {
        (backend.kernels().avg_pool2)(black_box(&p), black_box(&high), &mut out);
    });

    let p = Upsample { height: 14, width: 14, channels: 32, a: 0.4, c: 0.6 };
    let mut out = high.clone();
    each_backend(c, "upsample_add", "14x14 32", high.len() as u64, |backend| {
        (backend.kernels().upsample_add)(black_box(&p), black_box(&low), &mut out);
    });

    let z = n.normals(28 * 28, 1.0);
    let mut out = vec![0; z.len()];
    each_backend(c, "quantize", "28x28", z.len() as u64, |backend| {
        (backend.kernels().quantize)(black_box(8000.0), black_box(&z), &mut out);
    });
}

/// What no backend replaces: noise and pictures.
fn sampler(c: &mut Criterion) {
    let mut group = c.benchmark_group("sampler");
    group.throughput(Throughput::Elements(4));
    group.bench_function("normals", |b| b.iter(|| normals(black_box(1), 0, 7)));
    let geometry = Geometry { height: 28, width: 28, channels: 1, patch: 2 };
    let (mut z, mut picture) = (vec![0.0; 28 * 28], vec![0; 28 * 28]);
    group.throughput(Throughput::Elements(z.len() as u64));
    group.bench_function("fill_noise 28x28", |b| b.iter(|| geometry.fill_noise(&mut z, black_box(1), 0)));
    group.bench_function("store 28x28", |b| b.iter(|| geometry.store(black_box(&z), &mut picture)));
    group.finish();
}

/// Short runs: the whole set takes minutes, not tens of them.
fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = ops; config = config(); targets = conv, norm_act, attention, embed, elementwise, sampler);
criterion_main!(ops);
