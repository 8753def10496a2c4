//! GroupNorm with the embedding's scale and shift, then optionally SiLU, quantized for the next convolution.

use crate::math::{inv_std, rne, silu};
use crate::part::{at, part, part_mut, put};

/// Largest number of channels in a group.
pub const MAX_GROUP: usize = 64;

/// Shape, affine tensors and step parameters.
#[derive(Clone, Copy, Debug)]
pub struct NormAct<'a> {
    /// height * width; cells * group is at most 2^16.
    pub cells: usize,
    /// Channels, a multiple of `group`.
    pub channels: usize,
    /// Consecutive channels that share mean and variance, at most [`MAX_GROUP`].
    pub group: usize,
    /// [channels].
    pub gamma: &'a [f32],
    /// [channels].
    pub beta: &'a [f32],
    /// Row of the embedding for this operation: [2 * channels], scales then shifts.
    pub film: Option<&'a [f32]>,
    /// Whether SiLU follows.
    pub silu: bool,
    /// 1 over scale of the output.
    pub a: f32,
    /// GroupNorm's eps over the square of the input's scale.
    pub b: f32,
    /// Zero point of the output; 0 for i16.
    pub zp: i32,
}

/// Output, [cells][channels].
#[derive(Debug)]
pub enum NormOut<'a> {
    /// With zero point [`NormAct::zp`].
    I8(&'a mut [i8]),
    /// Zero point 0.
    I16(&'a mut [i16]),
}

/// Per group: exact integer sum and sum of squares, inverse standard deviation by integer root. Per channel c
/// A = inv_std * gamma * (1 + film scale), B = beta * (1 + film scale) + film shift - mean * A;
/// y = q * A + B, SiLU if asked, out = saturate(rne(y * a) + zp).
///
/// input: [cells][channels], zero point 0.
pub fn norm_act(p: &NormAct<'_>, input: &[i16], out: NormOut<'_>) {
    match out {
        NormOut::I8(out) => each_value(p, input, |i, y| put(out, i, (rne(y) + p.zp).clamp(-128, 127) as i8)),
        NormOut::I16(out) => each_value(p, input, |i, y| put(out, i, (rne(y) + p.zp).clamp(-32768, 32767) as i16)),
    }
}

/// Calls `write(index in [cells][channels], y * a)` for every value.
fn each_value(p: &NormAct<'_>, input: &[i16], mut write: impl FnMut(usize, f32)) {
    let (ch, group) = (p.channels.max(1), p.group.max(1));
    for first in (0..ch).step_by(group) {
        let mut sum = 0i32;
        let mut squares = 0u64;
        for cell in input.chunks_exact(ch) {
            for &q in part(cell, first, group) {
                sum += i32::from(q);
                squares += u64::from((i32::from(q) * i32::from(q)) as u32);
            }
        }
        let n = (p.cells * group) as u32;
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, squares, p.b);

        // The two factors per channel, once for all cells.
        let mut factors = [(0.0f32, 0.0f32); MAX_GROUP];
        let factors = part_mut(&mut factors, 0, group);
        for (factor, c) in factors.iter_mut().zip(first..) {
            let (scale, shift) = match p.film {
                Some(film) => (1.0 + at(film, c), at(film, ch + c)),
                None => (1.0, 0.0),
            };
            let a = inv_std * at(p.gamma, c) * scale;
            let b = (at(p.beta, c) * scale + shift) - mean * a;
            *factor = (a, b);
        }

        for (cell, values) in input.chunks_exact(ch).enumerate() {
            let start = cell * ch + first;
            for (i, (&q, &(a, b))) in part(values, first, group).iter().zip(factors.iter()).enumerate() {
                let y = f32::from(q) * a + b;
                let y = if p.silu { silu(y) } else { y };
                write(start + i, y * p.a);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;

    /// GroupNorm by its definition, in f64.
    fn oracle(p: &NormAct<'_>, input: &[i16]) -> Vec<f64> {
        let mut out = vec![0.0; input.len()];
        for first in (0..p.channels).step_by(p.group) {
            let at = |cell: usize, c: usize| f64::from(input[cell * p.channels + c]);
            let n = (p.cells * p.group) as f64;
            let members = || (0..p.cells).flat_map(|cell| (first..first + p.group).map(move |c| (cell, c)));
            let mean = members().map(|(cell, c)| at(cell, c)).sum::<f64>() / n;
            let var = members().map(|(cell, c)| (at(cell, c) - mean).powi(2)).sum::<f64>() / n;
            for (cell, c) in members() {
                let (scale, shift) = p.film.map_or((0.0, 0.0), |f| (f64::from(f[c]), f64::from(f[p.channels + c])));
                let y =
                    (at(cell, c) - mean) / (var + f64::from(p.b)).sqrt() * f64::from(p.gamma[c]) + f64::from(p.beta[c]);
                let y = y * (1.0 + scale) + shift;
                let y = if p.silu { y / (1.0 + (-y).exp()) } else { y };
                out[cell * p.channels + c] = y * f64::from(p.a) + f64::from(p.zp);
            }
        }
        out
    }

    #[test]
    fn equals_the_definition() {
        let mut n = Numbers(3);
        for (cells, channels, group) in [(1, 8, 8), (49, 64, 8), (196, 32, 8), (5, 12, 4), (9, 64, 64), (1024, 128, 64)]
        {
            let (gamma, beta, film) = (n.f32s(channels, 1.5), n.f32s(channels, 0.5), n.f32s(2 * channels, 0.5));
            let input = n.i16s(cells * channels);
            for (film, silu, zp) in
                [(None, false, 0), (None, true, -100), (Some(&film[..]), true, -90), (Some(&film[..]), false, 5)]
            {
                let p = NormAct { cells, channels, group, gamma: &gamma, beta: &beta, film, silu, a: 31.7, b: 0.9, zp };
                let want = oracle(&p, &input);
                let mut out = vec![0i8; cells * channels];
                norm_act(&p, &input, NormOut::I8(&mut out));
                for (&got, &want) in out.iter().zip(&want) {
                    // Off by one where f32 and f64 fall on different sides of a half.
                    assert!((f64::from(got) - want.clamp(-128.0, 127.0)).abs() < 0.5 + 2e-3, "{got} {want}");
                }
                let p = NormAct { a: 5000.0, zp: 0, ..p };
                let want = oracle(&p, &input);
                let mut out = vec![0i16; cells * channels];
                norm_act(&p, &input, NormOut::I16(&mut out));
                for (&got, &want) in out.iter().zip(&want) {
                    assert!((f64::from(got) - want.clamp(-32768.0, 32767.0)).abs() < 0.5 + 0.02, "{got} {want}");
                }
            }
        }
    }

    #[test]
    fn constant_and_extreme_groups_stay_defined() {
        let ones = [1.0f32; 8];
        let zeros = [0.0f32; 8];
        let p = NormAct {
            cells: 8192,
            channels: 8,
            group: 8,
            gamma: &ones,
            beta: &zeros,
            film: None,
            silu: false,
            a: 10.0,
            b: 1e-3,
            zp: 3,
        };
        let mut out = vec![0i8; 65536];
        for value in [0, i16::MIN, i16::MAX, 77] {
            norm_act(&p, &vec![value; 65536], NormOut::I8(&mut out));
            assert!(out.iter().all(|&o| o == 3), "{value}");
        }
        let mut input = vec![i16::MIN; 65536];
        input[32768..].fill(i16::MAX);
        norm_act(&p, &input, NormOut::I8(&mut out));
        assert_eq!((out[0], out[65535]), (-7, 13));
    }
}
