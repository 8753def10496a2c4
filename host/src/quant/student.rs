//! From a float student to the numbers of its image.

use super::compensate::{Moments, moments, quantize_compensated};
use super::groups::quantize_groups;
use super::learned::learned;
use super::observe::{Calibration, observe};
use super::range::quantize_row;
use crate::diffusion::angle_towards;
use crate::export::{Conv, Dense, Graph, Node, NodeKind, Norm, Quant, StudentSpec};
use crate::nn::{Checkpoint, Kind, MAX_GUIDANCE, Params, UNet, time_features};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use fewstep_core::Direction;
use fewstep_core::format::Element;
use std::collections::BTreeMap;

/// Largest magnitude of a rounded weight: 8 bits, symmetric.
pub const WEIGHT_LIMIT: i8 = 127;

/// How the weights are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WeightForm {
    /// 8 bits, a scale for each output channel
    #[default]
    Int8,
    /// 4 bits, a multiplier for every 32 weights besides; the first and the last convolution stay int8
    Int4,
}

impl WeightForm {
    /// Of a layer. The first convolutions, the last and the hidden layer are 1 % of the weights.
    pub fn of(self, layer: &str) -> WeightForm {
        if ["conv_in", "conv_base", "conv_out", "embed.hidden"].contains(&layer) { WeightForm::Int8 } else { self }
    }

    /// As files are named.
    pub fn name(self) -> &'static str {
        match self {
            WeightForm::Int8 => "int8",
            WeightForm::Int4 => "int4",
        }
    }
}

/// Noise of the calibration trajectories; samples use other seeds.
const CALIBRATION_SEED: u64 = 0xCA11_B8A7_E000_0000;

/// Quantizes a student for `steps` steps, its weights to `form`, calibrated from noise; `progress` hears of calibration
/// (done, total).
///
/// # Errors
/// When the checkpoint takes no w, is a student of another step count, or an encoder.
pub fn quantize(
    checkpoint: &Checkpoint,
    steps: usize,
    form: WeightForm,
    progress: impl FnMut(usize, usize),
) -> Result<StudentSpec> {
    quantize_from(checkpoint, steps, Calibration::Noise, form, progress)
}

/// As [`quantize`], calibrated from what the network starts from.
///
/// # Errors
/// As [`quantize`]; when a network is calibrated from what it does not start from.
pub fn quantize_from(
    checkpoint: &Checkpoint,
    steps: usize,
    from: Calibration,
    form: WeightForm,
    progress: impl FnMut(usize, usize),
) -> Result<StudentSpec> {
    let enlarges = checkpoint.net.arch.base > 0;
    match (checkpoint.kind, from) {
        (Kind::Teacher, _) => bail!("a teacher needs two evaluations a step for guidance; distil it first"),
        (Kind::Student(n) | Kind::Encoder(n), _) if n != steps => {
            bail!("--steps {steps}: this {} was distilled for {n} steps", checkpoint.kind.describe())
        }
        (Kind::Encoder(_), Calibration::Noise | Calibration::Bases(_)) => {
            bail!("an encoder is calibrated on pictures: give --data")
        }
        (Kind::Student(_) | Kind::Guided, Calibration::Pictures(_)) => {
            bail!("a student is calibrated on its own noise; leave --data out")
        }
        (Kind::Student(_) | Kind::Guided, Calibration::Noise) if enlarges => {
            bail!("a student that enlarges pictures is calibrated on some: give --on STUDENT, which draws them")
        }
        (Kind::Student(_) | Kind::Guided, Calibration::Bases(_)) if !enlarges => {
            bail!("this student draws pictures itself; leave --on out")
        }
        _ => {}
    }
    let mut spec = match learned(&checkpoint.net, steps)? {
        Some(activations) => describe(&checkpoint.net, from.direction(), activations, form)?,
        None => {
            let net = balance_attention(&checkpoint.net)?;
            let (activations, moments) = calibrate(&net, steps, from, form, progress)?;
            describe_by(&net, from.direction(), activations, form, &moments)?
        }
    };
    spec.provenance = provenance(checkpoint, steps);
    Ok(spec)
}

