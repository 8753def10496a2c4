//! The embedding of step, class and guidance strength: one scale and shift per channel of every residual block.

use core::f32::consts::FRAC_PI_2;

use super::Weights;
use crate::math::{silu, sincos};
use crate::part::{part, rest_mut};

/// Features of the guidance strength: four sines, then four cosines.
pub const GUIDANCE_FEATURES: usize = 8;

/// Tables and weights. E is the embedding width, a multiple of 8; F the number of scales and shifts.
#[derive(Clone, Copy, Debug)]
pub struct Embed<'a> {
    /// [E]: this step's row of the time table.
    pub time: &'a [f32],
    /// [E]: this class's row of the class table.
    pub class: &'a [f32],
    /// [E][8]: weights of the guidance features.
    pub guidance: &'a [f32],
    /// [E][E], with scale and bias [E].
    pub hidden: Dense<'a>,
    /// [F][E], with scale and bias [F].
    pub film: Dense<'a>,
    /// Guidance strength.
    pub w: f32,
}

/// A dense layer: weights [out][in], symmetric per output, scale and bias [out].
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    /// [out][in].
    pub weights: Weights<'a>,
    /// [out].
    pub scale: &'a [f32],
    /// [out].
    pub bias: &'a [f32],
}

impl Dense<'_> {
    /// out\[o\] = (weights\[o\] . x) * scale\[o\] + bias\[o\].
    fn apply(&self, x: &[f32], out: &mut [f32]) {
        let mut parts = self.parts(x.len());
        while let Some((at, some)) = parts.next() {
            let rows = some.weights.chunks_exact(x.len().max(1));
            for (((out, row), &scale), &bias) in rest_mut(out, at).iter_mut().zip(rows).zip(some.scale).zip(some.bias) {
                *out = dot8(x, row, |w: i8| f32::from(w)) * scale + bias;
            }
        }
    }
}

impl<'a> Dense<'a> {
    /// The layer of `inputs` inputs in parts of int8 weights.
    #[inline]
    pub(crate) fn parts(&self, inputs: usize) -> Parts<'a> {
        Parts { dense: *self, inputs, next: 0, room: [0; MAX_INPUTS] }
    }
}

/// Most inputs of a dense layer.
pub const MAX_INPUTS: usize = 1024;

/// A dense layer in parts: all at once where the weights are int8, else as many rows as a kilobyte holds decoded.
pub(crate) struct Parts<'a> {
    dense: Dense<'a>,
    inputs: usize,
    /// First output of the next part.
    next: usize,
    room: [i8; MAX_INPUTS],
}

impl Parts<'_> {
    /// The first output of a part, and the part.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(usize, Int8Dense<'_>)> {
        let Self { dense, inputs, .. } = *self;
        let outputs = dense.scale.len().min(dense.bias.len());
        let first = self.next;
        let count = match dense.weights {
            Weights::Int8(_) => outputs.saturating_sub(first),
            Weights::Int4(_) => (MAX_INPUTS / inputs.max(1)).min(outputs.saturating_sub(first)),
        };
        if count == 0 {
            return None;
        }
        self.next += count;
        let weights = match dense.weights {
            Weights::Int8(weights) => weights,
            Weights::Int4(_) => dense.weights.rows(first, count, inputs, &mut self.room),
        };
        Some((
            first,
            Int8Dense { weights, scale: part(dense.scale, first, count), bias: part(dense.bias, first, count) },
        ))
    }
}

/// Some outputs of a dense layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8Dense<'a> {
    /// [out][in].
    pub(crate) weights: &'a [i8],
    /// [out].
    pub(crate) scale: &'a [f32],
    /// [out].
    pub(crate) bias: &'a [f32],
}

/// [sin(k u), cos(k u)] for k = 1..=4 (four sines, then four cosines), u = pi/2 * w / 4.
pub fn guidance_features(w: f32) -> [f32; GUIDANCE_FEATURES] {
    let u = FRAC_PI_2 * w / 4.0;
    let mut out = [0.0; GUIDANCE_FEATURES];
    let (sines, cosines) = out.split_at_mut(GUIDANCE_FEATURES / 2);
    for ((sin, cos), k) in sines.iter_mut().zip(cosines).zip(1u8..) {
        (*sin, *cos) = sincos(f32::from(k) * u);
    }
    out
}

