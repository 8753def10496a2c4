//! A quantized student run by the core's own kernels, with every activation kept: what fine-tuning through the
//! rounding computes with, bit for bit what a device computes.

use crate::export::{Graph, Input, NodeKind, StudentSpec, op_params};
use anyhow::{Context, Result, ensure};
use fewstep_core::Backend;
use fewstep_core::format::{Element, Params};
use fewstep_core::ops::embed::Dense;
use fewstep_core::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample, Weights};
use fewstep_core::sampler::schedule;

/// An activation [height][width][channels].
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    I8(Vec<i8>),
    I16(Vec<i16>),
    F32(Vec<f32>),
}

impl Activation {
    fn zeros(element: Element, len: usize) -> Activation {
        match element {
            Element::I8 => Activation::I8(vec![0; len]),
            Element::I16 => Activation::I16(vec![0; len]),
            Element::F32 => Activation::F32(vec![0.0; len]),
        }
    }

    fn i8s(&self) -> Result<&[i8]> {
        match self {
            Activation::I8(v) => Ok(v),
            _ => anyhow::bail!("an operation reads i8 that is not"),
        }
    }

    fn i16s(&self) -> Result<&[i16]> {
        match self {
            Activation::I16(v) => Ok(v),
            _ => anyhow::bail!("an operation reads i16 that is not"),
        }
    }
}

/// Everything that one evaluation computed.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The embedding's scales and shifts.
    pub film: Vec<f32>,
    /// By node of the graph.
    pub nodes: Vec<Activation>,
}

impl Trace {
    /// v, the last node's output.
    pub fn v(&self) -> Result<&[f32]> {
        match self.nodes.last() {
            Some(Activation::F32(v)) => Ok(v),
            _ => anyhow::bail!("a student's last operation gives f32"),
        }
    }
}

fn dense(d: &crate::export::Dense) -> Dense<'_> {
    Dense { weights: Weights::Int8(&d.weights), scale: &d.scale, bias: &d.bias }
}

/// A student ready to run.
pub struct Simulator {
    pub spec: StudentSpec,
    pub graph: Graph,
    /// By step and node, as the image has them.
    params: Vec<Vec<Params>>,
    backend: Backend,
}

impl Simulator {
    /// Checks that nothing is missing.
    pub fn new(spec: StudentSpec) -> Result<Simulator> {
        let graph = Graph::new(&spec.arch);
        spec.check(&graph)?;
        let row = |step: usize| (0..graph.nodes.len()).map(|node| op_params(&spec, &graph, step, node)).collect();
        let params = (0..spec.steps()).map(row).collect();
        Ok(Simulator { spec, graph, params, backend: Backend::best() })
    }

