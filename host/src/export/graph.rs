//! The operations that a device runs for an architecture, in order.
//!
//! Every operation has one output, the activation of the same name. Names are those of
//! [`UNet::forward_observed`](crate::nn::UNet::forward_observed): `conv_in`, per residual block (`enc.L.I`, `mid.I`,
//! `dec.L.I`) `.norm1 .conv1 .norm2 .conv2`, `down.L.pool`, `down.L`, `attn.norm`, `attn.qkv`, `attn.mix`,
//! `attn.proj`, `up.L`, `up.L.add`, `norm_out`, `conv_out`. The quantized state is `z`, and what is enlarged `base` with
//! `conv_base` after it. An operation that adds to the
//! residual stream (`*.conv2`, `attn.proj`, `up.L.add`) names the stream after the addition.

pub use crate::nn::kernels::{GROUP, GROUPNORM_EPS};
use crate::nn::{Arch, Stage};
use fewstep_core::format::Element;

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The state of the sampler, f32, in space-to-depth order.
    State,
    /// What is enlarged, f32, in space-to-depth order.
    Base,
    /// The output of the node with this index.
    Node(usize),
}

/// The kinds of operations; weights go by the node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// f32 to i16.
    Quantize,
    /// `kernel` x `kernel`, `cin` input channels. `residual`: the node whose output is added, and overwritten.
    Conv { kernel: usize, cin: usize, residual: Option<usize> },
    /// Group normalization; `per_cell`: of every cell by itself, all its channels one group; `film`: first of the 2 C
    /// scales and shifts.
    NormAct { silu: bool, per_cell: bool, film: Option<usize> },
    /// 2x2 average; keeps the scale of its input.
    AvgPool2,
    /// The input, doubled, plus the output of node `stream`, which is overwritten.
    UpsampleAdd { stream: usize },
    /// Softmax attention over all cells.
    Attention { heads: usize },
}

/// An operation and its output [height][width][channels].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub kind: NodeKind,
    pub input: Input,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub element: Element,
}

impl Node {
    /// The node whose buffer this one overwrites.
    pub fn in_place(&self) -> Option<usize> {
        match self.kind {
            NodeKind::Conv { residual, .. } => residual,
            NodeKind::UpsampleAdd { stream } => Some(stream),
            _ => None,
        }
    }

    /// Whether the output's scale is free: the pool keeps its input's, the network's output is f32.
    pub fn is_calibrated(&self) -> bool {
        self.kind != NodeKind::AvgPool2 && self.element != Element::F32
    }
}

