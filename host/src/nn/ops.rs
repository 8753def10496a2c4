//! The network's operations on channels-last tensors [B, H, W, C]: candle custom ops over [`super::kernels`] on the
//! CPU, compositions of candle's own ops ([`super::native`]) on any other device.
//!
//! An operation runs in the thread that calls it, picture after picture: callers give each thread its own part of a
//! batch, so that everything around the kernels runs in parallel too.

use super::kernels::{
    ConvShape, Engine, GROUP, GROUPNORM_EPS, NormAct, NormScratch, Scratch, add_to_rows, channel_sums, fill_rows,
};
use super::native;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

/// Runs `f` on a contiguous f32 CPU tensor's values.
fn with_slice<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(v)) => Ok(f(&v[layout.start_offset()..][..layout.shape().elem_count()])),
        _ => candle_core::bail!("expected an f32 tensor on the CPU"),
    }
}

fn slice<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((from, to))) => Ok(&v[from..to]),
        (CpuStorage::F32(_), None) => candle_core::bail!("expected a contiguous tensor"),
        _ => candle_core::bail!("expected an f32 tensor"),
    }
}

/// Appends a picture of `len` zeros and returns it. Pictures are appended one by one, so that each is written to while
/// it is in the cache.
fn append_zeros(pictures: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let at = pictures.len();
    pictures.resize(at + len, 0.0);
    &mut pictures[at..]
}

/// Appends a picture and returns it.
fn append<'a>(pictures: &'a mut Vec<f32>, picture: &[f32]) -> &'a mut [f32] {
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
                        for (i, dy) in dy.chunks_mut(len).enumerate() {
                            let (x, q) = (&x[i * len..][..len], i * c..(i + 1) * c);
                            k.statistics(x, &a[q.clone()], &b[q.clone()], &mut m);
                            let (da, db) = (&mut da[q.clone()], &mut db[q.clone()]);
                            k.backward(x, &a[q], dy, append_zeros(&mut dx, len), da, db, &mut m);
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

/// A whole residual block on one picture at a time, so that its activations stay in the cache:
/// `x + conv2(silu(norm(conv1(silu(norm(x, s1, t1))), s2, t2)))`.
///
/// x [B, H, W, C]; affine [B, 4C] = scale 1, shift 1, scale 2, shift 2; weights [2 * (9*C*C + C)] = weights and bias
/// of both convolutions.
struct ResBlock {
    conv: ConvShape,
    norm: NormAct,
    engine: Engine,
}

#[derive(Default)]
struct BlockScratch {
    conv: Scratch,
    norm1: NormScratch,
    norm2: NormScratch,
    n1: Vec<f32>,
    t: Vec<f32>,
    n2: Vec<f32>,
    dn: Vec<f32>,
    dt: Vec<f32>,
}

impl ResBlock {
    /// Weights and bias of convolution `i` in the packed weights.
    fn weights<'a>(&self, i: usize, all: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        let len = self.conv.weights_len() + self.conv.cout;
        all[i * len..(i + 1) * len].split_at(self.conv.weights_len())
    }
}

