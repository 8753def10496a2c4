//! One evaluation with the core's integers and in the core's arithmetic: every value has the core's bits, whatever
//! order the runtime adds in.
//!
//! int8 values are stored as uint8, 128 more: runtimes multiply pairs of unsigned bytes without saturating anywhere.
//! All that depends on the step is looked up at run time, so that no runtime moves a constant factor over a convolution.

use super::arithmetic::Scope;
use super::builder::{Attribute, Builder, Value};
use super::frame;
use super::network::{Dense, Layer, Network, Op, Weights, rows};
use super::proto::DataType;
use fewstep_core::format::{Element, Params};
use fewstep_core::ops::embed::GUIDANCE_FEATURES;
use std::collections::BTreeMap;

/// What is added to an int8 value to store it.
const OFFSET: i32 = 128;

/// The embedding's scales, with 1 added, and shifts, per operation: [N, channels].
type Film = BTreeMap<usize, (Value, Value)>;

/// Builds the graph of a quantized network.
pub fn evaluation(net: &Network) -> Builder {
    let mut e = Integers { net, b: Builder::default() };
    frame::inputs(&mut e.b, net, None);
    let film = e.film();
    let state = frame::state(&mut e.b, net);
    let mut done: Vec<Value> = Vec::new();
    for (i, op) in net.ops.iter().enumerate() {
        let x = op.input.map_or(&state, |input| &done[input]).clone();
        let y = e.operation(op, &x, film.get(&i), &done);
        done.push(y);
    }
    let (keep, turn) = frame::turns(net);
    let (keep, turn) = (e.of_step("next.keep", &[], &keep), e.of_step("next.turn", &[], &turn));
    let patches = done.last().unwrap_or(&state).clone();
    frame::outputs(&mut e.b, net, &patches, &keep, &turn);
    e.b
}

struct Integers<'a> {
    net: &'a Network,
    b: Builder,
}

