//! Tensors whose values come from elsewhere and whose gradients pass through (Bengio et al. 2013).

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor};

fn values<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((from, to))) => Ok(&v[from..to]),
        _ => candle_core::bail!("expected a contiguous f32 tensor"),
    }
}

fn to_vec(t: &Tensor) -> Result<Vec<f32>> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => Ok(values(s, layout)?.to_vec()),
        _ => candle_core::bail!("rounding is simulated on the CPU"),
    }
}

/// Other values for a tensor; its gradient is theirs.
struct Stand(Vec<f32>);

impl CustomOp1 for Stand {
    fn name(&self) -> &'static str {
        "fewstep-stand"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        if values(x, l)?.len() != self.0.len() {
            candle_core::bail!("{} values stand for {:?}", self.0.len(), l.shape());
        }
        Ok((CpuStorage::F32(self.0.clone()), l.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(g.clone()))
    }
}

/// `values` in place of x, with x's gradient.
pub fn stand_for(x: &Tensor, values: Vec<f32>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Stand(values))
}

/// Integers of a rounded activation and their limits.
struct Rounded {
    /// Less the zero point.
    levels: Vec<f32>,
    /// Least and largest level of each picture.
    limits: Vec<(f32, f32)>,
    /// Values of a picture.
    picture: usize,
}

/// Whether level `q` is the last before x, so that it does not follow x.
fn saturated((low, high): (f32, f32), q: f32, x: f32) -> bool {
    q <= low && x < q || q >= high && x > q
}

impl CustomOp2 for Rounded {
    fn name(&self) -> &'static str {
        "fewstep-rounded"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, scale: &CpuStorage, ls: &Layout) -> Result<(CpuStorage, Shape)> {
        let scale = values(scale, ls)?;
        if values(x, lx)?.len() != self.levels.len() || scale.len() * self.picture != self.levels.len() {
            candle_core::bail!("{} levels stand for {:?}", self.levels.len(), lx.shape());
        }
        let scaled = self.levels.chunks(self.picture).zip(scale).flat_map(|(q, s)| q.iter().map(move |q| q * s));
        Ok((CpuStorage::F32(scaled.collect()), lx.shape().clone()))
    }

    /// To x: the gradient, 0 where the rounding saturates. To the scale (Esser et al., Learned Step Size
    /// Quantization, 2020): q - x / s, q where it saturates, times the gradient, over the root of values and levels.
    fn bwd(&self, x: &Tensor, scale: &Tensor, _y: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (xs, ss, gs) = (to_vec(x)?, to_vec(scale)?, to_vec(g)?);
        let mut dx = gs.clone();
        let mut ds = vec![0.0f32; ss.len()];
        for (i, ds) in ds.iter_mut().enumerate() {
            let (inverse, limits) = (1.0 / ss[i], self.limits[i]);
            for k in i * self.picture..(i + 1) * self.picture {
                let (q, x) = (self.levels[k], xs[k] * inverse);
                if saturated(limits, q, x) {
                    dx[k] = 0.0;
                    *ds += gs[k] * q;
                } else {
                    *ds += gs[k] * (q - x);
                }
            }
            *ds /= (self.picture as f32 * limits.1).sqrt();
        }
        let tensor = |v: Vec<f32>, like: &Tensor| Tensor::from_vec(v, like.shape(), like.device());
        Ok((Some(tensor(dx, x)?), Some(tensor(ds, scale)?)))
    }
}

/// `levels` times each picture's scale [B] in place of x [B, ..]; `limits` [B]: least and largest level.
pub fn rounded(x: &Tensor, scale: &Tensor, levels: Vec<f32>, limits: Vec<(f32, f32)>) -> Result<Tensor> {
    let picture = x.elem_count() / x.dim(0)?;
    x.contiguous()?.apply_op2(&scale.contiguous()?, Rounded { levels, limits, picture })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_are_the_levels_and_gradients_pass_within_the_limits() {
        let device = Device::Cpu;
        // Two pictures of three values, scales 0.5 and 2; the last value of each lies beyond the limit.
        let x = Var::new(&[[0.6f32, -0.4, 9.0], [3.0, 1.2, -90.0]], &device).unwrap();
        let scale = Var::new(&[0.5f32, 2.0], &device).unwrap();
        let levels = vec![1.0, -1.0, 7.0, 2.0, 1.0, -8.0];
        let y = rounded(&x, &scale, levels, vec![(-8.0, 7.0), (-8.0, 7.0)]).unwrap();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.5, -0.5, 3.5, 4.0, 2.0, -16.0]);
        let g = Tensor::new(&[[1.0f32, 10.0, 100.0], [1.0, 10.0, 100.0]], &device).unwrap();
        let grads = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |v: &Var| grads.get(v).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(of(&x), [1.0, 10.0, 0.0, 1.0, 10.0, 0.0]);
        // Picture 0: (1 - 1.2) + 10 (-1 + 0.8) + 100 * 7; picture 1: (2 - 1.5) + 10 (1 - 0.6) + 100 * -8.
        let gentle = (3.0f32 * 7.0).sqrt();
        for (got, want) in of(&scale).into_iter().zip([-0.2 - 2.0 + 700.0, 0.5 + 4.0 - 800.0]) {
            assert!((got - want / gentle).abs() < 1e-3, "{got} {}", want / gentle);
        }
    }

    #[test]
    fn a_stand_in_has_the_gradient_of_what_it_stands_for() {
        let x = Var::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
        let y = stand_for(&x, vec![5.0, 6.0]).unwrap();
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [10.0, 12.0]);
        assert!(stand_for(&x, vec![1.0]).is_err());
    }
}