/// Sum of x * y over eight running sums (element i to sum i mod 8), then ((0+1)+(2+3)) + ((4+5)+(6+7)): an order that
/// vector units can follow. The length is a multiple of 8.
#[inline]
pub(crate) fn dot8<T: Copy>(x: &[f32], y: &[T], value: impl Fn(T) -> f32) -> f32 {
    let mut sums = [0.0f32; 8];
    for (x, y) in x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0) {
        for i in 0..8 {
            sums[i] += x[i] * value(y[i]);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// e1 = time + class + guidance . features(w); e2 = silu(hidden . silu(e1)); film = film . e2.
///
/// first, second: [E], scratch; film: [F].
pub fn embed(p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]) {
    let features = guidance_features(p.w);
    let rows = p.guidance.chunks_exact(GUIDANCE_FEATURES);
    for (((out, &time), &class), row) in first.iter_mut().zip(p.time).zip(p.class).zip(rows) {
        *out = silu((time + class) + dot8(&features, row, |w| w));
    }
    p.hidden.apply(first, second);
    for x in second.iter_mut() {
        *x = silu(*x);
    }
    p.film.apply(second, film);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;
    use crate::ops::{Int4, int4};

    #[test]
    fn equals_the_definition() {
        let mut n = Numbers(9);
        for (e, f) in [(8, 16), (64, 960), (24, 1)] {
            let (time, class, guidance) = (n.f32s(e, 1.0), n.f32s(e, 1.0), n.f32s(e * 8, 0.3));
            let (w2, wf) = (n.i8s(e * e), n.i8s(e * f));
            let (s2, b2, sf, bf) = (n.f32s(e, 2e-3), n.f32s(e, 0.2), n.f32s(f, 2e-3), n.f32s(f, 0.2));
            for w in [0.0, 1.5, 4.0, 100.0] {
                let p = Embed {
                    time: &time,
                    class: &class,
                    guidance: &guidance,
                    hidden: Dense { weights: Weights::Int8(&w2), scale: &s2, bias: &b2 },
                    film: Dense { weights: Weights::Int8(&wf), scale: &sf, bias: &bf },
                    w,
                };
                let (mut first, mut second, mut film) = (vec![0.0; e], vec![0.0; e], vec![0.0; f]);
                embed(&p, &mut first, &mut second, &mut film);

                let silu = |x: f64| x / (1.0 + (-x).exp());
                let u = core::f64::consts::FRAC_PI_2 * f64::from(w) / 4.0;
                let feature = |k: usize| if k < 4 { ((k + 1) as f64 * u).sin() } else { ((k - 3) as f64 * u).cos() };
                let e1: Vec<f64> = (0..e)
                    .map(|i| {
                        let g: f64 = (0..8).map(|k| feature(k) * f64::from(guidance[i * 8 + k])).sum();
                        silu(f64::from(time[i]) + f64::from(class[i]) + g)
                    })
                    .collect();
                let dense = |x: &[f64], w: &[i8], s: &[f32], b: &[f32], o: usize| {
                    let dot: f64 = x.iter().enumerate().map(|(i, x)| x * f64::from(w[o * e + i])).sum();
                    dot * f64::from(s[o]) + f64::from(b[o])
                };
                let e2: Vec<f64> = (0..e).map(|o| silu(dense(&e1, &w2, &s2, &b2, o))).collect();
                for (o, &got) in film.iter().enumerate() {
                    let want = dense(&e2, &wf, &sf, &bf, o);
                    assert!((f64::from(got) - want).abs() < 2e-4, "{got} {want}");
                }
            }
        }
    }

    #[test]
    fn four_bits_equal_eight() {
        let mut n = Numbers(10);
        for (e, f) in [(8, 1), (64, 100), (512, 5), (1024, 3)] {
            let (bytes, weights) = int4::testing::random(&mut n, f, e);
            let (scale, bias, x) = (n.f32s(f, 2e-3), n.f32s(f, 0.2), n.f32s(e, 1.0));
            let run = |weights| {
                let mut out = vec![0f32; f];
                Dense { weights, scale: &scale, bias: &bias }.apply(&x, &mut out);
                out
            };
            assert_eq!(run(Weights::Int4(Int4::new(&bytes, f, e).unwrap())), run(Weights::Int8(&weights)));
        }
    }

    #[test]
    fn unguided_features_are_zeros_and_ones() {
        assert_eq!(guidance_features(0.0), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
