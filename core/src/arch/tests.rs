//! Every backend that this CPU runs against the scalar one: the same bits for every shape and value.

use super::Backend;
use crate::ops::embed::{Dense, GUIDANCE_FEATURES};
use crate::ops::testing::Numbers;
use crate::ops::{
    Attention, Conv, ConvIn, ConvOut, Embed, Int4, NormAct, NormOut, Pool, Upsample, Weights, blocks, int4,
};

/// Calls `run` for every backend but scalar.
fn each(mut run: impl FnMut(Backend)) {
    let all: Vec<_> = Backend::all().collect();
    assert_eq!(all.last().map(Backend::name), Some("scalar"));
    for &backend in all.iter().filter(|b| b.name() != "scalar") {
        run(backend);
    }
    Backend::methods().for_each(run);
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn names_differ() {
    let mut names: Vec<_> = Backend::all().map(|b| b.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

struct Layer {
    height: usize,
    width: usize,
    cin: usize,
    cout: usize,
    kernel: usize,
    zp: i32,
}

type PreparedConv = fn(&Conv<'_>, &[i32], ConvIn<'_>, ConvOut<'_>);

/// The weights of a layer as the backend prepares them, and what takes them; None where it does not.
fn prepare(backend: Backend, p: &Conv<'_>, in_blocks: bool, input: ConvIn<'_>) -> Option<(PreparedConv, Vec<i32>)> {
    let preparing = backend.kernels().preparing.filter(|_| matches!(input, ConvIn::I8(_)))?;
    // More is allowed.
    let mut panels = vec![0x5a5a_5a5a; (preparing.prepare)(p, in_blocks, &mut []) + 3];
    ((preparing.prepare)(p, in_blocks, &mut panels) > 0).then_some((preparing.conv, panels))
}

/// All kinds of input and output of one layer, with whatever `q8`, `q16` and `weights` hold.
fn compare_conv(layer: &Layer, n: &mut Numbers, q8: &[i8], q16: &[i16], weights: &[i8], what: &str) {
    let &Layer { height, width, cin, cout, kernel, zp } = layer;
    let (scale, bias) = (n.f32s(cout, 0.01), n.f32s(cout, 3.0));
    // About a third of the outputs saturates.
    let typical = 73.0 * 73.0 * ((kernel * kernel * cin) as f32).sqrt() * 0.006;
    let p = Conv {
        height,
        width,
        cin,
        cout,
        kernel,
        weights: Weights::Int8(weights),
        scale: &scale,
        bias: &bias,
        a: 100.0 / typical,
        b: 7.0,
        c: 0.83,
        zp,
    };
    let old = n.i16s(height * width * cout);
    type Kernel = fn(&Conv<'_>, ConvIn<'_>, ConvOut<'_>, &mut [u8]);
    let run = |conv: Kernel, p: &Conv<'_>, input: ConvIn<'_>| {
        let mut i8s = vec![0; old.len()];
        conv(p, input, ConvOut::I8(&mut i8s), &mut []);
        let (mut i16s, mut sums, mut f32s) = (old.clone(), old.clone(), vec![0.0; old.len()]);
        let wide = Conv { a: p.a * 250.0, ..*p };
        conv(&wide, input, ConvOut::I16(&mut i16s), &mut []);
        conv(&wide, input, ConvOut::I16Add(&mut sums), &mut []);
        conv(p, input, ConvOut::F32(&mut f32s), &mut []);
        (i8s, i16s, sums, bits(&f32s))
    };
    for (input, p) in [(ConvIn::I8(q8), p), (ConvIn::I16(q16), Conv { zp: 0, a: p.a / 256.0, ..p })] {
        let want = run(Backend::scalar().kernels().conv, &p, input);
        let compare = |backend: Backend, conv, p: &Conv<'_>, order| {
            assert!(
                run(conv, p, input) == want,
                "{} {what}{order}: {height}x{width} {cin} to {cout}, kernel {kernel}, zero point {}",
                backend.name(),
                p.zp
            );
        };
        // One kind of output: what was prepared is before it.
        let compare_prepared = |backend: Backend, p: &Conv<'_>, in_blocks| {
            if let Some((conv, panels)) = prepare(backend, p, in_blocks, input) {
                let mut sums = old.clone();
                conv(&Conv { a: p.a * 250.0, ..*p }, &panels, input, ConvOut::I16Add(&mut sums));
                assert!(
                    sums == want.2,
                    "{} {what}, prepared: {height}x{width} {cin} to {cout}, kernel {kernel}, blocks {in_blocks}",
                    backend.name()
                );
            }
        };
        each(|backend| compare(backend, backend.kernels().conv, &p, ""));
        Backend::all().for_each(|backend| compare_prepared(backend, &p, false));
        if matches!(input, ConvIn::I8(_)) && blocks::fits(cin, cout) {
            let mut packed = vec![0; weights.len()];
            blocks::pack(kernel * kernel, cin, weights, &mut packed);
            let p = Conv { weights: Weights::Int8(&packed), ..p };
            for backend in Backend::all().chain(Backend::methods()) {
                compare(backend, backend.kernels().conv_blocks, &p, " in blocks");
            }
            Backend::all().for_each(|backend| compare_prepared(backend, &p, true));
        }
    }
}

/// Layers of four-bit weights: those of the same weights in eight.
#[test]
fn conv_of_four_bits() {
    let mut n = Numbers(14);
    for (cin, cout, kernel) in [
        (4, 33, 3),
        (1, 5, 1),
        (7, 9, 3),
        (32, 20, 3),
        (64, 48, 3),
        (64, 192, 1),
        (130, 33, 3),
        (300, 5, 3),
        (3000, 3, 1),
    ] {
        let (bytes, weights) = int4::testing::random(&mut n, cout, kernel * kernel * cin);
        let int4 = Weights::Int4(Int4::new(&bytes, cout, kernel * kernel * cin).unwrap());
        let (scale, bias) = (n.f32s(cout, 0.01), n.f32s(cout, 3.0));
        let (height, width) = (3, 5);
        let p = Conv {
            height,
            width,
            cin,
            cout,
            kernel,
            weights: Weights::Int8(&weights),
            scale: &scale,
            bias: &bias,
            a: 0.1,
            b: 7.0,
            c: 0.83,
            zp: 5,
        };
        let (q8, q16) = (n.i8s(height * width * cin), n.i16s(height * width * cin));
        let run = |backend: Backend, p: &Conv<'_>, input: ConvIn<'_>| {
            let (mut wide, mut out) = (vec![0i16; height * width * cout], vec![0f32; height * width * cout]);
            (backend.kernels().conv)(p, input, ConvOut::I16(&mut wide), &mut []);
            (backend.kernels().conv)(p, input, ConvOut::F32(&mut out), &mut []);
            (wide, bits(&out))
        };
        for (input, p) in [(ConvIn::I8(&q8), p), (ConvIn::I16(&q16), Conv { zp: 0, ..p })] {
            let want = run(Backend::scalar(), &p, input);
            for backend in Backend::all() {
                let p = Conv { weights: int4, ..p };
                assert!(run(backend, &p, input) == want, "{}: {cin} to {cout}, kernel {kernel}", backend.name());
                if let Some((conv, panels)) = prepare(backend, &p, false, input) {
                    let mut out = vec![0f32; height * width * cout];
                    conv(&p, &panels, input, ConvOut::F32(&mut out));
                    assert!(bits(&out) == want.1, "{} prepared: {cin} to {cout}, kernel {kernel}", backend.name());
                }
            }
        }
    }
}

fn random_conv(layer: &Layer, n: &mut Numbers) {
    let cells = layer.height * layer.width * layer.cin;
    let (q8, q16) = (n.i8s(cells), n.i16s(cells));
    let weights = n.i8s(layer.cout * layer.kernel * layer.kernel * layer.cin);
    compare_conv(layer, n, &q8, &q16, &weights, "random");
}

const ZERO_POINTS: [i32; 5] = [0, -128, 127, -37, 90];

#[test]
fn conv_of_every_channel_count() {
    let mut n = Numbers(1);
    for channels in 1..=40 {
        for (case, (cin, cout)) in
            [(channels, 41 - channels), (channels, channels), (5, channels)].into_iter().enumerate()
        {
            for kernel in [1, 3] {
                let (height, width) = [(3, 4), (2, 7), (4, 3)][case];
                random_conv(
                    &Layer { height, width, cin, cout, kernel, zp: ZERO_POINTS[(channels + case) % 5] },
                    &mut n,
                );
            }
        }
    }
}

#[test]
fn conv_of_every_size() {
    let mut n = Numbers(2);
    for height in [1, 2, 3, 5, 9, 17] {
        for width in 1..=17 {
            for (case, kernel) in [1, 3].into_iter().enumerate() {
                let zp = ZERO_POINTS[(height + width + case) % 5];
                random_conv(
                    &Layer { height, width, cin: 8 + width % 3, cout: 4 + 3 * (height % 4), kernel, zp },
                    &mut n,
                );
            }
        }
    }
    random_conv(&Layer { height: 1, width: 61, cin: 4, cout: 33, kernel: 3, zp: -5 }, &mut n);
}

/// More channels than a patch holds at a time, than the small panel holds, and than the large one holds.
#[test]
fn conv_of_many_channels() {
    let mut n = Numbers(3);
    for (cin, cout, kernel) in [
        (64, 64, 3),
        (65, 48, 3),
        (97, 17, 3),
        (130, 33, 3),
        (300, 34, 3),
        (700, 9, 1),
        (3000, 3, 1),
        (64, 192, 1),
        (6, 200, 1),
    ] {
        random_conv(&Layer { height: 2, width: 3, cin, cout, kernel, zp: -100 }, &mut n);
    }
}

/// Shapes whose weights can be in blocks: fewer inputs than a part, one part, more.
#[test]
fn conv_of_blocks() {
    let mut n = Numbers(13);
    for (case, (cin, cout)) in
        [(4, 32), (12, 64), (32, 32), (36, 96), (64, 64), (68, 32), (128, 64), (300, 32)].into_iter().enumerate()
    {
        for kernel in [1, 3] {
            for (height, width) in [(1, 1), (3, 7), (2, 14), (2, 17)] {
                random_conv(&Layer { height, width, cin, cout, kernel, zp: ZERO_POINTS[case % 5] }, &mut n);
            }
        }
    }
}

/// Everything at an end of its range, up to the largest accumulator that a parsed model can have.
#[test]
fn conv_of_extremes() {
    let mut n = Numbers(4);
    for zp in [-128, 127, 0] {
        for q in [-128i8, 127] {
            for w in [-128i8, 127] {
                let layer = Layer { height: 3, width: 4, cin: 48, cout: 18, kernel: 3, zp };
                let cells = 12 * 48;
                let q16 = vec![if q < 0 { i16::MIN } else { i16::MAX }; cells];
                compare_conv(&layer, &mut n, &vec![q; cells], &q16, &vec![w; 18 * 9 * 48], "extremes");
            }
        }
    }
    let layer = Layer { height: 1, width: 2, cin: 511, cout: 1, kernel: 1, zp: 127 };
    compare_conv(&layer, &mut n, &[-128; 1022], &[i16::MIN; 1022], &[-128; 511], "largest sum");
}

/// Cells and weights that alternate between the ends of their range, in all phases: what transforms enlarge most; with
/// as many channels as any method takes.
#[test]
fn conv_of_alternating_extremes() {
    let mut n = Numbers(14);
    let end = |high: bool| if high { 127i8 } else { -128 };
    for cin in [32, 114, 115, 190] {
        let layer = |zp| Layer { height: 5, width: 6, cin, cout: 9, kernel: 3, zp };
        for phase in 0..4 {
            let cells = |at: usize| (at / 6 + phase / 2) % 2 + (at % 6 + phase) % 2;
            let q: Vec<_> = (0..30 * cin).map(|i| end(cells(i / cin) == 1)).collect();
            let q16 = vec![0; q.len()];
            for (down, across) in [(0, 1), (1, 0), (1, 1), (0, 0)] {
                let tap = |tap: usize| (tap / 3 * down + tap % 3 * across) % 2 == 1;
                let weights: Vec<_> =
                    (0..9 * 9 * cin).map(|i| end(tap(i / cin % 9) ^ (i / cin / 9 % 2 == 1))).collect();
                for zp in [-128, 127] {
                    compare_conv(&layer(zp), &mut n, &q, &q16, &weights, "alternating");
                }
            }
        }
    }
}

/// Where y is not finite, rounding still gives the same.
#[test]
fn conv_of_infinities() {
    let mut n = Numbers(5);
    let (q, weights) = (n.i8s(6 * 8), n.i8s(20 * 8));
    let bias = vec![f32::INFINITY; 20];
    for (scale, bias) in
        [(vec![1e30f32; 20], vec![0.0f32; 20]), (vec![1e30; 20], bias), (vec![f32::NAN; 20], vec![1.0; 20])]
    {
        let p = Conv {
            height: 2,
            width: 3,
            cin: 8,
            cout: 20,
            kernel: 1,
            weights: Weights::Int8(&weights),
            scale: &scale,
            bias: &bias,
            a: 1e30,
            b: 1.0,
            c: 1.0,
            zp: 3,
        };
        let run = |backend: Backend| {
            let (mut a, mut b) = (vec![0i8; 120], vec![0i16; 120]);
            (backend.kernels().conv)(&p, ConvIn::I8(&q), ConvOut::I8(&mut a), &mut []);
            (backend.kernels().conv)(&p, ConvIn::I8(&q), ConvOut::I16(&mut b), &mut []);
            (a, b)
        };
        let want = run(Backend::scalar());
        each(|backend| assert_eq!(run(backend), want, "{}", backend.name()));
    }
}

fn compare_norm(p: &NormAct<'_>, input: &[i16]) {
    let run = |backend: Backend| {
        let (mut narrow, mut wide) = (vec![0i8; input.len()], vec![0i16; input.len()]);
        (backend.kernels().norm_act)(p, input, NormOut::I8(&mut narrow));
        let wider = NormAct { zp: 0, a: p.a * 200.0, ..*p };
        (backend.kernels().norm_act)(&wider, input, NormOut::I16(&mut wide));
        (narrow, wide)
    };
    let want = run(Backend::scalar());
    each(|backend| {
        assert!(
            run(backend) == want,
            "{}: {} cells, {} channels, group {}, silu {}, film {}, zero point {}",
            backend.name(),
            p.cells,
            p.channels,
            p.group,
            p.silu,
            p.film.is_some(),
            p.zp
        );
    });
}

#[test]
fn norm_act_of_every_group_size() {
    let mut n = Numbers(6);
    for group in 1..=64 {
        for groups in [1, 2, 3, 9] {
            let (cells, channels) = (1 + (group * 7 + groups) % 12, group * groups);
            let (gamma, beta, film) = (n.f32s(channels, 1.5), n.f32s(channels, 0.5), n.f32s(2 * channels, 0.5));
            let input = n.i16s(cells * channels);
            for (i, film) in [None, Some(&film[..])].into_iter().enumerate() {
                for (j, silu) in [false, true].into_iter().enumerate() {
                    let zp = ZERO_POINTS[(group + groups + i + j) % 5];
                    let p =
                        NormAct { cells, channels, group, gamma: &gamma, beta: &beta, film, silu, a: 45.0, b: 0.9, zp };
                    compare_norm(&p, &input);
                }
            }
        }
    }
}

#[test]
fn norm_act_of_extremes() {
    let mut n = Numbers(7);
    let (gamma, beta) = (n.f32s(8, 1.5), n.f32s(8, 0.5));
    let large = [1e30f32, -1e30, 1e15, -1e15, 1e5, -1e5, 90.0, -90.0];
    for value in [i16::MIN, i16::MAX, 0] {
        // The largest group: 2^16 values.
        let mut input = vec![value; 65536];
        for half in [false, true] {
            if half {
                input[32768..].fill(i16::MAX);
            }
            for (gamma, beta) in [(&gamma[..], &beta[..]), (&large, &beta), (&large, &large)] {
                for silu in [false, true] {
                    let p = NormAct {
                        cells: 8192,
                        channels: 8,
                        group: 8,
                        gamma,
                        beta,
                        film: None,
                        silu,
                        a: 50.0,
                        b: 1e-3,
                        zp: -100,
                    };
                    compare_norm(&p, &input);
                    compare_norm(&NormAct { a: 1e30, b: 0.0, ..p }, &input);
                }
            }
        }
    }
    let q = n.i16s(65536);
    let p = NormAct {
        cells: 65536,
        channels: 1,
        group: 1,
        gamma: &[1.3],
        beta: &[0.2],
        film: None,
        silu: true,
        a: 60.0,
        b: 0.0,
        zp: -90,
    };
    compare_norm(&p, &q);
}

#[test]
fn attention_of_many_shapes() {
    let mut n = Numbers(8);
    for (tokens, channels, heads) in [
        (1, 1, 1),
        (1, 8, 1),
        (2, 3, 3),
        (7, 24, 3),
        (8, 40, 1),
        (15, 30, 2),
        (16, 32, 4),
        (17, 64, 1),
        (31, 100, 2),
        (32, 66, 1),
        (33, 129, 1),
        (49, 64, 1),
        (49, 64, 4),
        (64, 72, 8),
        (100, 256, 1),
        (200, 320, 1),
        (300, 256, 1),
        (5, 600, 1),
    ] {
        for a in [0.0, 1e-5, 3e-4, 0.5, 1e30] {
            let p = Attention { tokens, channels, heads, a, b: 1.3 };
            let qkv = n.i8s(tokens * 3 * channels);
            let run = |backend: Backend| {
                let (mut scores, mut out) = (vec![0.0; tokens + 3], vec![0i8; tokens * channels]);
                (backend.kernels().attention)(&p, &qkv, &mut scores, &mut out);
                out
            };
            let want = run(Backend::scalar());
            each(|backend| assert!(run(backend) == want, "{} {p:?}", backend.name()));
        }
    }
}

#[test]
fn elementwise_of_every_length() {
    let mut n = Numbers(9);
    for channels in 1..=40 {
        let (height, width) = (2 + channels % 3 * 2, 2 + channels % 4 * 2);
        let (high, low) = (n.i16s(height * width * channels), n.i16s(height * width * channels / 4));

        let p = Pool { height, width, channels };
        let run = |backend: Backend| {
            let mut out = low.clone();
            (backend.kernels().avg_pool2)(&p, &high, &mut out);
            out
        };
        let want = run(Backend::scalar());
        each(|backend| assert_eq!(run(backend), want, "{} {p:?}", backend.name()));

        let p = Upsample { height, width, channels, a: 0.77, c: 0.61 };
        let run = |backend: Backend| {
            let mut out = high.clone();
            (backend.kernels().upsample_add)(&p, &low, &mut out);
            out
        };
        let want = run(Backend::scalar());
        each(|backend| assert_eq!(run(backend), want, "{} {p:?}", backend.name()));

        let mut z = n.f32s(channels * 3, 5.0);
        let special = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 2.5e-4, -0.0, 4e9];
        for (i, x) in special.into_iter().enumerate() {
            let len = z.len();
            z[(i * 7 + channels) % len] = x;
        }
        for a in [10000.0, 2.0e3, 1e30] {
            let run = |backend: Backend| {
                let mut out = vec![0i16; z.len()];
                (backend.kernels().quantize)(a, &z, &mut out);
                out
            };
            let want = run(Backend::scalar());
            each(|backend| assert_eq!(run(backend), want, "{} {a} {z:?}", backend.name()));
        }
    }
}

/// Halves, everywhere: rounding is to even.
#[test]
fn quantize_of_halves() {
    let z: Vec<f32> = (-70_000..70_000).map(|i| i as f32 * 0.25).collect();
    let run = |backend: Backend| {
        let mut out = vec![0i16; z.len()];
        (backend.kernels().quantize)(2.0, &z, &mut out);
        out
    };
    let want = run(Backend::scalar());
    each(|backend| assert!(run(backend) == want, "{}", backend.name()));
}

#[test]
fn embed_of_many_sizes() {
    let mut n = Numbers(10);
    for (e, f) in [(8, 1), (8, 16), (16, 7), (24, 30), (64, 960), (72, 99), (256, 12)] {
        let (time, class, guidance) = (n.f32s(e, 1.0), n.f32s(e, 9.0), n.f32s(e * GUIDANCE_FEATURES, 0.3));
        let (hidden, film) = (n.i8s(e * e), n.i8s(e * f));
        let (s2, b2, sf, bf) = (n.f32s(e, 2e-3), n.f32s(e, 0.2), n.f32s(f, 2e-3), n.f32s(f, 0.2));
        for w in [0.0, 1.5, 4.0, 100.0] {
            let p = Embed {
                time: &time,
                class: &class,
                guidance: &guidance,
                hidden: Dense { weights: Weights::Int8(&hidden), scale: &s2, bias: &b2 },
                film: Dense { weights: Weights::Int8(&film), scale: &sf, bias: &bf },
                w,
            };
            let run = |backend: Backend| {
                let (mut first, mut second, mut film) = (vec![0.0; e], vec![0.0; e], vec![0.0; f]);
                (backend.kernels().embed)(&p, &mut first, &mut second, &mut film);
                bits(&film)
            };
            let want = run(Backend::scalar());
            each(|backend| assert!(run(backend) == want, "{} {e} {f} {w}", backend.name()));
        }
    }
}
