//! The numbers of a quantized student, by name.

use super::graph::Graph;
use crate::nn::{Arch, GUIDANCE_FEATURES};
use anyhow::{Result, bail, ensure};
use fewstep_core::Direction;
use fewstep_core::ops::int4::{GROUP, MAX_MULTIPLIER};
use std::collections::BTreeMap;

/// Scale and zero point of an activation: value = (q - zero_point) * scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    pub scale: f32,
    /// Only the i8 outputs of a normalization have one; 0 for all others.
    pub zero_point: i32,
}

/// A convolution: weight = integer * scale of the output channel.
#[derive(Clone, Debug, Default)]
pub struct Conv {
    /// [cout][kernel][kernel][cin], -127 to 127.
    pub weights: Vec<i8>,
    /// [cout]
    pub scale: Vec<f32>,
    /// [cout], real units.
    pub bias: Vec<f32>,
    /// Where the weights are of four bits, [cout][groups of 32]: each weight is its group's multiplier (1 to 15) times -8 to 7.
    pub multipliers: Option<Vec<u8>>,
}

/// A dense layer of the embedding: weight = integer * scale of the output.
#[derive(Clone, Debug, Default)]
pub struct Dense {
    /// [out][in], -127 to 127.
    pub weights: Vec<i8>,
    /// [out]
    pub scale: Vec<f32>,
    /// [out]
    pub bias: Vec<f32>,
    /// [out][groups of 32], as those of a convolution.
    pub multipliers: Option<Vec<u8>>,
}

/// A normalization.
#[derive(Clone, Debug, Default)]
pub struct Norm {
    /// [channels]
    pub gamma: Vec<f32>,
    /// [channels]
    pub beta: Vec<f32>,
}

/// A quantized student. Names of convolutions, normalizations and activations are those of [`Graph`].
#[derive(Clone, Debug)]
pub struct StudentSpec {
    pub arch: Arch,
    /// Which way its steps go.
    pub direction: Direction,
    /// Range of guidance strengths that it was trained for.
    pub w_min: f32,
    pub w_max: f32,
    /// [N]: angle at which each step starts, pi/2 first; 0 first for an encoder.
    pub phi: Vec<f32>,
    /// [N][E]: `embed.time.weight . time_features(phi) + embed.time.bias`.
    pub time: Vec<Vec<f32>>,
    /// [classes][E].
    pub class: Vec<f32>,
    /// [E][8].
    pub guidance: Vec<f32>,
    /// E to E.
    pub hidden: Dense,
    /// E to the film length.
    pub film: Dense,
    /// By node name.
    pub convs: BTreeMap<String, Conv>,
    /// By node name.
    pub norms: BTreeMap<String, Norm>,
    /// [N]: by node name, for every node that [`is_calibrated`](super::Node::is_calibrated).
    pub activations: Vec<BTreeMap<String, Quant>>,
    /// Where the student comes from, for people: teacher, run, metrics.
    pub provenance: Vec<(String, String)>,
}

/// Weights of four bits, rows of `row`, are what their multipliers allow.
fn four_bits(what: &str, weights: &[i8], multipliers: Option<&[u8]>, row: usize) -> Result<()> {
    let Some(multipliers) = multipliers else { return Ok(()) };
    let groups = row.div_ceil(GROUP);
    let expected = weights.len() / row * groups;
    ensure!(multipliers.len() == expected, "{what} has {} multipliers, expected {expected}", multipliers.len());
    for (i, &w) in weights.iter().enumerate() {
        let m = multipliers[i / row * groups + i % row / GROUP];
        ensure!((1..=MAX_MULTIPLIER).contains(&m), "{what}: multiplier {m}, allowed are 1 to {MAX_MULTIPLIER}");
        let (w, m) = (i32::from(w), i32::from(m));
        ensure!(w % m == 0 && (-8..8).contains(&(w / m)), "{what}: weight {w} is not {m} times -8 to 7");
    }
    Ok(())
}

impl StudentSpec {
    /// Denoising steps N.
    pub fn steps(&self) -> usize {
        self.phi.len()
    }

    /// Says what is missing or has the wrong length. The image's own checks follow in [`write_image`](super::write_image).
    pub fn check(&self, graph: &Graph) -> Result<()> {
        use super::graph::NodeKind;
        if let Err(e) = self.arch.check() {
            bail!("architecture: {e}");
        }
        let (n, e, f) = (self.steps(), self.arch.embed, self.arch.film_len());
        ensure!(n > 0, "a student needs at least one step");
        let length = |what: &str, found: usize, expected: usize| -> Result<()> {
            ensure!(found == expected, "{what} has {found} values, expected {expected}");
            Ok(())
        };
        length("time table (rows)", self.time.len(), n)?;
        for (i, row) in self.time.iter().enumerate() {
            length(&format!("time row {i}"), row.len(), e)?;
        }
        length("class table", self.class.len(), self.arch.classes * e)?;
        length("guidance weights", self.guidance.len(), e * GUIDANCE_FEATURES)?;
        for (what, dense, out) in [("hidden layer", &self.hidden, e), ("film layer", &self.film, f)] {
            length(&format!("{what}: weights"), dense.weights.len(), out * e)?;
            length(&format!("{what}: scale"), dense.scale.len(), out)?;
            length(&format!("{what}: bias"), dense.bias.len(), out)?;
            four_bits(what, &dense.weights, dense.multipliers.as_deref(), e)?;
        }
        length("activation tables (steps)", self.activations.len(), n)?;
        for node in &graph.nodes {
            let name = &node.name;
            match node.kind {
                NodeKind::Conv { kernel, cin, .. } => {
                    let Some(conv) = self.convs.get(name) else { bail!("convolution {name} is missing") };
                    length(&format!("{name}: weights"), conv.weights.len(), node.channels * kernel * kernel * cin)?;
                    length(&format!("{name}: scale"), conv.scale.len(), node.channels)?;
                    length(&format!("{name}: bias"), conv.bias.len(), node.channels)?;
                    four_bits(name, &conv.weights, conv.multipliers.as_deref(), kernel * kernel * cin)?;
                }
                NodeKind::NormAct { .. } => {
                    let Some(norm) = self.norms.get(name) else { bail!("normalization {name} is missing") };
                    length(&format!("{name}: gamma"), norm.gamma.len(), node.channels)?;
                    length(&format!("{name}: beta"), norm.beta.len(), node.channels)?;
                }
                _ => {}
            }
            if node.is_calibrated() {
                for (step, table) in self.activations.iter().enumerate() {
                    let Some(q) = table.get(name) else { bail!("activation {name} has no scale at step {step}") };
                    ensure!(q.scale.is_finite() && q.scale > 0.0, "activation {name}, step {step}: scale {}", q.scale);
                }
            }
        }
        Ok(())
    }
}
