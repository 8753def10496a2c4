//! Nodes and constants of a graph under construction.

use super::proto::*;
use std::collections::BTreeMap;

/// A value's name in the graph.
pub type Value = String;

/// An argument of an operator that is not a tensor.
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
    Text(&'a str, &'a str),
}

/// A graph that grows at its end.
#[derive(Default)]
pub struct Builder {
    pub graph: GraphProto,
    /// Shapes and small tables by content, so that each is stored once.
    int64s: BTreeMap<Vec<i64>, Value>,
}

/// What a type is called in names of constants.
fn type_name(data_type: DataType) -> String {
    format!("{data_type:?}").to_lowercase()
}

impl Builder {
    /// Adds a node with one output, which gets the node's name.
    pub fn node(&mut self, op: &str, name: &str, input: &[&str], attributes: &[Attribute]) -> Value {
        self.node_of(op, name, input, vec![name.into()], attributes);
        name.into()
    }

    /// Adds a node.
    pub fn node_of(&mut self, op: &str, name: &str, input: &[&str], output: Vec<Value>, attributes: &[Attribute]) {
        self.graph.node.push(NodeProto {
            input: input.iter().map(|s| s.to_string()).collect(),
            output,
            name: name.into(),
            op_type: op.into(),
            attribute: attributes.iter().map(attribute).collect(),
        });
    }

    fn constant(&mut self, name: &str, dims: &[usize], data_type: DataType, raw_data: Vec<u8>) -> Value {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.graph.initializer.push(TensorProto { dims, data_type: data_type as i32, name: name.into(), raw_data });
        name.into()
    }

    /// An f32 constant; no dimensions for a scalar.
    pub fn f32s(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Value {
        self.constant(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A scalar, stored once; `value` in text is part of its name.
    fn scalar(&mut self, data_type: DataType, value: &str, raw_data: Vec<u8>) -> Value {
        let name = format!("{}.{value}", type_name(data_type));
        if !self.graph.initializer.iter().any(|t| t.name == name) {
            self.constant(&name, &[], data_type, raw_data);
        }
        name
    }

    /// An f32 scalar.
    pub fn float(&mut self, value: f32) -> Value {
        self.scalar(DataType::Float, &value.to_string(), value.to_le_bytes().into())
    }

    /// A uint8 scalar.
    pub fn u8(&mut self, value: u8) -> Value {
        self.scalar(DataType::UInt8, &value.to_string(), vec![value])
    }

    /// An int16 scalar.
    pub fn i16(&mut self, value: i16) -> Value {
        self.scalar(DataType::Int16, &value.to_string(), value.to_le_bytes().into())
    }

    /// An int32 scalar.
    pub fn i32(&mut self, value: i32) -> Value {
        self.scalar(DataType::Int32, &value.to_string(), value.to_le_bytes().into())
    }

    /// An int64 scalar.
    pub fn i64(&mut self, value: i64) -> Value {
        self.scalar(DataType::Int64, &value.to_string(), value.to_le_bytes().into())
    }

    /// A uint8 constant.
    pub fn u8s(&mut self, name: &str, dims: &[usize], values: &[u8]) -> Value {
        self.constant(name, dims, DataType::UInt8, values.to_vec())
    }

    /// An int64 constant with a name of its own.
    pub fn i64s(&mut self, name: &str, dims: &[usize], values: &[i64]) -> Value {
        self.constant(name, dims, DataType::Int64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// An int8 constant.
    pub fn i8s(&mut self, name: &str, dims: &[usize], values: &[i8]) -> Value {
        self.constant(name, dims, DataType::Int8, values.iter().map(|v| *v as u8).collect())
    }

    /// An int16 constant.
    pub fn i16s(&mut self, name: &str, dims: &[usize], values: &[i16]) -> Value {
        self.constant(name, dims, DataType::Int16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// An int32 constant.
    pub fn i32s(&mut self, name: &str, dims: &[usize], values: &[i32]) -> Value {
        self.constant(name, dims, DataType::Int32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A one-dimensional int64 constant: a shape, axes, lengths.
    pub fn int64s(&mut self, values: &[i64]) -> Value {
        if let Some(name) = self.int64s.get(values) {
            return name.clone();
        }
        let text: Vec<String> = values.iter().map(|v| v.to_string()).collect();
        let name = format!("int64:{}", text.join(","));
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&name, &[values.len()], DataType::Int64, raw);
        self.int64s.insert(values.to_vec(), name.clone());
        name
    }
}

fn attribute(a: &Attribute) -> AttributeProto {
    let empty = |name: &str, kind: AttributeType| AttributeProto {
        name: name.into(),
        r#type: kind as i32,
        ..AttributeProto::default()
    };
    match a {
        Attribute::Int(name, i) => AttributeProto { i: Some(*i), ..empty(name, AttributeType::Int) },
        Attribute::Ints(name, ints) => AttributeProto { ints: ints.to_vec(), ..empty(name, AttributeType::Ints) },
        Attribute::Float(name, f) => AttributeProto { f: Some(*f), ..empty(name, AttributeType::Float) },
        Attribute::Text(name, s) => {
            AttributeProto { s: Some(s.as_bytes().to_vec()), ..empty(name, AttributeType::String) }
        }
    }
}

/// Name, type and dimensions of an input or output; a dimension of None is the batch, `N`.
pub fn value_info(name: &str, element: DataType, dims: &[Option<usize>], doc: &str) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|d| Dimension {
            value: Some(d.map_or_else(|| Extent::DimParam("N".into()), |d| Extent::DimValue(d as i64))),
        })
        .collect();
    let shape = Some(TensorShapeProto { dim });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(TensorType { elem_type: element as i32, shape }) }),
        doc_string: doc.into(),
    }
}