/// Scales of every activation, by step and name.
pub type Activations = Vec<BTreeMap<String, Quant>>;

/// Scales from the student's own trajectories, and for weights of four bits the moments that their rounding asks for.
pub fn calibrate(
    net: &UNet,
    steps: usize,
    from: Calibration,
    form: WeightForm,
    mut progress: impl FnMut(usize, usize),
) -> Result<(Activations, Moments)> {
    let walks = if form == WeightForm::Int4 { 2 } else { 1 };
    let activations = scales(net, steps, from, |done, total| progress(done, walks * total))?;
    let moments = match form {
        WeightForm::Int8 => Moments::new(),
        WeightForm::Int4 => {
            moments(net, steps, from, CALIBRATION_SEED, |done, total| progress(total + done, walks * total))?
        }
    };
    Ok((activations, moments))
}

fn scales(net: &UNet, steps: usize, from: Calibration, progress: impl FnMut(usize, usize)) -> Result<Activations> {
    let graph = Graph::new(&net.arch);
    let seen = observe(net, steps, from, CALIBRATION_SEED, progress)?;
    let table = |seen: &BTreeMap<String, super::Seen>| {
        let calibrated = graph.nodes.iter().filter(|n| n.is_calibrated());
        calibrated.map(|node| Ok((node.name.clone(), range(node, seen.get(&node.name))?))).collect()
    };
    seen.iter().map(table).collect()
}

/// The student's numbers with these scales of its activations; weights are rounded here, each for itself.
pub fn describe(net: &UNet, direction: Direction, activations: Activations, form: WeightForm) -> Result<StudentSpec> {
    describe_by(net, direction, activations, form, &Moments::new())
}

/// The same, but layers that have moments are rounded by those.
pub fn describe_by(
    net: &UNet,
    direction: Direction,
    activations: Activations,
    form: WeightForm,
    moments: &Moments,
) -> Result<StudentSpec> {
    let (arch, steps) = (&net.arch, activations.len());
    let graph = Graph::new(arch);
    let p = |name: &str| values(&net.params, name);
    let (mut convs, mut norms) = (BTreeMap::new(), BTreeMap::new());
    for node in &graph.nodes {
        let name = &node.name;
        match node.kind {
            NodeKind::Conv { .. } => {
                let (weights, scale, multipliers) =
                    rows(&p(&format!("{name}.weight"))?, node.channels, form.of(name), moments.get(name));
                convs.insert(name.clone(), Conv { weights, scale, bias: p(&format!("{name}.bias"))?, multipliers });
            }
            NodeKind::NormAct { .. } => {
                norms.insert(
                    name.clone(),
                    Norm { gamma: p(&format!("{name}.scale"))?, beta: p(&format!("{name}.shift"))? },
                );
            }
            _ => {}
        }
    }
    let dense = |name: &str, out: usize| -> Result<Dense> {
        let name = format!("embed.{name}");
        let (weights, scale, multipliers) = rows(&p(&format!("{name}.weight"))?, out, form.of(&name), None);
        Ok(Dense { weights, scale, bias: p(&format!("{name}.bias"))?, multipliers })
    };
    let phi: Vec<f32> = (0..steps).map(|i| angle_towards(direction, i, steps) as f32).collect();
    let mut class = p("embed.class")?;
    class.truncate(arch.classes * arch.embed); // the null class is the teacher's alone
    Ok(StudentSpec {
        direction,
        w_min: 0.0,
        w_max: MAX_GUIDANCE as f32,
        time: phi.iter().map(|phi| time_row(net, *phi)).collect::<Result<_>>()?,
        phi,
        class,
        guidance: p("embed.guidance")?,
        hidden: dense("hidden", arch.embed)?,
        film: dense("film", arch.film_len())?,
        convs,
        norms,
        activations,
        provenance: Vec::new(),
        arch: arch.clone(),
    })
}

fn values(params: &Params, name: &str) -> Result<Vec<f32>> {
    Ok(params.get(name)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()?)
}

