//! The cells' transform: one vertical index of a strip of tiles, four channels at a time.
//!
//! Vertically the rows a, b, c, d that the index needs become one row ([`Combine`]); horizontally four columns d0 to d3
//! of that row become, in the panel's order,
//!
//! ```text
//! slot 0: d1 + d2    slot 1: d2 - d1    slot 2: 2 (d0 - d2)    slot 3: 2 (d3 - d1)
//! ```
//!
//! Panel: [tile pair][channel pair][slot 4][tile of the pair 2], words of two i16. Four channels (0, 1, 2, 3) are the
//! channel pairs (0, 2) and (1, 3), which is what SXTB16 yields.

use crate::arch::arm::simd::pair;

/// What becomes of the rows of one vertical index. All are exact in i16: see the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// a - b
    Difference,
    /// a + b
    Sum,
    /// 4 (a - b) + (c - d)
    Four,
    /// 2 (a - b) + (c - d)
    Two,
    /// (c + d) - 4 (a + b)
    Outer,
}

impl Combine {
    /// The combination of four cells that hold 1.
    const fn weight(self) -> i32 {
        match self {
            Self::Difference | Self::Four | Self::Two => 0,
            Self::Sum => 2,
            Self::Outer => -6,
        }
    }
}

/// Tiles of one tile row that follow each other, as the assembly reads them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Strip {
    /// The first cell of each row that is read; for a row outside the picture, cells that hold the zero point.
    pub rows: [*const i8; 4],
    /// Bytes from a cell to the next.
    pub cell: usize,
    /// Groups of four channels.
    pub groups: usize,
    /// Tiles of which the third and the fourth column are within the picture.
    pub tiles: usize,
    /// The first tile's first word in the panel; 8-byte aligned for an even tile, 4 bytes behind that for an odd one.
    pub panel: *mut u32,
    /// Bytes from a tile pair to the next.
    pub block: usize,
    /// 1 if the column left of the first tile is outside the picture, else 0.
    pub left: usize,
    /// 1 if one more tile follows whose fourth column is outside, 2 if its third is too, else 0.
    pub tail: usize,
    /// Combination of cells outside, twice.
    pub outside: u32,
    /// What slot 0 has too much of, twice: the zero point's part.
    pub zero: u32,
}

impl Strip {
    /// The two words that the zero point makes: (outside, zero).
    pub fn zeros(combine: Combine, zp: i32) -> (u32, u32) {
        let outside = combine.weight() * zp;
        (pair(outside, outside), pair(2 * outside, 2 * outside))
    }

    /// Transforms the strip.
    ///
    /// # Safety
    /// - From each of the rows the cells of the strip can be read: 2 * tiles + 2 - left, one more where the tail is 1;
    ///   `cell` bytes apart, 4 * groups bytes of each.
    /// - The panel has all tiles of the strip.
    pub unsafe fn transform(&self, combine: Combine) {
        #[cfg(arm_dsp)]
        // SAFETY: the caller says so.
        unsafe {
            match combine {
                // Of F(2x2) alone.
                Combine::Difference | Combine::Sum if !super::WITH_TWO => {}
                Combine::Difference => asm::difference(self),
                Combine::Sum => asm::sum(self),
                Combine::Four => asm::four(self),
                Combine::Two => asm::two(self),
                Combine::Outer => asm::outer(self),
            }
        }
        #[cfg(not(arm_dsp))]
        // SAFETY: the caller says so.
        unsafe {
            self.model(combine);
        }
    }

