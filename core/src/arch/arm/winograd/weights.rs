//! The weights' transform: one vertical index of four output channels.
//!
//! Vertically the three taps of a column become one number ([`Taps`]); horizontally the three columns g0, g1, g2 become,
//! in the panel's order,
//!
//! ```text
//! slot 0: g0 + g1 + g2    slot 1: g0 - g1 + g2    slot 2: g0    slot 3: g2
//! ```
//!
//! Panel: [channel pair][slot 4][output channel 4], words of two i16, channel pairs as in [`cells`](super::cells).

use crate::arch::arm::int4;
use crate::arch::arm::panel::{CHANNELS, short_word};
use crate::arch::arm::simd::{add16, sub16, sxtb16, sxtb16_odd};
use crate::ops::{Conv, Weights};
use crate::part::{part, part_mut, put, rest_mut};

/// What becomes of the taps t0, t1, t2 of a column, from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// t0
    Top,
    /// t2
    Bottom,
    /// t0 + t1 + t2
    Plus,
    /// t0 - t1 + t2
    Minus,
    /// t0 + 2 t1 + 4 t2
    PlusTwo,
    /// t0 - 2 t1 + 4 t2
    MinusTwo,
}

/// Words of a channel pair in the panel.
const PAIR: usize = 4 * CHANNELS;

/// A layer's weights [output channel][3][3][cin], and one vertical index of them.
pub struct Source<'a> {
    weights: Weights<'a>,
    /// For decoded weights of four output channels.
    room: &'a mut [i8],
    cin: usize,
    cout: usize,
    taps: Taps,
    /// Words of the panel of four output channels.
    panel: usize,
    /// Weights from a channel's first to the first tap that counts.
    #[cfg(arm_dsp)]
    top: usize,
    #[cfg(arm_dsp)]
    run: asm::Run,
}

impl<'a> Source<'a> {
    /// `room`: as many words as [`room`] says. `None` where there are fewer weights than channels.
    pub fn new(p: &Conv<'a>, taps: Taps, room: &'a mut [u32]) -> Option<Self> {
        let &Conv { weights, cin, cout, .. } = p;
        let room: &mut [i8] = bytemuck::try_cast_slice_mut(room).unwrap_or_default();
        match weights {
            Weights::Int8(weights) => require!(weights.len() >= cout * 9 * cin, None),
            Weights::Int4(_) => require!(room.len() >= CHANNELS * 9 * cin, None),
        }
        Some(Self {
            weights,
            room,
            cin,
            cout,
            taps,
            panel: cin.div_ceil(4) * 2 * PAIR,
            #[cfg(arm_dsp)]
            top: if taps == Taps::Bottom { 6 * cin } else { 0 },
            #[cfg(arm_dsp)]
            run: match taps {
                Taps::Top | Taps::Bottom => asm::one,
                Taps::Plus => asm::plus,
                Taps::Minus => asm::minus,
                Taps::PlusTwo => asm::plus_two,
                Taps::MinusTwo => asm::minus_two,
            },
        })
    }

    /// Transforms output channels `first..first + 4` into `panel`, of ceil(cin / 4) * 2 channel pairs; zeros where there
    /// is no such channel.
    #[inline(always)]
    pub fn transform(&mut self, first: usize, panel: &mut [u32]) {
        let (cin, groups, taps) = (self.cin, self.cin / 4, self.taps);
        require!(first < self.cout && panel.len() >= self.panel);
        let all = (self.cout - first).min(CHANNELS);
        if all < CHANNELS {
            part_mut(panel, 0, self.panel).fill(0);
        }
        #[cfg(arm_dsp)]
        let (run, top) = (self.run, self.top);
        // Output channel `first`'s weights: where they are, or decoded.
        let (weights, at) = match self.weights {
            Weights::Int8(weights) => (weights, first * 9 * cin),
            Weights::Int4(_) => (self.decode(first, all), 0),
        };
        #[cfg(arm_dsp)]
        if groups > 0 {
            // SAFETY: it reads `all` output channels of 9 * cin weights, which are there (see `new`), whole groups of four
            // input channels, and writes `all` lanes of 2 * groups channel pairs. `lanes` takes an odd one last.
            unsafe { run(weights.as_ptr().add(top + at), panel.as_mut_ptr(), cin, groups, all) }
        }
        #[cfg(not(arm_dsp))]
        for group in 0..groups {
            lanes(part(weights, at, all * 9 * cin), cin, taps, 4 * group, 4, panel);
        }
        if !cin.is_multiple_of(4) {
            lanes(part(weights, at, all * 9 * cin), cin, taps, 4 * groups, cin % 4, panel);
        }
    }

