//! Writes a student image.

use super::graph::{GROUP, GROUPNORM_EPS, Graph, Input, Node, NodeKind};
use super::planner::{MemoryPlan, plan_within};
use super::spec::{Conv, Dense, StudentSpec};
use crate::files::AlignedBytes;
use crate::nn::GUIDANCE_FEATURES;
use anyhow::{Context, Result, ensure};
use fewstep_core::format::bands::BANDS_LEN;
use fewstep_core::format::buffer::BUFFER_LEN;
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::header::{HEADER_LEN, SECTION_LEN, VERSION_MAJOR, VERSION_MINOR, kind};
use fewstep_core::format::info::{Counts, EmbeddingRepr, INFO_LEN, Normalisation};
use fewstep_core::format::limits::{MAX_BUFFERS, MAX_FILE_BYTES, MAX_OPS, MAX_SIDE, MAX_TENSORS};
use fewstep_core::format::op::{NONE, OP_LEN};
use fewstep_core::format::step::{PARAMS_LEN, STEP_HEAD_LEN};
use fewstep_core::format::tensor::TENSOR_LEN;
use fewstep_core::format::{Element, HeaderRepr, InfoRepr, Layout, OpRepr, Params, SectionRepr, TensorRepr};
use fewstep_core::ops::{blocks, int4};
use fewstep_core::{IMAGE_ALIGN, Model, Profile};

/// Scratch by default: with it the Armv7E-M kernels run every 3x3 layer of a 28x28 student as an exact Winograd
/// convolution in at most three blocks, and its arena stays below 64 KB.
pub const SCRATCH_BYTES: u32 = 20 * 1024;

/// The arena of a student that enlarges pictures, at most, by default: its bands are as high as that allows.
pub const ARENA_LIMIT: u32 = 512 * 1024;

/// What may be chosen at export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Most bytes of the arena. A student that enlarges pictures is planned in as many bands as that needs; any other
    /// has one plan.
    pub arena_limit: Option<u32>,
    /// Bytes of the arena that kernels may use as scratch.
    pub scratch_bytes: u32,
    /// Whether the image carries the names of its operations.
    pub names: bool,
    /// The machine for which weights are laid out: canonical or x86-64 with VNNI.
    pub profile: Profile,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { arena_limit: None, scratch_bytes: SCRATCH_BYTES, names: true, profile: Profile::Canonical }
    }
}

/// An image and its memory plan.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file.
    pub bytes: Vec<u8>,
    pub plan: MemoryPlan,
    pub graph: Graph,
}

impl Exported {
    /// Name of a stage, as in [`MemoryPlan::peak_stage`].
    pub fn stage_name(&self, stage: u16) -> &str {
        match usize::from(stage) {
            0 => "embedding",
            i => self.graph.nodes.get(i - 1).map_or("update", |node| &node.name),
        }
    }
}

