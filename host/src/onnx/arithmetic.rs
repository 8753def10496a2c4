//! The core's arithmetic in ONNX's operators: the same operations in the same order, so that every result has the
//! core's bits (`fewstep_core::math`, and the sums of `fewstep_core::ops`).

use super::builder::{Attribute, Builder, Value};
use super::proto::DataType;
use fewstep_core::ops::embed::GUIDANCE_FEATURES;
use std::f32::consts::{FRAC_2_PI, FRAC_PI_2, LOG2_E};

/// Part of a graph: its nodes are numbered and named after it.
pub struct Scope<'b> {
    pub b: &'b mut Builder,
    name: String,
    count: usize,
}

impl<'b> Scope<'b> {
    pub fn new(b: &'b mut Builder, name: &str) -> Scope<'b> {
        Scope { b, name: name.into(), count: 0 }
    }

    /// A node with attributes.
    pub fn node(&mut self, op: &str, input: &[&str], attributes: &[Attribute]) -> Value {
        self.count += 1;
        self.b.node(op, &format!("{}:{}", self.name, self.count), input, attributes)
    }

    /// A node without attributes.
    pub fn op(&mut self, op: &str, input: &[&str]) -> Value {
        self.node(op, input, &[])
    }

    /// An operator of a value and a number.
    pub fn by(&mut self, op: &str, x: &str, number: f32) -> Value {
        let number = self.b.float(number);
        self.op(op, &[x, &number])
    }

    pub fn cast(&mut self, x: &str, to: DataType) -> Value {
        self.node("Cast", &[x], &[Attribute::Int("to", to as i64)])
    }

    /// The same bits as another type of the same size.
    fn bits(&mut self, x: &str, to: DataType) -> Value {
        self.node("BitCast", &[x], &[Attribute::Int("to", to as i64)])
    }

    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> Value {
        let shape = self.b.int64s(shape);
        self.op("Reshape", &[x, &shape])
    }

    fn reduce(&mut self, op: &str, x: &str, axis: i64, keep: bool) -> Value {
        let axis = self.b.int64s(&[axis]);
        self.node(op, &[x, &axis], &[Attribute::Int("keepdims", keep.into())])
    }

    /// p0 of the coefficients first: ((p0 x + p1) x + p2) ...
    fn polynomial(&mut self, x: &str, coefficients: &[f32]) -> Value {
        let mut y = self.b.float(coefficients[0]);
        for c in &coefficients[1..] {
            let product = self.op("Mul", &[&y, x]);
            y = self.by("Add", &product, *c);
        }
        y
    }

    /// `fewstep_core::math::exp`.
    pub fn exp(&mut self, x: &str) -> Value {
        let (low, high) = (self.b.float(-87.0), self.b.float(88.0));
        let x = self.op("Clip", &[x, &low, &high]);
        let k = self.by("Mul", &x, LOG2_E);
        let k = self.op("Round", &[&k]);
        let r = self.minus(&x, &k, 2839.0 / 4096.0);
        let r = self.minus(&r, &k, 3.194_618_3e-5);
        let p = self.polynomial(&r, &[0.001_392_692_7, 0.008_363_774, 0.041_666_55, 0.166_665_73, 0.5]);
        let square = self.op("Mul", &[&r, &r]);
        let e = self.op("Mul", &[&p, &square]);
        let e = self.op("Add", &[&e, &r]);
        let e = self.by("Add", &e, 1.0);
        // 2^k: k + 127 is the exponent, 23 bits up. Both steps are exact.
        let k = self.by("Add", &k, 127.0);
        let k = self.by("Mul", &k, 8_388_608.0);
        let k = self.cast(&k, DataType::Int32);
        let power = self.bits(&k, DataType::Float);
        self.op("Mul", &[&e, &power])
    }

    /// x - k c
    fn minus(&mut self, x: &str, k: &str, c: f32) -> Value {
        let product = self.by("Mul", k, c);
        self.op("Sub", &[x, &product])
    }

    /// `fewstep_core::math::silu`.
    pub fn silu(&mut self, x: &str) -> Value {
        let negative = self.op("Neg", &[x]);
        let e = self.exp(&negative);
        let below = self.by("Add", &e, 1.0);
        self.op("Div", &[x, &below])
    }

    /// `fewstep_core::math::sincos`.
    fn sincos(&mut self, x: &str) -> (Value, Value) {
        let k = self.by("Mul", x, FRAC_2_PI);
        let k = self.op("Round", &[&k]);
        let r = self.minus(x, &k, 1.570_312_5);
        let r = self.minus(&r, &k, 4.837_513e-4);
        let r = self.minus(&r, &k, 7.549_79e-8);
        let q = self.op("Mul", &[&r, &r]);
        let s = self.polynomial(&q, &[1.0 / 362_880.0, -1.0 / 5_040.0, 1.0 / 120.0, -1.0 / 6.0]);
        let s = self.op("Mul", &[&q, &s]);
        let s = self.op("Mul", &[&r, &s]);
        let s = self.op("Add", &[&r, &s]);
        let c = self.polynomial(&q, &[1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5]);
        let c = self.op("Mul", &[&q, &c]);
        let c = self.by("Add", &c, 1.0);

        // By quadrants: (s, c), (c, -s), (-s, -c), (-c, s).
        let k = self.cast(&k, DataType::Int64);
        let (three, one) = (self.b.i64(3), self.b.i64(1));
        let quadrant = self.op("BitwiseAnd", &[&k, &three]);
        let odd = self.op("BitwiseAnd", &[&quadrant, &one]);
        let odd = self.op("Equal", &[&odd, &one]);
        let mut turned = |signs: [f32; 4], odd_one: &str, even_one: &str| {
            let table = format!("{}.signs:{}", self.name, self.count);
            let table = self.b.f32s(&table, &[4], &signs);
            let sign = self.op("Gather", &[&table, &quadrant]);
            let value = self.op("Where", &[&odd, odd_one, even_one]);
            self.op("Mul", &[&value, &sign])
        };
        (turned([1.0, 1.0, -1.0, -1.0], &c, &s), turned([1.0, -1.0, -1.0, 1.0], &s, &c))
    }

    /// `fewstep_core::ops::embed::guidance_features` of w [N]: [N, 8].
    pub fn guidance_features(&mut self, w: &str) -> Value {
        let u = self.by("Mul", w, FRAC_PI_2);
        let u = self.by("Div", &u, 4.0);
        let axis = self.b.int64s(&[1]);
        let u = self.op("Unsqueeze", &[&u, &axis]);
        let half = GUIDANCE_FEATURES / 2;
        let multiples: Vec<f32> = (1..=half as u16).map(f32::from).collect();
        let multiples = self.b.f32s(&format!("{}.multiples", self.name), &[1, half], &multiples);
        let angles = self.op("Mul", &[&u, &multiples]);
        let (sin, cos) = self.sincos(&angles);
        self.node("Concat", &[&sin, &cos], &[Attribute::Int("axis", 1)])
    }

    /// Sum along `axis` of length `len`, one value after the other.
    pub fn sum_in_order(&mut self, x: &str, axis: i64, len: usize) -> Value {
        let (along, last) = (self.b.i64(axis), self.b.i64(len as i64 - 1));
        let sums = self.op("CumSum", &[x, &along]);
        self.node("Gather", &[&sums, &last], &[Attribute::Int("axis", axis)])
    }

    /// Products of x [N, inputs] with `weights` [inputs / 8, 8, outputs], added up in the order of the core's `dot8`:
    /// [N, outputs].
    pub fn dot8(&mut self, x: &str, weights: &str, inputs: usize, outputs: usize) -> Value {
        let x = self.reshape(x, &[0, inputs as i64 / 8, 8, 1]);
        let products = self.op("Mul", &[&x, weights]);
        // Eight running sums, then neighbours pairwise: a sum of two has one order.
        let sums = self.sum_in_order(&products, 1, inputs / 8);
        let sums = self.reshape(&sums, &[0, 2, 2, 2, outputs as i64]);
        let sums = self.reduce("ReduceSum", &sums, 3, false);
        let sums = self.reduce("ReduceSum", &sums, 2, false);
        self.reduce("ReduceSum", &sums, 1, false)
    }

    /// Mean and `fewstep_core::math::inv_std` of rows [N, groups, n] of int16, both f32 [N, groups, 1]. `eps` int64, in
    /// squared units of a row's sum.
    pub fn moments(&mut self, x: &str, n: usize, eps: &str) -> (Value, Value) {
        // Sums of integers below 2^53, so in any order.
        let x = self.cast(x, DataType::Double);
        let sum = self.reduce("ReduceSum", &x, 2, true);
        let squares = self.reduce("ReduceSumSquare", &x, 2, true);
        let mean = self.cast(&sum, DataType::Float);
        let mean = self.by("Div", &mean, n as f32);
        let (sum, squares) = (self.cast(&sum, DataType::Int64), self.cast(&squares, DataType::Int64));
        let (count, one) = (self.b.i64(n as i64), self.b.i64(1));
        let squares = self.op("Mul", &[&squares, &count]);
        let square = self.op("Mul", &[&sum, &sum]);
        let spread = self.op("Sub", &[&squares, &square]);
        let total = self.op("Add", &[&spread, eps]);
        let total = self.op("Max", &[&total, &one]);
        // The core takes an integer root of 32 significant bits: of the root in f64, what is behind them is cut off.
        let total = self.cast(&total, DataType::Double);
        let root = self.op("Sqrt", &[&total]);
        let root = self.bits(&root, DataType::Int64);
        let mask = self.b.i64(!((1 << 21) - 1));
        let root = self.op("BitwiseAnd", &[&root, &mask]);
        let root = self.bits(&root, DataType::Double);
        let root = self.cast(&root, DataType::Float);
        let count = self.b.float(n as f32);
        (mean, self.op("Div", &[&count, &root]))
    }
}
