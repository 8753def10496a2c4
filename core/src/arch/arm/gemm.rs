//! The matrix product under both convolutions: tiles of 4 output channels x 2 columns, int16 in pairs along the sum.
//!
//! One *pair step* of a tile reads two words of the columns (column 0, column 1) and four of the weights (channels 0 to
//! 3), each a pair of i16 that follow each other in the sum, and does 8 SMLAD: 11 instructions for 16 products. The
//! accumulators stay in r0 to r7 (r0-r3 channels 0-3 of column 0, r4-r7 of column 1), and the body is unrolled for
//! [`MAX_PAIRS`] steps and entered where the wanted number is left, so that there is no loop to count. Everything wraps.

/// Most pair steps of one call; longer sums are cut, because every call adds to what is there.
pub const MAX_PAIRS: usize = 32;

/// i32 of one tile of [`direct`]: [column 2][channel 4].
pub const TILE: usize = 8;

/// i32 of one tile of [`winograd`]: [row 2][column of the output 2][tile 2][channel 4].
pub const WINOGRAD_TILE: usize = 32;

/// How the products of one vertical index of F(2x2) enter the two rows of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rows {
    /// Added to row 0 and to row 1.
    Both = 0,
    /// Added to row 0, subtracted from row 1.
    Difference = 1,
    /// Twice, added to row 0.
    First = 2,
    /// Twice, added to row 1.
    Second = 3,
}

/// For every tile t: y\[t\]\[column\]\[channel\] += sum over p of columns\[t\]\[p\]\[column\] * weights\[p\]\[channel\].
///
/// weights: [pairs][4], columns: [tiles][pairs][2], y: [tiles][[`TILE`]]; the tiles' columns lie `stride` words apart.
pub fn direct(weights: &[u32], columns: &[u32], stride: usize, y: &mut [i32], pairs: usize) {
    let tiles = y.len() / TILE;
    assert!((1..=MAX_PAIRS).contains(&pairs) && weights.len() >= pairs * 4);
    assert!(tiles > 0 && stride >= pairs * 2 && columns.len() >= (tiles - 1) * stride + pairs * 2);
    #[cfg(arm_dsp)]
    // SAFETY: the lengths were checked; it reads `pairs` steps of weights and per tile of columns, and changes
    // `tiles` whole tiles of y.
    unsafe {
        asm::direct(
            columns.as_ptr(),
            weights.as_ptr(),
            y.as_mut_ptr(),
            tiles,
            asm::skip(pairs),
            (stride - pairs * 2) * 4,
        );
    }
    #[cfg(not(arm_dsp))]
    for (t, y) in y.chunks_exact_mut(TILE).enumerate() {
        model::steps(weights, &columns[t * stride..], pairs, y);
    }
}

/// F(2x2) of one vertical index: per tile pair the four products along the horizontal index, in the order 1, 2, 0, 3,
/// become two columns of outputs, which enter the two rows as `rows` says.
///
/// weights: [4][pairs][4], data: [tile pairs][4][pairs][2], y: [tile pairs][[`WINOGRAD_TILE`]].
pub fn winograd(weights: &[u32], data: &[u32], y: &mut [i32], pairs: usize, rows: Rows) {
    let tiles = y.len() / WINOGRAD_TILE;
    assert!((1..=MAX_PAIRS).contains(&pairs) && tiles > 0);
    assert!(weights.len() >= pairs * 16 && data.len() >= tiles * pairs * 8);
    #[cfg(arm_dsp)]
    // SAFETY: the lengths were checked; it reads four times `pairs` steps of weights and per tile pair of data, and
    // changes `tiles` whole entries of y.
    unsafe {
        asm::winograd(data.as_ptr(), weights.as_ptr(), y.as_mut_ptr(), tiles, asm::skip(pairs), rows as u32);
    }
    #[cfg(not(arm_dsp))]
    for (data, y) in data.chunks_exact(pairs * 8).zip(y.chunks_exact_mut(WINOGRAD_TILE)) {
        model::tile_pair(weights, data, y, pairs, rows);
    }
}

/// The same sums in plain Rust, in the order of the assembly.
#[cfg(not(arm_dsp))]
mod model {
    use super::super::simd::smlad;
    use super::*;

