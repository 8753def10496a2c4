//! The network's operations on channels-last tensors [B, H, W, C]: candle custom ops over [`super::kernels`] on the
//! CPU, compositions of candle's own ops ([`super::native`]) on any other device.
//!
//! An operation runs in the thread that calls it, picture after picture: callers give each thread its own part of a
//! batch, so that everything around the kernels runs in parallel too.

use super::kernels::{
    Attention, AttentionScratch, ConvShape, Engine, GROUP, GROUPNORM_EPS, NormAct, NormScratch, Scratch, channel_sums,
    fill_rows,
};
use super::{blocks, native};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

/// Runs `f` on a contiguous f32 CPU tensor's values.
pub(super) fn with_slice<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(v)) => Ok(f(&v[layout.start_offset()..][..layout.shape().elem_count()])),
        _ => candle_core::bail!("expected an f32 tensor on the CPU"),
    }
}

pub(super) fn slice<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((from, to))) => Ok(&v[from..to]),
        (CpuStorage::F32(_), None) => candle_core::bail!("expected a contiguous tensor"),
        _ => candle_core::bail!("expected an f32 tensor"),
    }
}

/// Appends a picture of `len` zeros and returns it. Pictures are appended one by one, so that each is written to while
/// it is in the cache.
pub(super) fn append_zeros(pictures: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let at = pictures.len();
    pictures.resize(at + len, 0.0);
    &mut pictures[at..]
}

/// Appends a picture and returns it.
pub(super) fn append<'a>(pictures: &'a mut Vec<f32>, picture: &[f32]) -> &'a mut [f32] {
    let at = pictures.len();
    pictures.extend_from_slice(picture);
    &mut pictures[at..]
}

/// Convolution with bias: x [B, H, W, cin], weights [cout, k, k, cin], bias [cout] -> [B, H, W, cout].
struct Conv {
    shape: ConvShape,
    engine: Engine,
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "fewstep-conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (s, x, bias) = (self.shape, slice(x, lx)?, slice(b, lb)?);
        let weights = s.pack(self.engine, slice(w, lw)?);
        let n = lx.dims()[0];
        let mut out = Vec::with_capacity(n * s.output_len());
        let mut m = Scratch::default();
        for x in x.chunks(s.input_len()) {
            let y = append_zeros(&mut out, s.output_len());
            fill_rows(y, bias);
            s.forward(&weights, x, y, &mut m);
        }
        Ok((CpuStorage::F32(out), (n, s.h, s.w, s.cout).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.shape;
        let n = x.dims()[0];
        let back = s.transposed();
        let weights = with_slice(w, |w| s.pack_transposed(self.engine, w))?;
        let mut dx = Vec::with_capacity(n * s.input_len());
        let (mut sum, mut db) = (s.gradient(self.engine), vec![0.0; s.cout]);
        with_slice(x, |x| {
            with_slice(g, |g| {
                let mut m = Scratch::default();
                for (x, g) in x.chunks(s.input_len()).zip(g.chunks(s.output_len())) {
                    back.forward(&weights, g, append_zeros(&mut dx, s.input_len()), &mut m);
                    s.add_gradient(x, g, &mut sum, &mut m);
                    channel_sums(g, &mut db);
                }
            })
        })??;
        let mut dw = vec![0.0; s.weights_len()];
        s.finish_gradient(&mut sum, &mut dw);
        let d = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), d)?),
            Some(Tensor::from_vec(dw, w.shape(), d)?),
            Some(Tensor::from_vec(db, s.cout, d)?),
        ))
    }
}

/// Fused normalization: x [B, H, W, C], scale and shift [B, C] -> [B, H, W, C].
struct Norm(NormAct);

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "fewstep-norm-act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let k = self.0;
        let (x, a, b) = (slice(x, lx)?, slice(a, la)?, slice(b, lb)?);
        let len = k.positions * k.channels;
        let mut y = Vec::with_capacity(x.len());
        let mut m = NormScratch::default();
        for (x, (a, b)) in x.chunks(len).zip(a.chunks(k.channels).zip(b.chunks(k.channels))) {
            k.forward(x, a, b, append_zeros(&mut y, len), &mut m);
        }
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let k = self.0;
        let len = k.positions * k.channels;
        let n = x.dims()[0];
        let mut dx = Vec::with_capacity(n * len);
        let (mut da, mut db) = (vec![0.0; n * k.channels], vec![0.0; n * k.channels]);
        with_slice(x, |x| {
            with_slice(a, |a| {
                with_slice(b, |b| {
                    with_slice(g, |g| {
                        let (mut m, mut dy, c) = (NormScratch::default(), g.to_vec(), k.channels);
                        let mut y = vec![0.0; len];
                        for (i, dy) in dy.chunks_mut(len).enumerate() {
                            let (x, q) = (&x[i * len..][..len], i * c..(i + 1) * c);
                            k.statistics(x, &a[q.clone()], &b[q.clone()], &mut m);
                            let (da, db) = (&mut da[q.clone()], &mut db[q.clone()]);
                            k.backward(x, &a[q], dy, &mut y, append_zeros(&mut dx, len), da, db, &mut m);
                        }
                    })
                })
            })
        })????;
        let d = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), d)?),
            Some(Tensor::from_vec(da, a.shape(), d)?),
            Some(Tensor::from_vec(db, b.shape(), d)?),
        ))
    }
}

