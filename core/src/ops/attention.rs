//! Self-attention over all cells of a level.

use crate::math::{exp, rne_i8};
use crate::part::{at, part, put};

/// Shape and step parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// height * width.
    pub tokens: usize,
    /// Channels of q, of k, of v and of the output.
    pub channels: usize,
    /// Heads; each has channels / heads channels.
    pub heads: usize,
    /// Scale of qkv squared, over the root of a head's channels.
    pub a: f32,
    /// Scale of qkv over scale of the output.
    pub b: f32,
}

/// Per head and query: scores s_j = (q . k_j) * a, e_j = exp(s_j - max), out = saturate(rne((sum_j e_j v_j) * (b / sum_j e_j))),
/// sums in the order of j.
///
/// qkv: [tokens][3 * channels] as q, k, v, each [heads][channels / heads], zero point 0;
/// scores: [tokens], scratch; out: [tokens][channels], zero point 0.
pub fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
    let ch = p.channels;
    let head = ch / p.heads.max(1);
    // 0, 1, 2 = q, k, v of one token and head.
    let of = |token: usize, which: usize, h: usize| part(qkv, token * 3 * ch + which * ch + h * head, head);
    for h in 0..p.heads {
        for i in 0..p.tokens {
            let q = of(i, 0, h);
            let mut max = f32::MIN;
            for (j, score) in scores.iter_mut().enumerate().take(p.tokens) {
                let dot: i32 = q.iter().zip(of(j, 1, h)).map(|(&q, &k)| i32::from(q) * i32::from(k)).sum();
                *score = dot as f32 * p.a;
                max = if *score > max { *score } else { max };
            }
            let mut total = 0.0;
            for score in scores.iter_mut().take(p.tokens) {
                *score = exp(*score - max);
                total += *score;
            }
            let factor = p.b / total;
            for d in 0..head {
                let mut sum = 0.0;
                for (j, &e) in scores.iter().enumerate().take(p.tokens) {
                    sum += e * f32::from(at(of(j, 2, h), d));
                }
                put(out, i * ch + h * head + d, rne_i8(sum * factor));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;

    #[test]
    fn equals_the_definition() {
        let mut n = Numbers(5);
        for (tokens, channels, heads, a) in [(1, 8, 1, 0.01), (49, 64, 1, 3e-4), (16, 32, 4, 1e-3), (7, 24, 3, 0.5)] {
            let p = Attention { tokens, channels, heads, a, b: 1.3 };
            let qkv = n.i8s(tokens * 3 * channels);
            let (mut scores, mut out) = (vec![0.0; tokens], vec![0i8; tokens * channels]);
            attention(&p, &qkv, &mut scores, &mut out);
            let head = channels / heads;
            let at = |t: usize, part: usize, c: usize| f64::from(qkv[t * 3 * channels + part * channels + c]);
            for i in 0..tokens {
                for c in 0..channels {
                    let base = c / head * head;
                    let score = |j: usize| {
                        (0..head).map(|d| at(i, 0, base + d) * at(j, 1, base + d)).sum::<f64>() * f64::from(a)
                    };
                    let max = (0..tokens).map(score).fold(f64::MIN, f64::max);
                    let total: f64 = (0..tokens).map(|j| (score(j) - max).exp()).sum();
                    let mix: f64 = (0..tokens).map(|j| (score(j) - max).exp() * at(j, 2, c)).sum();
                    let want = (mix / total * 1.3).clamp(-128.0, 127.0);
                    let got = f64::from(out[i * channels + c]);
                    assert!((got - want).abs() < 0.5 + 1e-2, "{got} {want}");
                }
            }
        }
    }

    #[test]
    fn extreme_scores_stay_defined() {
        let p = Attention { tokens: 2, channels: 8, heads: 1, a: 1e30, b: 1.0 };
        let mut qkv = [127i8; 48];
        qkv[24 + 8..24 + 16].fill(-128);
        let mut out = [0; 16];
        attention(&p, &qkv, &mut [0.0; 2], &mut out);
        assert_eq!(out, [127; 16]);
    }
}