    pub fn steps(weights: &[u32], columns: &[u32], pairs: usize, acc: &mut [i32]) {
        for (w, v) in weights.chunks_exact(4).zip(columns.chunks_exact(2)).take(pairs) {
            for (column, &v) in v.iter().enumerate() {
                for (channel, &w) in w.iter().enumerate() {
                    acc[column * 4 + channel] = smlad(w, v, acc[column * 4 + channel]);
                }
            }
        }
    }

    pub fn tile_pair(weights: &[u32], data: &[u32], y: &mut [i32], pairs: usize, rows: Rows) {
        let mut acc = [0; TILE];
        let step =
            |j: usize, acc: &mut [i32; TILE]| steps(&weights[j * pairs * 4..], &data[j * pairs * 2..], pairs, acc);
        step(0, &mut acc);
        let one = acc;
        step(1, &mut acc);
        let mut minus: [i32; TILE] = core::array::from_fn(|i| one[i].wrapping_mul(2).wrapping_sub(acc[i]));
        step(2, &mut acc);
        step(3, &mut minus);
        let (first, second) = y.split_at_mut(2 * TILE);
        for (i, h) in acc.into_iter().chain(minus).enumerate() {
            match rows {
                Rows::Both => (first[i], second[i]) = (first[i].wrapping_add(h), second[i].wrapping_add(h)),
                Rows::Difference => (first[i], second[i]) = (first[i].wrapping_add(h), second[i].wrapping_sub(h)),
                Rows::First => first[i] = first[i].wrapping_add(h.wrapping_mul(2)),
                Rows::Second => second[i] = second[i].wrapping_add(h.wrapping_mul(2)),
            }
        }
    }
}

#[cfg(arm_dsp)]
mod asm {
    //! r12 walks over the columns, lr over the weights; r8, r9 hold the two columns, r10, r11 two channels.

    use super::MAX_PAIRS;
    use core::arch::naked_asm;

    /// Bytes of code of one pair step: three LDRD and eight SMLAD of four bytes each.
    const STEP: usize = 44;

    /// Bytes of the unrolled body to jump over for `pairs` steps.
    pub fn skip(pairs: usize) -> usize {
        (MAX_PAIRS - pairs) * STEP
    }

    /// Functions that are all assembly do not know the CPU they are compiled for, and Armv8-M has not always DSP
    /// instructions.
    #[cfg(armv8m)]
    macro_rules! cpu {
        () => {
            ".cpu cortex-m33"
        };
    }
    #[cfg(not(armv8m))]
    macro_rules! cpu {
        () => {
            ""
        };
    }

    /// The unrolled body: label 20, then MAX_PAIRS steps.
    macro_rules! body {
        () => {
            "20:
            .rept {max}
            ldrd r8, r9, [r12], #8
            ldrd r10, r11, [lr], #8
            smlad r0, r10, r8, r0
            smlad r1, r11, r8, r1
            smlad r4, r10, r9, r4
            smlad r5, r11, r9, r5
            ldrd r10, r11, [lr], #8
            smlad r2, r10, r8, r2
            smlad r3, r11, r8, r3
            smlad r6, r10, r9, r6
            smlad r7, r11, r9, r7
            .endr
            "
        };
    }

    /// Arguments: columns, weights, y, tiles (not 0), bytes of the body to skip, bytes from the end of a tile's columns
    /// to the next ones. Frame: sp+0 weights, +4 y, +8 tiles left, +12 entry into the body, +16 gap.
    #[unsafe(naked)]
    pub unsafe extern "C" fn direct(
        columns: *const u32,
        weights: *const u32,
        y: *mut i32,
        tiles: usize,
        skip: usize,
        gap: usize,
    ) {
        naked_asm!(
            cpu!(),
            "push {{r4-r11, lr}}",
            "ldrd r4, r5, [sp, #36]",
            "mov r12, r0",
            // Bit 0: Thumb.
            "adr.w r6, 20f",
            "add.w r6, r6, #1",
            "add.w r4, r4, r6",
            "push {{r1-r5}}",
            "10:",
            "ldrd lr, r8, [sp]",
            "ldm r8, {{r0-r7}}",
            "ldr pc, [sp, #12]",
            body!(),
            "ldrd r8, r9, [sp, #4]",
            "stm r8!, {{r0-r7}}",
            "ldr r10, [sp, #16]",
            "add r12, r12, r10",
            "subs r9, r9, #1",
            "strd r8, r9, [sp, #4]",
            "bne.w 10b",
            "add sp, #20",
            "pop {{r4-r11, pc}}",
            max = const MAX_PAIRS,
        )
    }