/// Makes the image of a student and checks it with the reader that devices use.
pub fn write_image(spec: &StudentSpec, options: &ExportOptions) -> Result<Exported> {
    let arch = &spec.arch;
    let graph = Graph::new(arch);
    spec.check(&graph)?;
    ensure!(
        arch.height <= MAX_SIDE.into() && arch.width <= MAX_SIDE.into(),
        "pictures are at most {MAX_SIDE} wide and high"
    );
    ensure!(arch.film_len() <= u16::MAX.into(), "{} scales and shifts are more than an image holds", arch.film_len());
    ensure!(graph.nodes.len() <= MAX_OPS.into(), "{} operations are more than {MAX_OPS}", graph.nodes.len());
    let limit = options.arena_limit.unwrap_or(if arch.base > 0 { ARENA_LIMIT } else { u32::MAX });
    let (graph, plan) = plan_within(arch, scratch_bytes(spec, &graph, options), limit)?;
    ensure!(plan.buffers.len() <= MAX_BUFFERS.into(), "{} buffers are more than {MAX_BUFFERS}", plan.buffers.len());

    ensure!(
        matches!(options.profile, Profile::Canonical | Profile::X86Vnni),
        "no weights are laid out for {} yet: choose canonical or x86-vnni",
        options.profile.name()
    );
    let mut tensors = Tensors { profile: options.profile, records: Vec::new(), data: Vec::new() };
    let ops = ops(spec, &graph, &plan, &mut tensors)?;
    let embedding = embedding(spec, &mut tensors)?;
    let (e, f) = (arch.embed as u64, arch.film_len() as u64);
    let rounds: u64 = plan.bands.map_or(1, |bands| bands.count(arch.level_size(0).0 as u16)).into();
    let info = InfoRepr {
        height: arch.height as u16,
        width: arch.width as u16,
        channels: narrow("channels", arch.channels)?,
        patch: narrow("patch", arch.patch)?,
        classes: narrow("classes", arch.classes)?,
        steps: narrow("steps", spec.steps())?,
        embed: narrow("embedding width", arch.embed)?,
        film: f as u16,
        profile: options.profile,
        normalisation: Normalisation::Symmetric,
        direction: spec.direction,
        w_min: spec.w_min,
        w_max: spec.w_max,
        macs_per_step: graph.macs() * rounds + e * (GUIDANCE_FEATURES as u64 + e + f),
        arena_bytes: plan.arena_bytes,
        peak_bytes: plan.peak_bytes,
        peak_stage: plan.peak_stage,
        scratch_offset: plan.scratch_offset,
        scratch_bytes: plan.scratch_bytes,
        counts: Counts {
            ops: graph.nodes.len() as u16,
            buffers: plan.buffers.len() as u16,
            tensors: tensors.records.len() as u16,
        },
        embedding,
        roles: plan.roles,
    };

    let provenance = spec.provenance.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    let mut sections = vec![
        (kind::INFO, emit::<INFO_LEN>(|out| info.emit(out))),
        (kind::OPS, ops.iter().flat_map(|op| emit::<OP_LEN>(|out| op.emit(out))).collect()),
        (kind::BUFFERS, plan.buffers.iter().flat_map(|b| emit::<BUFFER_LEN>(|out| b.emit(out))).collect()),
        (kind::TENSORS, tensors.records.iter().flat_map(|t| emit::<TENSOR_LEN>(|out| t.emit(out))).collect()),
        (kind::STEPS, steps(spec, &graph)?),
        (kind::PROVENANCE, strings(provenance)?),
    ];
    if let Some(bands) = plan.bands {
        sections.push((kind::BANDS, emit::<BANDS_LEN>(|out| bands.emit(out))));
    }
    if options.names {
        sections.push((kind::NAMES, strings(graph.nodes.iter().map(|node| node.name.as_str()))?));
    }
    sections.push((kind::DATA, tensors.data));
    let bytes = assemble(sections)?;

    let aligned = AlignedBytes::from(bytes.as_slice());
    Model::parse(&aligned).map_err(|e| anyhow::anyhow!("{e}")).context("the student does not fit an image")?;
    Ok(Exported { bytes, plan, graph })
}

/// Output channels whose decoded weights have room in the scratch, where weights are of four bits.
pub const INT4_SCRATCH: usize = 4;

/// What is granted to kernels, with room for decoded weights.
fn scratch_bytes(spec: &StudentSpec, graph: &Graph, options: &ExportOptions) -> u32 {
    let room = |node: &Node| match node.kind {
        NodeKind::Conv { kernel, cin, .. } if spec.convs[&node.name].multipliers.is_some() => {
            kernel * kernel * cin * INT4_SCRATCH
        }
        _ => 0,
    };
    match options.scratch_bytes {
        0 => 0,
        bytes => bytes + graph.nodes.iter().map(room).max().unwrap_or(0) as u32,
    }
}

fn narrow(what: &str, value: usize) -> Result<u16> {
    value.try_into().map_err(|_| anyhow::anyhow!("{what}: {value} is too large for an image"))
}

fn emit<const N: usize>(write: impl FnOnce(&mut [u8; N])) -> Vec<u8> {
    let mut record = [0; N];
    write(&mut record);
    record.to_vec()
}

/// Length-prefixed strings with an end mark.
fn strings<'a>(list: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for string in list {
        out.extend(narrow("length of a string", string.len())?.to_le_bytes());
        out.extend(string.as_bytes());
    }
    out.extend([0, 0]);
    Ok(out)
}

