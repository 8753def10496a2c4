//! Convolution as a matrix product: for 2 * LANES output channels at a time, the weights are packed into a panel, and
//! tiles of up to TILE neighbouring cells of a row pass over it.
//!
//! A tile's inputs are copied once into a patch of [kernel rows][cells] with the zero point around the picture, where
//! it adds nothing to the sums. Channels beyond what a cell of the patch holds come in further rounds.

use super::Simd;
use super::panel::{Bytes, Products, Rows, Words, pack};
use super::tile::{CELL, Cell, MAX_TILE, Sums, Taps, tile};
use super::vector::rne_narrow;
use crate::ops::{Conv, ConvIn, ConvOut};

/// Panel that most layers need: 3x3 of 64 int8 or 32 int16 channels for 32 outputs.
pub(in crate::arch) const SMALL_PANEL: usize = 9 * CELL * 32;
/// Panel for wider layers. Where even this is too small, weights are packed again for each tile.
pub(in crate::arch) const LARGE_PANEL: usize = 4 * SMALL_PANEL;

/// Whether the small panel takes all weights of 2 * LANES outputs.
#[inline]
pub(in crate::arch) fn small<S: Simd>(p: &Conv<'_>, input: &ConvIn<'_>) -> bool {
    let bytes = S::BYTES && matches!(input, ConvIn::I8(_));
    let group = if bytes { Bytes::GROUP } else { Words::GROUP };
    p.kernel * p.kernel * p.cin.next_multiple_of(group) / group * 2 * S::LANES <= SMALL_PANEL
}

/// Whether the kernels below take it: everything that a student image can hold.
#[inline]
pub(in crate::arch) fn fits(p: &Conv<'_>, input: &ConvIn<'_>) -> bool {
    match input {
        ConvIn::I8(_) => (-128..=127).contains(&p.zp),
        ConvIn::I16(_) => p.zp == 0,
    }
}

/// See [`ops::conv`](crate::ops::conv()). `panel` has [`SMALL_PANEL`] or [`LARGE_PANEL`] elements.
#[inline(always)]
pub(in crate::arch) fn conv<S: Simd>(
    s: S,
    p: &Conv<'_>,
    input: ConvIn<'_>,
    mut out: ConvOut<'_>,
    panel: &mut [i32],
) {
    // Without neighbours, rows need not be kept apart.
    let p = if p.kernel == 1 { &Conv { height: 1, width: p.height * p.width, ..*p } } else { p };
    match input {
        ConvIn::I8(input) if S::BYTES => {
            // Bytes carry 128 too much, and the zero point.
            let fill = |cell: &mut Cell, q: &[i8]| flip(bytemuck::cast_mut(&mut cell.0), q);
            let zp = i32::from_le_bytes([p.zp as u8 ^ 0x80; 4]);
            layer::<S, Bytes, i8>(s, p, input, &mut out, panel, fill, zp, 128 + p.zp);
        }
        ConvIn::I8(input) => {
            let zp = p.zp as i16;
            let fill = |cell: &mut Cell, q: &[i8]| widen(bytemuck::cast_mut(&mut cell.0), q, zp);
            layer::<S, Words, i8>(s, p, input, &mut out, panel, fill, 0, 0);
        }
        ConvIn::I16(input) => {
            let fill = |cell: &mut Cell, q: &[i16]| {
                let cell: &mut [i16; 2 * CELL] = bytemuck::cast_mut(&mut cell.0);
                copy(cell, q);
            };
            layer::<S, Words, i16>(s, p, input, &mut out, panel, fill, 0, 0);
        }
    }
}

/// Applies `one` to pairs of elements, in steps that become one instruction.
#[inline(always)]
fn each<A, B: Copy>(to: &mut [A], from: &[B], one: impl Fn(B) -> A) {
    let n = from.len().min(to.len());
    let (to16, to1) = to[..n].as_chunks_mut::<16>();
    let (from16, from1) = from[..n].as_chunks::<16>();
    for (to, from) in to16.iter_mut().zip(from16) {
        for i in 0..16 {
            to[i] = one(from[i]);
        }
    }
    for (to, &from) in to1.iter_mut().zip(from1) {
        *to = one(from);
    }
}

