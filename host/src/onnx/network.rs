//! The student's network as the exporter of ONNX wants it: operations in order with their weights, from a student
//! image or from a checkpoint.

use crate::diffusion::angle_towards;
use crate::export::{GROUP, Graph, Input, NodeKind, Quant};
use crate::nn::{Checkpoint, Kind, MAX_GUIDANCE, Params};
use crate::quant::time_row;
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::Direction;
use fewstep_core::format::limits::MAX_STEPS;
use fewstep_core::format::op::NONE;
use fewstep_core::format::{Element, Image, Layout, OpRepr, Params as StepParams};
use fewstep_core::ops::{self, blocks};
use std::collections::BTreeMap;

/// Weights [out][...]: float, or int8 with a scale for every output.
#[derive(Clone, Debug)]
pub enum Weights {
    Float(Vec<f32>),
    Int8 { values: Vec<i8>, scale: Vec<f32> },
}

impl Weights {
    /// In float; int8 times its scale.
    pub fn dequantized(&self) -> Vec<f32> {
        match self {
            Weights::Float(values) => values.clone(),
            Weights::Int8 { values, scale } => {
                let row = values.len() / scale.len().max(1);
                values.iter().enumerate().map(|(i, v)| f32::from(*v) * scale[i / row.max(1)]).collect()
            }
        }
    }

    /// The same with rows of `row` values in another order.
    pub fn permuted(&self, order: &[usize], row: usize) -> Weights {
        match self {
            Weights::Float(v) => Weights::Float(rows(v, order, row)),
            Weights::Int8 { values, scale } => {
                Weights::Int8 { values: rows(values, order, row), scale: rows(scale, order, 1) }
            }
        }
    }
}

/// Rows of `row` values in the order `order`.
pub fn rows<T: Copy>(values: &[T], order: &[usize], row: usize) -> Vec<T> {
    order.iter().flat_map(|i| values[i * row..(i + 1) * row].iter().copied()).collect()
}

/// A dense layer: weights [out][in], bias [out].
#[derive(Clone, Debug)]
pub struct Dense {
    pub weights: Weights,
    pub bias: Vec<f32>,
}

/// What an operation does; inputs are indices of operations.
#[derive(Clone, Debug)]
pub enum Layer {
    /// The state, rounded to the precision of the first convolution.
    Quantize,
    /// Weights [cout][kernel][kernel][cin], bias [cout]; `residual` is added.
    Conv { kernel: usize, weights: Weights, bias: Vec<f32>, residual: Option<usize> },
    /// Groups of `group` channels; gamma and beta [channels]; `film`: first of its scales and shifts.
    NormAct { group: usize, silu: bool, film: Option<usize>, gamma: Vec<f32>, beta: Vec<f32> },
    /// 2x2 average.
    AvgPool2,
    /// The input doubled, plus `stream`.
    UpsampleAdd { stream: usize },
    /// Softmax attention.
    Attention { heads: usize },
}

/// An operation and its output [height][width][channels].
#[derive(Clone, Debug)]
pub struct Op {
    pub name: String,
    /// The operation whose output it reads; the state where None.
    pub input: Option<usize>,
    pub layer: Layer,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub element: Element,
    /// Scale and zero point of the output at every step; empty in a float network and for a float output.
    pub quant: Vec<Quant>,
    /// The core's parameters at every step; empty in a float network.
    pub params: Vec<StepParams>,
}

/// A student's network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Height, width, channels of a picture.
    pub shape: (usize, usize, usize),
    pub patch: usize,
    pub classes: usize,
    pub embed: usize,
    /// Smallest and largest guidance strength.
    pub guidance_range: (f32, f32),
    /// [N]: angle at which each step starts.
    pub phi: Vec<f32>,
    /// Which way the steps go: a student's to the picture, an encoder's to noise.
    pub direction: Direction,
    /// [N][embed]
    pub time: Vec<Vec<f32>>,
    /// [classes][embed]
    pub class: Vec<f32>,
    /// [embed][8]
    pub guidance: Vec<f32>,
    pub hidden: Dense,
    pub film: Dense,
    pub ops: Vec<Op>,
    pub provenance: Vec<(String, String)>,
}

const NO_ENLARGER: &str = "a student that enlarges pictures has no ONNX form; give one that draws them";

