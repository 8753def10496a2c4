//! 2x2 average pooling, four channels at a time.

use core::arch::asm;

use crate::ops::Pool;
use crate::part::{part, part_mut, rest};

/// [`ops::avg_pool2`](crate::ops::avg_pool2).
pub fn avg_pool2(p: &Pool, input: &[i16], out: &mut [i16]) {
    let ch = p.channels;
    let row = p.width * ch;
    for (rows, y) in input.chunks_exact((2 * row).max(1)).zip(0..) {
        let out_row = part_mut(out, y * (row / 2), row / 2);
        let (upper, lower) = (part(rows, 0, row), part(rows, row, row));
        for (out, x) in out_row.chunks_exact_mut(ch.max(1)).zip(0..) {
            let (upper, lower) = (part(upper, 2 * x * ch, 2 * ch), part(lower, 2 * x * ch, 2 * ch));
            require!(upper.len() == 2 * ch && lower.len() == 2 * ch);
            // SAFETY: each of the four cells has `ch` values, as the output; the loop's predicate ends there.
            unsafe {
                asm!(
                    cpu!(),
                    "wlstp.32 lr, {count}, 3f",
                    "2:",
                    "vldrh.s32 q0, [r0], #8",
                    "vldrh.s32 q1, [r1], #8",
                    "vadd.i32 q0, q0, q1",
                    "vldrh.s32 q2, [r2], #8",
                    "vldrh.s32 q3, [r3], #8",
                    "vadd.i32 q2, q2, q3",
                    "vadd.i32 q0, q0, q2",
                    // (sum + 2) >> 2.
                    "vrshr.s32 q0, q0, #2",
                    "vstrh.32 q0, [r4], #8",
                    "letp lr, 2b",
                    "3:",
                    count = in(reg) ch, inout("r0") upper.as_ptr() => _, inout("r1") rest(upper, ch).as_ptr() => _,
                    inout("r2") lower.as_ptr() => _, inout("r3") rest(lower, ch).as_ptr() => _,
                    inout("r4") out.as_mut_ptr() => _, out("lr") _, out("d0") _, out("d1") _, out("d2") _,
                    out("d3") _, out("d4") _, out("d5") _, out("d6") _, out("d7") _, options(nostack),
                );
            }
        }
    }
}