#[inline(always)]
fn flip(to: &mut [u8; 4 * CELL], q: &[i8]) {
    each(to, q, |q| q as u8 ^ 0x80);
}

#[inline(always)]
fn widen(to: &mut [i16; 2 * CELL], q: &[i8], zp: i16) {
    each(to, q, |q| i16::from(q) - zp);
}

#[inline(always)]
fn copy(to: &mut [i16; 2 * CELL], q: &[i16]) {
    each(to, q, |q| q);
}

/// All output channels. `fill` copies one cell's channels, `outside` fills the lanes of cells outside the picture, and
/// `excess` is what every input has too much.
#[expect(clippy::too_many_arguments, reason = "internal, and all different")]
#[inline(always)]
fn layer<S: Simd, P: Products, T: Copy>(
    s: S,
    p: &Conv<'_>,
    input: &[T],
    out: &mut ConvOut<'_>,
    panel: &mut [i32],
    fill: impl Fn(&mut Cell, &[T]) + Copy,
    outside: i32,
    excess: i32,
) {
    let mut first = 0;
    while first < p.cout {
        if p.cout - first > S::LANES {
            outputs::<S, P, T, 2>(s, p, input, out, panel, fill, outside, excess, first);
        } else {
            outputs::<S, P, T, 1>(s, p, input, out, panel, fill, outside, excess, first);
        }
        first += 2 * S::LANES;
    }
}

/// Output channels `first` .. `first + NV * LANES`, fewer at the end.
#[expect(clippy::too_many_arguments, reason = "internal, and all different")]
#[inline(always)]
fn outputs<S: Simd, P: Products, T: Copy, const NV: usize>(
    s: S,
    p: &Conv<'_>,
    input: &[T],
    out: &mut ConvOut<'_>,
    panel: &mut [i32],
    fill: impl Fn(&mut Cell, &[T]) + Copy,
    outside: i32,
    excess: i32,
    first: usize,
) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let (pad, taps) = (k / 2, k * k);
    let count = (p.cout - first).min(NV * S::LANES);

    // Rounds over the input channels, as many at a time as a cell of the patch holds.
    let round = CELL * P::GROUP;
    let rounds = cin.div_ceil(round);
    let round_panel = taps * cin.min(round).div_ceil(P::GROUP) * NV * S::LANES;
    let resident = rounds * round_panel <= panel.len();

    let weights = &p.weights[first * taps * cin..][..count * taps * cin];
    // Sums of the weights by kernel row.
    let pack_round = |round_index: usize, panel: &mut [i32], sums: &mut [[i32; 32]; 3]| {
        let channels = (cin - round_index * round).min(round);
        let groups = channels.div_ceil(P::GROUP);
        let rows = Rows { weights, stride: taps * cin, rows: count, from: round_index * round, count: channels };
        if rounds == 1 && cin % P::GROUP == 0 {
            pack::<S, P, NV>(s, Rows { count: taps * cin, ..rows }, panel, sums, k * groups);
        } else {
            for (tap, panel) in panel.chunks_exact_mut(groups * NV * S::LANES).take(taps).enumerate() {
                let rows = Rows { from: rows.from + tap * cin, ..rows };
                pack::<S, P, NV>(s, rows, panel, &mut sums[tap / k..], groups);
            }
        }
    };

    let mut weight_sums = [[0i32; 32]; 3];
    if resident {
        for (i, panel) in panel.chunks_exact_mut(round_panel).take(rounds).enumerate() {
            pack_round(i, panel, &mut weight_sums);
        }
    }

    let (mut scale, mut bias) = ([0f32; 32], [0f32; 32]);
    for (oc, (scale, bias)) in (first..first + count).zip(scale.iter_mut().zip(&mut bias)) {
        (*scale, *bias) = (p.scale[oc] * p.a, p.bias[oc] * p.b);
    }
    let finish = Finish { channels: p.cout, first, count, scale, bias, c: p.c };

    const ROW: usize = MAX_TILE + 2;
    let mut patch = [Cell([outside; CELL]); 3 * ROW];
    let mut sums = Sums([[0; 32]; MAX_TILE]);
    let tiles = w.div_ceil(S::TILE);
    for y in 0..h {
        // Kernel rows that fall outside contribute nothing.
        let (ky0, ky1) = (pad.saturating_sub(y), k.min(h + pad - y));
        let mut x = 0usize;
        for t in 0..tiles {
            // Tiles of equal size, up to one.
            let cells = w / tiles + usize::from(t < w % tiles);
            for i in 0..rounds {
                let packed = if resident { &panel[i * round_panel..] } else {
                    weight_sums = [[0; 32]; 3];
                    pack_round(i, panel, &mut weight_sums);
                    &panel[..]
                };
                let (start, channels) = (i * round, (cin - i * round).min(round));
                for ky in ky0..ky1 {
                    let row = (y + ky - pad) * w;
                    for (cell, at) in patch[ky * ROW..][..cells + 2 * pad].iter_mut().zip(x..) {
                        match at.checked_sub(pad).filter(|&at| at < w) {
                            Some(at) => fill(cell, &input[(row + at) * cin + start..][..channels]),
                            None => *cell = Cell([outside; CELL]),
                        }
                    }
                }
                let mut offset = [0i32; 32];
                if excess != 0 && (i == 0 || !resident) {
                    for (oc, offset) in offset.iter_mut().enumerate() {
                        let sum = weight_sums[ky0..ky1].iter().fold(0i32, |a, row| a.wrapping_add(row[oc]));
                        *offset = sum.wrapping_mul(excess).wrapping_neg();
                    }
                }
                let groups = channels.div_ceil(P::GROUP);
                let taps = Taps { patch: &patch, row_cells: ROW, kernel: k, ky0, ky1, groups, panel: packed };
                tile::<S, P, NV>(s, cells, taps, &offset, i > 0, &mut sums);
            }
            finish.store(s, &sums, cells, (y * w + x) * p.cout, out);
            x += cells;
        }
    }
}

