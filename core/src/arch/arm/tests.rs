//! The backend against the scalar functions, with the instructions' definitions on other targets.

use super::conv::Sink;
use super::winograd::{Method, Plan};
use super::{KERNELS, direct, winograd};
use crate::Arena;
use crate::ops::testing::Numbers;
use crate::ops::{Attention, Conv, ConvIn, ConvOut, Int4, NormAct, NormOut, Weights, attention, conv, int4, norm_act};

struct Layer {
    side: (usize, usize),
    channels: (usize, usize),
    kernel: usize,
    zp: i32,
}

const ARENA: usize = 24 * 1024;

/// `bytes` of scratch that holds anything.
fn scratch(arena: &mut Arena<ARENA>, bytes: usize) -> &mut [u8] {
    arena.bytes().fill(0xa5);
    &mut arena.bytes()[..bytes]
}

/// All outputs of both input types, with scratch of several sizes.
fn compare(n: &mut Numbers, layer: &Layer, extreme: Option<(i8, i8)>, scratches: &[usize]) {
    let ((height, width), (cin, cout), kernel) = (layer.side, layer.channels, layer.kernel);
    let (mut weights, mut narrow) = (n.i8s(cout * kernel * kernel * cin), n.i8s(height * width * cin));
    if let Some((q, w)) = extreme {
        weights.fill(w);
        narrow.fill(q);
    }
    let wide = n.i16s(height * width * cin);
    let (scale, bias) = (n.f32s(cout, 0.01), n.f32s(cout, 3.0));
    let old = n.i16s(height * width * cout);
    let p = Conv {
        height,
        width,
        cin,
        cout,
        kernel,
        weights: Weights::Int8(&weights),
        scale: &scale,
        bias: &bias,
        a: 0.31,
        b: 7.0,
        c: 0.83,
        zp: layer.zp,
    };
    let (bytes, _) = int4::testing::random(n, cout, kernel * kernel * cin);
    let four = Weights::Int4(Int4::new(&bytes, cout, kernel * kernel * cin).unwrap());
    let mut arena = Arena::<ARENA>::new();
    let layers = [p, Conv { weights: four, ..p }]
        .into_iter()
        .flat_map(|p| [(p, ConvIn::I8(&narrow)), (Conv { zp: 0, a: 0.31 / 256.0, ..p }, ConvIn::I16(&wide))]);
    for (p, input) in layers {
        let few = matches!(p.weights, Weights::Int4(_));
        for &bytes in &scratches[if few { scratches.len() - 1 } else { 0 }..] {
            let cells = old.len();
            let what = || format!("{height}x{width}x{cin} to {cout}, {kernel}x{kernel}, zp {}, {bytes}", p.zp);

            let (mut got, mut want) = (vec![0i8; cells], vec![0i8; cells]);
            (KERNELS.conv)(&p, input, ConvOut::I8(&mut got), scratch(&mut arena, bytes));
            conv(&p, input, ConvOut::I8(&mut want));
            assert_eq!(got, want, "{}", what());

            let (mut got, mut want) = (old.clone(), old.clone());
            (KERNELS.conv)(&p, input, ConvOut::I16Add(&mut got), scratch(&mut arena, bytes));
            conv(&p, input, ConvOut::I16Add(&mut want));
            assert_eq!(got, want, "{}", what());

            let (mut got, mut want) = (old.clone(), old.clone());
            (KERNELS.conv)(&p, input, ConvOut::I16(&mut got), scratch(&mut arena, bytes));
            conv(&p, input, ConvOut::I16(&mut want));
            assert_eq!(got, want, "{}", what());

            let (mut got, mut want) = (vec![0f32; cells], vec![0f32; cells]);
            (KERNELS.conv)(&p, input, ConvOut::F32(&mut got), scratch(&mut arena, bytes));
            conv(&p, input, ConvOut::F32(&mut want));
            assert_eq!(got, want, "{}", what());
        }
    }
}

#[test]
fn random_layers_equal_scalar() {
    let mut n = Numbers(700);
    for cin in 1..=40 {
        for (kernel, zp, cout) in [(1, -128, 41 - cin), (3, 127, cin % 9 + 1), (3, -37, (cin * 7) % 40 + 1)] {
            let side = (1 + (cin * 7 + cout) % 5, 1 + (cin + cout * 5) % 9);
            let layer = Layer { side, channels: (cin, cout), kernel, zp };
            compare(&mut n, &layer, None, &[[0, 1200, 4999][cin % 3], 20 * 1024]);
        }
    }
}

