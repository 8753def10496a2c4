//! The matrix products of one vertical index, their horizontal inverse, and what becomes of it vertically.
//!
//! Per tile pair the products along the horizontal index, M1, M2, M0, M3 (slots 0 to 3 of both panels), give the two
//! columns of sums H0 = M1 + M2 + M0 and H1 = M1 - M2 + M3 of two tiles and four output channels. They enter planes of
//! partial outputs, [tile][column 2][output channel 4]: see [`Rows`]. Everything wraps.

use crate::arch::arm::panel::CHANNELS;

/// i32 of a tile pair in a plane.
pub const PLANE: usize = 4 * CHANNELS;

/// 1/3 modulo 2^32.
const THIRD: i32 = 0xaaaa_aaabu32 as i32;

/// How the sums H of one vertical index enter the planes p0, p1, p2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// p\[plane\] = H
    Keep(usize),
    /// (p0, p1) = (p0 + H, p0 - H)
    SumDifference,
    /// p\[plane\] += 2 H
    Finish(usize),
    /// With C = p2 + H, D = p2 - H: spare = (C - p0) / 3, p2 = (D - 2 p1) / 3, p0 = (C - 4 p0) / 3, p1 = (2 D - p1) / 3.
    Middle,
}

/// Partial outputs of four output channels.
#[derive(Debug)]
pub struct Planes<'a> {
    /// \[plane\][tile pair][[`PLANE`]].
    pub planes: &'a mut [i32],
    /// Tile pairs of a plane.
    pub stride: usize,
    /// [tile pair][[`PLANE`]]: one more, for [`Rows::Middle`].
    pub spare: &'a mut [i32],
}

/// weights: [channel pairs][4][4], data: [tile pairs][channel pairs][4][2]; the first `tile_pairs` of the planes change.
pub fn product(weights: &[u32], data: &[u32], pairs: usize, tile_pairs: usize, rows: Rows, out: &mut Planes<'_>) {
    let planes = match rows {
        Rows::Keep(plane) | Rows::Finish(plane) => plane + 1,
        Rows::SumDifference => 2,
        Rows::Middle => 3,
    };
    assert!(pairs > 0 && tile_pairs > 0 && weights.len() >= pairs * 16 && data.len() >= tile_pairs * pairs * 8);
    assert!(out.stride >= tile_pairs && out.planes.len() >= planes * out.stride * PLANE);
    assert!(rows != Rows::Middle || out.spare.len() >= tile_pairs * PLANE);
    #[cfg(arm_dsp)]
    // SAFETY: the lengths were checked.
    unsafe {
        asm::run(weights, data, pairs, tile_pairs, rows, out);
    }
    #[cfg(not(arm_dsp))]
    for (tile_pair, data) in data.chunks_exact(pairs * 8).enumerate().take(tile_pairs) {
        let h = model::sums(weights, data);
        model::enter(&h, tile_pair, rows, out);
    }
}

/// The same in plain Rust.
#[cfg(not(arm_dsp))]
mod model {
    use super::*;
    use crate::arch::arm::simd::smlad;

    /// [tile 2][column 2][output channel 4].
    pub fn sums(weights: &[u32], data: &[u32]) -> [i32; PLANE] {
        let mut h = [0i32; PLANE];
        for (weights, data) in weights.chunks_exact(16).zip(data.chunks_exact(8)) {
            for tile in 0..2 {
                for channel in 0..CHANNELS {
                    let [m1, m2, m0, m3] =
                        [0, 1, 2, 3].map(|slot| smlad(weights[slot * 4 + channel], data[slot * 2 + tile], 0));
                    let h = &mut h[tile * 8 + channel..];
                    h[0] = h[0].wrapping_add(m1).wrapping_add(m2).wrapping_add(m0);
                    h[4] = h[4].wrapping_add(m1).wrapping_sub(m2).wrapping_add(m3);
                }
            }
        }
        h
    }