/// Header, section table and sections, each padded to the alignment.
fn assemble(sections: Vec<(u32, Vec<u8>)>) -> Result<Vec<u8>> {
    let mut table = Vec::new();
    let mut body = Vec::new();
    let start = HEADER_LEN + sections.len() * SECTION_LEN;
    let count = sections.len() as u16;
    for (kind, mut bytes) in sections {
        bytes.resize(bytes.len().next_multiple_of(IMAGE_ALIGN), 0);
        let offset = (start + body.len()) as u32;
        let section = SectionRepr { kind, offset, len: bytes.len() as u32, crc: crc32c(&bytes) };
        table.extend(emit::<SECTION_LEN>(|out| section.emit(out)));
        body.extend(bytes);
    }
    let file_bytes = start + body.len();
    ensure!(file_bytes <= MAX_FILE_BYTES as usize, "{file_bytes} bytes are more than an image may have");
    let header = HeaderRepr { version: (VERSION_MAJOR, VERSION_MINOR), sections: count, file_bytes: file_bytes as u32 };
    let mut file = emit::<HEADER_LEN>(|out| header.emit(&table, out));
    file.extend(table);
    file.extend(body);
    Ok(file)
}

/// The tensors section and the data section, as they grow.
struct Tensors {
    profile: Profile,
    records: Vec<TensorRepr>,
    data: Vec<u8>,
}

impl Tensors {
    fn add(&mut self, dims: &[usize], element: Element, layout: Layout, bytes: &[u8]) -> Result<u16> {
        ensure!(self.records.len() < MAX_TENSORS.into(), "more than {MAX_TENSORS} tensors");
        let mut record = TensorRepr { offset: self.data.len() as u32, dims: [1; 4], element, layout };
        for (to, &dim) in record.dims.iter_mut().zip(dims) {
            *to = narrow("tensor dimension", dim)?;
        }
        self.records.push(record);
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(IMAGE_ALIGN), 0);
        Ok((self.records.len() - 1) as u16)
    }

    fn i8s(&mut self, dims: &[usize], values: &[i8]) -> Result<u16> {
        self.add(dims, Element::I8, Layout::Canonical, bytemuck::cast_slice(values))
    }

    /// Weights of four bits, [outputs][..].
    fn int4(&mut self, dims: &[usize], values: &[i8], multipliers: &[u8]) -> Result<u16> {
        let row = dims[1..].iter().product();
        let mut packed = vec![0; int4::packed_len(dims[0], row)];
        int4::pack(row, values, multipliers, &mut packed);
        self.add(dims, Element::I8, Layout::Int4, &packed)
    }

    /// Weights of a dense layer.
    fn dense(&mut self, dims: [usize; 2], dense: &Dense) -> Result<u16> {
        match &dense.multipliers {
            Some(multipliers) => self.int4(&dims, &dense.weights, multipliers),
            None => self.i8s(&dims, &dense.weights),
        }
    }

    /// Weights of a convolution, row-major [cout, kernel, kernel, cin], in the profile's order.
    fn conv(&mut self, dims: [usize; 4], input: Element, conv: &Conv) -> Result<u16> {
        let ([cout, height, width, cin], values) = (dims, &conv.weights);
        if let Some(multipliers) = &conv.multipliers {
            return self.int4(&dims, values, multipliers);
        }
        if self.profile != Profile::X86Vnni || input != Element::I8 || !blocks::fits(cin, cout) {
            return self.i8s(&dims, values);
        }
        let mut packed = vec![0; values.len()];
        blocks::pack(height * width, cin, values, &mut packed);
        self.add(&dims, Element::I8, Layout::Blocks, bytemuck::cast_slice(&packed))
    }

    fn f32s(&mut self, dims: &[usize], values: &[f32]) -> Result<u16> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add(dims, Element::F32, Layout::Canonical, &bytes)
    }
}

fn embedding(spec: &StudentSpec, tensors: &mut Tensors) -> Result<EmbeddingRepr> {
    let (e, f) = (spec.arch.embed, spec.arch.film_len());
    Ok(EmbeddingRepr {
        class: tensors.f32s(&[spec.arch.classes, e], &spec.class)?,
        guidance: tensors.f32s(&[e, GUIDANCE_FEATURES], &spec.guidance)?,
        hidden_weights: tensors.dense([e, e], &spec.hidden)?,
        hidden_scale: tensors.f32s(&[e], &spec.hidden.scale)?,
        hidden_bias: tensors.f32s(&[e], &spec.hidden.bias)?,
        film_weights: tensors.dense([f, e], &spec.film)?,
        film_scale: tensors.f32s(&[f], &spec.film.scale)?,
        film_bias: tensors.f32s(&[f], &spec.film.bias)?,
    })
}