    /// The same in plain Rust.
    ///
    /// # Safety
    /// As [`Strip::transform`].
    #[cfg(not(arm_dsp))]
    unsafe fn model(&self, combine: Combine) {
        use crate::arch::arm::simd::{add16, sub16, sxtb16, sxtb16_odd};
        for group in 0..self.groups {
            let mut read = 0;
            let mut column = || {
                let at = read * self.cell + 4 * group;
                read += 1;
                [0, 1].map(|half| {
                    let [a, b, c, d] = self.rows.map(|row| {
                        // SAFETY: the caller says so.
                        let word = u32::from_le(unsafe { row.add(at).cast::<u32>().read_unaligned() });
                        if half == 0 { sxtb16(word) } else { sxtb16_odd(word) }
                    });
                    let twice = |x: u32| add16(x, x);
                    match combine {
                        Combine::Difference => sub16(a, b),
                        Combine::Sum => add16(a, b),
                        Combine::Four => add16(twice(twice(sub16(a, b))), sub16(c, d)),
                        Combine::Two => add16(twice(sub16(a, b)), sub16(c, d)),
                        Combine::Outer => sub16(add16(c, d), twice(twice(add16(a, b)))),
                    }
                })
            };
            let outside = [self.outside; 2];
            let mut d0 = if self.left == 1 { outside } else { column() };
            let mut d1 = column();
            let odd = self.panel.addr() / 4 % 2;
            for tile in 0..self.tiles + usize::from(self.tail > 0) {
                let last = tile == self.tiles;
                let d2 = if last && self.tail == 2 { outside } else { column() };
                let d3 = if last { outside } else { column() };
                for half in 0..2 {
                    let (d0, d1, d2, d3) = (d0[half], d1[half], d2[half], d3[half]);
                    let (edge, far) = (sub16(d0, d2), sub16(d3, d1));
                    let slots = [sub16(add16(d1, d2), self.zero), sub16(d2, d1), add16(edge, edge), add16(far, far)];
                    for (slot, word) in slots.into_iter().enumerate() {
                        let number = odd + tile;
                        let at = number / 2 * (self.block / 4) + number % 2 + (2 * group + half) * 8 + 2 * slot;
                        // SAFETY: the caller says so.
                        unsafe { self.panel.sub(odd).add(at).write(word) };
                    }
                }
                (d0, d1) = (d2, d3);
            }
        }
    }
}

#[cfg(arm_dsp)]
mod asm {
    //! r0, r1 column d0 (then d3), r2, r3 column d1, r4, r5 column d2: channels (0, 2) and (1, 3). r9 walks over row a,
    //! and rows b, c, d lie r10, r6, r7 bytes from it; r11 is the cell's size, r12 walks over the panel, r8 and lr help.
    //!
    //! Frame: sp+0 row a, +4 panel, +8 end of the panel, all of the group; +12 block, +16 outside, +20 zero, +24 groups
    //! left, +28 left, +32 tail.

    use super::Strip;
    use core::arch::naked_asm;

    /// A column of $combine into $lo, $hi; row a moves on by a cell.
    macro_rules! column {
        (difference, $lo:literal, $hi:literal) => {
            concat!(
                "ldr ",
                $hi,
                ", [r9]\n ldr r8, [r9, r10]\n add r9, r9, r11\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtb16 lr, r8\n ssub16 ",
                $lo,
                ", ",
                $lo,
                ", lr\n",
                "sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n sxtb16 r8, r8, ror #8\n ssub16 ",
                $hi,
                ", ",
                $hi,
                ", r8\n",
            )
        };
        (sum, $lo:literal, $hi:literal) => {
            concat!(
                "ldr ",
                $hi,
                ", [r9]\n ldr r8, [r9, r10]\n add r9, r9, r11\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r8\n",
                "sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r8, ror #8\n",
            )
        };
        (two, $lo:literal, $hi:literal) => {
            concat!(column!(minuend, $lo, $hi), column!(rest, $lo, $hi),)
        };
        (four, $lo:literal, $hi:literal) => {
            concat!(
                column!(minuend, $lo, $hi),
                "sadd16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $lo,
                "\n sadd16 ",
                $hi,
                ", ",
                $hi,
                ", ",
                $hi,
                "\n",
                column!(rest, $lo, $hi),
            )
        };
        (outer, $lo:literal, $hi:literal) => {
            concat!(
                "ldr ",
                $hi,
                ", [r9]\n ldr r8, [r9, r10]\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r8\n",
                "sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r8, ror #8\n",
                "sadd16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $lo,
                "\n sadd16 ",
                $hi,
                ", ",
                $hi,
                ", ",
                $hi,
                "\n",
                "sadd16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $lo,
                "\n sadd16 ",
                $hi,
                ", ",
                $hi,
                ", ",
                $hi,
                "\n",
                "ldr r8, [r9, r6]\n",
                "sxtb16 lr, r8\n ssub16 ",
                $lo,
                ", lr, ",
                $lo,
                "\n",
                "sxtb16 r8, r8, ror #8\n ssub16 ",
                $hi,
                ", r8, ",
                $hi,
                "\n",
                "ldr r8, [r9, r7]\n add r9, r9, r11\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r8\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r8, ror #8\n",
            )
        };
        // 2 (a - b)
        (minuend, $lo:literal, $hi:literal) => {
            concat!(
                "ldr ",
                $hi,
                ", [r9]\n ldr r8, [r9, r10]\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtb16 lr, r8\n ssub16 ",
                $lo,
                ", ",
                $lo,
                ", lr\n",
                "sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n sxtb16 r8, r8, ror #8\n ssub16 ",
                $hi,
                ", ",
                $hi,
                ", r8\n",
                "sadd16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $lo,
                "\n sadd16 ",
                $hi,
                ", ",
                $hi,
                ", ",
                $hi,
                "\n",
            )
        };
        // + c - d
        (rest, $lo:literal, $hi:literal) => {
            concat!(
                "ldr r8, [r9, r6]\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r8\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r8, ror #8\n",
                "ldr r8, [r9, r7]\n add r9, r9, r11\n",
                "sxtb16 lr, r8\n ssub16 ",
                $lo,
                ", ",
                $lo,
                ", lr\n",
                "sxtb16 r8, r8, ror #8\n ssub16 ",
                $hi,
                ", ",
                $hi,
                ", r8\n",
            )
        };
    }

