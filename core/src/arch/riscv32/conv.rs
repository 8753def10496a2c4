//! Convolution in tiles of two cells and four output channels: a product is a load less than half, a multiplication and an
//! addition. The input is copied with its padding, so that a kernel row is one run of bytes for every cell, and outputs
//! are requantized in integers.

use super::store::Sink;
use super::winograd;
use crate::ops::{self, Conv, ConvIn, ConvOut};
use crate::part::{cut, part, part_mut, rest, rest_mut};

/// Output channels of a tile.
pub const CHANNELS: usize = 4;
/// Cells of a tile.
const CELLS: usize = 2;

/// [`ops::conv`](crate::ops::conv()).
pub fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, scratch: &mut [u8]) {
    let ConvIn::I8(bytes) = input else { return ops::conv(p, input, out) };
    let words: &mut [i16] = {
        // Scratch may begin at an odd address.
        let odd = scratch.as_ptr().addr() % 2;
        let even = rest_mut(scratch, odd.min(scratch.len()));
        let len = even.len() / 2 * 2;
        bytemuck::try_cast_slice_mut(part_mut(even, 0, len)).unwrap_or_default()
    };
    if let Some(plan) = winograd::Plan::new(p, words.len()) {
        return winograd::run(p, bytes, &plan, words, &mut Sink::new(p, out));
    }
    let pad = p.kernel / 2;
    let row = (p.width + 2 * pad) * p.cin;
    let sum = p.kernel * p.kernel * p.cin;
    let (weights, room) = (sum * CHANNELS, p.weights.room(sum));
    // One cell more than a row, for the second cell of the last tile.
    let fits = scratch.len().checked_sub(weights + room + p.cin).map(|rest| rest / row.max(1)).unwrap_or(0);
    if fits < p.kernel || p.height == 0 {
        return ops::conv(p, input, out);
    }
    let scratch: &mut [i8] = bytemuck::try_cast_slice_mut(scratch).unwrap_or_default();
    let (panel, left) = cut(scratch, weights);
    let (room, padded) = cut(left, room);
    let mut sink = Sink::new(p, out);
    // Bands of about the same height: the weights are interleaved once in each.
    let bands = p.height.div_ceil((fits - 2 * pad).max(1));
    let rows = p.height.div_ceil(bands.max(1)).max(1);
    for first in (0..p.height).step_by(rows) {
        let rows = rows.min(p.height - first);
        copy(p, bytes, first, rows, padded);
        for channel in (0..p.cout).step_by(CHANNELS) {
            let sums = interleave(p, channel, room, panel);
            sink.channels(p, channel);
            let start = sums.map(|sum| sum.wrapping_mul(p.zp).wrapping_neg());
            for y in 0..rows {
                for x in (0..p.width).step_by(CELLS) {
                    let mut acc = [start; CELLS];
                    for ky in 0..p.kernel {
                        let run = p.kernel * p.cin;
                        let at = (y + ky) * row + x * p.cin;
                        let (left, right) = (part(padded, at, run), part(padded, at + p.cin, run));
                        products(left, right, part(panel, ky * run * CHANNELS, run * CHANNELS), &mut acc);
                    }
                    for (x, acc) in (x..p.width).zip(&acc) {
                        sink.cell((first + y) * p.width + x, acc);
                    }
                }
            }
        }
    }
}

/// Rows `first - padding ..` of the picture, padding around them; the next row's first cell may be read behind the last.
fn copy(p: &Conv<'_>, input: &[i8], first: usize, rows: usize, padded: &mut [i8]) {
    let pad = p.kernel / 2;
    let row = (p.width + 2 * pad) * p.cin;
    let zp = p.zp as i8;
    for (i, to) in padded.chunks_exact_mut(row.max(1)).take(rows + 2 * pad).enumerate() {
        to.fill(zp);
        if let Some(y) = (first + i).checked_sub(pad).filter(|&y| y < p.height) {
            let from = part(input, y * p.width * p.cin, p.width * p.cin);
            let to = part_mut(to, pad * p.cin, p.width * p.cin);
            require!(to.len() == from.len());
            to.copy_from_slice(from);
        }
    }
}

/// Weights of four output channels as [sum][4], zeros where there is no such channel, and their sums.
fn interleave(p: &Conv<'_>, first: usize, room: &mut [i8], panel: &mut [i8]) -> [i32; CHANNELS] {
    let sum = p.kernel * p.kernel * p.cin;
    let mut sums = [0; CHANNELS];
    for (lane, total) in sums.iter_mut().enumerate() {
        let to = rest_mut(panel, lane).iter_mut().step_by(CHANNELS);
        if first + lane < p.cout {
            for (to, &w) in to.zip(p.weights.rows(first + lane, 1, sum, room)) {
                *to = w;
                *total += i32::from(w);
            }
        } else {
            to.for_each(|to| *to = 0);
        }
    }
    sums
}

/// A number that is multiplied: as stored, or as transformed.
pub trait Factor: Copy + Into<i32> {
    /// [`products`] of `fours` times four inputs.
    ///
    /// # Safety
    /// It reads `fours` times four of both inputs, and four times as many weights.
    #[cfg(target_arch = "riscv32")]
    unsafe fn of_fours(
        left: *const Self,
        right: *const Self,
        panel: *const Self,
        fours: usize,
        acc: &mut [[i32; CHANNELS]; CELLS],
    );
}

