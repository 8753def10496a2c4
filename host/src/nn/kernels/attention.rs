//! Softmax attention of one picture, forward and backward.

use super::norm_act::exp;
use super::portable::gemm;
use super::wide::wide;

/// `tokens` positions attend to each other in each of `heads`. qkv [tokens, 3 * channels] = queries, keys and values, each
/// [heads, channels / heads].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    pub tokens: usize,
    pub channels: usize,
    pub heads: usize,
}

/// Working memory of [`Attention`], reused between pictures.
#[derive(Default)]
pub struct AttentionScratch {
    /// Softmax of the scores, [tokens, tokens].
    weights: Vec<f32>,
    gradient: Vec<f32>,
}

/// Lanes that a row's sum is spread over.
const LANES: usize = 16;

/// `f` of the places `0..len`, joined by `join`, which `start` leaves as it is.
#[inline(always)]
fn fold(len: usize, start: f32, f: impl Fn(usize) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut joined = [start; LANES];
    let whole = len / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        for (k, joined) in joined.iter_mut().enumerate() {
            *joined = join(*joined, f(i + k));
        }
    }
    for i in whole..len {
        joined[i - whole] = join(joined[i - whole], f(i));
    }
    for half in [8, 4, 2, 1] {
        for k in 0..half {
            joined[k] = join(joined[k], joined[k + half]);
        }
    }
    joined[0]
}

#[inline(always)]
fn sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    fold(len, 0.0, f, |a, b| a + b)
}

wide! {
    /// Softmax of every row of `len` values.
    fn softmax(v: &mut [f32], len: usize) {
        for row in v.chunks_exact_mut(len) {
            let most = fold(len, f32::NEG_INFINITY, |i| row[i], |a, b| if a > b { a } else { b });
            row.iter_mut().for_each(|v| *v = exp(*v - most));
            let scale = 1.0 / sum(len, |i| row[i]);
            row.iter_mut().for_each(|v| *v *= scale);
        }
    }
}

wide! {
    /// Makes gradients `g` of softmax's results `p` those of its arguments, row by row.
    fn softmax_backward(p: &[f32], g: &mut [f32], len: usize) {
        for (p, g) in p.chunks_exact(len).zip(g.chunks_exact_mut(len)) {
            let mean = sum(len, |i| p[i] * g[i]);
            g.iter_mut().zip(p).for_each(|(g, p)| *g = (*g - mean) * p);
        }
    }
}

impl Attention {
    /// Channels of a head.
    fn depth(&self) -> usize {
        self.channels / self.heads
    }

    /// Scales scores.
    fn scale(&self) -> f32 {
        1.0 / (self.depth() as f32).sqrt()
    }

    /// Where queries, keys and values of a head begin.
    fn places(&self, head: usize) -> [usize; 3] {
        std::array::from_fn(|part| part * self.channels + head * self.depth())
    }

    /// The attention's weights of a head.
    fn attend(&self, qkv: &[f32], [q, k, _]: [usize; 3], weights: &mut Vec<f32>) {
        let (t, row) = (self.tokens, 3 * self.channels);
        weights.clear();
        weights.resize(t * t, 0.0);
        gemm((t, self.depth(), t), self.scale(), &qkv[q..], (row, 1), &qkv[k..], (1, row), weights, t);
        softmax(weights, t);
    }

    /// Adds to `out` [tokens, channels].
    pub fn forward(&self, qkv: &[f32], out: &mut [f32], s: &mut AttentionScratch) {
        let (t, d, row) = (self.tokens, self.depth(), 3 * self.channels);
        for head in 0..self.heads {
            let places = self.places(head);
            self.attend(qkv, places, &mut s.weights);
            gemm((t, t, d), 1.0, &s.weights, (t, 1), &qkv[places[2]..], (row, 1), &mut out[head * d..], self.channels);
        }
    }

    /// Adds the gradient of `qkv` to `dqkv`.
    pub fn backward(&self, qkv: &[f32], g: &[f32], dqkv: &mut [f32], s: &mut AttentionScratch) {
        let (t, d, c, row) = (self.tokens, self.depth(), self.channels, 3 * self.channels);
        for head in 0..self.heads {
            let [q, k, v] = self.places(head);
            let g = &g[head * d..];
            self.attend(qkv, [q, k, v], &mut s.weights);
            gemm((t, t, d), 1.0, &s.weights, (1, t), g, (c, 1), &mut dqkv[v..], row);
            s.gradient.clear();
            s.gradient.resize(t * t, 0.0);
            gemm((t, d, t), 1.0, g, (c, 1), &qkv[v..], (1, row), &mut s.gradient, t);
            softmax_backward(&s.weights, &mut s.gradient, t);
            gemm((t, t, d), self.scale(), &s.gradient, (t, 1), &qkv[k..], (row, 1), &mut dqkv[q..], row);
            gemm((t, t, d), self.scale(), &s.gradient, (1, t), &qkv[q..], (row, 1), &mut dqkv[k..], row);
        }
    }
}
