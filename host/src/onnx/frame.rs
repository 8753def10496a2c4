//! What every form of the file has: its inputs and outputs.

use super::builder::{Attribute, Builder, Value, value_info};
use super::network::Network;
use super::proto::DataType;
use fewstep_core::Direction;
use fewstep_core::sampler::schedule;
use std::f32::consts::FRAC_PI_2;

fn picture(net: &Network) -> [Option<usize>; 4] {
    let (h, w, c) = net.shape;
    [None, Some(c), Some(h), Some(w)]
}

/// The graph's inputs; `step` is one unless the file is for the given one.
pub fn inputs(b: &mut Builder, net: &Network, step: Option<usize>) {
    let doc = "state: standard normal noise before the first step, then the output next";
    let mut inputs = vec![value_info("z", DataType::Float, &picture(net), doc)];
    if step.is_none() {
        let doc = format!("0 to {}", net.phi.len() - 1);
        inputs.push(value_info("step", DataType::Int64, &[], &doc));
    }
    let doc = format!("0 to {}", net.classes - 1);
    inputs.push(value_info("class", DataType::Int64, &[None], &doc));
    let doc = format!("guidance strength, {} to {}, 0 for none", net.guidance_range.0, net.guidance_range.1);
    inputs.push(value_info("w", DataType::Float, &[None], &doc));
    b.graph.input = inputs;
}

/// The state as the network reads it, in patches.
pub fn state(b: &mut Builder, net: &Network) -> Value {
    match net.patch {
        1 => "z".into(),
        p => b.node("SpaceToDepth", "z.patches", &["z"], &[Attribute::Int("blocksize", p as i64)]),
    }
}

/// [N][1] each: what every step multiplies z and v by, the core's deterministic sampler's.
pub fn turns(net: &Network) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let end = match net.direction {
        Direction::ToPicture => 0.0,
        Direction::ToNoise => FRAC_PI_2,
    };
    let ends = net.phi.iter().skip(1).chain([&end]);
    let moves = net.phi.iter().zip(ends).map(|(from, to)| schedule::deterministic(*from, *to));
    moves.map(|step| (vec![step.keep], vec![step.turn])).unzip()
}

/// The graph's outputs: v of `patches`, and the state after the step, next = keep z - turn v.
pub fn outputs(b: &mut Builder, net: &Network, patches: &str, keep: &str, turn: &str) {
    match net.patch {
        1 => b.node("Identity", "v", &[patches], &[]),
        p => b.node("DepthToSpace", "v", &[patches], &[Attribute::Int("blocksize", p as i64)]),
    };
    let kept = b.node("Mul", "next.kept", &["z", keep], &[]);
    let turned = b.node("Mul", "next.turned", &["v", turn], &[]);
    b.node("Sub", "next", &[&kept, &turned], &[]);
    let picture = picture(net);
    b.graph.output = vec![
        value_info("next", DataType::Float, &picture, "state after the step; after the last, the picture, -1 to 1"),
        value_info("v", DataType::Float, &picture, "the network's prediction, for other samplers"),
    ];
}
