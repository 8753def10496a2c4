//! Residual blocks one after the other as one candle op over [`super::kernels`].
//!
//! Candle adds the gradient of everything an op takes to zeros, and copies what is cut out of a tensor or joined to one.
//! Here that happens once for a run of blocks, not once for each of them, and never to their weights: they reach the
//! op beside the graph, and a [`Link`] in the graph hands their gradients on.

use super::kernels::{ConvShape, Engine, NormAct, NormScratch, Scratch, Weights, add_to_rows, channel_sums, fill_rows};
use super::ops::{append, append_zeros, slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Gradients of a convolution's weights and bias, from the run that found them to the link.
type Parcel = Arc<Mutex<Option<(Tensor, Tensor)>>>;

/// Stands between a convolution's weights and bias and the run of blocks: [1], [cout, 3, 3, cin], [cout] -> [1]. The
/// value is of no meaning; the run takes it, so that candle comes here after the run on its way back.
struct Link(Parcel);

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        "fewstep-link"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), 1.into()))
    }

    fn bwd(
        &self,
        before: &Tensor,
        _w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        _g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some((dw, db)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            candle_core::bail!("a convolution's gradients are not there yet")
        };
        Ok((Some(before.zeros_like()?), Some(dw), Some(db)))
    }
}

/// A convolution of a block.
struct Conv {
    weights: Tensor,
    packed: Weights,
    bias: Vec<f32>,
    gradient: Parcel,
}

impl Conv {
    fn new(shape: &ConvShape, engine: Engine, weights: &Tensor, bias: &Tensor) -> Result<Conv> {
        Ok(Conv {
            weights: weights.detach(),
            packed: with_slice(weights, |w| shape.pack(engine, w))?,
            bias: with_slice(bias, <[f32]>::to_vec)?,
            gradient: Parcel::default(),
        })
    }
}

/// Blocks `x + conv2(silu(norm(conv1(silu(norm(x, s1, t1))), s2, t2)))`, one after the other, each a picture at a time, so
/// that its activations stay in the cache.
///
/// x [B, H, W, C]; affine [B, blocks * 4C] = scale 1, shift 1, scale 2, shift 2 of each; the last link.
struct Run {
    conv: ConvShape,
    norm: NormAct,
    engine: Engine,
    blocks: Vec<[Conv; 2]>,
    /// Whether there will be a way back.
    tracked: bool,
    kept: Mutex<Kept>,
}

/// What a run keeps of all pictures for the way back.
#[derive(Default)]
struct Kept {
    /// Inputs of the blocks after the first.
    inputs: Vec<Vec<f32>>,
    /// What the first convolution of each block gave.
    middles: Vec<Vec<f32>>,
}

/// Working memory for a picture.
struct Memory {
    conv: Scratch,
    norm: NormScratch,
    /// A normalization's output and its gradient.
    n: Vec<f32>,
    dn: Vec<f32>,
    /// The first convolution's output or its gradient.
    t: Vec<f32>,
}

impl Memory {
    fn new(len: usize) -> Memory {
        let [n, dn, t] = std::array::from_fn(|_| vec![0.0; len]);
        Memory { conv: Scratch::default(), norm: NormScratch::default(), n, dn, t }
    }
}

impl Run {
    /// Where scales and shifts of picture `i` for block `k` begin in all of them.
    fn affine_at(&self, i: usize, k: usize) -> usize {
        (i * self.blocks.len() + k) * 4 * self.conv.cin
    }

