//! Nearest-neighbour upsampling, added to the stream of the higher level, four channels at a time.
//!
//! Denormals: as in [`store`](super::store), with factors below [`LARGEST`].

use core::arch::asm;

use crate::ops::{self, Upsample};
use crate::part::{cut, part, part_mut};

/// Bound of the factors.
const LARGEST: f32 = 1.0e27;

/// [`ops::upsample_add`](crate::ops::upsample_add).
pub fn upsample_add(p: &Upsample, src: &[i16], dst: &mut [i16]) {
    let small = |x: f32| -LARGEST < x && x < LARGEST;
    if !(small(p.a) && small(p.c)) {
        return ops::upsample_add(p, src, dst);
    }
    let ch = p.channels;
    let row = p.width * ch;
    for (y, dst_row) in dst.chunks_exact_mut(row.max(1)).enumerate() {
        let src_row = part(src, (y / 2) * (row / 2), row / 2);
        for (src, x) in src_row.chunks_exact(ch.max(1)).zip(0..) {
            let (left, right) = cut(part_mut(dst_row, 2 * x * ch, 2 * ch), ch);
            require!(left.len() == ch && right.len() == ch);
            // SAFETY: source and both cells have `ch` values; the loop's predicate ends there.
            unsafe {
                asm!(
                    cpu!(),
                    "wlstp.32 lr, {count}, 3f",
                    "2:",
                    "vldrh.s32 q0, [r0], #8",
                    "vldrh.s32 q1, [r1]",
                    "vldrh.s32 q2, [r2]",
                    "vcvt.f32.s32 q0, q0",
                    "vcvt.f32.s32 q1, q1",
                    "vcvt.f32.s32 q2, q2",
                    "vmul.f32 q0, q0, {a}",
                    "vmul.f32 q1, q1, {c}",
                    "vmul.f32 q2, q2, {c}",
                    "vadd.f32 q1, q1, q0",
                    "vadd.f32 q2, q2, q0",
                    "vcvtn.s32.f32 q1, q1",
                    "vcvtn.s32.f32 q2, q2",
                    "vqmovnb.s32 q1, q1",
                    "vqmovnb.s32 q2, q2",
                    "vstrh.32 q1, [r1], #8",
                    "vstrh.32 q2, [r2], #8",
                    "letp lr, 2b",
                    "3:",
                    count = in(reg) ch, inout("r0") src.as_ptr() => _, inout("r1") left.as_mut_ptr() => _,
                    inout("r2") right.as_mut_ptr() => _, a = in(reg) p.a.to_bits(), c = in(reg) p.c.to_bits(),
                    out("lr") _, out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
                    options(nostack),
                );
            }
        }
    }
}