/// Softmax attention: qkv [B, H, W, 3C] -> [B, H, W, C].
struct Attend(Attention);

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "fewstep-attention"
    }
    fn cpu_fwd(&self, qkv: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((n, h, w, _), qkv, c) = (dims4(l)?, slice(qkv, l)?, self.0.channels);
        let (len, mut m) = (self.0.tokens * c, AttentionScratch::default());
        let mut out = Vec::with_capacity(n * len);
        for qkv in qkv.chunks(3 * len) {
            self.0.forward(qkv, append_zeros(&mut out, len), &mut m);
        }
        Ok((CpuStorage::F32(out), (n, h, w, c).into()))
    }
    fn bwd(&self, qkv: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (len, mut m) = (self.0.tokens * self.0.channels, AttentionScratch::default());
        let mut dqkv = Vec::with_capacity(qkv.elem_count());
        with_slice(qkv, |qkv| {
            with_slice(g, |g| {
                for (qkv, g) in qkv.chunks(3 * len).zip(g.chunks(len)) {
                    self.0.backward(qkv, g, append_zeros(&mut dqkv, 3 * len), &mut m);
                }
            })
        })??;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}

/// 2x2 mean (`scale` 0.25) or sum (1) of [B, H, W, C] -> [B, H/2, W/2, C].
struct Down(f32);
/// Each value, times `scale`, four times: [B, H, W, C] -> [B, 2H, 2W, C].
struct Up(f32);
/// What [`Up`] makes of [B, H, W, C], added to [B, 2H, 2W, C].
struct AddUp;

/// Adds each value of x [.., w, c], times `scale`, to four of `y`.
fn add_doubled(x: &[f32], w: usize, c: usize, scale: f32, y: &mut [f32]) {
    for (rows, x) in y.chunks_mut(4 * w * c).zip(x.chunks(w * c)) {
        for row in rows.chunks_mut(2 * w * c) {
            for (o, v) in row.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
                for k in 0..c {
                    o[k] += v[k] * scale;
                    o[k + c] += v[k] * scale;
                }
            }
        }
    }
}

fn dims4(l: &Layout) -> Result<(usize, usize, usize, usize)> {
    l.shape().dims4()
}

impl CustomOp1 for Down {
    fn name(&self) -> &'static str {
        "fewstep-down"
    }
    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((n, h, w, c), x) = (dims4(l)?, slice(x, l)?);
        let mut y = vec![0.0; x.len() / 4];
        for (row, out) in y.chunks_mut(w / 2 * c).enumerate() {
            let rows = x[row * 2 * w * c..][..2 * w * c].split_at(w * c);
            for (i, o) in out.chunks_exact_mut(c).enumerate() {
                let (a, b) = (&rows.0[2 * i * c..][..2 * c], &rows.1[2 * i * c..][..2 * c]);
                for (k, o) in o.iter_mut().enumerate() {
                    *o = ((a[k] + a[k + c]) + (b[k] + b[k + c])) * self.0;
                }
            }
        }
        Ok((CpuStorage::F32(y), (n, h / 2, w / 2, c).into()))
    }
    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(g.contiguous()?.apply_op1_no_bwd(&Up(self.0))?))
    }
}

impl CustomOp1 for Up {
    fn name(&self) -> &'static str {
        "fewstep-up"
    }
    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((n, h, w, c), x) = (dims4(l)?, slice(x, l)?);
        let mut y = vec![0.0; x.len() * 4];
        add_doubled(x, w, c, self.0, &mut y);
        Ok((CpuStorage::F32(y), (n, 2 * h, 2 * w, c).into()))
    }
    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(g.contiguous()?.apply_op1_no_bwd(&Down(self.0))?))
    }
}

impl CustomOp2 for AddUp {
    fn name(&self) -> &'static str {
        "fewstep-add-up"
    }
    fn cpu_fwd(&self, stream: &CpuStorage, ls: &Layout, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((_, _, w, c), x) = (dims4(l)?, slice(x, l)?);
        let mut y = slice(stream, ls)?.to_vec();
        add_doubled(x, w, c, 1.0, &mut y);
        Ok((CpuStorage::F32(y), ls.shape().clone()))
    }
    fn bwd(&self, _s: &Tensor, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(g.clone()), Some(g.contiguous()?.apply_op1_no_bwd(&Down(1.0))?)))
    }
}