fn ops(spec: &StudentSpec, graph: &Graph, plan: &MemoryPlan, tensors: &mut Tensors) -> Result<Vec<OpRepr>> {
    let element_of = |input: Input| match input {
        Input::State | Input::Base => Element::F32,
        Input::Node(input) => graph.nodes[input].element,
    };
    let mut ops = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let (src, dst) = (plan.input(node.input), plan.output[i]);
        ops.push(match node.kind {
            NodeKind::Quantize => OpRepr::Quantize { src, dst },
            NodeKind::Conv { kernel, cin, residual } => {
                let conv = &spec.convs[&node.name];
                OpRepr::Conv {
                    src,
                    dst,
                    kernel: kernel as u8,
                    residual: residual.is_some(),
                    weights: tensors.conv([node.channels, kernel, kernel, cin], element_of(node.input), conv)?,
                    scale: tensors.f32s(&[node.channels], &conv.scale)?,
                    bias: tensors.f32s(&[node.channels], &conv.bias)?,
                }
            }
            NodeKind::NormAct { silu, per_cell, film } => {
                let norm = &spec.norms[&node.name];
                OpRepr::NormAct {
                    src,
                    dst,
                    group: if per_cell { node.channels as u8 } else { GROUP as u8 },
                    silu,
                    per_cell,
                    film: film.map_or(NONE, |film| film as u16),
                    gamma: tensors.f32s(&[node.channels], &norm.gamma)?,
                    beta: tensors.f32s(&[node.channels], &norm.beta)?,
                }
            }
            NodeKind::AvgPool2 => OpRepr::AvgPool2 { src, dst },
            NodeKind::UpsampleAdd { .. } => OpRepr::UpsampleAdd { src, dst },
            NodeKind::Attention { heads } => OpRepr::Attention {
                src,
                dst,
                scores: plan.scores[i].expect("an attention has scores"),
                heads: narrow("heads", heads)?.try_into().context("heads")?,
            },
        });
    }
    Ok(ops)
}

fn steps(spec: &StudentSpec, graph: &Graph) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (step, (&phi, time)) in spec.phi.iter().zip(&spec.time).enumerate() {
        let mut head = [0; STEP_HEAD_LEN];
        head[..4].copy_from_slice(&phi.to_le_bytes());
        out.extend(head);
        out.extend(time.iter().flat_map(|v| v.to_le_bytes()));
        for i in 0..graph.nodes.len() {
            let params = op_params(spec, graph, step, i);
            out.extend(emit::<PARAMS_LEN>(|out| params.emit(out)));
        }
    }
    Ok(out)
}

/// Scale and zero point of a node's output at a step; a pool has its input's.
fn quant_of(spec: &StudentSpec, graph: &Graph, step: usize, index: usize) -> (f64, i32) {
    let node = &graph.nodes[index];
    match (node.kind, node.input) {
        (NodeKind::AvgPool2, Input::Node(input)) => quant_of(spec, graph, step, input),
        _ if node.element == Element::F32 => (1.0, 0),
        _ => {
            let quant = spec.activations[step][&node.name];
            (quant.scale.into(), quant.zero_point)
        }
    }
}

/// The parameter row of node `index` at step `step`: ratios of scales, computed in f64.
pub fn op_params(spec: &StudentSpec, graph: &Graph, step: usize, index: usize) -> Params {
    let node = &graph.nodes[index];
    let of = |index: usize| quant_of(spec, graph, step, index);
    let (s_in, zp_in) = match node.input {
        Input::State | Input::Base => (1.0, 0),
        Input::Node(input) => of(input),
    };
    let (s_out, zp_out) = of(index);
    let params = |a: f64, b: f64, c: f64, zp: i32| Params { a: a as f32, b: b as f32, c: c as f32, zp };
    match node.kind {
        NodeKind::Quantize => params(1.0 / s_out, 0.0, 0.0, 0),
        NodeKind::Conv { residual, .. } => {
            let c = residual.map_or(0.0, |stream| of(stream).0 / s_out);
            params(s_in / s_out, 1.0 / s_out, c, zp_in)
        }
        NodeKind::NormAct { .. } => params(1.0 / s_out, GROUPNORM_EPS / (s_in * s_in), 0.0, zp_out),
        NodeKind::AvgPool2 => params(0.0, 0.0, 0.0, 0),
        NodeKind::UpsampleAdd { stream } => params(s_in / s_out, 0.0, of(stream).0 / s_out, 0),
        NodeKind::Attention { heads } => {
            let head = (node.channels / heads) as f64;
            params(s_in * s_in / head.sqrt(), s_in / s_out, 0.0, 0)
        }
    }
}