    pub fn enter(h: &[i32; PLANE], tile_pair: usize, rows: Rows, out: &mut Planes<'_>) {
        let times = |x: i32, k: i32| x.wrapping_mul(k);
        for (i, &h) in h.iter().enumerate() {
            let at = |plane: usize| plane * out.stride * PLANE + tile_pair * PLANE + i;
            let p = &mut *out.planes;
            match rows {
                Rows::Keep(plane) => p[at(plane)] = h,
                Rows::SumDifference => {
                    let kept = p[at(0)];
                    (p[at(0)], p[at(1)]) = (kept.wrapping_add(h), kept.wrapping_sub(h));
                }
                Rows::Finish(plane) => p[at(plane)] = p[at(plane)].wrapping_add(times(h, 2)),
                Rows::Middle => {
                    let (a, b, kept) = (p[at(0)], p[at(1)], p[at(2)]);
                    let (c, d) = (kept.wrapping_add(h), kept.wrapping_sub(h));
                    out.spare[tile_pair * PLANE + i] = times(c.wrapping_sub(a), THIRD);
                    p[at(2)] = times(d.wrapping_sub(times(b, 2)), THIRD);
                    p[at(0)] = times(c.wrapping_sub(times(a, 4)), THIRD);
                    p[at(1)] = times(times(d, 2).wrapping_sub(b), THIRD);
                }
            }
        }
    }
}

#[cfg(arm_dsp)]
mod asm {
    //! r0-r3 output channels 0-3 of tile 0, r4-r7 of tile 1. In the products r12 walks over the data and lr over the
    //! weights, r8, r9 hold the two tiles, r10, r11 two channels; a pair step is 3 LDRD and 8 SMLAD, and the body of
    //! [`STEPS`] of them is entered where the wanted number is left. The first step of M1 multiplies without adding.
    //! Elsewhere r8-r12 help.
    //!
    //! On the stack: sp+0 ..32 M1, then M1 - M2; +32 code after the body; +36 rounds of the body left; +40 [`Frame`].

    use super::{PLANE, Planes, Rows, THIRD};
    use core::arch::naked_asm;

    /// Steps of the unrolled body.
    const STEPS: usize = 48;

    /// Bytes of code of one step.
    const STEP: usize = 44;

    /// What the code reads, copied to sp+40.
    #[repr(C)]
    struct Frame {
        /// +40, +44: walk on by tile pair; the weights stay.
        data: *const u32,
        weights: *const u32,
        /// +48, +52: bytes of the body to skip for all steps but the first of M1; for all.
        skip_first: usize,
        skip: usize,
        /// +56: whole rounds of the body before that.
        rounds: usize,
        /// +60: the first plane that is meant.
        plane: *mut i32,
        /// +64: tile pairs left.
        tile_pairs: usize,
        /// +68: 0 keep, 1 sum and difference, 2 finish, 3 middle.
        rows: usize,
        /// +72: bytes of a plane.
        stride: usize,
        /// +76: bytes from p0 to the spare plane.
        spare: usize,
        /// +80: 1/3.
        third: i32,
    }

    /// # Safety
    /// The lengths that `product` checks.
    pub unsafe fn run(
        weights: &[u32],
        data: &[u32],
        pairs: usize,
        tile_pairs: usize,
        rows: Rows,
        out: &mut Planes<'_>,
    ) {
        let (plane, kind) = match rows {
            Rows::Keep(plane) => (plane, 0),
            Rows::SumDifference => (0, 1),
            Rows::Finish(plane) => (plane, 2),
            Rows::Middle => (0, 3),
        };
        // M1 does one step itself, and all rounds are as long as the other products': at least one step is left.
        let last = (pairs - 1) % STEPS + 1;
        let frame = Frame {
            data: data.as_ptr(),
            weights: weights.as_ptr(),
            skip_first: (STEPS - (last - 1)) * STEP,
            skip: (STEPS - last) * STEP,
            rounds: (pairs - 1) / STEPS,
            plane: out.planes[plane * out.stride * PLANE..].as_mut_ptr(),
            tile_pairs,
            rows: kind,
            stride: out.stride * PLANE * 4,
            spare: out.spare.as_mut_ptr().addr().wrapping_sub(out.planes.as_mut_ptr().addr()),
            third: THIRD,
        };
        // SAFETY: the caller says so.
        unsafe { product(&frame) }
    }

