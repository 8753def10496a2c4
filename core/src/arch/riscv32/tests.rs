//! Layers against the scalar function, with plenty of scratch, with little, and with none.

use super::KERNELS;
use crate::ops::testing::Numbers;
use crate::ops::{self, Conv, ConvIn, ConvOut, Int4, Weights, int4};

#[test]
fn layers_of_every_size_equal_scalar() {
    let mut n = Numbers(71);
    for cin in 1..=20 {
        for cout in 1..=20 {
            let turn = cin * 3 + cout * 7;
            let (height, width) = (1 + turn % 9, 1 + (turn / 9 + cout) % 9);
            let kernel = if turn % 4 == 0 { 1 } else { 3 };
            let cells = height * width;
            let (weights, input) = (n.i8s(kernel * kernel * cin * cout), n.i8s(cells * cin));
            // From outputs of a few units to far beyond their range, and factors with no estimate.
            let wide = [1.0e-8, 1.0e-4, 0.01, 0.3, 30.0, 1.0e9][turn % 6];
            let (scale, bias) = (n.f32s(cout, wide), n.f32s(cout, [3.0, 1.0e4][turn % 2]));
            let c = [0.83, -1.7, 1.8, 1.0e-4][cout % 4];
            let zp = [-128, 127, -37, 0][cin % 4];
            let (bytes, _) = int4::testing::random(&mut n, cout, kernel * kernel * cin);
            let weights = match turn % 3 {
                0 => Weights::Int4(Int4::new(&bytes, cout, kernel * kernel * cin).unwrap()),
                _ => Weights::Int8(&weights),
            };
            let (scale, bias) = (&scale[..], &bias[..]);
            let p = Conv { height, width, cin, cout, kernel, weights, scale, bias, a: 0.31, b: 7.0, c, zp };
            let old = n.i16s(cells * cout);
            let run = |conv: &dyn Fn(ConvOut<'_>)| {
                let (mut bytes, mut words, mut sums) = (vec![0i8; old.len()], old.clone(), old.clone());
                let mut floats = vec![0f32; old.len()];
                conv(ConvOut::I8(&mut bytes));
                conv(ConvOut::I16(&mut words));
                conv(ConvOut::I16Add(&mut sums));
                conv(ConvOut::F32(&mut floats));
                (bytes, words, sums, floats)
            };
            let want = run(&|out| ops::conv(&p, ConvIn::I8(&input), out));
            for scratch in [0, 100, 1000, 20_000] {
                let got = run(&|out| (KERNELS.conv)(&p, ConvIn::I8(&input), out, &mut vec![0x55; scratch]));
                assert!(got == want, "{height}x{width} {cin} to {cout}, kernel {kernel}, scratch {scratch}");
            }
        }
    }
}