    /// Slots 0 to 2 of the tile at r12 + $lane, from the columns d0 = $a, d1 = $b, d2 = $c. d0 is gone then.
    macro_rules! three_slots {
        (with_zero, $lane:literal, $a:literal, $a2:literal, $b:literal, $b2:literal, $c:literal, $c2:literal) => {
            concat!(
                "ldr r8, [sp, #20]\n",
                "sadd16 lr, ",
                $b,
                ", ",
                $c,
                "\n ssub16 lr, lr, r8\n str lr, [r12, #",
                $lane,
                "]\n",
                "sadd16 lr, ",
                $b2,
                ", ",
                $c2,
                "\n ssub16 lr, lr, r8\n str lr, [r12, #32+",
                $lane,
                "]\n",
                three_slots!(others, $lane, $a, $a2, $b, $b2, $c, $c2),
            )
        };
        (without_zero, $lane:literal, $a:literal, $a2:literal, $b:literal, $b2:literal, $c:literal, $c2:literal) => {
            concat!(
                "sadd16 lr, ",
                $b,
                ", ",
                $c,
                "\n str lr, [r12, #",
                $lane,
                "]\n",
                "sadd16 lr, ",
                $b2,
                ", ",
                $c2,
                "\n str lr, [r12, #32+",
                $lane,
                "]\n",
                three_slots!(others, $lane, $a, $a2, $b, $b2, $c, $c2),
            )
        };
        (others, $lane:literal, $a:literal, $a2:literal, $b:literal, $b2:literal, $c:literal, $c2:literal) => {
            concat!(
                "ssub16 lr, ",
                $c,
                ", ",
                $b,
                "\n str lr, [r12, #8+",
                $lane,
                "]\n",
                "ssub16 lr, ",
                $c2,
                ", ",
                $b2,
                "\n str lr, [r12, #40+",
                $lane,
                "]\n",
                twice_difference!($a, $c, "16", $lane),
                twice_difference!($a2, $c2, "48", $lane),
            )
        };
    }

    /// $a = 2 ($a - $c), stored.
    macro_rules! twice_difference {
        ($a:literal, $c:literal, $at:literal, $lane:literal) => {
            concat!(
                "ssub16 ",
                $a,
                ", ",
                $a,
                ", ",
                $c,
                "\n sadd16 ",
                $a,
                ", ",
                $a,
                ", ",
                $a,
                "\n",
                "str ",
                $a,
                ", [r12, #",
                $at,
                "+",
                $lane,
                "]\n",
            )
        };
    }

    /// Slot 3, from the columns d1 = $b and d3 = $d. d1 is gone then.
    macro_rules! last_slot {
        ($lane:literal, $b:literal, $b2:literal, $d:literal, $d2:literal) => {
            concat!(
                "ssub16 ",
                $b,
                ", ",
                $d,
                ", ",
                $b,
                "\n sadd16 ",
                $b,
                ", ",
                $b,
                ", ",
                $b,
                "\n",
                "str ",
                $b,
                ", [r12, #24+",
                $lane,
                "]\n",
                "ssub16 ",
                $b2,
                ", ",
                $d2,
                ", ",
                $b2,
                "\n sadd16 ",
                $b2,
                ", ",
                $b2,
                ", ",
                $b2,
                "\n",
                "str ",
                $b2,
                ", [r12, #56+",
                $lane,
                "]\n",
            )
        };
    }

