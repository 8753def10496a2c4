//! The steps section: per step an angle, a row of the time table, and a parameter row per operation.
//!
//! Row of step s, `step_len` bytes: [phi f32, 12 bytes of zeros] [E f32: time row] [16 bytes per operation].

use super::bytes::{f32_at, put, u32_at};

/// Bytes of an operation's parameter row.
pub const PARAMS_LEN: usize = 16;
/// Bytes before the time row.
pub const STEP_HEAD_LEN: usize = 16;

/// Bytes of a step's row.
pub const fn step_len(embed: usize, ops: usize) -> usize {
    STEP_HEAD_LEN + 4 * embed + PARAMS_LEN * ops
}

/// Parameters of one operation at one step. What they mean is said at the operation in [`ops`](crate::ops).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Params {
    /// Mostly: scale of the input over scale of the output.
    pub a: f32,
    /// Mostly: 1 over scale of the output.
    pub b: f32,
    /// Scale of the value added to, over scale of the output.
    pub c: f32,
    /// Zero point of the i8 input (convolution) or output (normalisation).
    pub zp: i32,
}

impl Params {
    /// Reads a row. What its values must be depends on the operation, see [`check`](super::check).
    pub fn parse(record: &[u8; PARAMS_LEN]) -> Self {
        Self { a: f32_at(record, 0), b: f32_at(record, 4), c: f32_at(record, 8), zp: u32_at(record, 12) as i32 }
    }

    /// Writes the row.
    pub fn emit(&self, out: &mut [u8; PARAMS_LEN]) {
        put(out, 0, &self.a.to_le_bytes());
        put(out, 4, &self.b.to_le_bytes());
        put(out, 8, &self.c.to_le_bytes());
        put(out, 12, &self.zp.to_le_bytes());
    }
}
