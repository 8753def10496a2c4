//! Fused GroupNorm, per-channel affine and SiLU of one picture, forward and backward.
//!
//! Wu & He, *Group Normalization* (2018), with groups of [`GROUP`] consecutive channels:
//! `u = (x - mean) / sqrt(var + eps) * scale + shift`, `y = u * sigmoid(u)` or `y = u`.

use super::rows::{at, at_mut, channel_blocks, channel_squares, channel_sums};
use super::wide::wide;
use super::{GROUP, GROUPNORM_EPS};

const EPS: f32 = GROUPNORM_EPS as f32;

/// Shape and kind of one fused normalization: `positions` = H*W of `channels` values, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormAct {
    pub positions: usize,
    pub channels: usize,
    pub silu: bool,
}

/// What [`NormAct`] finds out about a picture, for its way back; the memory is reused between pictures.
#[derive(Default)]
pub struct NormScratch {
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    mul: Vec<f32>,
    add: Vec<f32>,
    sums: Vec<f32>,
}

/// `exp(x)`, x cut to +-87, relative error below 2e-7; plain arithmetic, so that loops over it vectorize.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to an integer
    let x = x.clamp(-87.0, 87.0);
    let k = x * std::f32::consts::LOG2_E + ROUND;
    let n = k - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4; // ln 2 in two parts
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_5 + r * (0.041_665_8 + r * (0.008_365_2 + r * 0.001_394_4)))));
    p * f32::from_bits((k.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// `1 / (1 + exp(-u))`, relative error below 3e-7.
#[inline(always)]
fn sigmoid(u: f32) -> f32 {
    1.0 / (1.0 + exp(-u))
}

#[inline(always)]
fn apply_block<const L: usize>(i: usize, x: &[f32], mul: &[f32], add: &[f32], y: &mut [f32], silu: bool) {
    let (m, a) = (*at::<L>(mul, i), *at::<L>(add, i));
    for (row, out) in x.chunks_exact(mul.len()).zip(y.chunks_exact_mut(mul.len())) {
        let (v, o) = (at::<L>(row, i), at_mut::<L>(out, i));
        for k in 0..L {
            let u = v[k] * m[k] + a[k];
            o[k] = if silu { u * sigmoid(u) } else { u };
        }
    }
}

wide! {
    fn apply(x: &[f32], mul: &[f32], add: &[f32], y: &mut [f32], silu: bool) {
        channel_blocks!(mul.len(), apply_block(x, mul, add, y, silu));
    }
}

/// What the backward pass knows of each channel.
struct Channels<'a> {
    mul: &'a [f32],
    add: &'a [f32],
    mean: &'a [f32],
    inv_std: &'a [f32],
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn act_block<const L: usize>(
    i: usize,
    x: &[f32],
    dy: &mut [f32],
    y: &mut [f32],
    c: &Channels,
    dshift: &mut [f32],
    dscale: &mut [f32],
    silu: bool,
) {
    let (mul, add) = (*at::<L>(c.mul, i), *at::<L>(c.add, i));
    let (mean, inv_std) = (*at::<L>(c.mean, i), *at::<L>(c.inv_std, i));
    let (mut shift, mut scale) = ([0.0; L], [0.0; L]);
    let n = c.mul.len();
    for ((row, g), y) in x.chunks_exact(n).zip(dy.chunks_exact_mut(n)).zip(y.chunks_exact_mut(n)) {
        let (v, g, y) = (at::<L>(row, i), at_mut::<L>(g, i), at_mut::<L>(y, i));
        for k in 0..L {
            let u = v[k] * mul[k] + add[k];
            let s = sigmoid(u);
            y[k] = if silu { u * s } else { u };
            let d = if silu { g[k] * (s * (1.0 + u * (1.0 - s))) } else { g[k] };
            g[k] = d;
            shift[k] += d;
            scale[k] += d * ((v[k] - mean[k]) * inv_std[k]);
        }
    }
    *at_mut::<L>(dshift, i) = shift;
    *at_mut::<L>(dscale, i) = scale;
}

wide! {
    /// `dy *= d silu(u)/du` with per-channel sums of that and of that times `(x - mean) * inv_std`; `y` as [`apply`].
    fn backward_act(x: &[f32], dy: &mut [f32], y: &mut [f32], c: &Channels, dshift: &mut [f32], dscale: &mut [f32],
                    silu: bool) {
        channel_blocks!(c.mul.len(), act_block(x, dy, y, c, dshift, dscale, silu));
    }
}

#[inline(always)]
fn input_block<const L: usize>(i: usize, x: &[f32], du: &[f32], mul: &[f32], k1: &[f32], k2: &[f32], dx: &mut [f32]) {
    let (m, k1, k2) = (*at::<L>(mul, i), *at::<L>(k1, i), *at::<L>(k2, i));
    let n = mul.len();
    for ((row, d), out) in x.chunks_exact(n).zip(du.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
        let (v, d, o) = (at::<L>(row, i), at::<L>(d, i), at_mut::<L>(out, i));
        for k in 0..L {
            o[k] += d[k] * m[k] - k1[k] - v[k] * k2[k];
        }
    }
}

wide! {
    /// `dx += du * mul - k1 - x * k2` per channel.
    fn backward_input(x: &[f32], du: &[f32], mul: &[f32], k1: &[f32], k2: &[f32], dx: &mut [f32]) {
        channel_blocks!(mul.len(), input_block(x, du, mul, k1, k2, dx));
    }
}

impl NormAct {
    /// Fills the scratch as [`NormAct::forward`] does.
    pub fn statistics(&self, x: &[f32], scale: &[f32], shift: &[f32], s: &mut NormScratch) {
        let c = self.channels;
        let n = (self.positions * GROUP) as f32;
        for v in [&mut s.mean, &mut s.inv_std, &mut s.mul, &mut s.add] {
            v.clear();
            v.resize(c, 0.0);
        }
        s.sums.clear();
        s.sums.resize(2 * c, 0.0);
        let (sum, square) = s.sums.split_at_mut(c);
        // Two passes: the second one sums squares around the mean, which loses nothing to cancellation.
        channel_sums(x, sum);
        for g in (0..c).step_by(GROUP) {
            let mean = sum[g..g + GROUP].iter().sum::<f32>() / n;
            s.mean[g..g + GROUP].fill(mean);
        }
        channel_squares(x, &s.mean, square);
        for g in (0..c).step_by(GROUP) {
            let var = square[g..g + GROUP].iter().sum::<f32>() / n;
            s.inv_std[g..g + GROUP].fill(1.0 / (var + EPS).sqrt());
        }
        for i in 0..c {
            s.mul[i] = s.inv_std[i] * scale[i];
            s.add[i] = shift[i] - s.mean[i] * s.mul[i];
        }
    }

    /// `x` and `y` [positions, channels], `scale` and `shift` [channels].
    pub fn forward(&self, x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32], s: &mut NormScratch) {
        self.statistics(x, scale, shift, s);
        apply(x, &s.mul, &s.add, y, self.silu);
    }

    /// Adds the input's gradient to `dx` [positions, channels]; writes `dscale` and `dshift` [channels]. The scratch is
    /// as [`NormAct::forward`] left it for this `x`; `dy` is overwritten, and `y` gets the output again, which costs
    /// nothing here.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        x: &[f32],
        scale: &[f32],
        dy: &mut [f32],
        y: &mut [f32],
        dx: &mut [f32],
        dscale: &mut [f32],
        dshift: &mut [f32],
        s: &mut NormScratch,
    ) {
        let c = self.channels;
        let n = (self.positions * GROUP) as f32;
        let channels = Channels { mul: &s.mul, add: &s.add, mean: &s.mean, inv_std: &s.inv_std };
        backward_act(x, dy, y, &channels, dshift, dscale, self.silu);
        let (k1, k2) = s.sums.split_at_mut(c);
        for g in (0..c).step_by(GROUP) {
            let mut m1 = 0.0;
            let mut m2 = 0.0;
            for i in g..g + GROUP {
                m1 += scale[i] * dshift[i];
                m2 += scale[i] * dscale[i];
            }
            let (r, mean) = (s.inv_std[g], s.mean[g]);
            // dx = r*(scale*du - m1/n - (x - mean)*r*m2/n), written as du*mul - k1 - x*k2.
            k2[g..g + GROUP].fill(r * r * (m2 / n));
            k1[g..g + GROUP].fill(r * (m1 / n) - mean * (r * r * (m2 / n)));
        }
        backward_input(x, dy, &s.mul, k1, k2, dx);
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, sigmoid};

    #[test]
    fn exp_and_sigmoid_keep_their_bounds() {
        for i in -8_000_000..=8_000_000 {
            let x = i as f32 * 1e-5;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-7, "exp({x})");
            assert!((f64::from(sigmoid(x)) * (1.0 + 1.0 / exact) - 1.0).abs() < 3e-7, "sigmoid({x})");
        }
    }
}