impl Network {
    /// From a student image that was checked.
    pub fn from_image(image: &Image) -> Result<Network> {
        let info = image.info();
        ensure!(image.bands().is_none(), NO_ENLARGER);
        let steps = usize::from(info.steps);
        // The operation that wrote a buffer last.
        let mut writer: BTreeMap<u16, usize> = BTreeMap::new();
        let mut ops: Vec<Op> = Vec::new();
        for i in 0..usize::from(info.counts.ops) {
            let op = image.op(i)?;
            let (src, dst) = op.buffers();
            let buffer = image.buffer(dst)?;
            let input = writer.get(&src).copied();
            ensure!(input.is_some() || src == info.roles.z, "operation {i} reads what no operation wrote");
            let before = || writer.get(&dst).copied().with_context(|| format!("operation {i} adds to nothing"));
            let layer = match op {
                OpRepr::Quantize { .. } => Layer::Quantize,
                OpRepr::Conv { kernel, residual, weights, scale, bias, .. } => Layer::Conv {
                    kernel: kernel.into(),
                    weights: int8(image, weights, scale),
                    bias: image.f32s(bias).to_vec(),
                    residual: if residual { Some(before()?) } else { None },
                },
                OpRepr::NormAct { group, silu, film, gamma, beta, .. } => Layer::NormAct {
                    group: group.into(),
                    silu,
                    film: (film != NONE).then_some(film.into()),
                    gamma: image.f32s(gamma).to_vec(),
                    beta: image.f32s(beta).to_vec(),
                },
                OpRepr::AvgPool2 { .. } => Layer::AvgPool2,
                OpRepr::UpsampleAdd { .. } => Layer::UpsampleAdd { stream: before()? },
                OpRepr::Attention { heads, .. } => Layer::Attention { heads: heads.into() },
            };
            // The parameters hold ratios of scales (docs/format.md); going forward, the input's is known.
            let quant = |step: usize| {
                let p = image.params(step, i);
                let s_in = input.map_or(1.0, |input| f64::from(ops[input].quant[step].scale));
                let scale = match layer {
                    Layer::Quantize | Layer::NormAct { .. } => 1.0 / f64::from(p.a),
                    Layer::Conv { .. } => 1.0 / f64::from(p.b),
                    Layer::AvgPool2 => s_in,
                    Layer::UpsampleAdd { .. } => s_in / f64::from(p.a),
                    Layer::Attention { .. } => s_in / f64::from(p.b),
                };
                let zero_point = if matches!(layer, Layer::NormAct { .. }) { p.zp } else { 0 };
                Quant { scale: scale as f32, zero_point }
            };
            let quant = if buffer.element == Element::F32 { Vec::new() } else { (0..steps).map(quant).collect() };
            ops.push(Op {
                name: image.op_name(i).map_or_else(|| format!("op.{i}"), String::from),
                input,
                layer,
                height: buffer.height.into(),
                width: buffer.width.into(),
                channels: buffer.channels.into(),
                element: buffer.element,
                quant,
                params: (0..steps).map(|step| image.params(step, i)).collect(),
            });
            writer.insert(dst, i);
        }
        ensure!(
            writer.get(&info.roles.v) == ops.len().checked_sub(1).as_ref(),
            "the last operation does not write the network's output"
        );
        let t = &info.embedding;
        Ok(Network {
            shape: (info.height.into(), info.width.into(), info.channels.into()),
            patch: info.patch.into(),
            classes: info.classes.into(),
            embed: info.embed.into(),
            guidance_range: (info.w_min, info.w_max),
            phi: (0..steps).map(|step| image.phi(step)).collect(),
            direction: info.direction,
            time: (0..steps).map(|step| image.time(step).to_vec()).collect(),
            class: image.f32s(t.class).to_vec(),
            guidance: image.f32s(t.guidance).to_vec(),
            hidden: Dense {
                weights: int8(image, t.hidden_weights, t.hidden_scale),
                bias: image.f32s(t.hidden_bias).to_vec(),
            },
            film: Dense { weights: int8(image, t.film_weights, t.film_scale), bias: image.f32s(t.film_bias).to_vec() },
            ops,
            provenance: image.provenance().map(|(k, v)| (k.into(), v.into())).collect(),
        })
    }