/// From sums to outputs.
struct Finish {
    /// Channels of the output.
    channels: usize,
    /// Output channels of the tile: first .. first + count.
    first: usize,
    count: usize,
    scale: [f32; 32],
    bias: [f32; 32],
    c: f32,
}

impl Finish {
    /// `at`: index of the tile's first cell in the output.
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, sums: &Sums, cells: usize, at: usize, out: &mut ConvOut<'_>) {
        let at = at + self.first;
        match out {
            ConvOut::I8(out) => self.each(s, sums, cells, at, out, |_, y, out| s.narrow_i8(rne_narrow(s, y), out)),
            ConvOut::I16(out) => self.each(s, sums, cells, at, out, |_, y, out| s.narrow_i16(rne_narrow(s, y), out)),
            ConvOut::I16Add(out) => self.each(s, sums, cells, at, out, |c, y, out| {
                let old = s.mul_f(s.to_f(s.widen_i16(out)), s.splat_f(c));
                s.narrow_i16(rne_narrow(s, s.add_f(y, old)), out);
            }),
            ConvOut::F32(out) => self.each(s, sums, cells, at, out, |_, y, out| s.store_f(y, out)),
        }
    }

    #[inline(always)]
    fn each<S: Simd, T>(
        &self,
        s: S,
        sums: &Sums,
        cells: usize,
        at: usize,
        out: &mut [T],
        put: impl Fn(f32, S::F, &mut [T]),
    ) {
        for lane in (0..self.count).step_by(S::LANES) {
            let n = (self.count - lane).min(S::LANES);
            let (scale, bias) = (s.load_f(&self.scale[lane..]), s.load_f(&self.bias[lane..]));
            for (m, sums) in sums.0.iter().enumerate().take(cells) {
                let y = s.add_f(s.mul_f(s.to_f(s.load(&sums[lane..])), scale), bias);
                put(self.c, y, &mut out[at + m * self.channels + lane..][..n]);
            }
        }
    }
}