    /// A product at the given bytes of both panels, all steps; the code after it is named at sp + $back.
    macro_rules! begin {
        ($data:literal, $weights:literal, $back:literal) => {
            concat!(
                "ldrd r12, lr, [sp, #40]\n add r12, r12, #",
                $data,
                "\n add lr, lr, #",
                $weights,
                "\n",
                "ldr r8, [sp, #",
                $back,
                "]\n str r8, [sp, #32]\n ldr pc, [sp, #52]\n",
            )
        };
    }

    /// After the body where it is run several times: again, or on to $next.
    macro_rules! again {
        ($label:literal, $next:literal) => {
            concat!(
                $label,
                ":\n ldr r8, [sp, #36]\n subs r8, r8, #1\n str r8, [sp, #36]\n bpl.w 20b\n",
                "ldr r8, [sp, #56]\n str r8, [sp, #36]\n b.w ",
                $next,
                "\n",
            )
        };
    }

    /// The address of a label as code, into the frame.
    macro_rules! address {
        ($label:literal, $at:literal) => {
            concat!("adr.w r12, ", $label, "\n add.w r12, r12, #1\n str r12, [sp, #", $at, "]\n")
        };
    }

    /// p0 and p1 of one tile: $a .. $d hold H, r12 points to p0. Ends with p0 in $a .. $d.
    macro_rules! sum_difference {
        ($a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "ldm r12, {{r8-r11}}\n",
                "add ",
                $a,
                ", ",
                $a,
                ", r8\n add ",
                $b,
                ", ",
                $b,
                ", r9\n",
                "add ",
                $c,
                ", ",
                $c,
                ", r10\n add ",
                $d,
                ", ",
                $d,
                ", r11\n",
                "rsb r8, ",
                $a,
                ", r8, lsl #1\n rsb r9, ",
                $b,
                ", r9, lsl #1\n",
                "rsb r10, ",
                $c,
                ", r10, lsl #1\n rsb r11, ",
                $d,
                ", r11, lsl #1\n",
                "stm r12, {{",
                $a,
                ", ",
                $b,
                ", ",
                $c,
                ", ",
                $d,
                "}}\n",
                "ldr ",
                $a,
                ", [sp, #72]\n add ",
                $a,
                ", r12, ",
                $a,
                "\n stm ",
                $a,
                ", {{r8-r11}}\n",
            )
        };
    }

    /// $h = $p + 2 $h.
    macro_rules! finish {
        ($h:literal, $p:literal) => {
            concat!("add ", $h, ", ", $p, ", ", $h, ", lsl #1\n")
        };
    }

    /// One lane of the middle: C, or D, in $x, and A = p0, or B = p1, in $p. 1/3 is in r12, or in r0.
    macro_rules! middle_c {
        ($x:literal, $p:literal) => {
            // p0 = (C - 4 A) / 3; C = (C - A) / 3.
            concat!(
                "sub lr, ",
                $x,
                ", ",
                $p,
                ", lsl #2\n sub ",
                $x,
                ", ",
                $x,
                ", ",
                $p,
                "\n",
                "mul ",
                $p,
                ", lr, r12\n mul ",
                $x,
                ", ",
                $x,
                ", r12\n",
            )
        };
    }
    macro_rules! middle_d {
        ($x:literal, $p:literal) => {
            // p1 = (2 D - B) / 3; D = (D - 2 B) / 3.
            concat!(
                "rsb lr, ",
                $p,
                ", ",
                $x,
                ", lsl #1\n sub ",
                $x,
                ", ",
                $x,
                ", ",
                $p,
                ", lsl #1\n",
                "mul ",
                $p,
                ", lr, r0\n mul ",
                $x,
                ", ",
                $x,
                ", r0\n",
            )
        };
    }

    /// The middle of one tile: r0-r3 = H, r12 points to p0 and is kept; r4-r11 and lr are free.
    macro_rules! middle {
        () => {
            concat!(
                "ldr r6, [sp, #72]\n add r5, r12, r6, lsl #1\n ldm r5, {{r8-r11}}\n",
                "add r0, r0, r8\n add r1, r1, r9\n add r2, r2, r10\n add r3, r3, r11\n",
                "rsb r8, r0, r8, lsl #1\n rsb r9, r1, r9, lsl #1\n",
                "rsb r10, r2, r10, lsl #1\n rsb r11, r3, r11, lsl #1\n",
                "ldm r12, {{r4-r7}}\n str r12, [sp, #120]\n ldr r12, [sp, #80]\n",
                middle_c!("r0", "r4"),
                middle_c!("r1", "r5"),
                middle_c!("r2", "r6"),
                middle_c!("r3", "r7"),
                "ldr r12, [sp, #120]\n stm r12, {{r4-r7}}\n",
                "ldr r4, [sp, #76]\n add r4, r12, r4\n stm r4, {{r0-r3}}\n",
                "ldr r1, [sp, #72]\n ldr r0, [sp, #80]\n",
                "add r2, r12, r1\n ldm r2, {{r4-r7}}\n",
                middle_d!("r8", "r4"),
                middle_d!("r9", "r5"),
                middle_d!("r10", "r6"),
                middle_d!("r11", "r7"),
                "stm r2, {{r4-r7}}\n add r2, r2, r1\n stm r2, {{r8-r11}}\n",
            )
        };
    }

    /// A step of the products: registers as above. The first writes the accumulators instead of adding to them.
    macro_rules! step {
        ($first:literal) => {
            concat!(
                "ldrd r8, r9, [r12], #32\n ldrd r10, r11, [lr], #8\n",
                ".if ", $first, "\n smuad r0, r10, r8\n smuad r1, r11, r8\n smuad r4, r10, r9\n smuad r5, r11, r9\n",
                ".else\n smlad r0, r10, r8, r0\n smlad r1, r11, r8, r1\n smlad r4, r10, r9, r4\n smlad r5, r11, r9, r5\n",
                ".endif\n ldrd r10, r11, [lr], #56\n",
                ".if ", $first, "\n smuad r2, r10, r8\n smuad r3, r11, r8\n smuad r6, r10, r9\n smuad r7, r11, r9\n",
                ".else\n smlad r2, r10, r8, r2\n smlad r3, r11, r8, r3\n smlad r6, r10, r9, r6\n smlad r7, r11, r9, r7\n",
                ".endif\n",
            )
        };
    }

    /// # Safety
    /// The frame says the truth.
    #[unsafe(naked)]
    unsafe extern "C" fn product(frame: *const Frame) {
        naked_asm!(
            cpu!(),
            "push {{r4-r11, lr}}",
            "ldm r0, {{r1-r11}}",
            // +84, +88, +92, +96: code after M1, M2, M0, M3; +100 code for the rows; +104 .. 128 what waits in the middle.
            "sub sp, #128",
            "adr.w r12, 20f",
            "add.w r12, r12, #1",
            "add r3, r3, r12",
            "add r4, r4, r12",
            "add r12, sp, #40",
            "stm r12, {{r1-r11}}",
            "str r5, [sp, #36]",
            "cbnz r5, 1f",
            address!("11f", "84"),
            address!("12f", "88"),
            address!("13f", "92"),
            address!("14f", "96"),
            "b 2f",
            "1:",
            address!("21f", "84"),
            address!("22f", "88"),
            address!("23f", "92"),
            address!("24f", "96"),
            "2:",
            "adr.w r12, 30f",
            "cmp r8, #1",
            "it eq",
            "adreq.w r12, 31f",
            "cmp r8, #2",
            "it eq",
            "adreq.w r12, 32f",
            "it hi",
            "adrhi.w r12, 33f",
            "add.w r12, r12, #1",
            "str r12, [sp, #100]",
            // A tile pair: M1, kept.
            "10:",
            "ldrd r12, lr, [sp, #40]",
            "ldr r8, [sp, #84]",
            "str r8, [sp, #32]",
            step!("1"),
            "ldr pc, [sp, #48]",
            ".p2align 2",
            "11:",
            "stm.w sp, {{r0-r7}}",
            begin!("8", "16", "88"),
            // M1 + M2 goes on, and M1 - M2 = 2 M1 - (M1 + M2) is kept.
            ".p2align 2",
            "12:",
            "mov r12, sp",
            "ldm r12, {{r8-r11}}",
            "rsb r8, r0, r8, lsl #1",
            "rsb r9, r1, r9, lsl #1",
            "rsb r10, r2, r10, lsl #1",
            "rsb r11, r3, r11, lsl #1",
            "stm r12!, {{r8-r11}}",
            "ldm r12, {{r8-r11}}",
            "rsb r8, r4, r8, lsl #1",
            "rsb r9, r5, r9, lsl #1",
            "rsb r10, r6, r10, lsl #1",
            "rsb r11, r7, r11, lsl #1",
            "stm r12, {{r8-r11}}",
            begin!("16", "32", "92"),
            // Column 0.
            ".p2align 2",
            "13:",
            "ldr r8, [sp, #100]",
            "ldr r12, [sp, #60]",
            "blx r8",
            // Column 1: M3 comes to what was kept.
            "ldm.w sp, {{r0-r7}}",
            begin!("24", "48", "96"),
            ".p2align 2",
            "14:",
            // The data of the next tile pair follow.
            "sub r12, r12, #24",
            "str r12, [sp, #40]",
            "ldr r8, [sp, #100]",
            "ldr r12, [sp, #60]",
            "add r12, r12, #16",
            "blx r8",
            "ldrd r8, r9, [sp, #60]",
            "add r8, r8, #64",
            "subs r9, r9, #1",
            "strd r8, r9, [sp, #60]",
            "bne.w 10b",
            "add sp, #128",
            "pop {{r4-r11, pc}}",
            // The products.
            ".p2align 2",
            "20:",
            ".rept {steps}",
            step!("0"),
            ".endr",
            "ldr pc, [sp, #32]",
            ".p2align 2",
            again!("21", "11b"),
            ".p2align 2",
            again!("22", "12b"),
            ".p2align 2",
            again!("23", "13b"),
            ".p2align 2",
            again!("24", "14b"),
            // Rows: keep.
            ".p2align 2",
            "30:",
            "stm r12, {{r0-r3}}",
            "add r12, r12, #32",
            "stm r12, {{r4-r7}}",
            "bx lr",
            // Rows: sum and difference.
            ".p2align 2",
            "31:",
            sum_difference!("r0", "r1", "r2", "r3"),
            "add r12, r12, #32",
            sum_difference!("r4", "r5", "r6", "r7"),
            "bx lr",
            // Rows: finish.
            ".p2align 2",
            "32:",
            "ldm r12, {{r8-r11}}",
            finish!("r0", "r8"),
            finish!("r1", "r9"),
            finish!("r2", "r10"),
            finish!("r3", "r11"),
            "stm r12, {{r0-r3}}",
            "add r12, r12, #32",
            "ldm r12, {{r8-r11}}",
            finish!("r4", "r8"),
            finish!("r5", "r9"),
            finish!("r6", "r10"),
            finish!("r7", "r11"),
            "stm r12, {{r4-r7}}",
            "bx lr",
            // Rows: the middle, of one tile and then of the other.
            ".p2align 2",
            "33:",
            "str lr, [sp, #124]",
            "strd r4, r5, [sp, #104]",
            "strd r6, r7, [sp, #112]",
            middle!(),
            "ldrd r0, r1, [sp, #104]",
            "ldrd r2, r3, [sp, #112]",
            "add r12, r12, #32",
            middle!(),
            "ldr pc, [sp, #124]",
            steps = const STEPS,
        )
    }
}
