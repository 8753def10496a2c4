//! The matrix product under the direct convolution: tiles of 4 output channels x 2 columns, int16 in pairs along the sum.
//!
//! One *pair step* of a tile reads two words of the columns (column 0, column 1) and four of the weights (channels 0 to
//! 3), each a pair of i16 that follow each other in the sum, and does 8 SMLAD: 11 instructions for 16 products. The
//! accumulators stay in r0 to r7 (r0-r3 channels 0-3 of column 0, r4-r7 of column 1), and the body is unrolled for
//! [`MAX_PAIRS`] steps and entered where the wanted number is left, so that there is no loop to count. Everything wraps.

/// Most pair steps of one call; longer sums are cut, because every call adds to what is there.
pub const MAX_PAIRS: usize = 32;

/// i32 of one tile of [`direct`]: [column 2][channel 4].
pub const TILE: usize = 8;

/// For every tile t: y\[t\]\[column\]\[channel\] += sum over p of columns\[t\]\[p\]\[column\] * weights\[p\]\[channel\].
///
/// weights: [pairs][4], columns: [tiles][pairs][2], y: [tiles][[`TILE`]]; the tiles' columns lie `stride` words apart.
pub fn direct(weights: &[u32], columns: &[u32], stride: usize, y: &mut [i32], pairs: usize) {
    let tiles = y.len() / TILE;
    require!((1..=MAX_PAIRS).contains(&pairs) && weights.len() >= pairs * 4);
    require!(tiles > 0 && stride >= pairs * 2 && columns.len() >= (tiles - 1) * stride + pairs * 2);
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

/// The same sums in plain Rust, in the order of the assembly.
#[cfg(not(arm_dsp))]
mod model {
    use super::super::simd::smlad;

    pub fn steps(weights: &[u32], columns: &[u32], pairs: usize, acc: &mut [i32]) {
        for (w, v) in weights.chunks_exact(4).zip(columns.chunks_exact(2)).take(pairs) {
            for (column, &v) in v.iter().enumerate() {
                for (channel, &w) in w.iter().enumerate() {
                    acc[column * 4 + channel] = smlad(w, v, acc[column * 4 + channel]);
                }
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
