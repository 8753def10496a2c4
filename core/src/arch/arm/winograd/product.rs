//! The matrix products of one vertical index, their horizontal inverse, and what becomes of it vertically.
//!
//! Per tile pair the products along the horizontal index, M1, M2, M0, M3 (slots 0 to 3 of both panels), give the two
//! columns of sums H0 = M1 + M2 + M0 and H1 = M1 - M2 + M3 of two tiles and four output channels. They enter planes of
//! partial outputs, [tile][column 2][output channel 4]: see [`Rows`]. Everything wraps.

use crate::arch::arm::panel::CHANNELS;

/// i32 of a tile pair in a plane.
pub const PLANE: usize = 4 * CHANNELS;

/// Words behind a panel of weights: addresses, a slot apart.
pub const BEHIND: usize = 4 * CHANNELS;

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

/// Tile pairs whose second tile has no second column, because the picture's width is odd: they need M3 of the first tile
/// alone, and what enters the planes for the missing column is never looked at.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// Tile pairs to the first one, itself counted.
    pub first: usize,
    /// From one to the next; 0 if there are none.
    pub every: usize,
}

impl Edges {
    /// Of a picture `width` columns wide, from tile pair `from` on.
    pub fn new(width: usize, from: usize) -> Self {
        // Rows of whole pairs end at a second tile.
        let every = if width % 4 == 3 { width.div_ceil(4) } else { 0 };
        Self { first: if every > 0 { every - from % every } else { 0 }, every }
    }
}

/// The products of one vertical index, for any four output channels.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Channel pairs.
    pub pairs: usize,
    pub tile_pairs: usize,
    pub rows: Rows,
    pub edges: Edges,
    /// Tile pairs of a plane.
    pub stride: usize,
}

/// A shape, its weights and its cells, checked.
pub struct Product<'a> {
    #[cfg_attr(arm_dsp, expect(dead_code, reason = "the frame says it"))]
    shape: Shape,
    /// [channel pairs][4][4], and [`BEHIND`] words.
    weights: &'a mut [u32],
    /// [tile pairs][channel pairs][4][2]
    #[cfg_attr(arm_dsp, expect(dead_code, reason = "the frame points to it, and it is borrowed"))]
    data: &'a [u32],
    /// i32 that four output channels need of the planes, and of the spare one.
    planes: usize,
    spare: usize,
    #[cfg(arm_dsp)]
    frame: asm::Frame,
}

impl<'a> Product<'a> {
    /// weights: [channel pairs][4][4], for later, and [`BEHIND`] words; data: [tile pairs][channel pairs][4][2].
    /// `None` where they are not as long.
    pub fn new(weights: &'a mut [u32], data: &'a [u32], shape: Shape) -> Option<Self> {
        let Shape { pairs, tile_pairs, rows, stride, .. } = shape;
        let planes = match rows {
            Rows::Keep(plane) | Rows::Finish(plane) => plane + 1,
            Rows::SumDifference => 2,
            Rows::Middle => 3,
        };
        require!(pairs > 0 && tile_pairs > 0 && stride >= tile_pairs, None);
        require!(weights.len() >= pairs * 4 * CHANNELS + BEHIND && data.len() >= tile_pairs * pairs * 8, None);
        Some(Self {
            shape,
            #[cfg(arm_dsp)]
            frame: asm::Frame::new(weights, data, &shape),
            weights,
            data,
            planes: planes * stride * PLANE,
            spare: if rows == Rows::Middle { tile_pairs * PLANE } else { 0 },
        })
    }

    /// The weights' panel, to be filled.
    pub fn weights(&mut self) -> &mut [u32] {
        self.weights
    }

