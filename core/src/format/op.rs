//! The ops section: one record per operation, in execution order.

use super::bytes::{put, u16_at};
use super::limits::{MAX_GROUP, MAX_HEADS};
use crate::ENLARGES;
use crate::error::{ParseError, Place, Problem};

/// Bytes of an operation record.
pub const OP_LEN: usize = 24;
/// A field that holds no index.
pub const NONE: u16 = u16::MAX;

/// An operation. Names ending in nothing else are buffer indices (`src`, `dst`, `scores`) or tensor indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpRepr {
    /// f32 to i16, [`ops::quantize`](crate::ops::quantize()).
    Quantize {
        /// f32 buffer.
        src: u16,
        /// i16 buffer of the same shape.
        dst: u16,
    },
    /// [`ops::conv`](crate::ops::conv()).
    Conv {
        /// i8 or i16 buffer.
        src: u16,
        /// i8, i16 or f32 buffer.
        dst: u16,
        /// Side of the kernel: 1 or 3.
        kernel: u8,
        /// Whether the old value of `dst` (i16) is added.
        residual: bool,
        /// i8 tensor [cout][kernel][kernel][cin].
        weights: u16,
        /// f32 tensor [cout].
        scale: u16,
        /// f32 tensor [cout].
        bias: u16,
    },
    /// [`ops::norm_act`](crate::ops::norm_act()).
    NormAct {
        /// i16 buffer.
        src: u16,
        /// i8 or i16 buffer of the same shape.
        dst: u16,
        /// Channels per group.
        group: u8,
        /// Whether SiLU follows.
        silu: bool,
        /// Whether every cell has statistics of its own, in place of the whole buffer.
        per_cell: bool,
        /// First of the 2 * channels values in the film buffer, or [`NONE`].
        film: u16,
        /// f32 tensor [channels].
        gamma: u16,
        /// f32 tensor [channels].
        beta: u16,
    },
    /// [`ops::avg_pool2`](crate::ops::avg_pool2).
    AvgPool2 {
        /// i16 buffer.
        src: u16,
        /// i16 buffer, half as high and wide.
        dst: u16,
    },
    /// [`ops::upsample_add`](crate::ops::upsample_add).
    UpsampleAdd {
        /// i16 buffer, half as high and wide as `dst`.
        src: u16,
        /// i16 buffer, read and written.
        dst: u16,
    },
    /// [`ops::attention`](crate::ops::attention()).
    Attention {
        /// i8 buffer with three times the channels of `dst`.
        src: u16,
        /// i8 buffer.
        dst: u16,
        /// f32 buffer [1][1][tokens], scratch.
        scores: u16,
        /// Heads; they divide the channels.
        heads: u8,
    },
}

mod field {
    pub const KIND: usize = 0;
    pub const FLAGS: usize = 1;
    /// Side of the kernel, channels per group, or heads.
    pub const SIZE: usize = 2;
    pub const SRC: usize = 4;
    pub const DST: usize = 6;
    /// Scores buffer.
    pub const AUX: usize = 8;
    pub const FILM: usize = 10;
    /// Weights.
    pub const TENSOR0: usize = 12;
    /// Scale or gamma.
    pub const TENSOR1: usize = 14;
    /// Bias or beta.
    pub const TENSOR2: usize = 16;
}

const RESIDUAL: u8 = 1;
const SILU: u8 = 1;
const PER_CELL: u8 = 2;

/// The record's fields before they are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raw {
    kind: u8,
    flags: u8,
    size: u8,
    src: u16,
    dst: u16,
    aux: u16,
    film: u16,
    tensors: [u16; 3],
}

impl Raw {
    /// `None` where bytes that are no field's are not 0.
    fn read(record: &[u8; OP_LEN]) -> Option<Self> {
        let [_, _, _, 0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, 0, 0, 0, 0, 0, 0] = *record else { return None };
        Some(Self {
            kind: record[field::KIND],
            flags: record[field::FLAGS],
            size: record[field::SIZE],
            src: u16_at(record, field::SRC),
            dst: u16_at(record, field::DST),
            aux: u16_at(record, field::AUX),
            film: u16_at(record, field::FILM),
            tensors: [u16_at(record, field::TENSOR0), u16_at(record, field::TENSOR1), u16_at(record, field::TENSOR2)],
        })
    }

    fn write(&self, out: &mut [u8; OP_LEN]) {
        out.fill(0);
        out[field::KIND] = self.kind;
        out[field::FLAGS] = self.flags;
        out[field::SIZE] = self.size;
        put(out, field::SRC, &self.src.to_le_bytes());
        put(out, field::DST, &self.dst.to_le_bytes());
        put(out, field::AUX, &self.aux.to_le_bytes());
        put(out, field::FILM, &self.film.to_le_bytes());
        put(out, field::TENSOR0, &self.tensors[0].to_le_bytes());
        put(out, field::TENSOR1, &self.tensors[1].to_le_bytes());
        put(out, field::TENSOR2, &self.tensors[2].to_le_bytes());
    }
}

