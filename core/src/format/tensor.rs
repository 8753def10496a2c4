//! The tensors section: where each tensor lies in the data section.

use super::buffer::Element;
use super::bytes::{put, u16_at, u32_at};
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};
use crate::ops::int4;

/// Bytes of a tensor record.
pub const TENSOR_LEN: usize = 16;

/// Order in which a tensor's values lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// Row-major, as the dimensions say.
    Canonical = 0,
    /// Weights of a convolution in blocks of outputs and groups of inputs: [`ops::blocks`](crate::ops::blocks).
    Blocks = 1,
    /// Weights of four bits by groups, that stand for i8: [`ops::int4`](crate::ops::int4).
    Int4 = 2,
}

/// A tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorRepr {
    /// First byte in the data section, a multiple of 16.
    pub offset: u32,
    /// Dimensions, outermost first; unused trailing ones are 1.
    pub dims: [u16; 4],
    /// Type of its elements.
    pub element: Element,
    /// Order of its values.
    pub layout: Layout,
}

impl TensorRepr {
    /// Reads record number `index` and checks it against the length of the data section.
    ///
    /// # Errors
    /// A dimension of 0, an unknown type or layout, an offset that is not aligned or beyond the data.
    pub fn parse(record: &[u8; TENSOR_LEN], index: usize, data_bytes: usize) -> Result<Self, ParseError> {
        let place = Place::Tensor(index);
        let fail = |problem| Err(ParseError::new(place, problem));
        let layout = match record[13] {
            0 => Layout::Canonical,
            1 if cfg!(feature = "blocks") => Layout::Blocks,
            1 => return fail(Problem::LeftOut { feature: "blocks" }),
            2 if cfg!(feature = "int4") => Layout::Int4,
            2 => return fail(Problem::LeftOut { feature: "int4" }),
            other => return fail(Problem::Unknown { what: "layout", found: other.into() }),
        };
        let tensor = Self {
            offset: u32_at(record, 0),
            dims: [u16_at(record, 4), u16_at(record, 6), u16_at(record, 8), u16_at(record, 10)],
            element: Element::parse(record[12], place)?,
            layout,
        };
        let reserved = u16_at(record, 14);
        if reserved != 0 {
            return fail(Problem::Unknown { what: "reserved field", found: reserved.into() });
        }
        if tensor.layout == Layout::Int4 && tensor.element != Element::I8 {
            let (expected, found) = (Element::I8 as u64, tensor.element as u64);
            return fail(Problem::Mismatch { what: "element type of four bits", expected, found });
        }
        if tensor.dims.contains(&0) {
            return fail(Problem::OutOfRange { what: "dimension", found: 0, min: 1, max: u16::MAX.into() });
        }
        if !tensor.offset.is_multiple_of(IMAGE_ALIGN as u32) {
            let found = u64::from(tensor.offset);
            return fail(Problem::Mismatch { what: "offset", expected: found.next_multiple_of(16), found });
        }
        // Four factors below 2^16 overflow u64 only when all are near the top: saturate and compare.
        let need = tensor.bytes().saturating_add(u64::from(tensor.offset));
        if need > data_bytes as u64 {
            return fail(Problem::TooShort { need: usize::try_from(need).unwrap_or(usize::MAX), have: data_bytes });
        }
        Ok(tensor)
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; TENSOR_LEN]) {
        out.fill(0);
        put(out, 0, &self.offset.to_le_bytes());
        for (i, dim) in self.dims.iter().enumerate() {
            put(out, 4 + 2 * i, &dim.to_le_bytes());
        }
        out[12] = self.element as u8;
        out[13] = self.layout as u8;
    }

    /// Number of elements, saturating.
    pub fn len(&self) -> u64 {
        self.dims.iter().fold(1u64, |n, &d| n.saturating_mul(d.into()))
    }

    /// Whether it has no elements (never, for a parsed one).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes, saturating.
    pub fn bytes(&self) -> u64 {
        match self.layout {
            Layout::Canonical | Layout::Blocks => self.len().saturating_mul(self.element.bytes()),
            Layout::Int4 if cfg!(not(feature = "int4")) => 0,
            Layout::Int4 => {
                let [rows, row @ ..] = self.dims.map(u64::from);
                // Three factors below 2^16.
                int4::bytes(rows, row.iter().product()).1
            }
        }
    }
}