    /// Scales and shifts of picture `i` for block `k`.
    fn affine<'a>(&self, all: &'a [f32], i: usize, k: usize) -> [&'a [f32]; 4] {
        let c = self.conv.cin;
        let own = &all[self.affine_at(i, k)..][..4 * c];
        std::array::from_fn(|part| &own[part * c..][..c])
    }

    /// Block `k` of all pictures: what it gives, and what its first convolution gave if there will be a way back.
    fn forward(&self, k: usize, x: &[f32], affine: &[f32], m: &mut Memory) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut middle) = (Vec::with_capacity(x.len()), Vec::new());
        if self.tracked {
            middle.reserve_exact(x.len());
        }
        let len = self.conv.input_len();
        let [first, second] = &self.blocks[k];
        for (i, x) in x.chunks(len).enumerate() {
            let a = self.affine(affine, i, k);
            let t = if self.tracked { append_zeros(&mut middle, len) } else { &mut m.t };
            self.norm.forward(x, a[0], a[1], &mut m.n, &mut m.norm);
            fill_rows(t, &first.bias);
            self.conv.forward(&first.packed, &m.n, t, &mut m.conv);
            self.norm.forward(t, a[2], a[3], &mut m.n, &mut m.norm);
            let y = append(&mut out, x);
            add_to_rows(y, &second.bias);
            self.conv.forward(&second.packed, &m.n, y, &mut m.conv);
        }
        (out, middle)
    }

    /// Makes block `k`'s output gradients `g` of all pictures its input gradients.
    fn backward(
        &self,
        k: usize,
        (x, t): (&[f32], &[f32]),
        affine: &[f32],
        g: &mut [f32],
        daffine: &mut [f32],
        m: &mut Memory,
    ) -> Result<()> {
        let (s, c, len) = (&self.conv, self.conv.cin, self.conv.input_len());
        let [first, second] = &self.blocks[k];
        let back = |conv: &Conv| with_slice(&conv.weights, |w| s.pack_transposed(self.engine, w));
        let (back1, back2) = (back(first)?, back(second)?);
        let mut sums = [s.gradient(self.engine), s.gradient(self.engine)];
        let mut db = [vec![0.0; c], vec![0.0; c]];
        for (i, ((x, t), g)) in x.chunks(len).zip(t.chunks(len)).zip(g.chunks_mut(len)).enumerate() {
            let a = self.affine(affine, i, k);
            let (d1, d2) = daffine[self.affine_at(i, k)..][..4 * c].split_at_mut(2 * c);

            channel_sums(g, &mut db[1]);
            m.dn.fill(0.0);
            s.forward(&back2, g, &mut m.dn, &mut m.conv);
            self.norm.statistics(t, a[2], a[3], &mut m.norm);
            m.t.fill(0.0);
            let (da, ds) = d2.split_at_mut(c);
            self.norm.backward(t, a[2], &mut m.dn, &mut m.n, &mut m.t, da, ds, &mut m.norm);
            s.add_gradient(&m.n, g, &mut sums[1], &mut m.conv);

            let dt = &m.t;
            channel_sums(dt, &mut db[0]);
            m.dn.fill(0.0);
            s.forward(&back1, dt, &mut m.dn, &mut m.conv);
            self.norm.statistics(x, a[0], a[1], &mut m.norm);
            let (da, ds) = d1.split_at_mut(c);
            self.norm.backward(x, a[0], &mut m.dn, &mut m.n, g, da, ds, &mut m.norm);
            s.add_gradient(&m.n, dt, &mut sums[0], &mut m.conv);
        }
        for ((conv, sum), db) in [first, second].into_iter().zip(&mut sums).zip(db) {
            let mut dw = vec![0.0; s.weights_len()];
            s.finish_gradient(sum, &mut dw);
            let dw = Tensor::from_vec(dw, conv.weights.shape(), &Device::Cpu)?;
            let db = Tensor::from_vec(db, c, &Device::Cpu)?;
            *conv.gradient.lock().unwrap_or_else(PoisonError::into_inner) = Some((dw, db));
        }
        Ok(())
    }
}

impl CustomOp3 for Run {
    fn name(&self) -> &'static str {
        "fewstep-residual-blocks"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        affine: &CpuStorage,
        la: &Layout,
        _link: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, affine) = (slice(x, lx)?, slice(affine, la)?);
        let mut m = Memory::new(self.conv.input_len());
        let mut kept = Kept::default();
        let (mut y, middle) = self.forward(0, x, affine, &mut m);
        kept.middles.push(middle);
        for k in 1..self.blocks.len() {
            let (next, middle) = self.forward(k, &y, affine, &mut m);
            let input = std::mem::replace(&mut y, next);
            kept.middles.push(middle);
            kept.inputs.push(if self.tracked { input } else { Vec::new() });
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        link: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut m = Memory::new(self.conv.input_len());
        let mut g = with_slice(g, <[f32]>::to_vec)?;
        let mut daffine = vec![0.0; affine.elem_count()];
        with_slice(x, |x| {
            with_slice(affine, |affine| {
                (0..self.blocks.len()).rev().try_for_each(|k| {
                    let x = if k == 0 { x } else { &kept.inputs[k - 1] };
                    self.backward(k, (x, &kept.middles[k]), affine, &mut g, &mut daffine, &mut m)
                })
            })
        })???;
        Ok((
            Some(Tensor::from_vec(g, x.shape(), x.device())?),
            Some(Tensor::from_vec(daffine, affine.shape(), x.device())?),
            Some(link.zeros_like()?),
        ))
    }
}

