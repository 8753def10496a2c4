//! A student's one evaluation as an ONNX file, for runtimes and compilers of other hardware: standard operators only.
//! What the file takes and gives is in `docs/onnx.md`.

mod arithmetic;
mod builder;
mod evaluation;
mod frame;
mod integers;
mod network;
pub mod proto;

pub use network::{Layer, Network, Op};

use anyhow::{Result, ensure};
use prost::Message;
use proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use std::collections::HashSet;

/// The operator set; the newest that ONNX Runtime 1.32 runs.
pub const OPSET: i64 = 27;
/// The IR version that belongs to it.
pub const IR_VERSION: i64 = 13;

/// What numbers the file computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// f32 everywhere; weights of an image dequantized
    Float,
    /// The student image's integers: for any step those of the core, bit for bit; for one step (--step) int8 weights, and
    /// QuantizeLinear and DequantizeLinear around every value, as compilers for other hardware want it
    Qdq,
}

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub form: Form,
    /// The step, where the file is for one alone: its tables become constants.
    pub step: Option<usize>,
}

/// The file of a network's evaluation.
///
/// # Errors
/// When the step is not one of the network's, or a quantized file is wanted of a float network.
pub fn write(net: &Network, options: Options) -> Result<ModelProto> {
    let steps = net.phi.len();
    if let Some(step) = options.step {
        ensure!(step < steps, "--step {step}: this student has steps 0 to {}", steps - 1);
    }
    if options.form == Form::Qdq {
        ensure!(net.ops.iter().any(|op| !op.quant.is_empty()), "a float network has no scales: quantize it first");
    }
    let evaluation = |net: &Network| match options {
        Options { form: Form::Qdq, step: None } => integers::evaluation(net),
        _ => evaluation::evaluation(net, options),
    };
    let mut graph = evaluation(net).graph;
    if !names_are_unique(&graph) {
        // An image may name its operations as it likes.
        let mut plain = net.clone();
        plain.ops.iter_mut().enumerate().for_each(|(i, op)| op.name = format!("op.{i}"));
        graph = evaluation(&plain).graph;
        ensure!(names_are_unique(&graph), "two values of the graph have one name");
    }
    graph.name = "evaluation".into();
    let phi: Vec<String> = net.phi.iter().map(|phi| phi.to_string()).collect();
    let own = [("steps", steps.to_string()), ("angles", phi.join(", "))];
    let own = own.into_iter().map(|(key, value)| (key.to_string(), value));
    let metadata = own.chain(net.provenance.iter().cloned());
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "fewstep".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: match options.step {
            Some(step) => format!("step {step} of {steps} of a few-step diffusion student"),
            None => format!("one of the {steps} steps of a few-step diffusion student"),
        },
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.map(|(key, value)| StringStringEntryProto { key, value }).collect(),
    })
}

/// Whether every value has a name of its own.
fn names_are_unique(graph: &GraphProto) -> bool {
    let inputs = graph.input.iter().map(|input| &input.name);
    let constants = graph.initializer.iter().map(|tensor| &tensor.name);
    let computed = graph.node.iter().flat_map(|node| &node.output);
    let mut seen = HashSet::new();
    inputs.chain(constants).chain(computed).all(|name| seen.insert(name))
}

/// The bytes of a file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}