    /// Decodes the weights of `count` output channels from `first` on, of the taps that count.
    #[inline(never)]
    fn decode(&mut self, first: usize, count: usize) -> &[i8] {
        let sum = 9 * self.cin;
        let Weights::Int4(weights) = &self.weights else { return &[] };
        let (from, len) = match self.taps {
            Taps::Top => (0, sum / 3),
            Taps::Bottom => (sum / 3 * 2, sum / 3),
            _ => (0, sum),
        };
        let room = part_mut(self.room, 0, count * sum);
        for (channel, room) in (first..).zip(room.chunks_exact_mut(sum.max(1))) {
            int4::decode(weights, channel, from, part_mut(room, from, len));
        }
        room
    }
}

/// Words for decoded weights of four output channels, an even number.
pub fn room(p: &Conv<'_>) -> usize {
    p.weights.room(CHANNELS * 9 * p.cin).div_ceil(8) * 2
}

/// The `count` input channels from `channel` on, up to four, zeros for the rest of the four. Not copied to where it is called:
/// the registers there are few.
#[inline(never)]
fn lanes(weights: &[i8], cin: usize, taps: Taps, channel: usize, count: usize, panel: &mut [u32]) {
    for (lane, weights) in weights.chunks_exact((9 * cin).max(1)).enumerate() {
        for (half, extend) in [sxtb16, sxtb16_odd].into_iter().enumerate() {
            let twice = |x: u32| add16(x, x);
            let [g0, g1, g2] = [0, 1, 2].map(|column| {
                let [top, middle, bottom] =
                    [0, 1, 2].map(|row| extend(short_word(part(weights, (3 * row + column) * cin + channel, count))));
                match taps {
                    Taps::Top => top,
                    Taps::Bottom => bottom,
                    Taps::Plus => add16(add16(top, bottom), middle),
                    Taps::Minus => sub16(add16(top, bottom), middle),
                    Taps::PlusTwo => add16(twice(add16(twice(bottom), middle)), top),
                    Taps::MinusTwo => add16(twice(sub16(twice(bottom), middle)), top),
                }
            });
            let outer = add16(g0, g2);
            let panel = rest_mut(panel, (channel / 2 + half) * PAIR);
            for (slot, word) in [add16(outer, g1), sub16(outer, g1), g0, g2].into_iter().enumerate() {
                put(panel, slot * CHANNELS + lane, word);
            }
        }
    }
}

#[cfg(arm_dsp)]
mod asm {
    //! r0, r4, r5 walk over the columns of the top row, and the rows below lie r2 and 2 r2 bytes on; r1 walks over the
    //! panel. r6, r7 hold g0 and then g0 + g2, r8, r9 another column: channels (0, 2) and (1, 3). r3 counts groups,
    //! r10, r11 help. r12 holds two ones: the negative of a byte is its complement plus 1.
    //!
    //! Frame: sp+0 groups and one, +4 lanes left, +8 bytes to the next lane's weights; lr bytes from the end of a lane back to the
    //! start of the next.

    use core::arch::naked_asm;

    /// Arguments: taps of the first row needed, panel, cin, groups (not 0), output channels (not 0).
    pub type Run = unsafe extern "C" fn(*const i8, *mut u32, usize, usize, usize);