impl CustomOp3 for ResBlock {
    fn name(&self) -> &'static str {
        "fewstep-res-block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        affine: &CpuStorage,
        la: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, affine, w) = (slice(x, lx)?, slice(affine, la)?, slice(w, lw)?);
        let (len, c) = (self.conv.input_len(), self.conv.cin);
        let ((w1, b1), (w2, b2)) = (self.weights(0, w), self.weights(1, w));
        let (w1, w2) = (self.conv.pack(self.engine, w1), self.conv.pack(self.engine, w2));
        let mut out = Vec::with_capacity(x.len());
        let mut m = BlockScratch::default();
        m.n1.resize(len, 0.0);
        m.t.resize(len, 0.0);
        for (x, affine) in x.chunks(len).zip(affine.chunks(4 * c)) {
            let a: [&[f32]; 4] = std::array::from_fn(|i| &affine[i * c..(i + 1) * c]);
            self.norm.forward(x, a[0], a[1], &mut m.n1, &mut m.norm1);
            fill_rows(&mut m.t, b1);
            self.conv.forward(&w1, &m.n1, &mut m.t, &mut m.conv);
            self.norm.forward(&m.t, a[2], a[3], &mut m.n1, &mut m.norm2);
            let y = append(&mut out, x);
            add_to_rows(y, b2);
            self.conv.forward(&w2, &m.n1, y, &mut m.conv);
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.conv;
        let (len, c, n) = (s.input_len(), s.cin, x.dims()[0]);
        let (forward1, back1, back2, bias1) = with_slice(w, |w| {
            let ((w1, b1), (w2, _)) = (self.weights(0, w), self.weights(1, w));
            (
                s.pack(self.engine, w1),
                s.pack_transposed(self.engine, w1),
                s.pack_transposed(self.engine, w2),
                b1.to_vec(),
            )
        })?;
        let mut dxs = Vec::with_capacity(n * len);
        let mut daffine = vec![0.0; n * 4 * c];
        let mut sums = [s.gradient(self.engine), s.gradient(self.engine)];
        let mut db = [vec![0.0; c], vec![0.0; c]];
        with_slice(x, |x| {
            with_slice(affine, |affine| {
                with_slice(g, |g| {
                    let mut scratch = BlockScratch::default();
                    let m = &mut scratch;
                    for v in [&mut m.n1, &mut m.t, &mut m.n2, &mut m.dn, &mut m.dt] {
                        v.resize(len, 0.0);
                    }
                    for (i, (x, g)) in x.chunks(len).zip(g.chunks(len)).enumerate() {
                        let a: [&[f32]; 4] = std::array::from_fn(|k| &affine[(4 * i + k) * c..][..c]);
                        // Forward again: cheaper than keeping a batch of activations.
                        self.norm.forward(x, a[0], a[1], &mut m.n1, &mut m.norm1);
                        fill_rows(&mut m.t, &bias1);
                        s.forward(&forward1, &m.n1, &mut m.t, &mut m.conv);
                        self.norm.forward(&m.t, a[2], a[3], &mut m.n2, &mut m.norm2);

                        let (d1, d2) = daffine[4 * i * c..][..4 * c].split_at_mut(2 * c);
                        s.add_gradient(&m.n2, g, &mut sums[1], &mut m.conv);
                        channel_sums(g, &mut db[1]);
                        m.dn.fill(0.0);
                        s.forward(&back2, g, &mut m.dn, &mut m.conv);
                        m.dt.fill(0.0);
                        let (da, ds) = d2.split_at_mut(c);
                        self.norm.backward(&m.t, a[2], &mut m.dn, &mut m.dt, da, ds, &mut m.norm2);

                        s.add_gradient(&m.n1, &m.dt, &mut sums[0], &mut m.conv);
                        channel_sums(&m.dt, &mut db[0]);
                        m.dn.fill(0.0);
                        s.forward(&back1, &m.dt, &mut m.dn, &mut m.conv);
                        let dx = append(&mut dxs, g);
                        let (da, ds) = d1.split_at_mut(c);
                        self.norm.backward(x, a[0], &mut m.dn, dx, da, ds, &mut m.norm1);
                    }
                })
            })
        })???;
        let mut dw = vec![0.0; w.elem_count()];
        for (k, half) in dw.chunks_mut(w.elem_count() / 2).enumerate() {
            let (weights, bias) = half.split_at_mut(s.weights_len());
            s.finish_gradient(&mut sums[k], weights);
            bias.copy_from_slice(&db[k]);
        }
        let d = x.device();
        Ok((
            Some(Tensor::from_vec(dxs, x.shape(), d)?),
            Some(Tensor::from_vec(daffine, affine.shape(), d)?),
            Some(Tensor::from_vec(dw, w.shape(), d)?),
        ))
    }
}

/// 2x2 mean (`scale` 0.25) or sum (1) of [B, H, W, C] -> [B, H/2, W/2, C].
struct Down(f32);
/// Each value, times `scale`, four times: [B, H, W, C] -> [B, 2H, 2W, C].
struct Up(f32);

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
        for (rows, x) in y.chunks_mut(4 * w * c).zip(x.chunks(w * c)) {
            let (first, second) = rows.split_at_mut(2 * w * c);
            for (o, v) in first.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
                for k in 0..c {
                    o[k] = v[k] * self.0;
                    o[k + c] = v[k] * self.0;
                }
            }
            second.copy_from_slice(first);
        }
        Ok((CpuStorage::F32(y), (n, 2 * h, 2 * w, c).into()))
    }
    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(g.contiguous()?.apply_op1_no_bwd(&Down(self.0))?))
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

/// A residual block: x [B, H, W, C], affines [B, C] of both norms, weights and biases of both convolutions.
pub fn res_block(x: &Tensor, affine: [&Tensor; 4], weights: [&Tensor; 4]) -> Result<Tensor> {
    if native_only(x) {
        return native::res_block(x, affine, weights);
    }
    let (_, h, w, c) = x.dims4()?;
    check_groups(c)?;
    let op = ResBlock {
        conv: ConvShape { h, w, cin: c, cout: c, kernel: 3 },
        norm: NormAct { positions: h * w, channels: c, silu: true },
        engine: Engine::current(),
    };
    let affine = Tensor::cat(&affine, 1)?;
    let flat: Vec<Tensor> = weights.iter().map(|w| w.flatten_all()).collect::<Result<_>>()?;
    x.contiguous()?.apply_op3(&affine, &Tensor::cat(&flat, 0)?, op)
}

/// 2x2 mean of [B, H, W, C], H and W even.
pub fn avg_pool2(x: &Tensor) -> Result<Tensor> {
    if native_only(x) {
        return native::avg_pool2(x);
    }
    x.contiguous()?.apply_op1(Down(0.25))
}

/// Nearest-neighbour doubling of [B, H, W, C].
pub fn upsample2(x: &Tensor) -> Result<Tensor> {
    if native_only(x) {
        return native::upsample2(x);
    }
    x.contiguous()?.apply_op1(Up(1.0))
}

fn check_groups(channels: usize) -> Result<()> {
    if !channels.is_multiple_of(GROUP) {
        candle_core::bail!("{channels} channels do not divide into groups of {GROUP}");
    }
    Ok(())
}
