//! GroupNorm and SiLU: sums eight values at a time, then four channels at a time over all cells. The exponential is the
//! scalar function's, operation by operation; the quotient is taken by the scalar unit, lane by lane, because Helium has
//! no division.
//!
//! Denormals: q * A differs only below 2^-111, so that y differs only below 2^-84; such a y, and everything that is lost
//! behind it, is below 2^-24 times its scale's factor, which is below [`LARGEST`], and becomes the zero point.

use core::arch::{asm, naked_asm};
use core::f32::consts::LOG2_E;

use crate::math::inv_std;
use crate::ops::{self, NormAct, NormOut};
use crate::part::{at, rest, rest_mut};

/// Bound of a channel's factors with which no sum reaches infinity.
const FINITE: f32 = 1.0e30;
/// Bound of the output's factor: 2^60.
const LARGEST: f32 = 1_152_921_504_606_846_976.0;
/// Channels at a time.
const LANES: usize = 4;

/// [`ops::norm_act`](crate::ops::norm_act()).
pub fn norm_act(p: &NormAct<'_>, input: &[i16], mut out: NormOut<'_>) {
    let (ch, group) = (p.channels, p.group);
    let within = |x: f32, bound: f32| -bound < x && x < bound;
    if !group.is_multiple_of(LANES) || !within(p.a, LARGEST) || p.cells == 0 {
        return ops::norm_act(p, input, out);
    }
    for first in (0..ch).step_by(group.max(1)) {
        let (sum, squares) = sums(input, ch, first, group);
        let n = (p.cells * group) as u32;
        let mean = sum as f32 / n as f32;
        let inv_std = inv_std(n, sum, squares, p.b);
        for c in (first..first + group).step_by(LANES) {
            let mut values = Values {
                a: [0.0; LANES],
                b: [0.0; LANES],
                constants: CONSTANTS,
                scalars: [LOG2_E, ROUNDING, LN_2_HIGH, LN_2_LOW, 1.0, p.a].map(f32::to_bits),
                zp: p.zp,
                cells: p.cells,
                stride: 2 * ch,
                input: rest(input, c).as_ptr(),
            };
            for ((a, b), c) in values.a.iter_mut().zip(&mut values.b).zip(c..) {
                let (scale, shift) = match p.film {
                    Some(film) => (1.0 + at(film, c), at(film, ch + c)),
                    None => (1.0, 0.0),
                };
                *a = inv_std * at(p.gamma, c) * scale;
                *b = (at(p.beta, c) * scale + shift) - mean * *a;
            }
            if !values.a.iter().chain(&values.b).all(|&x| within(x, FINITE)) {
                // What was done before comes out the same again: the input is not the output.
                return ops::norm_act(p, input, out);
            }
            let last = (p.cells - 1) * ch + c + LANES;
            let outputs = match &out {
                NormOut::I8(out) => out.len(),
                NormOut::I16(out) => out.len(),
            };
            require!(input.len() >= last && outputs >= last);
            // SAFETY: the last cell's four channels are within input and output, the others before them.
            unsafe {
                match (&mut out, p.silu) {
                    (NormOut::I8(out), true) => silu_bytes(&values, rest_mut(out, c).as_mut_ptr()),
                    (NormOut::I8(out), false) => plain_bytes(&values, rest_mut(out, c).as_mut_ptr()),
                    (NormOut::I16(out), true) => silu_words(&values, rest_mut(out, c).as_mut_ptr()),
                    (NormOut::I16(out), false) => plain_words(&values, rest_mut(out, c).as_mut_ptr()),
                }
            }
        }
    }
}

/// Exact sum and sum of squares of `group` channels from `first` on.
fn sums(input: &[i16], ch: usize, first: usize, group: usize) -> (i32, u64) {
    let (mut sum, mut low, mut high) = (0i32, 0u32, 0u32);
    let cells = input.len() / ch.max(1);
    require!(cells > 0 && first + group <= ch, (0, 0));
    for from in (0..group).step_by(8) {
        let lanes = (group - from).min(8);
        // SAFETY: the loop reads `lanes` channels of each cell, from a channel on that exists.
        unsafe {
            asm!(
                cpu!(),
                "vctp.16 {lanes}",
                "2:",
                "vpst",
                "vldrht.u16 q0, [{at}]",
                "add {at}, {stride}",
                "vaddva.s16 r0, q0",
                "vmlaldava.s16 r2, r3, q0, q0",
                "le lr, 2b",
                lanes = in(reg) lanes, at = inout(reg) rest(input, first + from).as_ptr() => _, stride = in(reg) 2 * ch,
                inout("r0") sum, inout("r2") low, inout("r3") high, inout("lr") cells => _,
                out("d0") _, out("d1") _, options(readonly, nostack),
            );
        }
    }
    (sum, u64::from(high) << 32 | u64::from(low))
}

/// 1.5 * 2^23: the sum has no fraction bits, and its lowest bits are the integer.
pub const ROUNDING: f32 = 12_582_912.0;
#[expect(clippy::excessive_precision, reason = "the scalar function's constant, exact in binary")]
pub const LN_2_HIGH: f32 = 0.693_115_234_375;
pub const LN_2_LOW: f32 = 3.194_618_3e-5;