/// Rounded weights, a scale for each output, and the multipliers of groups where there are such.
fn rows(
    weights: &[f32],
    outputs: usize,
    form: WeightForm,
    moments: Option<&Vec<f64>>,
) -> (Vec<i8>, Vec<f32>, Option<Vec<u8>>) {
    let (mut q, mut scales) = (Vec::with_capacity(weights.len()), Vec::with_capacity(outputs));
    let rows = weights.chunks_exact(weights.len() / outputs);
    if form == WeightForm::Int8 {
        for (scale, row) in rows.map(|row| quantize_row(row, WEIGHT_LIMIT)) {
            scales.push(scale);
            q.extend(row);
        }
        return (q, scales, None);
    }
    let rounded = match moments {
        Some(moments) => quantize_compensated(weights, outputs, moments),
        None => rows.map(quantize_groups).collect(),
    };
    let mut multipliers = Vec::new();
    for row in rounded {
        scales.push(row.scale);
        q.extend(row.weights);
        multipliers.extend(row.multipliers);
    }
    (q, scales, Some(multipliers))
}

fn range(node: &Node, seen: Option<&super::Seen>) -> Result<Quant> {
    let seen = seen.with_context(|| format!("activation {} was not seen", node.name))?;
    Ok(match (node.element, node.kind) {
        (Element::I8, NodeKind::NormAct { .. }) => {
            let (scale, zero) = seen.affine_i8();
            Quant { scale, zero_point: zero.into() }
        }
        (Element::I8, _) => Quant { scale: seen.scale_i8(), zero_point: 0 },
        _ => Quant { scale: seen.scale_i16(), zero_point: 0 },
    })
}

/// The time path at one angle: what a device reads instead of computing it.
pub(crate) fn time_row(net: &UNet, phi: f32) -> Result<Vec<f32>> {
    let (weights, mut row) = (values(&net.params, "embed.time.weight")?, values(&net.params, "embed.time.bias")?);
    let features = time_features(&[phi]);
    for (v, w) in row.iter_mut().zip(weights.chunks_exact(features.len())) {
        *v += w.iter().zip(&features).map(|(w, f)| w * f).sum::<f32>();
    }
    Ok(row)
}

/// The same network with q, k and v of like size, since they share one 8-bit scale: q is multiplied by a factor that
/// k is divided by, and v by one that the projection's weights are divided by.
pub fn balance_attention(net: &UNet) -> Result<UNet> {
    let arch = &net.arch;
    if arch.attention_heads == 0 {
        return Ok(net.clone());
    }
    let c = *arch.widths.last().context("a network has a level")?;
    let qkv = net.params.get("attn.qkv.weight")?;
    let size = |part: usize| -> Result<f64> {
        Ok(f64::from(qkv.narrow(0, part * c, c)?.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt().max(1e-8))
    };
    let (q, k, v) = (size(0)?, size(1)?, size(2)?);
    let both = (q * k).sqrt();
    let factors = [both / q, both / k, both / v];
    let mut tensors = net.params.tensors().clone();
    for name in ["attn.qkv.weight", "attn.qkv.bias"] {
        let t = net.params.get(name)?;
        let parts =
            (0..3).map(|i| t.narrow(0, i * c, c)? * factors[i]).collect::<candle_core::Result<Vec<Tensor>>>()?;
        tensors.insert(name.into(), Tensor::cat(&parts, 0)?);
    }
    tensors.insert("attn.proj.weight".into(), (net.params.get("attn.proj.weight")? / factors[2])?);
    Ok(UNet { arch: arch.clone(), params: Params::frozen(tensors) })
}

fn provenance(checkpoint: &Checkpoint, steps: usize) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("student".to_string(), format!("{}, exported for {steps} steps", checkpoint.kind.describe())),
        ("classes".to_string(), checkpoint.class_names.join(", ")),
    ];
    pairs.extend(checkpoint.provenance.iter().map(|(k, v)| (k.clone(), v.clone())));
    pairs
}