#[test]
fn wide_layers_are_cut_and_equal_scalar() {
    let mut n = Numbers(701);
    for (cin, cout, side) in [(64, 12, (7, 7)), (68, 6, (3, 4)), (132, 4, (2, 5)), (96, 32, (1, 1))] {
        for kernel in [1, 3] {
            compare(&mut n, &Layer { side, channels: (cin, cout), kernel, zp: 77 }, None, &[9000, 20 * 1024]);
        }
    }
}

#[test]
fn extremes_equal_scalar() {
    let mut n = Numbers(702);
    for (q, w) in [(-128, -128), (-128, 127), (127, -128), (127, 127)] {
        for zp in [-128, 0, 127] {
            for side in [(2, 2), (3, 4)] {
                let layer = Layer { side, channels: (128, 4), kernel: 3, zp };
                compare(&mut n, &layer, Some((q, w)), &[16 * 1024]);
            }
        }
    }
}

/// The largest transformed cells and weights, of alternating signs, and the longest sums that Winograd takes.
#[test]
fn bounds_of_winograd_hold() {
    for (method, cin) in [(Method::Two, 1824), (Method::Four, 456)] {
        assert_eq!(method.max_cin() / 4 * 4, cin);
        for flip in 0..32 {
            extremes_of_winograd(method, cin, flip);
        }
    }
}

fn extremes_of_winograd(method: Method, cin: usize, flip: usize) {
    let side = 4;
    // Signs change by columns, by rows, by both, or not at all; those of the cells apart from those of the weights.
    let sign = |bits: usize, row: usize, column: usize| (bits & row) ^ (bits >> 1 & column) & 1;
    let narrow: Vec<i8> =
        (0..side * side * cin).map(|i| [-128, 127][sign(flip, i / cin / side % 2, i / cin % 2) & 1]).collect();
    let weights: Vec<i8> =
        (0..9 * cin).map(|i| [-128, 127][sign(flip >> 2, i / cin / 3 % 2, i / cin % 3 % 2) & 1]).collect();
    let p = Conv {
        height: side,
        width: side,
        cin,
        cout: 1,
        kernel: 3,
        weights: Weights::Int8(&weights),
        scale: &[1.0],
        bias: &[0.0],
        a: 1.0,
        b: 1.0,
        c: 0.0,
        zp: if flip & 16 == 0 { 127 } else { -128 },
    };
    let (mut got, mut want) = ([0f32; 16], [0f32; 16]);
    let mut words = vec![0xa5a5_a5a5; 40 * 1024];
    let plan = Plan::of(method, &p, words.len()).expect("it fits");
    winograd::run(&p, &narrow, &plan, &mut words, &mut Sink::new(&p, ConvOut::F32(&mut got), true));
    conv(&p, ConvIn::I8(&narrow), ConvOut::F32(&mut want));
    assert_eq!(got, want, "{method:?} {flip}");
    // One group of channels more does not fit.
    let p = Conv { cin: cin + 4, weights: Weights::Int8(&[]), ..p };
    assert!(Plan::of(method, &p, words.len()).is_none());
}

/// Both methods on every size around the tiles' edges, in chunks and groups of several sizes.
#[test]
fn both_methods_equal_scalar() {
    let mut n = Numbers(705);
    for method in [Method::Two, Method::Four] {
        for height in 1..=9 {
            for width in 1..=6 {
                let (cin, cout) = (1 + (height * 7 + width * 5) % 19, 1 + (height * 3 + width) % 13);
                let (weights, narrow) = (n.i8s(cout * 9 * cin), n.i8s(height * width * cin));
                let (scale, bias) = (n.f32s(cout, 0.01), n.f32s(cout, 3.0));
                let p = Conv {
                    height,
                    width,
                    cin,
                    cout,
                    kernel: 3,
                    weights: Weights::Int8(&weights),
                    scale: &scale,
                    bias: &bias,
                    a: 0.31,
                    b: 7.0,
                    c: 0.83,
                    zp: [-128, 127, 3][height % 3],
                };
                for size in [400, 700, 1200, 5000] {
                    let mut words = vec![0xa5a5_a5a5; size];
                    let Some(plan) = Plan::of(method, &p, size) else {
                        assert!(size < 1200 || width * cin < 4);
                        continue;
                    };
                    let cells = height * width * cout;
                    let (mut got, mut want) = (vec![0f32; cells], vec![0f32; cells]);
                    winograd::run(&p, &narrow, &plan, &mut words, &mut Sink::new(&p, ConvOut::F32(&mut got), true));
                    conv(&p, ConvIn::I8(&narrow), ConvOut::F32(&mut want));
                    assert_eq!(got, want, "{method:?} {height}x{width}x{cin} to {cout}, {plan:?}");
                }
            }
        }
    }
}

