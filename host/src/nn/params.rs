//! Named parameters of a network.

use crate::noise::{Purpose, Stream};
use candle_core::{Device, Result, Tensor, Var};
use std::collections::BTreeMap;

/// Parameters by name, in the order of their names.
#[derive(Clone)]
pub struct Params {
    tensors: BTreeMap<String, Tensor>,
    vars: BTreeMap<String, Var>,
}

impl Params {
    /// Parameters that are trained: every tensor becomes a variable.
    pub fn trainable(tensors: BTreeMap<String, Tensor>) -> Result<Params> {
        let vars: BTreeMap<String, Var> =
            tensors.iter().map(|(k, t)| Ok((k.clone(), Var::from_tensor(t)?))).collect::<Result<_>>()?;
        let tensors = vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect();
        Ok(Params { tensors, vars })
    }

    /// Parameters that stay as they are; evaluating them builds no graph.
    pub fn frozen(tensors: BTreeMap<String, Tensor>) -> Params {
        let tensors = tensors.into_iter().map(|(k, t)| (k, t.detach())).collect();
        Params { tensors, vars: BTreeMap::new() }
    }

    /// Parameters that were computed from others; gradients pass on to those.
    pub fn linked(tensors: BTreeMap<String, Tensor>) -> Params {
        Params { tensors, vars: BTreeMap::new() }
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(t) => Ok(t),
            None => candle_core::bail!("the checkpoint has no tensor {name}"),
        }
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The variables by name; empty when frozen.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Number of values in all.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }
}

/// Seeded initial values: tensor `index` of a network takes its own Philox stream.
pub struct Init<'a> {
    pub seed: u64,
    pub device: &'a Device,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Init<'_> {
    /// Normal values of standard deviation `std`; zeros when it is 0.
    pub fn normal(&mut self, name: &str, shape: &[usize], std: f32) -> Result<()> {
        let n = shape.iter().product();
        let mut v = vec![0f32; n];
        if std != 0.0 {
            Stream::new(self.seed, Purpose::Init, 0, self.tensors.len() as u32).normals(&mut v);
            v.iter_mut().for_each(|v| *v *= std);
        }
        self.insert(name, Tensor::from_vec(v, shape, self.device)?)
    }

    /// The same value everywhere.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f32) -> Result<()> {
        let t = Tensor::full(value, shape, self.device)?;
        self.insert(name, t)
    }

    fn insert(&mut self, name: &str, t: Tensor) -> Result<()> {
        assert!(self.tensors.insert(name.into(), t).is_none(), "parameter {name} made twice");
        Ok(())
    }
}