    /// A column into $lo, $hi; its pointer $at moves on by four channels.
    macro_rules! column {
        (plus, $lo:literal, $hi:literal, $at:literal) => {
            concat!(
                "ldr r10, [",
                $at,
                ", r2]\n ldr r11, [",
                $at,
                ", r2, lsl #1]\n ldr ",
                $hi,
                ", [",
                $at,
                "], #4\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r10\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r10, ror #8\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r11\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r11, ror #8\n",
            )
        };
        (minus, $lo:literal, $hi:literal, $at:literal) => {
            concat!(
                "ldr r10, [",
                $at,
                ", r2]\n ldr r11, [",
                $at,
                ", r2, lsl #1]\n ldr ",
                $hi,
                ", [",
                $at,
                "], #4\n",
                "mvn r10, r10\n sxtab16 ",
                $lo,
                ", r12, r10\n sxtab16 r10, r12, r10, ror #8\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $hi,
                "\n sxtab16 ",
                $hi,
                ", r10, ",
                $hi,
                ", ror #8\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r11\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r11, ror #8\n",
            )
        };
        (plus_two, $lo:literal, $hi:literal, $at:literal) => {
            concat!(
                "ldr r10, [",
                $at,
                ", r2]\n ldr ",
                $hi,
                ", [",
                $at,
                ", r2, lsl #1]\n ldr r11, [",
                $at,
                "], #4\n",
                "sxtb16 ",
                $lo,
                ", ",
                $hi,
                "\n sxtb16 ",
                $hi,
                ", ",
                $hi,
                ", ror #8\n",
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
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r10\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r10, ror #8\n",
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
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r11\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r11, ror #8\n",
            )
        };
        (minus_two, $lo:literal, $hi:literal, $at:literal) => {
            concat!(
                "ldr r10, [",
                $at,
                ", r2]\n ldr ",
                $hi,
                ", [",
                $at,
                ", r2, lsl #1]\n ldr r11, [",
                $at,
                "], #4\n",
                "mvn r10, r10\n sxtab16 ",
                $lo,
                ", r12, r10\n sxtab16 r10, r12, r10, ror #8\n",
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $hi,
                "\n sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", ",
                $hi,
                "\n",
                "sxtab16 r10, r10, ",
                $hi,
                ", ror #8\n sxtab16 ",
                $hi,
                ", r10, ",
                $hi,
                ", ror #8\n",
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
                "sxtab16 ",
                $lo,
                ", ",
                $lo,
                ", r11\n sxtab16 ",
                $hi,
                ", ",
                $hi,
                ", r11, ror #8\n",
            )
        };
    }

    /// A group of four input channels; all pointers move on.
    macro_rules! group {
        ($name:ident) => {
            concat!(
                column!($name, "r6", "r7", "r0"),
                "str r6, [r1, #32]\n str r7, [r1, #96]\n",
                column!($name, "r8", "r9", "r5"),
                "str r8, [r1, #48]\n str r9, [r1, #112]\n",
                "sadd16 r6, r6, r8\n sadd16 r7, r7, r9\n",
                column!($name, "r8", "r9", "r4"),
                "sadd16 r10, r7, r9\n ssub16 r7, r7, r9\n str r10, [r1, #64]\n str r7, [r1, #80]\n",
                "sadd16 r10, r6, r8\n ssub16 r6, r6, r8\n str r6, [r1, #16]\n str r10, [r1], #128\n",
            )
        };
    }

    macro_rules! transform {
        ($name:ident) => {
            /// See [`Run`].
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name(taps: *const i8, panel: *mut u32, cin: usize, groups: usize, lanes: usize) {
                naked_asm!(
                    cpu!(),
                    "push {{r4-r11, lr}}",
                    "ldr r4, [sp, #36]",
                    // Back in the panel by a lane, on in the weights to the next output channel: cin less four times
                    // the groups is what the pointers have left of their row.
                    "lsl lr, r3, #7",
                    "sub lr, lr, #4",
                    "add r5, r2, r2, lsl #3",
                    "sub r5, r5, r3, lsl #2",
                    // The number of groups plus one: its half is that of rounds.
                    "adds r3, r3, #1",
                    "push {{r3, r4, r5}}",
                    "add r4, r0, r2",
                    "add r5, r4, r2",
                    "add r2, r2, r2, lsl #1",
                    "mov.w r12, #0x00010001",
                    // Two groups at a time, of an odd number the first alone.
                    "0:",
                    "lsrs r3, r3, #1",
                    "bcc.w 2f",
                    "1:",
                    group!($name),
                    "2:",
                    group!($name),
                    "subs r3, r3, #1",
                    "bne.w 1b",
                    "ldm sp, {{r3, r6, r7}}",
                    "sub r1, r1, lr",
                    "add r0, r0, r7",
                    "add r4, r4, r7",
                    "add r5, r5, r7",
                    "subs r6, r6, #1",
                    "str r6, [sp, #4]",
                    "bne.w 0b",
                    "add sp, #12",
                    "pop {{r4-r11, pc}}",
                )
            }
        };
    }