    macro_rules! transform {
        ($name:ident, $zero:tt) => {
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name(strip: *const Strip) {
                naked_asm!(
                    cpu!(),
                    "push {{r4-r11, lr}}",
                    "sub sp, #36",
                    "ldm r0!, {{r1, r2, r3, r4}}",
                    "sub r10, r2, r1",
                    "sub r6, r3, r1",
                    "sub r7, r4, r1",
                    // cell, groups, tiles, panel; then block, left, tail, outside, zero.
                    "ldm r0!, {{r2, r3, r4, r5}}",
                    "mov r11, r2",
                    "ldm r0, {{r0, r2, r8, r9, r12}}",
                    "strd r1, r5, [sp]",
                    "strd r0, r9, [sp, #12]",
                    "strd r12, r3, [sp, #20]",
                    "strd r2, r8, [sp, #28]",
                    // The end: tiles / 2 blocks on, and an odd tile is one word further, or a block less a word.
                    "lsr r1, r4, #1",
                    "mla r5, r1, r0, r5",
                    "lsls r4, r4, #31",
                    "beq 1f",
                    "eor r5, r5, #4",
                    "tst r5, #4",
                    "it eq",
                    "addeq r5, r5, r0",
                    "1:",
                    "str r5, [sp, #8]",
                    // A group of four channels.
                    "2:",
                    "ldrd r9, r12, [sp]",
                    "ldr r0, [sp, #28]",
                    "cbnz r0, 3f",
                    column!($name, "r0", "r1"),
                    "b 4f",
                    "3:",
                    "ldr r0, [sp, #16]",
                    "mov r1, r0",
                    "4:",
                    column!($name, "r2", "r3"),
                    "b.w 6f",
                    // One tile: the second of its pair, or the first of a pair whose second is another strip's.
                    "5:",
                    column!($name, "r4", "r5"),
                    three_slots!($zero, "0", "r0", "r1", "r2", "r3", "r4", "r5"),
                    column!($name, "r0", "r1"),
                    last_slot!("0", "r2", "r3", "r0", "r1"),
                    "mov r2, r0",
                    "mov r3, r1",
                    "mov r0, r4",
                    "mov r1, r5",
                    "ldr lr, [sp, #12]",
                    "eor r12, r12, #4",
                    "tst r12, #4",
                    "it eq",
                    "addeq r12, r12, lr",
                    "6:",
                    "ldr lr, [sp, #8]",
                    "cmp r12, lr",
                    "beq.w 10f",
                    "tst r12, #4",
                    "bne.w 5b",
                    "bic lr, lr, #4",
                    "cmp r12, lr",
                    "beq.w 5b",
                    // Both tiles of a pair.
                    "7:",
                    column!($name, "r4", "r5"),
                    three_slots!($zero, "0", "r0", "r1", "r2", "r3", "r4", "r5"),
                    column!($name, "r0", "r1"),
                    last_slot!("0", "r2", "r3", "r0", "r1"),
                    column!($name, "r2", "r3"),
                    three_slots!($zero, "4", "r4", "r5", "r0", "r1", "r2", "r3"),
                    column!($name, "r4", "r5"),
                    last_slot!("4", "r0", "r1", "r4", "r5"),
                    "mov r0, r2",
                    "mov r1, r3",
                    "mov r2, r4",
                    "mov r3, r5",
                    "ldrd r8, lr, [sp, #8]",
                    "add r12, r12, lr",
                    "bic r8, r8, #4",
                    "cmp r12, r8",
                    "bne.w 7b",
                    "b.w 6b",
                    // The last tile.
                    "10:",
                    "ldr lr, [sp, #32]",
                    "cmp lr, #1",
                    "blt.w 13f",
                    "beq 11f",
                    "ldr r4, [sp, #16]",
                    "mov r5, r4",
                    "b 12f",
                    "11:",
                    column!($name, "r4", "r5"),
                    "12:",
                    three_slots!($zero, "0", "r0", "r1", "r2", "r3", "r4", "r5"),
                    "ldr r0, [sp, #16]",
                    "mov r1, r0",
                    last_slot!("0", "r2", "r3", "r0", "r1"),
                    "13:",
                    "ldm sp, {{r0, r1, r2}}",
                    "add r0, r0, #4",
                    "add r1, r1, #64",
                    "add r2, r2, #64",
                    "stm sp, {{r0, r1, r2}}",
                    "ldr r0, [sp, #24]",
                    "subs r0, r0, #1",
                    "str r0, [sp, #24]",
                    "bne.w 2b",
                    "add sp, #36",
                    "pop {{r4-r11, pc}}",
                )
            }
        };
    }

    transform!(difference, without_zero);
    transform!(sum, with_zero);
    transform!(four, without_zero);
    transform!(two, without_zero);
    transform!(outer, with_zero);
}