/// acc\[cell\]\[channel\] += sum of inputs * weights; a panel of four weights for each input of both cells.
pub fn products<T: Factor>(left: &[T], right: &[T], panel: &[T], acc: &mut [[i32; CHANNELS]; CELLS]) {
    let fours = left.len() / 4;
    require!(left.len() == right.len() && panel.len() == left.len() * CHANNELS);
    #[cfg(target_arch = "riscv32")]
    if fours > 0 {
        // SAFETY: it reads `fours` times four of both inputs and four times as many weights.
        unsafe { T::of_fours(left.as_ptr(), right.as_ptr(), panel.as_ptr(), fours, acc) }
    }
    let done = if cfg!(target_arch = "riscv32") { fours * 4 } else { 0 };
    let (panels, _) = rest(panel, done * CHANNELS).as_chunks::<CHANNELS>();
    let [first, second] = acc;
    for ((&left, &right), weights) in rest(left, done).iter().zip(rest(right, done)).zip(panels) {
        let (left, right): (i32, i32) = (left.into(), right.into());
        for ((&w, first), second) in weights.iter().zip(first.iter_mut()).zip(second.iter_mut()) {
            let w: i32 = w.into();
            *first = first.wrapping_add(left * w);
            *second = second.wrapping_add(right * w);
        }
    }
}

#[cfg(not(target_arch = "riscv32"))]
impl Factor for i8 {}
#[cfg(not(target_arch = "riscv32"))]
impl Factor for i16 {}

/// One input of both cells: its number, and those of its weights.
#[cfg(target_arch = "riscv32")]
macro_rules! step {
    ($load:literal, $at:literal, $w0:literal, $w1:literal, $w2:literal, $w3:literal) => {
        concat!(
            $load,
            " {l}, ",
            $at,
            "*{size}({left})\n",
            $load,
            " {r}, ",
            $at,
            "*{size}({right})\n",
            $load,
            " {w0}, ",
            $w0,
            "*{size}({panel})\n",
            $load,
            " {w1}, ",
            $w1,
            "*{size}({panel})\n",
            $load,
            " {w2}, ",
            $w2,
            "*{size}({panel})\n",
            $load,
            " {w3}, ",
            $w3,
            "*{size}({panel})\n",
            "mul {t}, {l}, {w0}\nmul {w0}, {r}, {w0}\nadd {a0}, {a0}, {t}\nadd {b0}, {b0}, {w0}\n",
            "mul {t}, {l}, {w1}\nmul {w1}, {r}, {w1}\nadd {a1}, {a1}, {t}\nadd {b1}, {b1}, {w1}\n",
            "mul {t}, {l}, {w2}\nmul {w2}, {r}, {w2}\nadd {a2}, {a2}, {t}\nadd {b2}, {b2}, {w2}\n",
            "mul {t}, {l}, {w3}\nmul {w3}, {r}, {w3}\nadd {a3}, {a3}, {t}\nadd {b3}, {b3}, {w3}"
        )
    };
}

/// 22 instructions for 8 products, because the compiler keeps neither the sums in registers nor the bytes out of words.
#[cfg(target_arch = "riscv32")]
macro_rules! factor {
    ($type:ty, $load:literal) => {
        impl Factor for $type {
            unsafe fn of_fours(
                left: *const Self,
                right: *const Self,
                panel: *const Self,
                fours: usize,
                acc: &mut [[i32; CHANNELS]; CELLS],
            ) {
                let [[a0, a1, a2, a3], [b0, b1, b2, b3]] = acc;
                // SAFETY: the caller allows the reads; nothing is written.
                unsafe {
                    core::arch::asm!(
                        "2:",
                        step!($load, "0", "0", "1", "2", "3"),
                        step!($load, "1", "4", "5", "6", "7"),
                        step!($load, "2", "8", "9", "10", "11"),
                        step!($load, "3", "12", "13", "14", "15"),
                        "addi {left}, {left}, 4*{size}",
                        "addi {right}, {right}, 4*{size}",
                        "addi {panel}, {panel}, 16*{size}",
                        "bne {left}, {end}, 2b",
                        size = const size_of::<Self>(),
                        left = inout(reg) left => _, right = inout(reg) right => _, panel = inout(reg) panel => _,
                        end = in(reg) left.add(4 * fours),
                        l = out(reg) _, r = out(reg) _, t = out(reg) _,
                        w0 = out(reg) _, w1 = out(reg) _, w2 = out(reg) _, w3 = out(reg) _,
                        a0 = inout(reg) *a0, a1 = inout(reg) *a1, a2 = inout(reg) *a2, a3 = inout(reg) *a3,
                        b0 = inout(reg) *b0, b1 = inout(reg) *b1, b2 = inout(reg) *b2, b3 = inout(reg) *b3,
                        options(readonly, nostack),
                    );
                }
            }
        }
    };
}

#[cfg(target_arch = "riscv32")]
factor!(i8, "lb");
#[cfg(target_arch = "riscv32")]
factor!(i16, "lh");