    /// From a float student. `steps` may be left out where the checkpoint was distilled for a number of steps.
    ///
    /// # Errors
    /// When the checkpoint takes no w, is a student of another step count, or has none and none is given.
    pub fn from_checkpoint(checkpoint: &Checkpoint, steps: Option<usize>) -> Result<Network> {
        let steps = match (checkpoint.kind, steps) {
            (Kind::Teacher, _) => bail!("a teacher needs two evaluations a step for guidance; distil it first"),
            (Kind::Student(n) | Kind::Encoder(n), Some(steps)) if n != steps => {
                bail!("--steps {steps}: this {} was distilled for {n} steps", checkpoint.kind.describe())
            }
            (Kind::Student(n) | Kind::Encoder(n), _) => n,
            (Kind::Guided, Some(steps)) => steps,
            (Kind::Guided, None) => bail!("a {} goes in any number of steps: give --steps", checkpoint.kind.describe()),
        };
        ensure!((1..=MAX_STEPS.into()).contains(&steps), "--steps {steps}: give 1 to {MAX_STEPS}");
        let net = &checkpoint.net;
        let arch = &net.arch;
        ensure!(arch.base == 0, NO_ENLARGER);
        let p = |name: &str| values(&net.params, name);
        let dense = |name: &str| -> Result<Dense> {
            let weights = Weights::Float(p(&format!("embed.{name}.weight"))?);
            Ok(Dense { weights, bias: p(&format!("embed.{name}.bias"))? })
        };
        let mut ops = Vec::new();
        for node in Graph::new(arch).nodes {
            let name = node.name;
            let layer = match node.kind {
                NodeKind::Quantize => Layer::Quantize,
                NodeKind::Conv { kernel, residual, .. } => {
                    let weights = Weights::Float(p(&format!("{name}.weight"))?);
                    Layer::Conv { kernel, weights, bias: p(&format!("{name}.bias"))?, residual }
                }
                NodeKind::NormAct { silu, film, .. } => {
                    let (gamma, beta) = (p(&format!("{name}.scale"))?, p(&format!("{name}.shift"))?);
                    Layer::NormAct { group: GROUP, silu, film, gamma, beta }
                }
                NodeKind::AvgPool2 => Layer::AvgPool2,
                NodeKind::UpsampleAdd { stream } => Layer::UpsampleAdd { stream },
                NodeKind::Attention { heads } => Layer::Attention { heads },
            };
            let input = match node.input {
                Input::State | Input::Base => None,
                Input::Node(input) => Some(input),
            };
            let (height, width, channels) = (node.height, node.width, node.channels);
            ops.push(Op {
                name,
                input,
                layer,
                height,
                width,
                channels,
                element: Element::F32,
                quant: Vec::new(),
                params: Vec::new(),
            });
        }
        let phi: Vec<f32> = (0..steps).map(|i| angle_towards(checkpoint.kind.direction(), i, steps) as f32).collect();
        let mut class = p("embed.class")?;
        class.truncate(arch.classes * arch.embed); // the null class is the teacher's alone
        let mut provenance = vec![
            ("student".to_string(), format!("{}, for {steps} steps", checkpoint.kind.describe())),
            ("classes".to_string(), checkpoint.class_names.join(", ")),
        ];
        provenance.extend(checkpoint.provenance.iter().map(|(k, v)| (k.clone(), v.clone())));
        Ok(Network {
            shape: (arch.height, arch.width, arch.channels),
            patch: arch.patch,
            classes: arch.classes,
            embed: arch.embed,
            guidance_range: (0.0, MAX_GUIDANCE as f32),
            time: phi.iter().map(|phi| time_row(net, *phi)).collect::<Result<_>>()?,
            phi,
            direction: checkpoint.kind.direction(),
            class,
            guidance: p("embed.guidance")?,
            hidden: dense("hidden")?,
            film: dense("film")?,
            ops,
            provenance,
        })
    }
}

/// Weights row-major as int8, whatever their order and bits in the image.
fn int8(image: &Image, index: u16, scale: u16) -> Weights {
    let mut values = image.i8s(index).to_vec();
    if let ops::Weights::Int4(weights) = image.weights(index) {
        let (outputs, all) = (image.f32s(scale).len(), image.tensor(index).map_or(0, |tensor| tensor.len() as usize));
        values = vec![0; all];
        for (i, row) in values.chunks_exact_mut(all / outputs).enumerate() {
            weights.decode(i, 0, row);
        }
    }
    if let Some(tensor) = image.tensor(index).ok().filter(|t| t.layout == Layout::Blocks) {
        let [_, height, width, cin] = tensor.dims.map(usize::from);
        let taps = height * width;
        for (i, row) in values.chunks_exact_mut(cin).enumerate() {
            blocks::unpack(taps, cin, image.i8s(index), (i / taps, i % taps, 0), row);
        }
    }
    Weights::Int8 { values, scale: image.f32s(scale).to_vec() }
}

fn values(params: &Params, name: &str) -> Result<Vec<f32>> {
    Ok(params.get(name)?.flatten_all()?.to_vec1()?)
}
