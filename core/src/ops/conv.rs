//! Convolution 3x3 or 1x1, stride 1, same padding: int8 weights, int8 or int16 input, exact i32 accumulator.

use super::{Int4, Weights, blocks};
use crate::math::{rne_i8, rne_i16};
use crate::part::{at, part, put, rest};

/// A convolution's shape, weights and step parameters.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// Rows of input and output.
    pub height: usize,
    /// Columns of input and output.
    pub width: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Side of the kernel: 1 or 3.
    pub kernel: usize,
    /// [cout][kernel][kernel][cin], or int8 in [`blocks`]; symmetric per output channel.
    pub weights: Weights<'a>,
    /// [cout]: scale of the weights.
    pub scale: &'a [f32],
    /// [cout]: bias, in real units.
    pub bias: &'a [f32],
    /// Scale of the input over scale of the output.
    pub a: f32,
    /// 1 over scale of the output.
    pub b: f32,
    /// Scale of the residual over scale of the output ([`ConvOut::I16Add`] only).
    pub c: f32,
    /// Zero point of the input; the padding holds it too. 0 for i16.
    pub zp: i32,
}

/// Input, [height][width][cin].
#[derive(Clone, Copy, Debug)]
pub enum ConvIn<'a> {
    /// With zero point [`Conv::zp`].
    I8(&'a [i8]),
    /// Zero point 0.
    I16(&'a [i16]),
}

/// Output, [height][width][cout].
#[derive(Debug)]
pub enum ConvOut<'a> {
    /// Zero point 0.
    I8(&'a mut [i8]),
    /// Overwritten.
    I16(&'a mut [i16]),
    /// The residual stream: its old value times [`Conv::c`] is added.
    I16Add(&'a mut [i16]),
    /// Real units ([`Conv::a`] is the input's scale, [`Conv::b`] is 1).
    F32(&'a mut [f32]),
}

/// acc = sum over the kernel of (q - zp) * w, exact;
/// y = acc * (scale * a) + bias * b \[+ old * c\]; out = saturate(rne(y)), or y itself for f32.
pub fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>) {
    let cin = p.cin;
    let rows = |weights| Rows { weights, len: p.kernel * p.kernel * cin, cin };
    match (p.weights, input) {
        (Weights::Int8(weights), ConvIn::I8(input)) => convolve(p, &rows(weights), input, out),
        (Weights::Int8(weights), ConvIn::I16(input)) => convolve(p, &rows(weights), input, out),
        (Weights::Int4(weights), ConvIn::I8(input)) => convolve(p, &Groups { weights, cin }, input, out),
        (Weights::Int4(weights), ConvIn::I16(input)) => convolve(p, &Groups { weights, cin }, input, out),
    }
}

/// The same with the weights in [`blocks`], which are for int8 inputs alone.
pub fn conv_blocks(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>) {
    match (p.weights, input) {
        (Weights::Int8(weights), ConvIn::I8(input)) => {
            convolve(p, &Blocks { weights, taps: p.kernel * p.kernel, cin: p.cin }, input, out);
        }
        _ => debug_assert!(false, "a parsed model has no such operation"),
    }
}

/// Weights in some order.
trait Taps {
    /// Sum of the weights of one tap.
    fn sum(&self, oc: usize, tap: usize) -> i32;
    /// Sum of q * w over whole taps from `tap` on, exact in i32 (a parsed model's weights guarantee it).
    fn dot<T: Copy + Into<i32>>(&self, oc: usize, tap: usize, input: &[T]) -> i32;
}

/// Row-major.
struct Rows<'a> {
    weights: &'a [i8],
    /// Weights of an output.
    len: usize,
    cin: usize,
}

impl Taps for Rows<'_> {
    fn sum(&self, oc: usize, tap: usize) -> i32 {
        part(self.weights, oc * self.len + tap * self.cin, self.cin).iter().map(|&w| i32::from(w)).sum()
    }

    #[inline]
    fn dot<T: Copy + Into<i32>>(&self, oc: usize, tap: usize, input: &[T]) -> i32 {
        dot(input, part(self.weights, oc * self.len + tap * self.cin, input.len()))
    }
}

/// In [`blocks`].
struct Blocks<'a> {
    weights: &'a [i8],
    taps: usize,
    cin: usize,
}

