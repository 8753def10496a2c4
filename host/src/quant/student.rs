//! From a float student to the numbers of its image.

use super::learned::learned;
use super::observe::observe;
use super::range::quantize_row;
use crate::diffusion::angle;
use crate::enlarge;
use crate::export::{Conv, Dense, Graph, Node, NodeKind, Norm, Quant, StudentSpec};
use crate::nn::{Checkpoint, Kind, MAX_GUIDANCE, Params, UNet, time_features};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use fewstep_core::format::Element;
use std::collections::BTreeMap;

/// Largest magnitude of a rounded weight: 8 bits, symmetric.
pub const WEIGHT_LIMIT: i8 = 127;

/// Noise of the calibration trajectories; samples use other seeds.
const CALIBRATION_SEED: u64 = 0xCA11_B8A7_E000_0000;

/// Quantizes a student for `steps` steps; `progress` hears of calibration (done, total).
///
/// # Errors
/// When the checkpoint takes no w, or is a student of another step count.
pub fn quantize(checkpoint: &Checkpoint, steps: usize, progress: impl FnMut(usize, usize)) -> Result<StudentSpec> {
    quantize_on(checkpoint, steps, None, progress)
}

/// As [`quantize`], for students that enlarge: `bases` are pictures to calibrate on, bytes [count][H][W][C], one for
/// each of [`calibration_classes`](super::calibration_classes).
pub fn quantize_on(
    checkpoint: &Checkpoint,
    steps: usize,
    bases: Option<&[u8]>,
    progress: impl FnMut(usize, usize),
) -> Result<StudentSpec> {
    match checkpoint.kind {
        Kind::Teacher => bail!("a teacher needs two evaluations a step for guidance; distil it first"),
        Kind::Student(n) if n != steps => bail!("--steps {steps}: this student was distilled for {n} steps"),
        _ => {}
    }
    let (net, activations) = match learned(&checkpoint.net, steps)? {
        Some(activations) => (checkpoint.net.clone(), activations),
        None => {
            let net = balance_attention(&checkpoint.net)?;
            let base = bases.map(|bases| enlarge::bases(&net.arch, bases, &Device::Cpu)).transpose()?;
            let activations = calibrate(&net, steps, base.as_ref(), progress)?;
            (net, activations)
        }
    };
    let mut spec = describe(&net, activations)?;
    spec.provenance = provenance(checkpoint, steps);
    Ok(spec)
}

/// Scales of every activation, by step and name.
pub type Activations = Vec<BTreeMap<String, Quant>>;

/// Scales from the student's own trajectories.
pub fn calibrate(
    net: &UNet,
    steps: usize,
    base: Option<&Tensor>,
    progress: impl FnMut(usize, usize),
) -> Result<Activations> {
    let graph = Graph::new(&net.arch);
    let seen = observe(net, steps, CALIBRATION_SEED, base, progress)?;
    let table = |seen: &BTreeMap<String, super::Seen>| {
        let calibrated = graph.nodes.iter().filter(|n| n.is_calibrated());
        calibrated.map(|node| Ok((node.name.clone(), range(node, seen.get(&node.name))?))).collect()
    };
    seen.iter().map(table).collect()
}

/// The student's numbers with these scales of its activations; weights are rounded here.
pub fn describe(net: &UNet, activations: Activations) -> Result<StudentSpec> {
    let (arch, steps) = (&net.arch, activations.len());
    let graph = Graph::new(arch);
    let p = |name: &str| values(&net.params, name);
    let (mut convs, mut norms) = (BTreeMap::new(), BTreeMap::new());
    for node in &graph.nodes {
        let name = &node.name;
        match node.kind {
            NodeKind::Conv { .. } => {
                let (weights, scale) = rows(&p(&format!("{name}.weight"))?, node.channels);
                convs.insert(name.clone(), Conv { weights, scale, bias: p(&format!("{name}.bias"))? });
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
        let (weights, scale) = rows(&p(&format!("embed.{name}.weight"))?, out);
        Ok(Dense { weights, scale, bias: p(&format!("embed.{name}.bias"))? })
    };
    let phi: Vec<f32> = (0..steps).map(|i| angle(i, steps) as f32).collect();
    let mut class = p("embed.class")?;
    class.truncate(arch.classes * arch.embed); // the null class is the teacher's alone
    Ok(StudentSpec {
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

fn rows(weights: &[f32], outputs: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut q, mut scales) = (Vec::with_capacity(weights.len()), Vec::with_capacity(outputs));
    for row in weights.chunks_exact(weights.len() / outputs) {
        let (scale, row) = quantize_row(row, WEIGHT_LIMIT);
        scales.push(scale);
        q.extend(row);
    }
    (q, scales)
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
