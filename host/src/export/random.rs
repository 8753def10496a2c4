//! A student with random weights, for tests, benchmarks and bringing up devices: all sizes and costs are those of a
//! trained one, and values neither vanish nor saturate.

use super::graph::{Graph, NodeKind};
use super::spec::{Conv, Dense, Norm, Quant, StudentSpec};
use crate::nn::{Arch, GUIDANCE_FEATURES, MAX_GUIDANCE};
use fewstep_core::Direction;
use fewstep_core::format::Element;
use fewstep_core::ops::int4::GROUP;
use fewstep_core::sampler::noise::philox4x32;
use std::collections::BTreeMap;

/// Standard deviation of integers uniform in -127 to 127.
const WEIGHT_STD: f32 = 73.6;

struct Random {
    key: [u32; 2],
    counter: u32,
}

impl Random {
    fn next(&mut self) -> u32 {
        self.counter += 1;
        philox4x32([self.counter, 0, 0, u32::MAX], self.key)[0]
    }

    /// Uniform in -127..=127.
    fn weights(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| (((u64::from(self.next()) * 255) >> 32) as i32 - 127) as i8).collect()
    }

    /// Uniform in centre - bound .. centre + bound.
    fn uniform(&mut self, n: usize, centre: f32, bound: f32) -> Vec<f32> {
        (0..n).map(|_| centre + bound * (self.next() as i32 as f32 / 2_147_483_648.0)).collect()
    }

    /// Weights that turn inputs of variance 1 into outputs of standard deviation about `gain`.
    fn layer(&mut self, outputs: usize, inputs: usize, gain: f32) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
        let scale = gain / (WEIGHT_STD * (inputs as f32).sqrt());
        (
            self.weights(outputs * inputs),
            self.uniform(outputs, scale, 0.2 * scale),
            self.uniform(outputs, 0.0, 0.1 * gain),
        )
    }
}

/// The same student with weights of four bits, but for its first and last convolution and its hidden layer.
pub fn random_int4_student(arch: &Arch, steps: usize, seed: u64) -> StudentSpec {
    let mut spec = random_student(arch, steps, seed);
    let layers = spec.convs.iter_mut().filter(|(name, _)| !["conv_in", "conv_out"].contains(&name.as_str()));
    let layers = layers.map(|(_, conv)| (&mut conv.weights, &mut conv.scale, &mut conv.multipliers));
    let film = [(&mut spec.film.weights, &mut spec.film.scale, &mut spec.film.multipliers)];
    let mut random = Random { key: [seed as u32, (seed >> 32) as u32], counter: 1 << 31 };
    for (weights, scale, multipliers) in layers.chain(film) {
        let row = weights.len() / scale.len();
        let groups = row.div_ceil(GROUP);
        let all: Vec<u8> = (0..scale.len() * groups).map(|_| 1 + (random.next() % 15) as u8).collect();
        for (i, w) in weights.iter_mut().enumerate() {
            *w = (*w >> 4) * all[i / row * groups + i % row / GROUP] as i8;
        }
        // Multipliers are 8 on average, where 16 would make up for the shift.
        scale.iter_mut().for_each(|scale| *scale *= 2.0);
        *multipliers = Some(all);
    }
    spec
}

/// A student of this architecture with `steps` steps. The same arguments give the same student.
pub fn random_student(arch: &Arch, steps: usize, seed: u64) -> StudentSpec {
    let graph = Graph::new(arch);
    let mut random = Random { key: [seed as u32, (seed >> 32) as u32], counter: 0 };
    let (e, f) = (arch.embed, arch.film_len());
    let mut convs = BTreeMap::new();
    let mut norms = BTreeMap::new();
    for node in &graph.nodes {
        match node.kind {
            NodeKind::Conv { kernel, cin, residual } => {
                let gain = if residual.is_some() { 0.4 } else { 1.0 };
                let (weights, scale, bias) = random.layer(node.channels, kernel * kernel * cin, gain);
                convs.insert(node.name.clone(), Conv { weights, scale, bias, multipliers: None });
            }
            NodeKind::NormAct { .. } => {
                let (gamma, beta) = (random.uniform(node.channels, 1.0, 0.3), random.uniform(node.channels, 0.0, 0.3));
                norms.insert(node.name.clone(), Norm { gamma, beta });
            }
            _ => {}
        }
    }
    let (weights, scale, bias) = random.layer(e, e, 1.5);
    let hidden = Dense { weights, scale, bias, multipliers: None };
    let (weights, scale, bias) = random.layer(f, e, 0.3);
    let film = Dense { weights, scale, bias, multipliers: None };
    let activations = (0..steps)
        .map(|step| {
            // A little different at every step, so that a mix-up of rows shows.
            let wider = 1.0 + 0.05 * step as f32;
            let quant = |node: &super::Node| match (node.kind, node.element) {
                (NodeKind::NormAct { silu: true, .. }, Element::I8) => {
                    // SiLU's least value is -0.28.
                    let scale = 5.0 * wider / 255.0;
                    Quant { scale, zero_point: -128 + (0.28 / scale).round() as i32 }
                }
                (_, Element::I8) => Quant { scale: 4.0 * wider / 127.0, zero_point: 0 },
                _ => Quant { scale: 16.0 * wider / 32768.0, zero_point: 0 },
            };
            let calibrated = graph.nodes.iter().filter(|node| node.is_calibrated());
            calibrated.map(|node| (node.name.clone(), quant(node))).collect()
        })
        .collect();
    StudentSpec {
        arch: arch.clone(),
        direction: Direction::ToPicture,
        w_min: 0.0,
        w_max: MAX_GUIDANCE as f32,
        phi: (0..steps).map(|i| (std::f64::consts::FRAC_PI_2 * (1.0 - i as f64 / steps as f64)) as f32).collect(),
        time: (0..steps).map(|_| random.uniform(e, 0.0, 1.0)).collect(),
        class: random.uniform(arch.classes * e, 0.0, 1.5),
        guidance: random.uniform(e * GUIDANCE_FEATURES, 0.0, 0.5),
        hidden,
        film,
        convs,
        norms,
        activations,
        provenance: vec![("student".into(), "random weights".into()), ("seed".into(), seed.to_string())],
    }
}
