//! Weights of four bits to eight, 38 instructions for a group of 32.

use crate::ops::Int4;

/// [`Int4::decode`].
#[cfg(not(arm_dsp))]
pub fn decode(weights: &Int4<'_>, row: usize, from: usize, out: &mut [i8]) {
    weights.decode(row, from, out);
}

/// [`Int4::decode`].
#[cfg(arm_dsp)]
pub fn decode(weights: &Int4<'_>, row: usize, from: usize, out: &mut [i8]) {
    use crate::ops::int4::GROUP;
    use crate::part::{part, rest_mut};

    let (chunks, multipliers) = weights.row(row);
    let (first, mut groups) = (from / GROUP, out.len() / GROUP);
    // Words are loaded and stored.
    let aligned = chunks.as_ptr().addr().is_multiple_of(4) && out.as_ptr().addr().is_multiple_of(4);
    if !from.is_multiple_of(GROUP) || !aligned {
        groups = 0;
    }
    if groups > 0 {
        let chunks = part(chunks, first * GROUP / 2, groups * GROUP / 2);
        let multipliers = part(multipliers, first / 2, (first + groups).div_ceil(2) - first / 2);
        require!(chunks.len() == groups * GROUP / 2 && !multipliers.is_empty());
        // SAFETY: there are so many groups in all three, at multiples of four bytes.
        unsafe {
            let shift = first % 2 * 4;
            asm::groups(chunks.as_ptr(), multipliers.as_ptr(), out.as_mut_ptr(), groups, shift);
        }
    }
    let done = groups * GROUP;
    weights.decode(row, from + done, rest_mut(out, done));
}

#[cfg(arm_dsp)]
mod asm {
    use core::arch::naked_asm;

    /// Groups of 32 weights (not 0 of them); `shift`, 0 or 4: where the first one's multiplier is in its byte.
    ///
    /// r0 chunks, r1 multipliers, r2 weights, r3 groups left, r12 the shift, r11 the multiplier, lr 8 times it in every
    /// byte, r10 the mask; r4-r7 sixteen weights.
    #[unsafe(naked)]
    pub unsafe extern "C" fn groups(
        chunks: *const u8,
        multipliers: *const u8,
        weights: *mut i8,
        groups: usize,
        shift: usize,
    ) {
        naked_asm!(
            cpu!(),
            "push {{r4-r7, r10, r11, lr}}",
            "ldr r12, [sp, #28]",
            "mov.w r10, #0x0f0f0f0f",
            "1:",
            "ldrb r11, [r1]",
            "lsr r11, r11, r12",
            "and r11, r11, #15",
            "eors r12, r12, #4",
            "it eq",
            "addeq r1, r1, #1",
            "mov.w lr, #0x08080808",
            "mul lr, lr, r11",
            ".rept 2",
            "ldrd r4, r6, [r0], #8",
            "and r5, r10, r4, lsr #4",
            "and r4, r4, r10",
            "and r7, r10, r6, lsr #4",
            "and r6, r6, r10",
            "mul r4, r4, r11",
            "mul r5, r5, r11",
            "mul r6, r6, r11",
            "mul r7, r7, r11",
            "usub8 r4, r4, lr",
            "usub8 r5, r5, lr",
            "usub8 r6, r6, lr",
            "usub8 r7, r7, lr",
            "stm r2!, {{r4-r7}}",
            ".endr",
            "subs r3, r3, #1",
            "bne.w 1b",
            "pop {{r4-r7, r10, r11, pc}}",
        )
    }
}