#[test]
fn factors_that_are_not_finite_equal_scalar() {
    let p = Conv {
        height: 1,
        width: 1,
        cin: 4,
        cout: 4,
        kernel: 1,
        weights: Weights::Int8(&[0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1, 2, 0, 0, 0]),
        scale: &[f32::INFINITY, 1e38, f32::NAN, 1.0],
        bias: &[0.0; 4],
        a: 1.0,
        b: 1.0,
        c: 0.0,
        zp: 0,
    };
    let mut arena = Arena::<4096>::new();
    let (mut got, mut want) = ([0i8; 4], [0i8; 4]);
    (KERNELS.conv)(&p, ConvIn::I8(&[100; 4]), ConvOut::I8(&mut got), arena.bytes());
    conv(&p, ConvIn::I8(&[100; 4]), ConvOut::I8(&mut want));
    assert_eq!(got, want);
}

/// The way of the shipped student's layers in the scratch that the exporter grants.
#[test]
fn every_layer_of_the_shipped_student_goes_its_way() {
    for (side, cin, cout, kernel, by_winograd) in
        [(14, 32, 32, 3, true), (7, 64, 64, 3, true), (14, 32, 4, 3, true), (7, 64, 192, 1, false), (1, 8, 8, 3, false)]
    {
        let p = Conv {
            height: side,
            width: side,
            cin,
            cout,
            kernel,
            weights: Weights::Int8(&[]),
            scale: &[],
            bias: &[],
            a: 1.0,
            b: 1.0,
            c: 0.0,
            zp: 0,
        };
        let direct = direct::Plan::new(&p, 5 * 1024).expect("the scratch holds tiles");
        let winograd = winograd::Plan::new(&p, 5 * 1024);
        assert_eq!(winograd.is_some_and(|winograd| winograd.cost < direct.cost), by_winograd, "{side} {cin} {cout}");
    }
}

#[test]
fn norm_act_equals_scalar() {
    let mut n = Numbers(703);
    for (cells, channels, group) in
        [(1, 8, 8), (49, 64, 8), (5, 12, 4), (9, 64, 64), (7, 6, 3), (10, 10, 10), (1024, 64, 64)]
    {
        for (silu, zp, spread) in
            [(true, -100, 0.5), (false, 5, 0.5), (true, 127, 40.0), (true, 0, 1e36), (true, 3, f32::INFINITY)]
        {
            let (gamma, beta) = (n.f32s(channels, 1.5), n.f32s(channels, 0.5));
            let film: Vec<f32> = n.f32s(2 * channels, 1.0).iter().map(|x| x * spread).collect();
            let mut input = n.i16s(cells * channels);
            if zp == 127 {
                input.fill(i16::MIN);
            }
            for film in [None, Some(&film[..])] {
                let p = NormAct { cells, channels, group, gamma: &gamma, beta: &beta, film, silu, a: 31.7, b: 0.9, zp };
                let (mut got, mut want) = (vec![0i8; input.len()], vec![0i8; input.len()]);
                (KERNELS.norm_act)(&p, &input, NormOut::I8(&mut got));
                norm_act(&p, &input, NormOut::I8(&mut want));
                assert_eq!(got, want);
                let p = NormAct { a: 5000.0, zp: 0, ..p };
                let (mut got, mut want) = (vec![0i16; input.len()], vec![0i16; input.len()]);
                (KERNELS.norm_act)(&p, &input, NormOut::I16(&mut got));
                norm_act(&p, &input, NormOut::I16(&mut want));
                assert_eq!(got, want);
            }
        }
    }
}

#[test]
fn attention_equals_scalar() {
    let mut n = Numbers(704);
    for (tokens, channels, heads, a) in
        [(1, 8, 1, 0.01), (49, 64, 1, 3e-4), (16, 32, 4, 1e-3), (7, 24, 3, 0.5), (5, 10, 2, 0.1)]
    {
        let p = Attention { tokens, channels, heads, a, b: 1.3 };
        let qkv = n.i8s(tokens * 3 * channels);
        let (mut scores, mut got, mut want) =
            (vec![0.0; tokens], vec![0; tokens * channels], vec![0; tokens * channels]);
        (KERNELS.attention)(&p, &qkv, &mut scores, &mut got);
        attention(&p, &qkv, &mut scores, &mut want);
        assert_eq!(got, want);
    }
}