    /// A group of four input channels of two output channels; all pointers move on.
    macro_rules! two_lanes {
        () => {
            concat!(
                "ldr r7, [r0]\n",
                "ldr r8, [r4]\n",
                "sxtb16 r5, r7\n",
                "sxtb16 r6, r8\n",
                "sxtb16 r7, r7, ror #8\n",
                "sxtb16 r8, r8, ror #8\n",
                "strd r5, r6, [r1, #32]\n",
                "strd r7, r8, [r1, #96]\n",
                "ldr r11, [r0, r2, lsl #1]\n",
                "ldr r12, [r4, r2, lsl #1]\n",
                "sxtb16 r9, r11\n",
                "sxtb16 r10, r12\n",
                "sxtb16 r11, r11, ror #8\n",
                "sxtb16 r12, r12, ror #8\n",
                "strd r9, r10, [r1, #48]\n",
                "strd r11, r12, [r1, #112]\n",
                "sadd16 r5, r5, r9\n",
                "sadd16 r6, r6, r10\n",
                "sadd16 r7, r7, r11\n",
                "sadd16 r8, r8, r12\n",
                "ldr r11, [r0, r2]\n",
                "ldr r12, [r4, r2]\n",
                "add r0, r0, #4\n",
                "add r4, r4, #4\n",
                "sxtb16 r9, r11\n",
                "sxtb16 r10, r12\n",
                "sxtb16 r11, r11, ror #8\n",
                "sxtb16 r12, r12, ror #8\n",
                "sadd16 lr, r7, r11\n",
                "ssub16 r7, r7, r11\n",
                "sadd16 r11, r8, r12\n",
                "ssub16 r8, r8, r12\n",
                "strd lr, r11, [r1, #64]\n",
                "strd r7, r8, [r1, #80]\n",
                "sadd16 lr, r5, r9\n",
                "ssub16 r5, r5, r9\n",
                "sadd16 r11, r6, r10\n",
                "ssub16 r6, r6, r10\n",
                "strd r5, r6, [r1, #16]\n",
                "strd lr, r11, [r1], #128\n",
            )
        };
    }

    /// As the others, for one row of taps, with two output channels at a time; of an odd number
    /// the last is taken twice, and the panel's next lane is written.
    ///
    /// r0, r4 the two channels' taps, r2 cin, r1 panel, r3 groups left; r5-r8 g0 and then g0 + g2, r9-r12 another column,
    /// each (0, 2) of both channels and then (1, 3); lr helps. Frame: sp+0 cin, +4 groups, +8 lanes left, +12 bytes
    /// back in the panel.
    #[unsafe(naked)]
    pub unsafe extern "C" fn one(taps: *const i8, panel: *mut u32, cin: usize, groups: usize, lanes: usize) {
        naked_asm!(
            cpu!(),
            "push {{r4-r11, lr}}",
            "ldr r4, [sp, #36]",
            "lsl r5, r3, #7",
            "sub r5, r5, #8",
            "push {{r2, r3, r4, r5}}",
            "0:",
            "ldr r4, [sp, #8]",
            "cmp r4, #1",
            "ite eq",
            "moveq r4, r0",
            "addne r4, r0, r2, lsl #3",
            "it ne",
            "addne r4, r4, r2",
            // Two groups at a time, of an odd number the first alone.
            "adds r3, r3, #1",
            "lsrs r3, r3, #1",
            "bcc.w 2f",
            "1:",
            two_lanes!(),
            "2:",
            two_lanes!(),
            "subs r3, r3, #1",
            "bne.w 1b",
            // Two channels on: from the end of the second one's groups another channel, less the groups.
            "ldm sp, {{r2, r3, r5, r6}}",
            "sub r1, r1, r6",
            "add r0, r4, r2, lsl #3",
            "add r0, r0, r2",
            "sub r0, r0, r3, lsl #2",
            "subs r5, r5, #2",
            "str r5, [sp, #8]",
            "bgt.w 0b",
            "add sp, #16",
            "pop {{r4-r11, pc}}",
        )
    }

    transform!(plus);
    transform!(minus);
    transform!(plus_two);
    transform!(minus_two);
}