    /// Arguments: data, weights, y, tile pairs (not 0), bytes of the body to skip, [`Rows`](super::Rows).
    ///
    /// Frame: sp+0..32 what waits while the registers hold something else, +32 weights, +36 y, +40 tile pairs left,
    /// +44 entry into the body, +48 code after the body, +52 code after the rows, +56 code for the rows.
    #[unsafe(naked)]
    pub unsafe extern "C" fn winograd(
        data: *const u32,
        weights: *const u32,
        y: *mut i32,
        tile_pairs: usize,
        skip: usize,
        rows: u32,
    ) {
        naked_asm!(
            cpu!(),
            "push {{r4-r11, lr}}",
            "ldrd r4, r5, [sp, #36]",
            "mov r12, r0",
            "adr.w r6, 20f",
            "add.w r6, r6, #1",
            "add.w r4, r4, r6",
            "sub sp, #60",
            "add r6, sp, #32",
            "stm r6, {{r1-r4}}",
            "adr.w r6, 30f",
            "cmp r5, #1",
            "it eq",
            "adreq.w r6, 31f",
            "cmp r5, #2",
            "it hs",
            "adrhs.w r6, 32f",
            "add.w r6, r6, #1",
            "str r6, [sp, #56]",
            // Row 1 of outputs lies 64 bytes after row 0.
            "cmp r5, #3",
            "it eq",
            "addeq r2, r2, #64",
            "str r2, [sp, #36]",
            // A tile pair: M1, kept; then M1 + M2 = P, and M1 - M2 = 2 M1 - P, kept.
            "10:",
            "ldr lr, [sp, #32]",
            "adr.w r8, 11f",
            "add.w r8, r8, #1",
            "str r8, [sp, #48]",
            "mov.w r0, #0",
            "mov.w r1, #0",
            "mov.w r2, #0",
            "mov.w r3, #0",
            "mov.w r4, #0",
            "mov.w r5, #0",
            "mov.w r6, #0",
            "mov.w r7, #0",
            "ldr pc, [sp, #44]",
            ".p2align 2",
            "11:",
            "stm.w sp, {{r0-r7}}",
            "adr.w r8, 12f",
            "add.w r8, r8, #1",
            "str r8, [sp, #48]",
            "ldr pc, [sp, #44]",
            ".p2align 2",
            "12:",
            "ldrd r8, r9, [sp]",
            "rsb r8, r0, r8, lsl #1",
            "rsb r9, r1, r9, lsl #1",
            "strd r8, r9, [sp]",
            "ldrd r8, r9, [sp, #8]",
            "rsb r8, r2, r8, lsl #1",
            "rsb r9, r3, r9, lsl #1",
            "strd r8, r9, [sp, #8]",
            "ldrd r8, r9, [sp, #16]",
            "rsb r8, r4, r8, lsl #1",
            "rsb r9, r5, r9, lsl #1",
            "strd r8, r9, [sp, #16]",
            "ldrd r8, r9, [sp, #24]",
            "rsb r8, r6, r8, lsl #1",
            "rsb r9, r7, r9, lsl #1",
            "strd r8, r9, [sp, #24]",
            // Column 0: M0 comes to P, and the sum goes to its rows.
            "ldr r8, [sp, #56]",
            "adr.w r9, 13f",
            "add.w r9, r9, #1",
            "str r8, [sp, #48]",
            "str r9, [sp, #52]",
            "ldr pc, [sp, #44]",
            // Column 1: M3 comes to what was kept.
            ".p2align 2",
            "13:",
            "ldm.w sp, {{r0-r7}}",
            "adr.w r8, 14f",
            "add.w r8, r8, #1",
            "str r8, [sp, #52]",
            "ldr pc, [sp, #44]",
            ".p2align 2",
            "14:",
            "ldrd r8, r9, [sp, #36]",
            "add.w r8, r8, #64",
            "subs r9, r9, #1",
            "strd r8, r9, [sp, #36]",
            "bne.w 10b",
            "add sp, #60",
            "pop {{r4-r11, pc}}",
            body!(),
            "ldr pc, [sp, #48]",
            // Rows: y[row 0] += h, y[row 1] += h.
            ".p2align 2",
            "30:",
            "strd r12, lr, [sp, #-8]!",
            "ldr r8, [sp, #44]",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r0",
            "add r10, r10, r1",
            "add r11, r11, r2",
            "add r12, r12, r3",
            "stm r8!, {{r9-r12}}",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r4",
            "add r10, r10, r5",
            "add r11, r11, r6",
            "add r12, r12, r7",
            "stm r8!, {{r9-r12}}",
            "str r8, [sp, #44]",
            "add r8, r8, #32",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r0",
            "add r10, r10, r1",
            "add r11, r11, r2",
            "add r12, r12, r3",
            "stm r8!, {{r9-r12}}",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r4",
            "add r10, r10, r5",
            "add r11, r11, r6",
            "add r12, r12, r7",
            "stm r8!, {{r9-r12}}",
            "ldrd r12, lr, [sp], #8",
            "ldr pc, [sp, #52]",
            // Rows: y[row 0] += h, y[row 1] -= h.
            ".p2align 2",
            "31:",
            "strd r12, lr, [sp, #-8]!",
            "ldr r8, [sp, #44]",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r0",
            "add r10, r10, r1",
            "add r11, r11, r2",
            "add r12, r12, r3",
            "stm r8!, {{r9-r12}}",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r4",
            "add r10, r10, r5",
            "add r11, r11, r6",
            "add r12, r12, r7",
            "stm r8!, {{r9-r12}}",
            "str r8, [sp, #44]",
            "add r8, r8, #32",
            "ldm r8, {{r9-r12}}",
            "sub r9, r9, r0",
            "sub r10, r10, r1",
            "sub r11, r11, r2",
            "sub r12, r12, r3",
            "stm r8!, {{r9-r12}}",
            "ldm r8, {{r9-r12}}",
            "sub r9, r9, r4",
            "sub r10, r10, r5",
            "sub r11, r11, r6",
            "sub r12, r12, r7",
            "stm r8!, {{r9-r12}}",
            "ldrd r12, lr, [sp], #8",
            "ldr pc, [sp, #52]",
            // Rows: y += 2 h, in the row that y points to.
            ".p2align 2",
            "32:",
            "strd r12, lr, [sp, #-8]!",
            "ldr r8, [sp, #44]",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r0, lsl #1",
            "add r10, r10, r1, lsl #1",
            "add r11, r11, r2, lsl #1",
            "add r12, r12, r3, lsl #1",
            "stm r8!, {{r9-r12}}",
            "ldm r8, {{r9-r12}}",
            "add r9, r9, r4, lsl #1",
            "add r10, r10, r5, lsl #1",
            "add r11, r11, r6, lsl #1",
            "add r12, r12, r7, lsl #1",
            "stm r8!, {{r9-r12}}",
            "str r8, [sp, #44]",
            "ldrd r12, lr, [sp], #8",
            "ldr pc, [sp, #52]",
            max = const MAX_PAIRS,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;

    fn words(n: &mut Numbers, count: usize) -> Vec<u32> {
        n.i16s(2 * count).chunks(2).map(|p| p[0] as u16 as u32 | (p[1] as u16 as u32) << 16).collect()
    }

    fn half(words: &[u32], pair: usize, of: usize, lane: usize, k: usize) -> i64 {
        i64::from((words[pair * of + lane] >> (16 * k)) as i16)
    }

    #[test]
    fn direct_tiles_equal_the_sum_and_wrap() {
        let mut n = Numbers(81);
        for (pairs, tiles, stride) in [(1, 1, 2), (2, 3, 4), (32, 2, 70)] {
            let (weights, columns) = (words(&mut n, pairs * 4), words(&mut n, tiles * stride));
            let mut y = vec![7; tiles * TILE];
            direct(&weights, &columns, stride, &mut y, pairs);
            for (i, &got) in y.iter().enumerate() {
                let (t, column, channel) = (i / TILE, i / 4 % 2, i % 4);
                let sum: i64 = (0..2 * pairs)
                    .map(|k| {
                        half(&weights, k / 2, 4, channel, k % 2) * half(&columns[t * stride..], k / 2, 2, column, k % 2)
                    })
                    .sum();
                assert_eq!(got, (sum + 7) as i32);
            }
        }
    }
}