impl Blocks<'_> {
    /// `f` of each group of inputs of a tap, added up.
    #[inline]
    fn groups(&self, oc: usize, tap: usize, f: impl Fn(usize, &[i8]) -> i32) -> i32 {
        let start = |i| blocks::group(self.taps, self.cin, oc, tap, i);
        (0..self.cin).step_by(blocks::GROUP).map(|i| f(i, part(self.weights, start(i), blocks::GROUP))).sum()
    }
}

impl Taps for Blocks<'_> {
    fn sum(&self, oc: usize, tap: usize) -> i32 {
        self.groups(oc, tap, |_, group| group.iter().map(|&w| i32::from(w)).sum())
    }

    fn dot<T: Copy + Into<i32>>(&self, oc: usize, tap: usize, input: &[T]) -> i32 {
        let taps = input.chunks_exact(self.cin.max(1)).zip(tap..);
        taps.map(|(input, tap)| self.groups(oc, tap, |i, group| dot(part(input, i, blocks::GROUP), group))).sum()
    }
}

/// Of four bits, row-major.
struct Groups<'a> {
    weights: Int4<'a>,
    cin: usize,
}

impl Taps for Groups<'_> {
    fn sum(&self, oc: usize, tap: usize) -> i32 {
        let mut sum = 0;
        self.weights
            .each(oc, tap * self.cin, self.cin, |_, weights| sum += weights.iter().map(|&w| i32::from(w)).sum::<i32>());
        sum
    }

    fn dot<T: Copy + Into<i32>>(&self, oc: usize, tap: usize, input: &[T]) -> i32 {
        let mut sum = 0;
        self.weights.each(oc, tap * self.cin, input.len(), |at, weights| sum += dot(rest(input, at), weights));
        sum
    }
}

fn convolve<T: Copy + Into<i32>>(p: &Conv<'_>, weights: &impl Taps, input: &[T], out: ConvOut<'_>) {
    match out {
        ConvOut::I8(out) => accumulate(p, weights, input, &mut |i, y| put(out, i, rne_i8(y))),
        ConvOut::I16(out) => accumulate(p, weights, input, &mut |i, y| put(out, i, rne_i16(y))),
        ConvOut::I16Add(out) => {
            accumulate(p, weights, input, &mut |i, y| put(out, i, rne_i16(y + f32::from(at(out, i)) * p.c)));
        }
        ConvOut::F32(out) => accumulate(p, weights, input, &mut |i, y| put(out, i, y)),
    }
}

/// Calls `put(index in [height][width][cout], y)` for every output. `put` is no type parameter: devices have little room
/// for copies of this loop.
fn accumulate<T: Copy + Into<i32>>(p: &Conv<'_>, weights: &impl Taps, input: &[T], put: &mut dyn FnMut(usize, f32)) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let pad = k / 2;
    // One output channel at a time: its weights stay in the nearest memory while the input passes.
    for oc in 0..p.cout {
        // taps[ky][kx]: sum of the weights of that tap, for the zero point.
        let mut taps = [[0i32; 3]; 3];
        for (ky, row) in taps.iter_mut().enumerate().take(k) {
            for (kx, sum) in row.iter_mut().enumerate().take(k) {
                *sum = weights.sum(oc, ky * k + kx);
            }
        }
        let scale = at(p.scale, oc) * p.a;
        let bias = at(p.bias, oc) * p.b;
        for y in 0..h {
            // Taps that fall outside hold the zero point and contribute nothing: leave them out.
            let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
            for x in 0..w {
                let (kx0, kx1) = (pad.saturating_sub(x), k.min(w + pad - x));
                let run = (kx1 - kx0) * cin;
                let mut acc = 0i32;
                let mut weight_sum = 0i32;
                for (ky, sums) in taps.iter().enumerate().take(ky1).skip(ky0) {
                    // The taps kx0..kx1 of one kernel row lie together in the input.
                    let from = ((y + ky - pad) * w + x + kx0 - pad) * cin;
                    acc += weights.dot(oc, ky * k + kx0, part(input, from, run));
                    weight_sum += sums.iter().take(kx1).skip(kx0).sum::<i32>();
                }
                acc -= p.zp * weight_sum;
                put((y * w + x) * p.cout + oc, acc as f32 * scale + bias);
            }
        }
    }
}