/// The kernels are f32 on the CPU; everything else composes candle's ops.
fn native_only(x: &Tensor) -> bool {
    !x.device().is_cpu() || x.dtype() != DType::F32
}

/// Convolution with bias, stride 1, padding `k / 2`: x [B, H, W, cin], weights [cout, k, k, cin], bias [cout].
pub fn conv(x: &Tensor, weights: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if native_only(x) {
        return native::conv(x, weights, bias);
    }
    let (_, h, w, cin) = x.dims4()?;
    let (cout, kernel, ..) = weights.dims4()?;
    let op = Conv { shape: ConvShape { h, w, cin, cout, kernel }, engine: Engine::current() };
    x.contiguous()?.apply_op3(&weights.contiguous()?, &bias.contiguous()?, op)
}

/// Normalization of every cell by itself, over all its channels, then affine and SiLU: x [B, H, W, C], scale and shift
/// [B, C]. As [`norm_act`] would be with one group and one cell.
pub fn cell_norm_act(x: &Tensor, scale: &Tensor, shift: &Tensor, silu: bool) -> Result<Tensor> {
    let (n, _, _, c) = x.dims4()?;
    let centred = x.broadcast_sub(&x.mean_keepdim(3)?)?;
    let var = centred.sqr()?.mean_keepdim(3)?;
    let normal = centred.broadcast_div(&(var + GROUPNORM_EPS)?.sqrt()?)?;
    let u = normal.broadcast_mul(&scale.reshape((n, 1, 1, c))?)?.broadcast_add(&shift.reshape((n, 1, 1, c))?)?;
    if silu { u.silu() } else { Ok(u) }
}

/// GroupNorm (groups of 8 channels), affine by scale and shift [B, C], then SiLU if asked: x [B, H, W, C].
pub fn norm_act(x: &Tensor, scale: &Tensor, shift: &Tensor, silu: bool) -> Result<Tensor> {
    if native_only(x) {
        return native::norm_act(x, scale, shift, silu);
    }
    let (_, h, w, channels) = x.dims4()?;
    check_groups(channels)?;
    let op = Norm(NormAct { positions: h * w, channels, silu });
    x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)
}

/// Softmax attention: qkv [B, H, W, 3C], ordered q, k, v, each heads x (C / heads) -> [B, H, W, C].
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    if native_only(qkv) {
        return native::attention(qkv, heads);
    }
    let (_, h, w, c3) = qkv.dims4()?;
    qkv.contiguous()?.apply_op1(Attend(Attention { tokens: h * w, channels: c3 / 3, heads }))
}

/// Scales and shifts of both normalizations of residual blocks of `channels`, [B, blocks * 4C], from what the embedding
/// says of each, film [B, blocks * 2C], and their own, norms [blocks * 4C]: the first one's own, and `(1 + f) * s` and
/// `(1 + f) * t + f'` for the second.
pub fn affine(film: &Tensor, norms: &Tensor, channels: usize) -> Result<Tensor> {
    if native_only(film) {
        return native::affine(film, norms, channels);
    }
    film.contiguous()?.apply_op2(&norms.contiguous()?, blocks::Affine { channels })
}

/// Residual blocks one after the other: x [B, H, W, C], affine [B, blocks * 4C] = scale and shift of the first and of the
/// second norm of each, and weights and biases of both convolutions of each.
pub fn res_blocks(x: &Tensor, affine: &Tensor, weights: &[[&Tensor; 4]]) -> Result<Tensor> {
    if native_only(x) {
        return native::res_blocks(x, affine, weights);
    }
    check_groups(x.dim(3)?)?;
    blocks::run(x, affine, weights)
}

/// 2x2 mean of [B, H, W, C], H and W even.
pub fn avg_pool2(x: &Tensor) -> Result<Tensor> {
    if native_only(x) {
        return native::avg_pool2(x);
    }
    x.contiguous()?.apply_op1(Down(0.25))
}

/// Nearest-neighbour doubling of x [B, H, W, C], added to `stream` [B, 2H, 2W, C].
pub fn add_upsampled(stream: &Tensor, x: &Tensor) -> Result<Tensor> {
    if native_only(x) {
        return native::add_upsampled(stream, x);
    }
    stream.contiguous()?.apply_op2(&x.contiguous()?, AddUp)
}

fn check_groups(channels: usize) -> Result<()> {
    if !channels.is_multiple_of(GROUP) {
        candle_core::bail!("{channels} channels do not divide into groups of {GROUP}");
    }
    Ok(())
}
