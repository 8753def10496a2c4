//! One evaluation of a network, and the step that it moves the state, in the operators that runtimes and compilers look
//! for: in float, or quantized for one step. With the core's own arithmetic it is in `integers.rs`.
//!
//! Pictures are [N, channels, height, width], as ONNX's operators want them; the patches of the network are made
//! and undone inside the graph.

use super::builder::{Attribute, Builder, Value};
use super::frame;
use super::network::{Dense, Layer, Network, Op, Weights, rows};
use super::proto::DataType;
use super::{Form, Options};
use crate::export::GROUPNORM_EPS;
use crate::nn::{GUIDANCE_FEATURES, MAX_GUIDANCE};
use fewstep_core::format::Element;
use std::collections::BTreeMap;

/// Builds the graph. Everything that `options` may ask for was checked.
pub fn evaluation(net: &Network, options: Options) -> Builder {
    let mut e = Evaluation { net, options, b: Builder::default(), zeros: BTreeMap::new() };
    frame::inputs(&mut e.b, net, options.step);
    let film = e.film();
    let patches = e.patches(&film);
    let (keep, turn) = frame::turns(net);
    let (keep, turn) = (e.of_step("next.keep", &[], &keep), e.of_step("next.turn", &[], &turn));
    frame::outputs(&mut e.b, net, &patches, &keep, &turn);
    e.b
}

/// What a block multiplies and adds after its normalization, per operation with a film row: [N, channels, 1, 1].
type Film = BTreeMap<usize, (Value, Value)>;

struct Evaluation<'a> {
    net: &'a Network,
    options: Options,
    b: Builder,
    /// Zero points of 0, by type.
    zeros: BTreeMap<i32, Value>,
}