/// A run of residual blocks in f32 on the CPU: see [`super::ops::res_blocks`].
pub fn run(x: &Tensor, affine: &Tensor, weights: &[[&Tensor; 4]]) -> Result<Tensor> {
    let (_, h, w, c) = x.dims4()?;
    let engine = Engine::current();
    let conv = ConvShape { h, w, cin: c, cout: c, kernel: 3 };
    let mut link = Tensor::zeros(1, x.dtype(), x.device())?;
    let mut blocks = Vec::new();
    for [w1, b1, w2, b2] in weights {
        let block = [Conv::new(&conv, engine, w1, b1)?, Conv::new(&conv, engine, w2, b2)?];
        for (conv, (w, b)) in block.iter().zip([(w1, b1), (w2, b2)]) {
            link = link.apply_op3(w, b, Link(conv.gradient.clone()))?;
        }
        blocks.push(block);
    }
    let op = Run {
        conv,
        norm: NormAct { positions: h * w, channels: c, silu: true },
        engine,
        blocks,
        tracked: [x, affine, &link].into_iter().any(Tensor::track_op),
        kept: Mutex::default(),
    };
    x.contiguous()?.apply_op3(&affine.contiguous()?, &link, op)
}

/// Scales and shifts of blocks of `channels`: see [`super::ops::affine`].
pub struct Affine {
    pub channels: usize,
}

impl CustomOp2 for Affine {
    fn name(&self) -> &'static str {
        "fewstep-affine"
    }

    fn cpu_fwd(&self, film: &CpuStorage, lf: &Layout, norms: &CpuStorage, ln: &Layout) -> Result<(CpuStorage, Shape)> {
        let (film, norms, c) = (slice(film, lf)?, slice(norms, ln)?, self.channels);
        let mut out = Vec::with_capacity(2 * film.len());
        for film in film.chunks(norms.len() / 2) {
            for (film, norms) in film.chunks(2 * c).zip(norms.chunks(4 * c)) {
                let ((scale, shift), (first, second)) = (film.split_at(c), norms.split_at(2 * c));
                out.extend_from_slice(first);
                out.extend(scale.iter().zip(&second[..c]).map(|(f, s)| (f + 1.0) * s));
                out.extend(scale.iter().zip(&second[c..]).zip(shift).map(|((f, t), shift)| (f + 1.0) * t + shift));
            }
        }
        Ok((CpuStorage::F32(out), (lf.dims()[0], norms.len()).into()))
    }

    fn bwd(&self, film: &Tensor, norms: &Tensor, _y: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let c = self.channels;
        let mut dfilm = vec![0.0; film.elem_count()];
        let mut dnorms = vec![0.0; norms.elem_count()];
        let add = |film: &[f32], norms: &[f32], g: &[f32], dfilm: &mut [f32], dnorms: &mut [f32]| {
            let (dscale, dshift) = dfilm.split_at_mut(c);
            for i in 0..c {
                let (scale, ds, dt) = (film[i] + 1.0, g[2 * c + i], g[3 * c + i]);
                dscale[i] = ds * norms[2 * c + i] + dt * norms[3 * c + i];
                dshift[i] = dt;
                dnorms[i] += g[i];
                dnorms[c + i] += g[c + i];
                dnorms[2 * c + i] += ds * scale;
                dnorms[3 * c + i] += dt * scale;
            }
        };
        with_slice(film, |film| {
            with_slice(norms, |norms| {
                with_slice(g, |g| {
                    // Blocks of pictures; every picture has the same norms.
                    let blocks = film.chunks(2 * c).zip(dfilm.chunks_mut(2 * c)).zip(g.chunks(4 * c));
                    for (i, ((film, dfilm), g)) in blocks.enumerate() {
                        let at = i * 4 * c % norms.len();
                        add(film, &norms[at..], g, dfilm, &mut dnorms[at..]);
                    }
                })
            })
        })???;
        Ok((
            Some(Tensor::from_vec(dfilm, film.shape(), film.device())?),
            Some(Tensor::from_vec(dnorms, norms.shape(), film.device())?),
        ))
    }
}