impl OpRepr {
    /// Reads record number `index` and checks it by itself: the kind, and that fields the kind does not use hold
    /// their neutral value.
    ///
    /// # Errors
    /// An unknown kind or a field out of range.
    pub fn parse(record: &[u8; OP_LEN], index: usize) -> Result<Self, ParseError> {
        let fail = |problem| Err(ParseError::new(Place::Op(index), problem));
        let unused = Problem::Unknown { what: "value in an unused field", found: record[field::KIND].into() };
        let Some(raw) = Raw::read(record) else { return fail(unused) };
        let Raw { kind, flags, size, src, dst, aux, film, tensors } = raw;
        // Flags beyond a kind's own are found below, as values in an unused field.
        if flags > SILU | if ENLARGES { PER_CELL } else { 0 } {
            return fail(Problem::Unknown { what: "flags", found: flags.into() });
        }
        let op = match kind {
            1 => Self::Quantize { src, dst },
            2 if size == 1 || size == 3 => {
                let residual = flags & RESIDUAL != 0;
                Self::Conv {
                    src,
                    dst,
                    kernel: size,
                    residual,
                    weights: tensors[0],
                    scale: tensors[1],
                    bias: tensors[2],
                }
            }
            2 => return fail(Problem::OutOfRange { what: "kernel", found: size.into(), min: 1, max: 3 }),
            3 if (1..=MAX_GROUP).contains(&size) => {
                let (silu, per_cell) = (flags & SILU != 0, flags & PER_CELL != 0);
                Self::NormAct { src, dst, group: size, silu, per_cell, film, gamma: tensors[1], beta: tensors[2] }
            }
            3 => return fail(Problem::OutOfRange { what: "group", found: size.into(), min: 1, max: MAX_GROUP.into() }),
            4 => Self::AvgPool2 { src, dst },
            5 => Self::UpsampleAdd { src, dst },
            6 if (1..=MAX_HEADS).contains(&size) => Self::Attention { src, dst, scores: aux, heads: size },
            6 => return fail(Problem::OutOfRange { what: "heads", found: size.into(), min: 1, max: MAX_HEADS.into() }),
            other => return fail(Problem::Unknown { what: "operation", found: other.into() }),
        };
        if op.raw() != raw {
            return fail(unused);
        }
        Ok(op)
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; OP_LEN]) {
        self.raw().write(out);
    }

    fn raw(&self) -> Raw {
        let none = Raw { kind: 0, flags: 0, size: 0, src: NONE, dst: NONE, aux: NONE, film: NONE, tensors: [NONE; 3] };
        match *self {
            Self::Quantize { src, dst } => Raw { kind: 1, src, dst, ..none },
            Self::Conv { src, dst, kernel, residual, weights, scale, bias } => {
                let flags = if residual { RESIDUAL } else { 0 };
                Raw { kind: 2, flags, size: kernel, src, dst, tensors: [weights, scale, bias], ..none }
            }
            Self::NormAct { src, dst, group, silu, per_cell, film, gamma, beta } => {
                let flags = if silu { SILU } else { 0 } | if per_cell { PER_CELL } else { 0 };
                Raw { kind: 3, flags, size: group, src, dst, film, tensors: [NONE, gamma, beta], ..none }
            }
            Self::AvgPool2 { src, dst } => Raw { kind: 4, src, dst, ..none },
            Self::UpsampleAdd { src, dst } => Raw { kind: 5, src, dst, ..none },
            Self::Attention { src, dst, scores, heads } => Raw { kind: 6, size: heads, src, dst, aux: scores, ..none },
        }
    }

    /// The buffers read and written: `(src, dst)`.
    pub const fn buffers(&self) -> (u16, u16) {
        match *self {
            Self::Quantize { src, dst }
            | Self::Conv { src, dst, .. }
            | Self::NormAct { src, dst, .. }
            | Self::AvgPool2 { src, dst }
            | Self::UpsampleAdd { src, dst }
            | Self::Attention { src, dst, .. } => (src, dst),
        }
    }

    /// Whether the old value of `dst` is read.
    pub const fn in_place(&self) -> bool {
        matches!(*self, Self::Conv { residual: true, .. } | Self::UpsampleAdd { .. })
    }

    /// Short name of the kind.
    pub const fn kind(&self) -> &'static str {
        match *self {
            Self::Quantize { .. } => "quantize",
            Self::Conv { .. } => "conv",
            Self::NormAct { .. } => "norm_act",
            Self::AvgPool2 { .. } => "avg_pool2",
            Self::UpsampleAdd { .. } => "upsample_add",
            Self::Attention { .. } => "attention",
        }
    }
}
