//! The operations of [`super::ops`] as compositions of candle's own ops: what runs on a GPU, and the oracle that
//! the kernels' values and gradients are tested against.

use super::kernels::{GROUP, GROUPNORM_EPS};
use candle_core::{Result, Tensor};

/// See [`super::ops::conv`].
pub fn conv(x: &Tensor, weights: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let kernel = weights.dim(1)?;
    let x = x.permute((0, 3, 1, 2))?.contiguous()?;
    let w = weights.permute((0, 3, 1, 2))?.contiguous()?;
    let y = x.conv2d(&w, kernel / 2, 1, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()?;
    y.broadcast_add(bias)
}

/// See [`super::ops::norm_act`].
pub fn norm_act(x: &Tensor, scale: &Tensor, shift: &Tensor, silu: bool) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let grouped = x.reshape((n, h * w, c / GROUP, GROUP))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim((1, 3))?)?;
    let var = centred.sqr()?.mean_keepdim((1, 3))?;
    let normal = centred.broadcast_div(&(var + GROUPNORM_EPS)?.sqrt()?)?.reshape((n, h, w, c))?;
    let u = normal.broadcast_mul(&scale.reshape((n, 1, 1, c))?)?.broadcast_add(&shift.reshape((n, 1, 1, c))?)?;
    if silu { sigmoid(&u)?.mul(&u) } else { Ok(u) }
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// See [`super::ops::affine`].
pub fn affine(film: &Tensor, norms: &Tensor, channels: usize) -> Result<Tensor> {
    let (n, blocks) = (film.dim(0)?, norms.elem_count() / (4 * channels));
    let (film, norms) = (film.reshape((n, blocks, 2, channels))?, norms.reshape((1, blocks, 4, channels))?);
    let first = norms.narrow(2, 0, 2)?.broadcast_as((n, blocks, 2, channels))?;
    let second = (film.narrow(2, 0, 1)? + 1.0)?.broadcast_mul(&norms.narrow(2, 2, 2)?)?;
    let (scale, shift) = (second.narrow(2, 0, 1)?, (second.narrow(2, 1, 1)? + film.narrow(2, 1, 1)?)?);
    Tensor::cat(&[&first, &scale, &shift], 2)?.reshape((n, blocks * 4 * channels))
}

/// See [`super::ops::res_blocks`].
pub fn res_blocks(x: &Tensor, affine: &Tensor, weights: &[[&Tensor; 4]]) -> Result<Tensor> {
    let (c, mut x) = (x.dim(3)?, x.clone());
    for (k, weights) in weights.iter().enumerate() {
        let part = |i: usize| affine.narrow(1, (4 * k + i) * c, c);
        x = res_block(&x, [&part(0)?, &part(1)?, &part(2)?, &part(3)?], *weights)?;
    }
    Ok(x)
}

/// A residual block: x [B, H, W, C], affines [B, C] of both norms, weights and biases of both convolutions.
pub fn res_block(x: &Tensor, affine: [&Tensor; 4], weights: [&Tensor; 4]) -> Result<Tensor> {
    let t = conv(&norm_act(x, affine[0], affine[1], true)?, weights[0], weights[1])?;
    conv(&norm_act(&t, affine[2], affine[3], true)?, weights[2], weights[3])? + x
}

/// See [`super::ops::attention`].
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, h, w, c3) = qkv.dims4()?;
    let (c, t) = (c3 / 3, h * w);
    let part =
        |i: usize| qkv.reshape((n, t, 3, heads, c / heads))?.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?.contiguous()?)? / ((c / heads) as f64).sqrt())?;
    let e = scores.broadcast_sub(&scores.max_keepdim(3)?.detach())?.exp()?;
    let p = e.broadcast_div(&e.sum_keepdim(3)?)?;
    p.matmul(&v)?.transpose(1, 2)?.reshape((n, h, w, c))
}

/// See [`super::ops::avg_pool2`].
pub fn avg_pool2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h / 2, 2, w / 2, 2, c))?.mean((2, 4))
}

/// See [`super::ops::add_upsampled`].
pub fn add_upsampled(stream: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let up = x.reshape((n, h, 1, w, 1, c))?.broadcast_as((n, h, 2, w, 2, c))?.reshape((n, 2 * h, 2 * w, c))?;
    stream + up
}
