//! Learned scales of activations, as parameters of a network: `quant.NODE` holds the logarithms of a node's scales,
//! one a step, `zero.NODE` its zero points.

use super::student::Activations;
use crate::export::{Graph, Quant};
use crate::nn::UNet;
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use fewstep_core::math::{exp, ln};
use std::collections::BTreeMap;

/// Names of a node's parameters: logarithms of scales, zero points.
pub fn names(node: &str) -> (String, String) {
    (format!("quant.{node}"), format!("zero.{node}"))
}

/// Writes scales as parameters.
pub fn store(activations: &Activations, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let device = tensors.values().next().context("a network has parameters")?.device().clone();
    for node in activations.first().context("a student has steps")?.keys() {
        let (scale, zero) = names(node);
        let column = |value: &dyn Fn(&Quant) -> f32| -> Result<Tensor> {
            let values: Vec<f32> = activations.iter().map(|table| value(&table[node])).collect();
            let steps = values.len();
            Ok(Tensor::from_vec(values, steps, &device)?)
        };
        tensors.insert(scale, column(&|q| ln(q.scale))?);
        tensors.insert(zero, column(&|q| q.zero_point as f32)?);
    }
    Ok(())
}

/// The scales that a network has learned for `steps` steps; None where it was not fine-tuned.
pub fn learned(net: &UNet, steps: usize) -> Result<Option<Activations>> {
    if !net.params.tensors().keys().any(|name| name.starts_with("quant.")) {
        return Ok(None);
    }
    let mut activations: Activations = vec![BTreeMap::new(); steps];
    for node in Graph::new(&net.arch).nodes.iter().filter(|n| n.is_calibrated()) {
        let (scale, zero) = names(&node.name);
        let column = |name: &str| -> Result<Vec<f32>> {
            let t = net.params.get(name)?;
            ensure!(t.dims() == [steps], "{name} has shape {:?}, not [{steps}]", t.dims());
            Ok(t.to_vec1()?)
        };
        for (table, (log, zero)) in activations.iter_mut().zip(column(&scale)?.into_iter().zip(column(&zero)?)) {
            let quant = Quant { scale: exp(log), zero_point: zero as i32 };
            ensure!(
                quant.scale.is_finite() && quant.scale > 0.0 && (-128..=127).contains(&quant.zero_point),
                "{}: scale {}, zero point {}: the checkpoint is damaged",
                node.name,
                quant.scale,
                quant.zero_point
            );
            table.insert(node.name.clone(), quant);
        }
    }
    Ok(Some(activations))
}