/// The operations of one network evaluation, in order.
#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Lowers an architecture (one that [`Arch::check`] accepts).
    pub fn new(arch: &Arch) -> Graph {
        Graph::of_window(arch, arch.level_size(0).0)
    }

    /// Lowers the operations on a window of `rows` rows of cells, for an architecture that is computed in bands.
    pub fn of_window(arch: &Arch, rows: usize) -> Graph {
        let mut b = Builder { arch, rows, nodes: Vec::new() };
        let lowest = arch.widths.len() - 1;
        let z = b.add("z", NodeKind::Quantize, Input::State, 0, arch.patch_channels(), Element::I16);
        let mut x = b.conv("conv_in", 3, z, None, 0, arch.widths[0], Element::I16);
        if arch.base > 0 {
            let channels = arch.base_shape().patch_channels();
            let base = b.add("base", NodeKind::Quantize, Input::Base, 0, channels, Element::I16);
            x = b.conv("conv_base", 1, base, Some(x), 0, arch.widths[0], Element::I16);
        }
        let mut streams = Vec::new();
        for stage in arch.stages() {
            match stage {
                Stage::Block { name, level, film } => {
                    let c = arch.widths[level];
                    let at = |part: &str| format!("{name}.{part}");
                    let n = b.norm(&at("norm1"), x, level, true, None, Element::I8);
                    let t = b.conv(&at("conv1"), 3, n, None, level, c, Element::I16);
                    let n = b.norm(&at("norm2"), t, level, true, Some(film), Element::I8);
                    x = b.conv(&at("conv2"), 3, n, Some(x), level, c, Element::I16);
                }
                Stage::Attention => {
                    let c = arch.widths[lowest];
                    let n = b.norm("attn.norm", x, lowest, false, None, Element::I8);
                    let qkv = b.conv("attn.qkv", 1, n, None, lowest, 3 * c, Element::I8);
                    let heads = arch.attention_heads;
                    let mix =
                        b.add("attn.mix", NodeKind::Attention { heads }, Input::Node(qkv), lowest, c, Element::I8);
                    x = b.conv("attn.proj", 1, mix, Some(x), lowest, c, Element::I16);
                }
                Stage::Down { level } => {
                    let c = arch.widths[level];
                    let pooled = format!("down.{level}.pool");
                    let pooled = b.add(&pooled, NodeKind::AvgPool2, Input::Node(x), level + 1, c, Element::I16);
                    streams.push(x);
                    x = b.conv(
                        &format!("down.{level}"),
                        1,
                        pooled,
                        None,
                        level + 1,
                        arch.widths[level + 1],
                        Element::I16,
                    );
                }
                Stage::Up { level } => {
                    let c = arch.widths[level];
                    let up = b.conv(&format!("up.{level}"), 1, x, None, level + 1, c, Element::I16);
                    let stream = streams.pop().expect("as many ways up as down");
                    let kind = NodeKind::UpsampleAdd { stream };
                    x = b.add(&format!("up.{level}.add"), kind, Input::Node(up), level, c, Element::I16);
                }
            }
        }
        let n = b.norm("norm_out", x, 0, true, None, Element::I16);
        b.conv("conv_out", 3, n, None, 0, arch.patch_channels(), Element::F32);
        Graph { nodes: b.nodes }
    }

    /// The node with this name.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Multiply-accumulates of the operations.
    pub fn macs(&self) -> u64 {
        let macs = |node: &Node| {
            let (cells, out) = ((node.height * node.width) as u64, node.channels as u64);
            match node.kind {
                NodeKind::Conv { kernel, cin, .. } => cells * out * (kernel * kernel * cin) as u64,
                NodeKind::Attention { .. } => 2 * cells * cells * out,
                _ => 0,
            }
        };
        self.nodes.iter().map(macs).sum()
    }
}

struct Builder<'a> {
    arch: &'a Arch,
    /// Rows of the first level.
    rows: usize,
    nodes: Vec<Node>,
}

impl Builder<'_> {
    fn add(
        &mut self,
        name: &str,
        kind: NodeKind,
        input: Input,
        level: usize,
        channels: usize,
        element: Element,
    ) -> usize {
        let (height, width) = (self.rows >> level, self.arch.level_size(level).1);
        self.nodes.push(Node { name: name.into(), kind, input, height, width, channels, element });
        self.nodes.len() - 1
    }

    #[allow(clippy::too_many_arguments)]
    fn conv(
        &mut self,
        name: &str,
        kernel: usize,
        input: usize,
        residual: Option<usize>,
        level: usize,
        channels: usize,
        element: Element,
    ) -> usize {
        let cin = self.nodes[input].channels;
        self.add(name, NodeKind::Conv { kernel, cin, residual }, Input::Node(input), level, channels, element)
    }

    fn norm(
        &mut self,
        name: &str,
        input: usize,
        level: usize,
        silu: bool,
        film: Option<usize>,
        element: Element,
    ) -> usize {
        let channels = self.nodes[input].channels;
        let per_cell = self.arch.base > 0;
        self.add(name, NodeKind::NormAct { silu, per_cell, film }, Input::Node(input), level, channels, element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_the_network_is_lowered() {
        let arch = Arch::for_pictures(28, 28, 1, 10);
        let graph = Graph::new(&arch);
        // z, conv_in, 10 blocks of 4, down 2, up 2, attention 4, norm_out, conv_out.
        assert_eq!(graph.nodes.len(), 2 + 40 + 2 + 2 + 4 + 2);
        let names: std::collections::BTreeSet<_> = graph.nodes.iter().map(|n| &n.name).collect();
        assert_eq!(names.len(), graph.nodes.len());
        assert_eq!(graph.find("conv_out").unwrap().channels, 4);
        assert_eq!(graph.find("mid.4.conv2").unwrap().height, 7);
    }

    #[test]
    fn film_rows_follow_each_other() {
        let arch = Arch::for_pictures(64, 64, 3, 4);
        let mut next = 0;
        for node in Graph::new(&arch).nodes {
            if let NodeKind::NormAct { film: Some(film), .. } = node.kind {
                assert_eq!(film, next);
                next += 2 * node.channels;
            }
        }
        assert_eq!(next, arch.film_len());
    }
}
