//! Weights of four bits to eight, 12 instructions for a group of 32.

use core::arch::asm;

use crate::ops::Int4;
use crate::ops::int4::GROUP;
use crate::part::at;

/// [`Int4::decode`] of a whole row.
pub fn decode(weights: &Int4<'_>, row: usize, out: &mut [i8]) {
    let (chunks, multipliers) = weights.row(row);
    let (groups, rest) = out.as_chunks_mut::<GROUP>();
    let done = groups.len() * GROUP;
    let (sources, _) = chunks.as_chunks::<{ GROUP / 2 }>();
    for (i, (out, source)) in groups.iter_mut().zip(sources).enumerate() {
        let m = u32::from(at(multipliers, i / 2) >> (i % 2 * 4) & 15);
        // SAFETY: it reads a group's 16 bytes and writes its 32.
        unsafe {
            asm!(
                cpu!(),
                "vldrb.u8 q0, [{source}]",
                "vmov.i8 q4, #15",
                "vdup.8 q2, {m}",
                "vdup.8 q3, {eight}",
                "vshr.u8 q1, q0, #4",
                "vand q0, q0, q4",
                "vmul.i8 q0, q0, q2",
                "vmul.i8 q1, q1, q2",
                "vsub.i8 q0, q0, q3",
                "vsub.i8 q1, q1, q3",
                // Four of the one, four of the other.
                "vst20.32 {{q0, q1}}, [{out}]",
                "vst21.32 {{q0, q1}}, [{out}]",
                source = in(reg) source, out = in(reg) out, m = in(reg) m, eight = in(reg) 8 * m,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _,
                out("d8") _, out("d9") _, options(nostack),
            );
        }
    }
    weights.decode(row, done, rest);
}