/// What the exponential needs in every lane: lower and upper bound, then the polynomial from its highest power.
pub const CONSTANTS: [[f32; LANES]; 7] = [
    [-87.0; LANES],
    [88.0; LANES],
    [0.001_392_692_7; LANES],
    [0.008_363_774; LANES],
    [0.041_666_55; LANES],
    [0.166_665_73; LANES],
    [0.5; LANES],
];

/// Four channels of all cells: the assembly knows the offsets.
#[repr(C)]
struct Values {
    /// 0: factor of the input.
    a: [f32; LANES],
    /// 16: added.
    b: [f32; LANES],
    /// 32: see [`CONSTANTS`].
    constants: [[f32; LANES]; 7],
    /// 144: log2 e, [`ROUNDING`], the two parts of ln 2, 1, the factor of the output.
    scalars: [u32; 6],
    /// 168: zero point of the output.
    zp: i32,
    /// 172: how many cells.
    cells: usize,
    /// 176: bytes from a cell's input to the next one's.
    stride: usize,
    /// 180: the first cell's input.
    input: *const i16,
}

/// `q1 = exp(q1)` of numbers; r2 to r6 as [`Values::scalars`], r12 + `$at` the constants. Changes q2 to q5.
macro_rules! exponential {
    () => {
        "vldrw.u32 q2, [r12, #32]
        vldrw.u32 q3, [r12, #48]
        vmaxnm.f32 q1, q1, q2
        vminnm.f32 q1, q1, q3
        vmul.f32 q5, q1, r2
        vadd.f32 q5, q5, r3
        vsub.f32 q2, q5, r3
        vmul.f32 q3, q2, r4
        vmul.f32 q2, q2, r5
        vsub.f32 q1, q1, q3
        vsub.f32 q1, q1, q2
        vldrw.u32 q4, [r12, #64]
        vldrw.u32 q3, [r12, #80]
        vmul.f32 q4, q4, q1
        vadd.f32 q4, q4, q3
        vldrw.u32 q3, [r12, #96]
        vmul.f32 q4, q4, q1
        vadd.f32 q4, q4, q3
        vldrw.u32 q3, [r12, #112]
        vmul.f32 q4, q4, q1
        vadd.f32 q4, q4, q3
        vldrw.u32 q3, [r12, #128]
        vmul.f32 q4, q4, q1
        vadd.f32 q4, q4, q3
        vmul.f32 q2, q1, q1
        vmul.f32 q4, q4, q2
        vshl.i32 q5, q5, #23
        vadd.f32 q4, q4, q1
        vadd.i32 q5, q5, r6
        vadd.f32 q4, q4, r6
        vmul.f32 q1, q4, q5"
    };
}
pub(super) use exponential;

/// The loop: r12 is the [`Values`], r0 walks over the input, r1 over the output, r9 and r10 are their strides; q6 and q7 hold
/// the factors.
macro_rules! values {
    ($name:ident, $type:ty, $shift:literal, [$($silu:expr),*], [$($narrow:literal),*]) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(values: &Values, out: *mut $type) {
            naked_asm!(
                cpu!(),
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "mov r12, r0",
                "add r0, r12, #144",
                "ldm r0, {{r2-r8, lr}}",
                "ldrd r9, r0, [r12, #176]",
                $shift,
                "vldrw.u32 q6, [r12]",
                "vldrw.u32 q7, [r12, #16]",
                ".p2align 2",
                "2:",
                "vldrh.s32 q0, [r0]",
                "add r0, r9",
                "vcvt.f32.s32 q0, q0",
                "vmul.f32 q0, q0, q6",
                "vadd.f32 q0, q0, q7",
                $($silu,)*
                "vmul.f32 q0, q0, r7",
                "vcvtn.s32.f32 q0, q0",
                "vqadd.s32 q0, q0, r8",
                "vqmovnb.s32 q0, q0",
                $($narrow,)*
                "add r1, r10",
                "le lr, 2b",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

/// q0 = q0 / (1 + exp(-q0)).
macro_rules! silu {
    ($name:ident, $type:ty, $shift:literal, [$($narrow:literal),*]) => {
        values!(
            $name,
            $type,
            $shift,
            [
                "vneg.f32 q1, q0",
                exponential!(),
                "vadd.f32 q1, q1, r6",
                "vdiv.f32 s0, s0, s4",
                "vdiv.f32 s1, s1, s5",
                "vdiv.f32 s2, s2, s6",
                "vdiv.f32 s3, s3, s7"
            ],
            [$($narrow),*]
        );
    };
}

silu!(silu_bytes, i8, "lsr r10, r9, #1", ["vqmovnb.s16 q0, q0", "vstrb.32 q0, [r1]"]);
silu!(silu_words, i16, "mov r10, r9", ["vstrh.32 q0, [r1]"]);
values!(plain_bytes, i8, "lsr r10, r9, #1", [], ["vqmovnb.s16 q0, q0", "vstrb.32 q0, [r1]"]);
values!(plain_words, i16, "mov r10, r9", [], ["vstrh.32 q0, [r1]"]);