impl Evaluation<'_> {
    /// A row of a table [N][...], its dimensions behind N: the step's, known now or given at run time.
    fn of_step(&mut self, name: &str, dims: &[usize], table: &[Vec<f32>]) -> Value {
        if let Some(step) = self.options.step {
            return self.b.f32s(name, dims, &table[step]);
        }
        if table.iter().all(|row| row == &table[0]) {
            return self.b.f32s(name, dims, &table[0]);
        }
        let whole: Vec<usize> = [table.len()].iter().chain(dims).copied().collect();
        let table = self.b.f32s(&format!("{name}.table"), &whole, &table.concat());
        self.b.node("Gather", name, &[&table, "step"], &[Attribute::Int("axis", 0)])
    }

    /// A zero point of 0.
    fn zero(&mut self, element: Element) -> Value {
        let kind = if element == Element::I8 { DataType::Int8 } else { DataType::Int16 };
        if let Some(name) = self.zeros.get(&(kind as i32)) {
            return name.clone();
        }
        let name = match element {
            Element::I8 => self.b.i8s("zero.int8", &[], &[0]),
            _ => self.b.i16s("zero.int16", &[], &[0]),
        };
        self.zeros.insert(kind as i32, name.clone());
        name
    }

    /// Scale and zero point of what `op` stores; None in a float network.
    fn quant(&mut self, op: &Op) -> Option<(Value, Value)> {
        let (Form::Qdq, Some(step)) = (self.options.form, self.options.step) else { return None };
        let quant = op.quant.get(step)?;
        let scale = self.b.f32s(&format!("{}.scale", op.name), &[], &[quant.scale]);
        let zero = match quant.zero_point {
            0 => self.zero(op.element),
            point => self.b.i8s(&format!("{}.zero_point", op.name), &[], &[point as i8]),
        };
        Some((scale, zero))
    }

    /// A value as it is stored: quantized and dequantized, where there is a scale.
    fn stored(&mut self, name: &str, value: Value, quant: &Option<(Value, Value)>) -> Value {
        let Some((scale, zero)) = quant else { return value };
        let q = self.b.node("QuantizeLinear", &format!("{name}.quantized"), &[&value, scale, zero], &[]);
        self.b.node("DequantizeLinear", &format!("{name}.dequantized"), &[&q, scale, zero], &[])
    }

    /// Whether only attentions read operation `i`. They quantize queries, keys and values after these are apart, which
    /// is the same: ONNX Runtime 1.32 refuses a file when it moves one pair of int8 over the reshaping itself.
    fn is_for_attention(&self, i: usize) -> bool {
        let reads = |op: &Op| match op.layer {
            Layer::Conv { residual: Some(stream), .. } | Layer::UpsampleAdd { stream } => {
                op.input == Some(i) || stream == i
            }
            _ => op.input == Some(i),
        };
        let mut readers = self.net.ops.iter().filter(|op| reads(op)).peekable();
        readers.peek().is_some() && readers.all(|op| matches!(op.layer, Layer::Attention { .. }))
    }

    /// Weights [out][...]: dequantized by a node where the network is quantized.
    fn weights(&mut self, name: &str, dims: &[usize], weights: &Weights) -> Value {
        match (self.options.form, weights) {
            (Form::Qdq, Weights::Int8 { values, scale }) => {
                let q = self.b.i8s(&format!("{name}.q"), dims, values);
                let scale = self.b.f32s(&format!("{name}.scale"), &[scale.len()], scale);
                self.b.node("DequantizeLinear", name, &[&q, &scale], &[Attribute::Int("axis", 0)])
            }
            _ => self.b.f32s(name, dims, &weights.dequantized()),
        }
    }

    fn silu(&mut self, name: &str, x: &str) -> Value {
        let gate = self.b.node("Sigmoid", &format!("{name}.sigmoid"), &[x], &[]);
        self.b.node("Mul", &format!("{name}.silu"), &[x, &gate], &[])
    }

    /// y = x weights^T + bias.
    fn dense(&mut self, name: &str, x: &str, layer: &Dense) -> Value {
        let out = layer.bias.len();
        let weights = self.weights(&format!("{name}.weight"), &[out, self.net.embed], &layer.weights);
        let bias = self.b.f32s(&format!("{name}.bias"), &[out], &layer.bias);
        self.b.node("Gemm", name, &[x, &weights, &bias], &[Attribute::Int("transB", 1)])
    }

    /// The embedding of step, class and w.
    fn film(&mut self) -> Film {
        let (net, e) = (self.net, self.net.embed);
        let b = &mut self.b;
        let half = GUIDANCE_FEATURES / 2;
        let unit = std::f64::consts::FRAC_PI_2 / MAX_GUIDANCE;
        let frequencies: Vec<f32> = (1..=half).map(|k| (k as f64 * unit) as f32).collect();
        let frequencies = b.f32s("embed.frequencies", &[1, half], &frequencies);
        let axis = b.int64s(&[1]);
        let column = b.node("Unsqueeze", "embed.w", &["w", &axis], &[]);
        let angles = b.node("Mul", "embed.angles", &[&column, &frequencies], &[]);
        let (sin, cos) = (b.node("Sin", "embed.sin", &[&angles], &[]), b.node("Cos", "embed.cos", &[&angles], &[]));
        let features = b.node("Concat", "embed.features", &[&sin, &cos], &[Attribute::Int("axis", 1)]);
        let guidance = b.f32s("embed.guidance.weight", &[e, GUIDANCE_FEATURES], &net.guidance);
        let table = b.f32s("embed.class.table", &[net.classes, e], &net.class);
        let class = b.node("Gather", "embed.class", &[&table, "class"], &[Attribute::Int("axis", 0)]);
        let time = self.of_step("embed.time", &[e], &net.time);
        let known = self.b.node("Add", "embed.time_class", &[&class, &time], &[]);
        let sum = self.b.node("Gemm", "embed.sum", &[&features, &guidance, &known], &[Attribute::Int("transB", 1)]);
        let first = self.silu("embed.first", &sum);
        let hidden = self.dense("embed.hidden", &first, &net.hidden);
        let second = self.silu("embed.second", &hidden);

        // The layer's outputs reordered to all scales, then all shifts, so that a few operators serve all blocks:
        // y = normalized * (gamma * (1 + scale)) + (beta * (1 + scale) + shift).
        let (mut scales, mut shifts, mut gammas, mut betas) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut blocks = Vec::new();
        for (i, op) in net.ops.iter().enumerate() {
            if let Layer::NormAct { film: Some(at), gamma, beta, .. } = &op.layer {
                scales.extend(*at..at + op.channels);
                shifts.extend(at + op.channels..at + 2 * op.channels);
                gammas.extend(gamma);
                betas.extend(beta);
                blocks.push((i, op.channels));
            }
        }
        if blocks.is_empty() {
            return Film::new();
        }
        let len = scales.len();
        let part = |order: &[usize], added: f32| Dense {
            weights: net.film.weights.permuted(order, e),
            bias: rows(&net.film.bias, order, 1).iter().map(|b| b + added).collect(),
        };
        let scale = self.dense("embed.scale", &second, &part(&scales, 1.0));
        let shift = self.dense("embed.shift", &second, &part(&shifts, 0.0));
        let b = &mut self.b;
        let gamma = b.f32s("embed.gamma", &[len], &gammas);
        let beta = b.f32s("embed.beta", &[len], &betas);
        let factor = b.node("Mul", "embed.factor", &[&scale, &gamma], &[]);
        let moved = b.node("Mul", "embed.moved", &[&scale, &beta], &[]);
        let offset = b.node("Add", "embed.offset", &[&moved, &shift], &[]);
        let shape = b.int64s(&[0, len as i64, 1, 1]);
        let sizes: Vec<i64> = blocks.iter().map(|(_, c)| *c as i64).collect();
        let mut split = |name: &str, whole: Value| -> Vec<Value> {
            let whole = b.node("Reshape", &format!("{name}.planes"), &[&whole, &shape], &[]);
            if blocks.len() == 1 {
                return vec![whole];
            }
            let names: Vec<Value> = blocks.iter().map(|(i, _)| format!("{}.{name}", net.ops[*i].name)).collect();
            let sizes = b.int64s(&sizes);
            b.node_of("Split", name, &[&whole, &sizes], names.clone(), &[Attribute::Int("axis", 1)]);
            names
        };
        let (factors, offsets) = (split("factor", factor), split("offset", offset));
        blocks.iter().zip(factors.into_iter().zip(offsets)).map(|((i, _), pair)| (*i, pair)).collect()
    }

    /// The operations on patches; returns v in patches.
    fn patches(&mut self, film: &Film) -> Value {
        let net = self.net;
        let mut done: Vec<Value> = Vec::new();
        let state = frame::state(&mut self.b, net);
        for (i, op) in net.ops.iter().enumerate() {
            let x = op.input.map_or(state.clone(), |input| done[input].clone());
            let y = match &op.layer {
                Layer::Quantize => x,
                Layer::Conv { kernel, weights, bias, residual } => {
                    let y = self.conv(op, &x, *kernel, weights, bias);
                    match residual {
                        Some(stream) => self.b.node("Add", &format!("{}.add", op.name), &[&y, &done[*stream]], &[]),
                        None => y,
                    }
                }
                Layer::NormAct { group, silu, gamma, beta, .. } => {
                    let affine = match film.get(&i) {
                        Some(pair) => pair.clone(),
                        None => (
                            self.b.f32s(&format!("{}.gamma", op.name), &[op.channels, 1, 1], gamma),
                            self.b.f32s(&format!("{}.beta", op.name), &[op.channels, 1, 1], beta),
                        ),
                    };
                    let y = self.norm(op, &x, *group, &affine);
                    if *silu { self.silu(&op.name, &y) } else { y }
                }
                Layer::AvgPool2 => {
                    let two = [2, 2];
                    let window = [Attribute::Ints("kernel_shape", &two), Attribute::Ints("strides", &two)];
                    self.b.node("AveragePool", &op.name, &[&x], &window)
                }
                Layer::UpsampleAdd { stream } => {
                    let scales = match self.b.graph.initializer.iter().any(|t| t.name == DOUBLE) {
                        true => DOUBLE.into(),
                        false => self.b.f32s(DOUBLE, &[4], &[1.0, 1.0, 2.0, 2.0]),
                    };
                    let nearest = [
                        Attribute::Text("mode", "nearest"),
                        Attribute::Text("coordinate_transformation_mode", "asymmetric"),
                        Attribute::Text("nearest_mode", "floor"),
                    ];
                    let up = self.b.node("Resize", &format!("{}.doubled", op.name), &[&x, "", &scales], &nearest);
                    self.b.node("Add", &op.name, &[&up, &done[*stream]], &[])
                }
                Layer::Attention { heads } => self.attention(op, &x, *heads),
            };
            let y = match self.is_for_attention(i) {
                true => y,
                false => {
                    let quant = self.quant(op);
                    self.stored(&op.name, y, &quant)
                }
            };
            done.push(y);
        }
        done.pop().unwrap_or(state)
    }

    fn conv(&mut self, op: &Op, x: &str, kernel: usize, weights: &Weights, bias: &[f32]) -> Value {
        let name = &op.name;
        let cin = match weights {
            Weights::Float(v) => v.len(),
            Weights::Int8 { values, .. } => values.len(),
        } / (op.channels * kernel * kernel);
        // [cout][kernel][kernel][cin] to [cout][cin][kernel][kernel].
        let area = kernel * kernel;
        let order: Vec<usize> = (0..op.channels)
            .flat_map(|o| (0..cin).flat_map(move |c| (0..area).map(move |k| (o * area + k) * cin + c)))
            .collect();
        let weights = match weights {
            Weights::Float(v) => Weights::Float(rows(v, &order, 1)),
            Weights::Int8 { values, scale } => Weights::Int8 { values: rows(values, &order, 1), scale: scale.clone() },
        };
        let bias = self.conv_bias(op, &weights, bias);
        let weights = self.weights(&format!("{name}.weight"), &[op.channels, cin, kernel, kernel], &weights);
        let (k, pad) = (kernel as i64, (kernel / 2) as i64);
        let (shape, pads) = ([k, k], [pad; 4]);
        let window = [Attribute::Ints("kernel_shape", &shape), Attribute::Ints("pads", &pads)];
        self.b.node("Conv", name, &[x, &weights, &bias], &window)
    }

    /// A convolution's bias. In a quantized graph it is int32 with the scale of the accumulator, which compilers for
    /// integer hardware look for.
    fn conv_bias(&mut self, op: &Op, weights: &Weights, bias: &[f32]) -> Value {
        let name = format!("{}.bias", op.name);
        let input = op.input.and_then(|i| self.net.ops[i].quant.get(self.options.step?));
        let (Form::Qdq, Weights::Int8 { scale, .. }, Some(input)) = (self.options.form, weights, input) else {
            return self.b.f32s(&name, &[bias.len()], bias);
        };
        let scales: Vec<f32> = scale.iter().map(|s| s * input.scale).collect();
        let fits = |(b, s): (&f32, &f32)| {
            let q = (f64::from(*b) / f64::from(*s)).round_ties_even();
            (q.abs() < f64::from(i32::MAX)).then_some(q as i32)
        };
        let Some(q) = bias.iter().zip(&scales).map(fits).collect::<Option<Vec<i32>>>() else {
            return self.b.f32s(&name, &[bias.len()], bias);
        };
        let q = self.b.i32s(&format!("{name}.q"), &[bias.len()], &q);
        let scale = self.b.f32s(&format!("{name}.scale"), &[bias.len()], &scales);
        self.b.node("DequantizeLinear", &name, &[&q, &scale], &[Attribute::Int("axis", 0)])
    }

    /// GroupNorm as an instance normalization of the groups, for which runtimes have kernels, then the affine map.
    fn norm(&mut self, op: &Op, x: &str, group: usize, affine: &(Value, Value)) -> Value {
        let (name, groups) = (&op.name, op.channels / group);
        let (ones, zeros) = (format!("ones:{groups}"), format!("zeros:{groups}"));
        if !self.b.graph.initializer.iter().any(|t| t.name == ones) {
            self.b.f32s(&ones, &[groups], &vec![1.0; groups]);
            self.b.f32s(&zeros, &[groups], &vec![0.0; groups]);
        }
        let b = &mut self.b;
        let to_groups = b.int64s(&[0, groups as i64, -1]);
        let back = b.int64s(&[0, op.channels as i64, op.height as i64, op.width as i64]);
        let y = b.node("Reshape", &format!("{name}.groups"), &[x, &to_groups], &[]);
        let eps = [Attribute::Float("epsilon", GROUPNORM_EPS as f32)];
        let y = b.node("InstanceNormalization", &format!("{name}.normalized"), &[&y, &ones, &zeros], &eps);
        let y = b.node("Reshape", &format!("{name}.channels"), &[&y, &back], &[]);
        let y = b.node("Mul", &format!("{name}.scaled"), &[&y, &affine.0], &[]);
        b.node("Add", name, &[&y, &affine.1], &[])
    }

    /// Softmax attention: [N, 3 C, H, W], ordered q, k, v, each heads x (C / heads), to [N, C, H, W].
    fn attention(&mut self, op: &Op, qkv: &str, heads: usize) -> Value {
        let (name, net) = (&op.name, self.net);
        let quant = match op.input.filter(|&i| self.is_for_attention(i)) {
            Some(i) => self.quant(&net.ops[i]),
            None => None,
        };
        let b = &mut self.b;
        let (head, tokens) = (op.channels / heads, op.height * op.width);
        let swap = [Attribute::Ints("perm", &[0, 1, 3, 2])];
        let shape = b.int64s(&[0, 3 * heads as i64, head as i64, tokens as i64]);
        let planes = b.node("Reshape", &format!("{name}.heads"), &[qkv, &shape], &[]);
        let tokens_first = b.node("Transpose", &format!("{name}.tokens"), &[&planes], &swap);
        let sizes = b.int64s(&[heads as i64; 3]);
        let parts = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        b.node_of(
            "Split",
            &format!("{name}.split"),
            &[&tokens_first, &sizes],
            parts.to_vec(),
            &[Attribute::Int("axis", 1)],
        );
        let [q, k, v] = parts.map(|part| self.stored(&part, part.clone(), &quant));
        let b = &mut self.b;
        let root = b.f32s(&format!("{name}.factor"), &[], &[(1.0 / (head as f64).sqrt()) as f32]);
        let k = b.node("Transpose", &format!("{name}.k_t"), &[&k], &swap);
        let scores = b.node("MatMul", &format!("{name}.products"), &[&q, &k], &[]);
        let scores = b.node("Mul", &format!("{name}.scores"), &[&scores, &root], &[]);
        let shares = b.node("Softmax", &format!("{name}.shares"), &[&scores], &[Attribute::Int("axis", -1)]);
        let mixed = b.node("MatMul", &format!("{name}.mixed"), &[&shares, &v], &[]);
        let mixed = b.node("Transpose", &format!("{name}.planes"), &[&mixed], &swap);
        let shape = b.int64s(&[0, op.channels as i64, op.height as i64, op.width as i64]);
        b.node("Reshape", name, &[&mixed, &shape], &[])
    }
}

/// Factors of Resize.
const DOUBLE: &str = "double";