impl Integers<'_> {
    /// The step's row of a table [N][...], its dimensions behind N.
    fn of_step(&mut self, name: &str, dims: &[usize], table: &[Vec<f32>]) -> Value {
        let whole: Vec<usize> = [table.len()].iter().chain(dims).copied().collect();
        let table = self.b.f32s(&format!("{name}.table"), &whole, &table.concat());
        self.pick(name, &table)
    }

    fn pick(&mut self, name: &str, table: &str) -> Value {
        self.b.node("Gather", name, &[table, "step"], &[Attribute::Int("axis", 0)])
    }

    /// A parameter of an operation at the step.
    fn parameter(&mut self, op: &Op, what: &str, of: impl Fn(&Params) -> f32) -> Value {
        let table: Vec<Vec<f32>> = op.params.iter().map(|p| vec![of(p)]).collect();
        self.of_step(&format!("{}.{what}", op.name), &[], &table)
    }

    /// The zero point of an operation's int8 values as they are stored.
    fn zero_point(&mut self, op: &Op) -> Value {
        let points: Vec<u8> = op.params.iter().map(|p| (p.zp + OFFSET) as u8).collect();
        if points.iter().all(|p| *p == points[0]) {
            return self.b.u8(points[0]);
        }
        let name = format!("{}.zero_point", op.name);
        let table = self.b.u8s(&format!("{name}.table"), &[points.len()], &points);
        self.pick(&name, &table)
    }

    fn operation(&mut self, op: &Op, x: &str, film: Option<&(Value, Value)>, done: &[Value]) -> Value {
        match &op.layer {
            Layer::Quantize => {
                let a = self.parameter(op, "a", |p| p.a);
                let y = self.scope(op).op("Mul", &[x, &a]);
                self.stored(op, &y, None)
            }
            Layer::Conv { kernel, weights, bias, residual } => {
                self.conv(op, x, *kernel, weights, bias, residual.map(|stream| done[stream].as_str()))
            }
            Layer::NormAct { group, silu, gamma, beta, .. } => self.norm(op, x, *group, *silu, (gamma, beta), film),
            Layer::AvgPool2 => {
                let mut s = self.scope(op);
                let x = s.cast(x, DataType::Float);
                let two = [2, 2];
                let window = [Attribute::Ints("kernel_shape", &two), Attribute::Ints("strides", &two)];
                let mean = s.node("AveragePool", &[&x], &window);
                let y = s.by("Add", &mean, 0.5);
                let y = s.op("Floor", &[&y]);
                s.cast(&y, DataType::Int16)
            }
            Layer::UpsampleAdd { stream } => {
                let (a, c) = (self.parameter(op, "a", |p| p.a), self.parameter(op, "c", |p| p.c));
                let double = self.b.f32s(&format!("{}.double", op.name), &[4], &[1.0, 1.0, 2.0, 2.0]);
                let mut s = self.scope(op);
                let x = s.cast(x, DataType::Float);
                let x = s.op("Mul", &[&x, &a]);
                let nearest = [
                    Attribute::Text("mode", "nearest"),
                    Attribute::Text("coordinate_transformation_mode", "asymmetric"),
                    Attribute::Text("nearest_mode", "floor"),
                ];
                let x = s.node("Resize", &[&x, "", &double], &nearest);
                let old = s.cast(&done[*stream], DataType::Float);
                let old = s.op("Mul", &[&old, &c]);
                let y = s.op("Add", &[&old, &x]);
                self.stored(op, &y, None)
            }
            Layer::Attention { heads } => self.attention(op, x, *heads),
        }
    }

    fn scope(&mut self, op: &Op) -> Scope<'_> {
        Scope::new(&mut self.b, &op.name)
    }

    /// Rounded, halves to even, and saturated; `zero` other than the type's own.
    fn stored(&mut self, op: &Op, y: &str, zero: Option<&str>) -> Value {
        let one = self.b.float(1.0);
        let own = match op.element {
            Element::I8 => self.b.u8(OFFSET as u8),
            Element::I16 => self.b.i16(0),
            Element::F32 => return y.into(),
        };
        self.b.node("QuantizeLinear", &format!("{}.quantized", op.name), &[y, &one, zero.unwrap_or(&own)], &[])
    }

    /// `fewstep_core::ops::conv`.
    fn conv(
        &mut self,
        op: &Op,
        x: &str,
        kernel: usize,
        weights: &Weights,
        bias: &[f32],
        residual: Option<&str>,
    ) -> Value {
        let Weights::Int8 { values, scale } = weights else { unreachable!("an image's weights are int8") };
        let (name, input) = (&op.name, op.input.map(|input| &self.net.ops[input]));
        let (area, cout) = (kernel * kernel, op.channels);
        let cin = values.len() / (cout * area);
        // [cout][kernel][kernel][cin] to [cout][cin][kernel][kernel].
        let order: Vec<usize> = (0..cout)
            .flat_map(|o| (0..cin).flat_map(move |c| (0..area).map(move |k| (o * area + k) * cin + c)))
            .collect();
        let bytes: Vec<u8> = rows(values, &order, 1).iter().map(|w| (i32::from(*w) + OFFSET) as u8).collect();
        let weights = self.b.u8s(&format!("{name}.weight"), &[cout, cin, kernel, kernel], &bytes);
        let table = |of: &dyn Fn(&Params, usize) -> f32| -> Vec<Vec<f32>> {
            op.params.iter().map(|p| (0..cout).map(|o| of(p, o)).collect()).collect()
        };
        let planes = [cout, 1, 1];
        let scale = self.of_step(&format!("{name}.scale"), &planes, &table(&|p, o| scale[o] * p.a));
        let bias = self.of_step(&format!("{name}.bias"), &planes, &table(&|p, o| bias[o] * p.b));
        let zero = self.zero_point(op);
        let c = residual.map(|_| self.parameter(op, "c", |p| p.c));

        let mut s = self.scope(op);
        let middle = s.b.u8(OFFSET as u8);
        let (k, pad) = (kernel as i64, (kernel / 2) as i64);
        let products = |s: &mut Scope, x: &str, zero: &str| {
            let window = [Attribute::Ints("kernel_shape", &[k, k]), Attribute::Ints("pads", &[pad; 4])];
            s.node("ConvInteger", &[x, &weights, zero, &middle], &window)
        };
        let sum = if input.is_some_and(|input| input.element == Element::I8) {
            products(&mut s, x, &zero)
        } else {
            // int16 in two bytes, 256 high + low.
            let x = s.cast(x, DataType::Float);
            let high = s.by("Mul", &x, 1.0 / 256.0);
            let high = s.op("Floor", &[&high]);
            let whole = s.by("Mul", &high, 256.0);
            let low = s.op("Sub", &[&x, &whole]);
            let low = s.cast(&low, DataType::UInt8);
            let high = s.by("Add", &high, OFFSET as f32);
            let high = s.cast(&high, DataType::UInt8);
            let (byte, none) = (s.b.i32(256), s.b.u8(0));
            let high = products(&mut s, &high, &middle);
            let high = s.op("Mul", &[&high, &byte]);
            let low = products(&mut s, &low, &none);
            s.op("Add", &[&high, &low])
        };
        let y = s.cast(&sum, DataType::Float);
        let y = s.op("Mul", &[&y, &scale]);
        let mut y = s.op("Add", &[&y, &bias]);
        if let (Some(old), Some(c)) = (residual, c) {
            let old = s.cast(old, DataType::Float);
            let old = s.op("Mul", &[&old, &c]);
            y = s.op("Add", &[&y, &old]);
        }
        self.stored(op, &y, None)
    }

    /// `fewstep_core::ops::norm_act`.
    fn norm(
        &mut self,
        op: &Op,
        x: &str,
        group: usize,
        silu: bool,
        (gamma, beta): (&[f32], &[f32]),
        film: Option<&(Value, Value)>,
    ) -> Value {
        let (name, groups, cells) = (&op.name, op.channels / group, op.height * op.width);
        let n = cells * group;
        let nf = n as f32;
        let eps: Vec<i64> = op.params.iter().map(|p| ((p.b * (nf * nf)) as u64).min(1 << 62) as i64).collect();
        let eps = self.b.i64s(&format!("{name}.eps.table"), &[eps.len()], &eps);
        let eps = self.pick(&format!("{name}.eps"), &eps);
        let a = self.parameter(op, "a", |p| p.a);
        let gamma = self.b.f32s(&format!("{name}.gamma"), &[groups, group], gamma);
        let beta = self.b.f32s(&format!("{name}.beta"), &[groups, group], beta);
        let zero = (op.element == Element::I8).then(|| self.zero_point(op));

        let mut s = self.scope(op);
        let by_group = s.reshape(x, &[0, groups as i64, -1]);
        let (mean, inv_std) = s.moments(&by_group, n, &eps);
        let mut factor = s.op("Mul", &[&inv_std, &gamma]);
        let mut offset = beta;
        if let Some((scale, shift)) = film {
            let split = [0, groups as i64, group as i64];
            let (scale, shift) = (s.reshape(scale, &split), s.reshape(shift, &split));
            factor = s.op("Mul", &[&factor, &scale]);
            offset = s.op("Mul", &[&offset, &scale]);
            offset = s.op("Add", &[&offset, &shift]);
        }
        let centre = s.op("Mul", &[&mean, &factor]);
        let offset = s.op("Sub", &[&offset, &centre]);
        let planes = [0, op.channels as i64, 1, 1];
        let (factor, offset) = (s.reshape(&factor, &planes), s.reshape(&offset, &planes));
        let y = s.cast(x, DataType::Float);
        let y = s.op("Mul", &[&y, &factor]);
        let y = s.op("Add", &[&y, &offset]);
        let y = if silu { s.silu(&y) } else { y };
        let y = s.op("Mul", &[&y, &a]);
        self.stored(op, &y, zero.as_deref())
    }

    /// `fewstep_core::ops::attention`: [N, 3 C, H, W], ordered q, k, v, each heads x (C / heads), to [N, C, H, W].
    fn attention(&mut self, op: &Op, qkv: &str, heads: usize) -> Value {
        let (a, b) = (self.parameter(op, "a", |p| p.a), self.parameter(op, "b", |p| p.b));
        let (head, tokens) = (op.channels / heads, op.height * op.width);
        let mut s = self.scope(op);
        let (one, middle) = (s.b.float(1.0), s.b.u8(OFFSET as u8));
        let units = s.op("DequantizeLinear", &[qkv, &one, &middle]);
        let planes = s.reshape(&units, &[0, 3 * heads as i64, head as i64, tokens as i64]);
        let sizes = s.b.int64s(&[heads as i64; 3]);
        let parts = ["query", "key", "value"].map(|part| format!("{}.{part}", op.name));
        let along = [Attribute::Int("axis", 1)];
        s.b.node_of("Split", &format!("{}.split", op.name), &[&planes, &sizes], parts.to_vec(), &along);
        let [query, key, value] = parts;
        let swap = [Attribute::Ints("perm", &[0, 1, 3, 2])];
        let key = s.node("Transpose", &[&key], &swap);
        // [N, heads, keys, queries]; integers below 2^24 in f32.
        let scores = s.op("MatMul", &[&key, &query]);
        let scores = s.op("Mul", &[&scores, &a]);
        let axis = s.b.int64s(&[2]);
        let most = s.op("ReduceMax", &[&scores, &axis]);
        let scores = s.op("Sub", &[&scores, &most]);
        let shares = s.exp(&scores);
        let total = s.sum_in_order(&shares, 2, tokens);
        let total = s.op("Unsqueeze", &[&total, &axis]);
        let factor = s.op("Div", &[&b, &total]);
        // [N, heads, keys, channels of a head, queries].
        let three = s.b.int64s(&[3]);
        let shares = s.op("Unsqueeze", &[&shares, &three]);
        let value = s.node("Transpose", &[&value], &swap);
        let four = s.b.int64s(&[4]);
        let value = s.op("Unsqueeze", &[&value, &four]);
        let products = s.op("Mul", &[&shares, &value]);
        let mixed = s.sum_in_order(&products, 2, tokens);
        let mixed = s.op("Mul", &[&mixed, &factor]);
        let mixed = s.reshape(&mixed, &[0, op.channels as i64, op.height as i64, op.width as i64]);
        self.stored(op, &mixed, None)
    }

    /// y = (weights . x) * scale + bias, with the rows `order` of the layer.
    fn dense(&mut self, name: &str, x: &str, layer: &Dense, order: &[usize]) -> Value {
        let inputs = self.net.embed;
        let Weights::Int8 { values, scale } = layer.weights.permuted(order, inputs) else {
            unreachable!("an image's weights are int8")
        };
        let outputs = order.len();
        let weights = self.b.i8s(&format!("{name}.weight"), &[inputs / 8, 8, outputs], &transposed(&values, inputs));
        let scale = self.b.f32s(&format!("{name}.scale"), &[outputs], &scale);
        let bias = self.b.f32s(&format!("{name}.bias"), &[outputs], &rows(&layer.bias, order, 1));
        let mut s = Scope::new(&mut self.b, name);
        let weights = s.cast(&weights, DataType::Float);
        let y = s.dot8(x, &weights, inputs, outputs);
        let y = s.op("Mul", &[&y, &scale]);
        s.op("Add", &[&y, &bias])
    }

    /// `fewstep_core::ops::embed`.
    fn film(&mut self) -> Film {
        let (net, e) = (self.net, self.net.embed);
        let table = self.b.f32s("embed.class.table", &[net.classes, e], &net.class);
        let class = self.b.node("Gather", "embed.class", &[&table, "class"], &[Attribute::Int("axis", 0)]);
        let time = self.of_step("embed.time", &[e], &net.time);
        let guidance = transposed(&net.guidance, GUIDANCE_FEATURES);
        let guidance = self.b.f32s("embed.guidance.weight", &[1, GUIDANCE_FEATURES, e], &guidance);
        let mut s = Scope::new(&mut self.b, "embed");
        let known = s.op("Add", &[&time, &class]);
        let features = s.guidance_features("w");
        let guidance = s.dot8(&features, &guidance, GUIDANCE_FEATURES, e);
        let sum = s.op("Add", &[&known, &guidance]);
        let first = s.silu(&sum);
        let all: Vec<usize> = (0..e).collect();
        let hidden = self.dense("embed.hidden", &first, &net.hidden, &all);
        let second = Scope::new(&mut self.b, "embed.second").silu(&hidden);

        // Rows of the layer reordered to all scales, then all shifts.
        let (mut scales, mut shifts, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        for (i, op) in net.ops.iter().enumerate() {
            if let Layer::NormAct { film: Some(at), .. } = &op.layer {
                scales.extend(*at..at + op.channels);
                shifts.extend(at + op.channels..at + 2 * op.channels);
                blocks.push((i, op.channels));
            }
        }
        if blocks.is_empty() {
            return Film::new();
        }
        let sizes: Vec<i64> = blocks.iter().map(|(_, channels)| *channels as i64).collect();
        let sizes = self.b.int64s(&sizes);
        let mut parts = |what: &str, order: &[usize], added: Option<f32>| -> Vec<Value> {
            let mut y = self.dense(&format!("embed.{what}"), &second, &net.film, order);
            if let Some(added) = added {
                let number = self.b.float(added);
                y = self.b.node("Add", &format!("embed.{what}.all"), &[&y, &number], &[]);
            }
            let parts: Vec<Value> = blocks.iter().map(|(i, _)| format!("{}.{what}", net.ops[*i].name)).collect();
            let axis = [Attribute::Int("axis", 1)];
            self.b.node_of("Split", &format!("embed.{what}.split"), &[&y, &sizes], parts.clone(), &axis);
            parts
        };
        let (scales, shifts) = (parts("film_scale", &scales, Some(1.0)), parts("film_shift", &shifts, None));
        blocks.iter().zip(scales.into_iter().zip(shifts)).map(|((i, _), pair)| (*i, pair)).collect()
    }
}

/// Rows of `row` values to columns.
fn transposed<T: Copy>(values: &[T], row: usize) -> Vec<T> {
    (0..row).flat_map(|k| values.iter().skip(k).step_by(row).copied()).collect()
}