    /// One evaluation: state z [height][width][channels] in space-to-depth form.
    pub fn evaluate(&self, step: usize, class: u16, w: f32, z: &[f32]) -> Result<Trace> {
        let (kernels, spec) = (self.backend.kernels(), &self.spec);
        let (e, f) = (spec.arch.embed, spec.arch.film_len());
        ensure!(usize::from(class) < spec.arch.classes && step < spec.steps(), "class {class}, step {step}");
        let embed = Embed {
            time: &spec.time[step],
            class: &spec.class[usize::from(class) * e..][..e],
            guidance: &spec.guidance,
            hidden: dense(&spec.hidden),
            film: dense(&spec.film),
            w,
        };
        let (mut first, mut second, mut film) = (vec![0.0; e], vec![0.0; e], vec![0.0; f]);
        (kernels.embed)(&embed, &mut first, &mut second, &mut film);

        let mut nodes: Vec<Activation> = Vec::with_capacity(self.graph.nodes.len());
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let p = self.params[step][i];
            let len = node.height * node.width * node.channels;
            let mut out = match node.in_place() {
                Some(stream) => nodes[stream].clone(),
                None => Activation::zeros(node.element, len),
            };
            let source = match node.input {
                Input::State | Input::Base => None,
                Input::Node(n) => Some((&nodes[n], &self.graph.nodes[n])),
            };
            match node.kind {
                NodeKind::Quantize => match &mut out {
                    Activation::I16(out) => (kernels.quantize)(p.a, z, out),
                    _ => anyhow::bail!("the state becomes i16"),
                },
                NodeKind::Conv { kernel, cin, residual } => {
                    let weights = &spec.convs[&node.name];
                    let conv = Conv {
                        height: node.height,
                        width: node.width,
                        cin,
                        cout: node.channels,
                        kernel,
                        weights: Weights::Int8(&weights.weights),
                        scale: &weights.scale,
                        bias: &weights.bias,
                        a: p.a,
                        b: p.b,
                        c: p.c,
                        zp: p.zp,
                    };
                    let input = match source.context("a convolution reads a node")?.0 {
                        Activation::I8(v) => ConvIn::I8(v),
                        Activation::I16(v) => ConvIn::I16(v),
                        Activation::F32(_) => anyhow::bail!("{}: f32 input", node.name),
                    };
                    let out = match &mut out {
                        Activation::I8(v) => ConvOut::I8(v),
                        Activation::I16(v) if residual.is_some() => ConvOut::I16Add(v),
                        Activation::I16(v) => ConvOut::I16(v),
                        Activation::F32(v) => ConvOut::F32(v),
                    };
                    (kernels.conv)(&conv, input, out, &mut []);
                }
                NodeKind::NormAct { silu, film: at, .. } => {
                    let norm = &spec.norms[&node.name];
                    let norm = NormAct {
                        cells: node.height * node.width,
                        channels: node.channels,
                        group: crate::export::GROUP,
                        gamma: &norm.gamma,
                        beta: &norm.beta,
                        film: at.map(|at| &film[at..at + 2 * node.channels]),
                        silu,
                        a: p.a,
                        b: p.b,
                        zp: p.zp,
                    };
                    let input = source.context("a normalization reads a node")?.0.i16s()?;
                    let out = match &mut out {
                        Activation::I8(v) => NormOut::I8(v),
                        Activation::I16(v) => NormOut::I16(v),
                        Activation::F32(_) => anyhow::bail!("{}: f32 output", node.name),
                    };
                    (kernels.norm_act)(&norm, input, out);
                }
                NodeKind::AvgPool2 => {
                    let (input, from) = source.context("a pool reads a node")?;
                    let pool = Pool { height: from.height, width: from.width, channels: from.channels };
                    match &mut out {
                        Activation::I16(out) => (kernels.avg_pool2)(&pool, input.i16s()?, out),
                        _ => anyhow::bail!("{}: not i16", node.name),
                    }
                }
                NodeKind::UpsampleAdd { .. } => {
                    let up =
                        Upsample { height: node.height, width: node.width, channels: node.channels, a: p.a, c: p.c };
                    let input = source.context("a doubling reads a node")?.0.i16s()?;
                    match &mut out {
                        Activation::I16(out) => (kernels.upsample_add)(&up, input, out),
                        _ => anyhow::bail!("{}: not i16", node.name),
                    }
                }
                NodeKind::Attention { heads } => {
                    let tokens = node.height * node.width;
                    let attention = Attention { tokens, channels: node.channels, heads, a: p.a, b: p.b };
                    let input = source.context("an attention reads a node")?.0.i8s()?;
                    match &mut out {
                        Activation::I8(out) => (kernels.attention)(&attention, input, &mut vec![0.0; tokens], out),
                        _ => anyhow::bail!("{}: not i8", node.name),
                    }
                }
            }
            nodes.push(out);
        }
        Ok(Trace { film, nodes })
    }

    /// The node whose scale a node's output has: itself, the input of a pool, or none where the output is f32.
    pub fn scale_source(&self, node: usize) -> Option<usize> {
        let n = &self.graph.nodes[node];
        match (n.kind, n.input) {
            (NodeKind::AvgPool2, Input::Node(input)) => self.scale_source(input),
            _ => n.is_calibrated().then_some(node),
        }
    }

    /// The deterministic sampler's step `step`: z becomes the next state.
    pub fn advance(&self, step: usize, class: u16, w: f32, z: &mut [f32]) -> Result<()> {
        let trace = self.evaluate(step, class, w, z)?;
        let to = self.spec.phi.get(step + 1).copied().unwrap_or(0.0);
        let turn = schedule::deterministic(self.spec.phi[step], to);
        for (z, v) in z.iter_mut().zip(trace.v()?) {
            *z = turn.keep * *z - turn.turn * v;
        }
        Ok(())
    }
}