    /// planes: partial outputs of four output channels, [plane][stride][[`PLANE`]], of which the first tile pairs change;
    /// spare: [tile pairs][[`PLANE`]], one more, for [`Rows::Middle`].
    pub fn run(&mut self, planes: &mut [i32], spare: &mut [i32]) {
        require!(planes.len() >= self.planes && spare.len() >= self.spare);
        #[cfg(arm_dsp)]
        // SAFETY: all lengths were checked, here and in `new`.
        unsafe {
            self.frame.run(planes, spare);
        }
        #[cfg(not(arm_dsp))]
        for (tile_pair, data) in self.data.chunks_exact(self.shape.pairs * 8).enumerate().take(self.shape.tile_pairs) {
            let mut h = model::sums(self.weights, data);
            let Edges { first, every } = self.shape.edges;
            if every > 0 && (tile_pair + 1) % every == first % every {
                // Nobody may look at these.
                h[3 * CHANNELS..].fill(0x5a5a_5a5a);
            }
            model::enter(&h, tile_pair, &self.shape, planes, spare);
        }
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

    pub fn enter(h: &[i32; PLANE], tile_pair: usize, shape: &Shape, p: &mut [i32], spare: &mut [i32]) {
        let times = |x: i32, k: i32| x.wrapping_mul(k);
        for (i, &h) in h.iter().enumerate() {
            let at = |plane: usize| plane * shape.stride * PLANE + tile_pair * PLANE + i;
            match shape.rows {
                Rows::Keep(plane) => p[at(plane)] = h,
                Rows::SumDifference => {
                    let kept = p[at(0)];
                    (p[at(0)], p[at(1)]) = (kept.wrapping_add(h), kept.wrapping_sub(h));
                }
                Rows::Finish(plane) => p[at(plane)] = p[at(plane)].wrapping_add(times(h, 2)),
                Rows::Middle => {
                    let (a, b, kept) = (p[at(0)], p[at(1)], p[at(2)]);
                    let (c, d) = (kept.wrapping_add(h), kept.wrapping_sub(h));
                    // (C - 4 A) / 3 = (C - A) / 3 - A and (2 D - B) / 3 = 2 (D - 2 B) / 3 + B.
                    let (second, third) = (d.wrapping_sub(times(b, 2)), c.wrapping_sub(a));
                    let (second, third) = (times(second, THIRD), times(third, THIRD));
                    spare[tile_pair * PLANE + i] = third;
                    p[at(2)] = second;
                    p[at(0)] = third.wrapping_sub(a);
                    p[at(1)] = b.wrapping_add(times(second, 2));
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
    //! Behind the weights lie four addresses, a slot's size apart: where the weights' pointer stands after a product, it
    //! says where the code goes on.
    //!
    //! On the stack: sp+0 ..32 M1, then M1 - M2; +32 steps left before the body; +40 [`Frame`]; +116 .. 132 what waits in the middle; +132
    //! where that goes on.

    use super::{CHANNELS, PLANE, Rows, Shape, THIRD};
    use core::arch::naked_asm;

    /// Steps of the unrolled body.
    const STEPS: usize = 48;

    /// Bytes of code of one step.
    const STEP: usize = 44;

    /// The same of the body for edges, which has one tile.
    const EDGE_STEPS: usize = 4;
    const EDGE_STEP: usize = 28;

    /// What the code reads, copied to sp+40.
    #[repr(C)]
    pub struct Frame {
        /// +40, +44: walk on by tile pair; the weights stay.
        data: *const u32,
        weights: *const u32,
        /// +48, +52: bytes of the body to skip for all steps but the first of M1; for all. The code makes addresses.
        skip_first: usize,
        skip: usize,
        /// +56: 0 keep, 1 sum and difference, 2 finish, 3 middle. The code makes an address.
        rows: usize,
        /// +60: the first plane that is meant.
        plane: *mut i32,
        /// +64: tile pairs left.
        tile_pairs: usize,
        /// +68: steps before the body, where there are more than it has.
        more: usize,
        /// +72: bytes of a plane.
        stride: usize,
        /// +76: bytes from p0 to the spare plane.
        spare: usize,
        /// +80: 1/3.
        third: i32,
        /// +84, +88, +92, +96: bytes from the end of a slot's data back to the next slot, and its weights, twice.
        second: (usize, *const u32),
        third_slot: (usize, *const u32),
        /// +100: tile pairs to the next edge; +104: from then on.
        edge: usize,
        edges: usize,
        /// +108: bytes of their body to skip; +112: rounds of it before that.
        edge_skip: usize,
        edge_rounds: usize,
        /// The addresses behind the weights.
        table: *mut u32,
        /// Not for the code: i32 from the first plane to the one that is meant.
        offset: usize,
    }

    impl Frame {
        /// All but the planes.
        pub fn new(weights: &mut [u32], data: &[u32], shape: &Shape) -> Self {
            let weights = weights.as_mut_ptr();
            let &Shape { pairs, tile_pairs, rows, edges, stride } = shape;
            let (plane, rows) = match rows {
                Rows::Keep(plane) => (plane, 0),
                Rows::SumDifference => (0, 1),
                Rows::Finish(plane) => (plane, 2),
                Rows::Middle => (0, 3),
            };
            // M1 does one step itself.
            let steps = pairs.min(STEPS);
            let back = pairs * 32 - 8;
            Self {
                data: data.as_ptr(),
                weights,
                skip_first: (STEPS - (steps - 1)) * STEP,
                skip: (STEPS - steps) * STEP,
                rows,
                plane: core::ptr::null_mut(),
                tile_pairs,
                more: pairs - steps,
                stride: stride * PLANE * 4,
                spare: 0,
                third: THIRD,
                second: (back, weights.wrapping_add(CHANNELS)),
                third_slot: (back, weights.wrapping_add(2 * CHANNELS)),
                edge: edges.first,
                edges: edges.every,
                edge_skip: (EDGE_STEPS - ((pairs - 1) % EDGE_STEPS + 1)) * EDGE_STEP,
                edge_rounds: (pairs - 1) / EDGE_STEPS,
                table: weights.wrapping_add(pairs * 4 * CHANNELS),
                offset: plane * stride * PLANE,
            }
        }

        /// # Safety
        /// The lengths that `Product` checks.
        pub unsafe fn run(&mut self, planes: &mut [i32], spare: &mut [i32]) {
            self.plane = planes.as_mut_ptr().wrapping_add(self.offset);
            self.spare = spare.as_mut_ptr().addr().wrapping_sub(planes.as_mut_ptr().addr());
            // SAFETY: the caller says so.
            unsafe { product(self) }
        }
    }

    /// The next product, all steps; $next is where the frame says how.
    macro_rules! next {
        ($next:literal) => {
            concat!("ldrd r8, lr, [sp, #", $next, "]\n sub r12, r12, r8\n ldr pc, [sp, #52]\n")
        };
    }

    /// The last product.
    macro_rules! last {
        () => {
            "ldrd r12, lr, [sp, #40]\n add r12, r12, #24\n add lr, lr, #48\n ldr pc, [sp, #52]\n"
        };
    }

    /// p0 and p1 of one tile: $a .. $d hold H, r12 points to p0, and r0, after $p1, to p1.
    macro_rules! sum_difference {
        ($a:literal, $b:literal, $c:literal, $d:literal, $p1:literal) => {
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
                $p1,
                "\n stm r0, {{r8-r11}}\n",
            )
        };
    }

    /// $h = $p + 2 $h.
    macro_rules! finish {
        ($h:literal, $p:literal) => {
            concat!("add ", $h, ", ", $p, ", ", $h, ", lsl #1\n")
        };
    }

    /// One lane of the middle: C in $x and A = p0 in $p; 1/3 is in lr. Ends with (C - A) / 3 and (C - 4 A) / 3.
    macro_rules! middle_c {
        ($x:literal, $p:literal) => {
            concat!(
                "sub ",
                $x,
                ", ",
                $x,
                ", ",
                $p,
                "\n mul ",
                $x,
                ", ",
                $x,
                ", lr\n sub ",
                $p,
                ", ",
                $x,
                ", ",
                $p,
                "\n"
            )
        };
    }
    /// D in $x and B = p1 in $p. Ends with (D - 2 B) / 3 and (2 D - B) / 3.
    macro_rules! middle_d {
        ($x:literal, $p:literal) => {
            concat!(
                "sub ",
                $x,
                ", ",
                $x,
                ", ",
                $p,
                ", lsl #1\n mul ",
                $x,
                ", ",
                $x,
                ", lr\n",
                "add ",
                $p,
                ", ",
                $p,
                ", ",
                $x,
                ", lsl #1\n"
            )
        };
    }

    /// The middle of one tile: r0-r3 = H, r12 points to p0 and is kept; r4-r11 are free.
    macro_rules! middle {
        () => {
            concat!(
                "ldr r6, [sp, #72]\n add r5, r12, r6, lsl #1\n ldm r5, {{r8-r11}}\n",
                "add r0, r0, r8\n add r1, r1, r9\n add r2, r2, r10\n add r3, r3, r11\n",
                "rsb r8, r0, r8, lsl #1\n rsb r9, r1, r9, lsl #1\n",
                "rsb r10, r2, r10, lsl #1\n rsb r11, r3, r11, lsl #1\n",
                "ldm r12, {{r4-r7}}\n",
                middle_c!("r0", "r4"),
                middle_c!("r1", "r5"),
                middle_c!("r2", "r6"),
                middle_c!("r3", "r7"),
                "stm r12, {{r4-r7}}\n",
                "ldr r4, [sp, #76]\n add r4, r12, r4\n stm r4, {{r0-r3}}\n",
                "ldr r1, [sp, #72]\n add r2, r12, r1\n ldm r2, {{r4-r7}}\n",
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
            "sub sp, #136",
            "ldm r0!, {{r1-r11}}",
            "adr.w r12, 20f + 1",
            "add r3, r3, r12",
            "add r4, r4, r12",
            "cmp r8, #0",
            "beq.n 1f",
            "adr.w r3, 60f + 1",
            "adr.w r4, 61f + 1",
            "1:",
            "adr.w r12, 30f + 1",
            "cmp r5, #1",
            "it eq",
            "adreq.w r12, 31f + 1",
            "cmp r5, #2",
            "it eq",
            "adreq.w r12, 32f + 1",
            "it hi",
            "adrhi.w r12, 33f + 1",
            "mov r5, r12",
            "add r12, sp, #40",
            "stm r12!, {{r1-r11}}",
            "ldm r0, {{r1-r9}}",
            "adr.w r10, 50f + 1",
            "add r7, r7, r10",
            "stm r12, {{r1-r8}}",
            "adr.w r1, 11f + 1",
            "adr.w r2, 12f + 1",
            "adr.w r3, 13f + 1",
            "adr.w r4, 14f + 1",
            "cbz r6, 2f",
            "adr.w r3, 43f + 1",
            "2:",
            "str r1, [r9]",
            "str r2, [r9, #16]",
            "str r3, [r9, #32]",
            "str r4, [r9, #48]",
            // A tile pair: M1, kept.
            "10:",
            "ldrd r12, lr, [sp, #40]",
            step!("1"),
            "ldr pc, [sp, #48]",
            ".p2align 2",
            "11:",
            "stm.w sp, {{r0-r7}}",
            next!("84"),
            // M1 + M2 goes on, and M1 - M2 = 2 M1 - (M1 + M2) is kept.
            ".p2align 2",
            "12:",
            "mov lr, sp",
            "ldm lr, {{r8-r11}}",
            "rsb r8, r0, r8, lsl #1",
            "rsb r9, r1, r9, lsl #1",
            "rsb r10, r2, r10, lsl #1",
            "rsb r11, r3, r11, lsl #1",
            "stm lr!, {{r8-r11}}",
            "ldm lr, {{r8-r11}}",
            "rsb r8, r4, r8, lsl #1",
            "rsb r9, r5, r9, lsl #1",
            "rsb r10, r6, r10, lsl #1",
            "rsb r11, r7, r11, lsl #1",
            "stm lr, {{r8-r11}}",
            next!("92"),
            // Column 0.
            ".p2align 2",
            "13:",
            "ldrd r8, r12, [sp, #56]",
            "blx r8",
            // Column 1: M3 comes to what was kept.
            "ldm.w sp, {{r0-r7}}",
            last!(),
            ".p2align 2",
            "14:",
            // The data of the next tile pair follow.
            "sub r12, r12, #24",
            "str r12, [sp, #40]",
            "ldrd r8, r12, [sp, #56]",
            "add r12, r12, #16",
            "blx r8",
            "ldrd r8, r9, [sp, #60]",
            "add r8, r8, #64",
            "subs r9, r9, #1",
            "strd r8, r9, [sp, #60]",
            "bne.w 10b",
            "add sp, #136",
            "pop {{r4-r11, pc}}",
            // As 13, where the picture has edges.
            ".p2align 2",
            "43:",
            "ldrd r8, r12, [sp, #56]",
            "blx r8",
            "ldm.w sp, {{r0-r7}}",
            "ldr r8, [sp, #100]",
            "subs r8, r8, #1",
            "str r8, [sp, #100]",
            "beq.n 44f",
            last!(),
            // M3 of the first tile alone: r4-r7 are the weights, r8 the tile, r9 counts rounds.
            "44:",
            "ldr r8, [sp, #104]",
            "str r8, [sp, #100]",
            "ldrd r12, lr, [sp, #40]",
            "add r12, r12, #24",
            "add lr, lr, #48",
            "ldr r9, [sp, #112]",
            "ldr pc, [sp, #108]",
            ".p2align 2",
            "50:",
            ".rept {edge_steps}",
            "ldr.w r8, [r12], #32",
            "ldrd r4, r5, [lr], #8",
            "ldrd r6, r7, [lr], #56",
            "smlad r0, r4, r8, r0",
            "smlad r1, r5, r8, r1",
            "smlad r2, r6, r8, r2",
            "smlad r3, r7, r8, r3",
            ".endr",
            "subs r9, r9, #1",
            "bpl.w 50b",
            "b.w 14b",
            // The products.
            ".p2align 2",
            "20:",
            ".rept {steps}",
            step!("0"),
            ".endr",
            "ldr pc, [lr]",
            // What is more than the body's steps: of M1, one of which was made, and of the others.
            ".p2align 2",
            "60:",
            "ldr r8, [sp, #68]",
            "subs r8, r8, #1",
            "bne.n 62f",
            "b.w 20b",
            ".p2align 2",
            "61:",
            "ldr r8, [sp, #68]",
            "62:",
            "str r8, [sp, #32]",
            step!("0"),
            "ldr r8, [sp, #32]",
            "subs r8, r8, #1",
            "bne.n 62b",
            "b.w 20b",
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
            sum_difference!("r0", "r1", "r2", "r3", "ldr r0, [sp, #72]\n add r0, r12, r0"),
            "add r12, r12, #32",
            sum_difference!("r4", "r5", "r6", "r7", "add r0, r0, #32"),
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
            "str lr, [sp, #132]",
            "ldr lr, [sp, #80]",
            "strd r4, r5, [sp, #116]",
            "strd r6, r7, [sp, #124]",
            middle!(),
            "ldrd r0, r1, [sp, #116]",
            "ldrd r2, r3, [sp, #124]",
            "add r12, r12, #32",
            middle!(),
            "ldr pc, [sp, #132]",
            steps = const STEPS,
            edge_steps = const EDGE_STEPS,
        )
    }
}