/// sum of q * w.
#[inline]
fn dot<T: Copy + Into<i32>>(q: &[T], w: &[i8]) -> i32 {
    q.iter().zip(w).map(|(&q, &w)| q.into() * i32::from(w)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::int4;
    use crate::ops::testing::Numbers;

    struct Case {
        h: usize,
        w: usize,
        cin: usize,
        cout: usize,
        k: usize,
        zp: i32,
    }

    /// Seven loops over integers, padding by a test on every tap, then the formula in f32.
    fn oracle(p: &Conv<'_>, q: impl Fn(usize) -> i64) -> Vec<f32> {
        let pad = (p.kernel / 2) as isize;
        let mut out = Vec::new();
        for y in 0..p.height as isize {
            for x in 0..p.width as isize {
                for oc in 0..p.cout {
                    let mut acc = 0i64;
                    for ky in 0..p.kernel {
                        for kx in 0..p.kernel {
                            for ci in 0..p.cin {
                                let (iy, ix) = (y + ky as isize - pad, x + kx as isize - pad);
                                let inside = iy >= 0 && ix >= 0 && iy < p.height as isize && ix < p.width as isize;
                                let value = if inside {
                                    q((iy as usize * p.width + ix as usize) * p.cin + ci)
                                } else {
                                    i64::from(p.zp)
                                };
                                let weight = p.weights.int8()[((oc * p.kernel + ky) * p.kernel + kx) * p.cin + ci];
                                acc += (value - i64::from(p.zp)) * i64::from(weight);
                            }
                        }
                    }
                    out.push(acc as f32 * (p.scale[oc] * p.a) + p.bias[oc] * p.b);
                }
            }
        }
        out
    }

    fn round(y: f32, lo: f64, hi: f64) -> f64 {
        f64::from(y).round_ties_even().clamp(lo, hi)
    }

    #[test]
    fn equals_the_oracle_at_many_shapes() {
        let mut n = Numbers(11);
        for (case, (k, zp)) in [(3, 0), (3, -128), (3, 127), (3, -37), (1, 0), (1, 19)].into_iter().enumerate() {
            for (h, w, cin, cout) in
                [(1, 1, 1, 1), (1, 5, 3, 2), (5, 1, 2, 3), (2, 2, 8, 8), (3, 4, 17, 5), (7, 7, 32, 4), (6, 5, 4, 33)]
            {
                let c = Case { h, w, cin, cout, k, zp };
                let weights = n.i8s(c.cout * c.k * c.k * c.cin);
                let (scale, bias) = (n.f32s(c.cout, 0.01), n.f32s(c.cout, 3.0));
                let p = Conv {
                    height: c.h,
                    width: c.w,
                    cin: c.cin,
                    cout: c.cout,
                    kernel: c.k,
                    weights: Weights::Int8(&weights),
                    scale: &scale,
                    bias: &bias,
                    a: 0.31,
                    b: 7.0,
                    c: 0.83,
                    zp: c.zp,
                };
                let q8 = n.i8s(c.h * c.w * c.cin);
                let want = oracle(&p, |i| i64::from(q8[i]));
                let cells = c.h * c.w * c.cout;

                let mut out = vec![0i8; cells];
                conv(&p, ConvIn::I8(&q8), ConvOut::I8(&mut out));
                assert!(out.iter().zip(&want).all(|(&o, &y)| f64::from(o) == round(y, -128.0, 127.0)), "case {case}");

                let mut out = vec![0f32; cells];
                conv(&p, ConvIn::I8(&q8), ConvOut::F32(&mut out));
                assert_eq!(out, want);

                let old = n.i16s(cells);
                let mut out = old.clone();
                conv(&p, ConvIn::I8(&q8), ConvOut::I16Add(&mut out));
                for i in 0..cells {
                    let y = want[i] + f32::from(old[i]) * 0.83;
                    assert_eq!(f64::from(out[i]), round(y, -32768.0, 32767.0));
                }

                // i16 inputs have zero point 0.
                let p = Conv { zp: 0, a: 0.31 / 256.0, ..p };
                let q16 = n.i16s(c.h * c.w * c.cin);
                let want = oracle(&p, |i| i64::from(q16[i]));
                let mut out = vec![0i16; cells];
                conv(&p, ConvIn::I16(&q16), ConvOut::I16(&mut out));
                assert!(out.iter().zip(&want).all(|(&o, &y)| f64::from(o) == round(y, -32768.0, 32767.0)));
            }
        }
    }

    #[test]
    fn four_bits_equal_eight() {
        let mut n = Numbers(12);
        for (k, cin, cout) in [(1, 1, 3), (3, 3, 2), (3, 4, 5), (1, 64, 7), (3, 32, 4), (3, 7, 2), (1, 100, 3)] {
            let (bytes, weights) = int4::testing::random(&mut n, cout, k * k * cin);
            let (scale, bias) = (n.f32s(cout, 0.01), n.f32s(cout, 3.0));
            let int8 = Conv {
                height: 3,
                width: 4,
                cin,
                cout,
                kernel: k,
                weights: Weights::Int8(&weights),
                scale: &scale,
                bias: &bias,
                a: 0.31,
                b: 7.0,
                c: 0.83,
                zp: -37,
            };
            let int4 = Conv { weights: Weights::Int4(Int4::new(&bytes, cout, k * k * cin).unwrap()), ..int8 };
            let q8 = n.i8s(12 * cin);
            let run = |p: &Conv<'_>| {
                let mut out = vec![0f32; 12 * cout];
                conv(p, ConvIn::I8(&q8), ConvOut::F32(&mut out));
                out
            };
            assert_eq!(run(&int4), run(&int8));
            let q16 = n.i16s(12 * cin);
            let run = |p: &Conv<'_>| {
                let mut out = vec![0f32; 12 * cout];
                conv(&Conv { zp: 0, ..*p }, ConvIn::I16(&q16), ConvOut::F32(&mut out));
                out
            };
            assert_eq!(run(&int4), run(&int8));
        }
    }

    /// The accumulator's extremes: every product as large as it gets, at the largest sum the parser lets through.
    #[test]
    fn extremes_fit_the_accumulator() {
        let cin = 512;
        let weights = vec![-128i8; cin];
        let p = Conv {
            height: 1,
            width: 1,
            cin,
            cout: 1,
            kernel: 1,
            weights: Weights::Int8(&weights[..511]),
            scale: &[1.0],
            bias: &[0.0],
            a: 1.0,
            b: 1.0,
            c: 0.0,
            zp: 0,
        };
        let p = Conv { cin: 511, ..p };
        let mut out = [0f32];
        conv(&p, ConvIn::I16(&[i16::MIN; 511]), ConvOut::F32(&mut out));
        assert_eq!(out[0], (511i64 * 128 * 32768) as f32);
        let weights = vec![127i8; 9 * 1024];
        let p = Conv { cin: 1024, kernel: 3, height: 3, width: 3, weights: Weights::Int8(&weights), zp: 127, ..p };
        let mut out = [0f32; 9];
        conv(&p, ConvIn::I8(&[i8::MIN; 9 * 1024]), ConvOut::F32(&mut out));
        assert_eq!(out[4], -(255i64 * 127 * 9 * 1024) as f32);
    }
}
