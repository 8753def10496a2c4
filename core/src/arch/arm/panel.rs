//! Operands of the matrix product: int16 pairs from int8 tensors as they lie. Every four consecutive numbers
//! (0, 1, 2, 3) of a sum become the two pairs (0, 2) and (1, 3), which is what SXTB16 yields: the order within a sum
//! is free, as long as both operands have the same.

#[cfg(not(arm_dsp))]
use super::simd::{pair, sub16};
use super::simd::{sxtb16, sxtb16_odd};
use crate::ops::ConvIn;
use crate::part::part_mut;

/// Output channels of a weight panel.
pub const CHANNELS: usize = 4;

/// Four bytes as a word.
///
/// # Safety
/// `at + 4` is within `bytes`.
#[inline(always)]
pub unsafe fn word(bytes: &[i8], at: usize) -> u32 {
    debug_assert!(at + 4 <= bytes.len());
    // SAFETY: the caller says so; the read has no alignment.
    u32::from_le(unsafe { bytes.as_ptr().add(at).cast::<u32>().read_unaligned() })
}

/// Up to four bytes as a word, zeros behind them.
#[inline(never)]
pub fn short_word(bytes: &[i8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte as u8))
}

/// The numbers of four channels as a panel [pairs][4]; zeros after the last, also where there are none.
pub fn weights(rows: [&[i8]; CHANNELS], panel: &mut [u32]) {
    for (lane, row) in rows.into_iter().enumerate() {
        let mut fill = panel.chunks_exact_mut(2 * CHANNELS);
        let (fours, tail) = row.as_chunks::<4>();
        for (four, pairs) in fours.iter().zip(&mut fill) {
            let word = u32::from_le_bytes(four.map(|byte| byte as u8));
            pairs[lane] = sxtb16(word);
            pairs[CHANNELS + lane] = sxtb16_odd(word);
        }
        for (bytes, pairs) in tail.chunks(4).chain(core::iter::repeat(&[][..])).zip(fill) {
            let word = short_word(bytes);
            pairs[lane] = sxtb16(word);
            pairs[CHANNELS + lane] = sxtb16_odd(word);
        }
    }
}

/// The numbers `from..from + run` of the input, minus the zero point, as numbers `at..` of one of the two columns of a
/// panel [pairs][2]. All three are multiples of four.
pub fn column(input: &ConvIn<'_>, zero: u32, from: usize, run: usize, panel: &mut [u32], lane: usize) {
    require!(lane < 2 && run.is_multiple_of(4) && panel.len() >= run);
    #[cfg(arm_dsp)]
    {
        // SAFETY: the panel has `run` numbers, and a lane is within the first word of two.
        let panel = unsafe { panel.as_mut_ptr().add(lane) };
        match input {
            ConvIn::I8(input) => {
                if let Some(input @ [_, ..]) = input.get(from..from + run) {
                    // SAFETY: input and panel have `run` numbers, whole fours and not none.
                    unsafe { asm::column_of_i8(input.as_ptr(), panel, run / 4, zero) }
                }
            }
            ConvIn::I16(input) => {
                if let Some(input @ [_, ..]) = input.get(from..from + run) {
                    // SAFETY: as above.
                    unsafe { asm::column_of_i16(input.as_ptr(), panel, run / 4) }
                }
            }
        }
    }
    #[cfg(not(arm_dsp))]
    for (at, pairs) in (0..run).step_by(4).zip(panel.chunks_exact_mut(4)) {
        match input {
            ConvIn::I8(input) => {
                // SAFETY: `run` is a multiple of four and the length of the input's part.
                let word = unsafe { word(&input[from..from + run], at) };
                pairs[lane] = sub16(sxtb16(word), zero);
                pairs[2 + lane] = sub16(sxtb16_odd(word), zero);
            }
            ConvIn::I16(input) => {
                let two = |i: usize| pair(input[from + at + i].into(), input[from + at + i + 2].into());
                pairs[lane] = two(0);
                pairs[2 + lane] = two(1);
            }
        }
    }
}

#[cfg(arm_dsp)]
mod asm {
    use core::arch::naked_asm;

    /// Every second word of the panel, two for each of `fours` (not 0).
    #[unsafe(naked)]
    pub unsafe extern "C" fn column_of_i8(input: *const i8, panel: *mut u32, fours: usize, zero: u32) {
        naked_asm!(
            cpu!(),
            "push {{r4, r5}}",
            "1:",
            "ldr r4, [r0], #4",
            "sxtb16 r5, r4",
            "sxtb16 r4, r4, ror #8",
            "ssub16 r5, r5, r3",
            "ssub16 r4, r4, r3",
            "str r4, [r1, #8]",
            "str r5, [r1], #16",
            "subs r2, r2, #1",
            "bne 1b",
            "pop {{r4, r5}}",
            "bx lr",
        )
    }

    /// As above.
    #[unsafe(naked)]
    pub unsafe extern "C" fn column_of_i16(input: *const i16, panel: *mut u32, fours: usize) {
        naked_asm!(
            cpu!(),
            "push {{r4, r5}}",
            "1:",
            "ldr r3, [r0], #4",
            "ldr r4, [r0], #4",
            "pkhbt r5, r3, r4, lsl #16",
            "pkhtb r4, r4, r3, asr #16",
            "str r4, [r1, #8]",
            "str r5, [r1], #16",
            "subs r2, r2, #1",
            "bne 1b",
            "pop {{r4, r5}}",
            "bx lr",
        )
    }
}

/// One number of a column, anywhere in it.
pub fn number(value: i32, at: usize, panel: &mut [u32], lane: usize) {
    let shift = at % 4 / 2 * 16;
    for word in part_mut(panel, (at / 4 * 2 + at % 2) * 2 + lane, 1) {
        *word = *word & !(0xffff << shift) | (value as u32 & 0xffff) << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a lane of a panel, in order.
    fn numbers(panel: &[u32], lanes: usize, lane: usize) -> Vec<i16> {
        let pairs: Vec<u32> = panel.chunks_exact(lanes).map(|pair| pair[lane]).collect();
        let order = |p: &[u32]| [p[0] as i16, p[1] as i16, (p[0] >> 16) as i16, (p[1] >> 16) as i16];
        pairs.chunks_exact(2).flat_map(order).collect()
    }

    #[test]
    fn panels_hold_the_numbers_in_order() {
        let tensor: Vec<i8> = (0..66i32).map(|i| (i * 3 - 100) as i8).collect();
        let mut panel = [9u32; 24];
        weights([&tensor[44..55], &tensor[55..66], &[], &[]], &mut panel);
        for lane in 0..4 {
            let row: Vec<i16> = match lane {
                0 | 1 => tensor[(4 + lane) * 11..][..11].iter().map(|&w| w.into()).chain([0]).collect(),
                _ => vec![0; 12],
            };
            assert_eq!(numbers(&panel, 4, lane), row);
        }
        let mut panel = [0u32; 12];
        column(&ConvIn::I8(&tensor), super::super::simd::pair(-128, -128), 3, 8, &mut panel, 1);
        number(-5, 10, &mut panel, 1);
        let want: Vec<i16> = tensor[3..11].iter().map(|&q| i16::from(q) + 128).chain([0, 0, -5, 0]).collect();
        assert_eq!((numbers(&panel, 2, 1), numbers(&panel, 2, 0)), (want, vec![0; 12]));
        let wide: Vec<i16> = (0..12).map(|i| (i * 4001 - 20000) as i16).collect();
        column(&ConvIn::I16(&wide), 0, 0, 12, &mut panel, 0);
        assert_eq!(numbers(&panel, 2, 0), wide);
    }
}
