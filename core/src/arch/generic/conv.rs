//! Convolution as a matrix product: for 2 * LANES output channels at a time, the weights are packed into a panel, and
//! tiles of up to TILE neighbouring cells of a row pass over it.
//!
//! A tile's inputs are copied once into a patch of [kernel rows][cells] with the zero point around the picture, where
//! it adds nothing to the sums. Channels beyond what a cell of the patch holds come in further rounds.

use super::Simd;
use super::panel::{Bytes, Products, Rows, Words, count, pack};
use super::tile::{CELL, Cell, MAX_TILE, Sums, Taps, tile};
use super::vector::{Narrow, rne_narrow};
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
pub(in crate::arch) fn conv<S: Simd>(s: S, p: &Conv<'_>, input: ConvIn<'_>, mut out: ConvOut<'_>, panel: &mut [i32]) {
    // Without neighbours, rows need not be kept apart.
    let p = if p.kernel == 1 { &Conv { height: 1, width: p.height * p.width, ..*p } } else { p };
    match input {
        ConvIn::I8(input) if S::BYTES => layer::<S, _>(s, p, Flipped { zp: p.zp }, input, &mut out, panel),
        ConvIn::I8(input) => layer::<S, _>(s, p, Widened { zp: p.zp as i16 }, input, &mut out, panel),
        ConvIn::I16(input) => layer::<S, _>(s, p, Wide, input, &mut out, panel),
    }
}

/// How inputs get into the patch.
trait Source: Copy {
    /// Element of the input.
    type Q: Copy;
    type Products: Products;

    /// The channels `q` of one cell.
    fn fill<S: Simd>(self, s: S, cell: &mut Cell, q: &[Self::Q]);
    /// Lanes of a cell outside the picture.
    fn outside(self) -> i32;
    /// What every input has too much.
    fn excess(self) -> i32;
}

/// int8 as unsigned bytes: with 128 too much, and the zero point.
#[derive(Clone, Copy)]
struct Flipped {
    zp: i32,
}

impl Source for Flipped {
    type Q = i8;
    type Products = Bytes;

    #[inline(always)]
    fn fill<S: Simd>(self, s: S, cell: &mut Cell, q: &[i8]) {
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(4 * S::LANES)) {
            s.store(s.xor(s.load_bytes(q), s.splat(0x8080_8080_u32 as i32)), lanes);
        }
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        i32::from_le_bytes([self.zp as u8 ^ 0x80; 4])
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        128 + self.zp
    }
}

/// int8 as int16, without the zero point.
#[derive(Clone, Copy)]
struct Widened {
    zp: i16,
}

impl Source for Widened {
    type Q = i8;
    type Products = Words;

    #[inline(always)]
    fn fill<S: Simd>(self, s: S, cell: &mut Cell, q: &[i8]) {
        let zp = s.splat(bytemuck::cast([self.zp; 2]));
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(2 * S::LANES)) {
            s.store(s.sub_words(s.load_words(q), zp), lanes);
        }
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        0
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        0
    }
}

/// int16 as it is.
#[derive(Clone, Copy)]
struct Wide;

impl Source for Wide {
    type Q = i16;
    type Products = Words;

    #[inline(always)]
    fn fill<S: Simd>(self, s: S, cell: &mut Cell, q: &[i16]) {
        for (lanes, q) in cell.0.chunks_exact_mut(S::LANES).zip(q.chunks(2 * S::LANES)) {
            s.store(s.load_pairs(q), lanes);
        }
    }

    #[inline(always)]
    fn outside(self) -> i32 {
        0
    }

    #[inline(always)]
    fn excess(self) -> i32 {
        0
    }
}

/// All output channels.
#[inline(always)]
fn layer<S: Simd, Q: Source>(s: S, p: &Conv<'_>, source: Q, input: &[Q::Q], out: &mut ConvOut<'_>, panel: &mut [i32]) {
    let mut first = 0;
    while first < p.cout {
        if p.cout - first > S::LANES {
            outputs::<S, Q, 2>(s, p, source, input, out, panel, first);
        } else {
            outputs::<S, Q, 1>(s, p, source, input, out, panel, first);
        }
        first += 2 * S::LANES;
    }
}

/// Channels `start .. start + channels` of the input, the part of the weights that a round works with.
#[derive(Clone, Copy)]
struct Round {
    start: usize,
    channels: usize,
    groups: usize,
}

impl Round {
    #[inline(always)]
    fn new<P: Products>(index: usize, cin: usize) -> Self {
        let start = index * CELL * P::GROUP;
        let channels = (cin - start).min(CELL * P::GROUP);
        Self { start, channels, groups: channels.div_ceil(P::GROUP) }
    }

    /// Packs the weights of `outputs` outputs, and adds them to their sums by kernel row.
    #[inline(always)]
    fn pack<S: Simd, P: Products, const NV: usize>(
        self,
        s: S,
        (weights, outputs): (&[i8], usize),
        p: &Conv<'_>,
        panel: &mut [i32],
        sums: &mut [[i32; 32]; 3],
    ) {
        let taps = p.kernel * p.kernel;
        let rows = Rows { weights, stride: taps * p.cin, rows: outputs, from: self.start, count: self.channels };
        if self.channels == p.cin && p.cin.is_multiple_of(P::GROUP) {
            // The taps are contiguous.
            pack::<S, P, NV>(s, Rows { count: taps * p.cin, ..rows }, panel);
        } else {
            for (tap, panel) in panel.chunks_exact_mut(self.groups * NV * S::LANES).take(taps).enumerate() {
                let rows = Rows { from: rows.from + tap * p.cin, ..rows };
                pack::<S, P, NV>(s, rows, panel);
            }
        }
        for (panel, sums) in panel.chunks_exact(p.kernel * self.groups * NV * S::LANES).zip(&mut sums[..p.kernel]) {
            count::<S, P, NV>(s, panel, sums);
        }
    }
}

/// Output channels `first` .. `first + NV * LANES`, fewer at the end.
#[inline(always)]
fn outputs<S: Simd, Q: Source, const NV: usize>(
    s: S,
    p: &Conv<'_>,
    source: Q,
    input: &[Q::Q],
    out: &mut ConvOut<'_>,
    panel: &mut [i32],
    first: usize,
) {
    let (h, w, cin, k) = (p.height, p.width, p.cin, p.kernel);
    let (pad, taps) = (k / 2, k * k);
    let count = (p.cout - first).min(NV * S::LANES);

    // Rounds over the input channels, as many at a time as a cell of the patch holds.
    let rounds = cin.div_ceil(CELL * Q::Products::GROUP);
    let round_panel = taps * Round::new::<Q::Products>(0, cin).groups * NV * S::LANES;
    let resident = rounds * round_panel <= panel.len();

    let weights = (&p.weights[first * taps * cin..][..count * taps * cin], count);
    // By kernel row.
    let mut weight_sums = [[0i32; 32]; 3];
    if resident {
        for (i, panel) in panel.chunks_exact_mut(round_panel).take(rounds).enumerate() {
            Round::new::<Q::Products>(i, cin).pack::<S, Q::Products, NV>(s, weights, p, panel, &mut weight_sums);
        }
    }

    let (mut scale, mut bias) = ([0f32; 32], [0f32; 32]);
    for (oc, (scale, bias)) in (first..first + count).zip(scale.iter_mut().zip(&mut bias)) {
        (*scale, *bias) = (p.scale[oc] * p.a, p.bias[oc] * p.b);
    }
    let finish = Finish { channels: p.cout, first, count, scale, bias, c: p.c };

    const ROW: usize = MAX_TILE + 2;
    let outside = Cell([source.outside(); CELL]);
    let mut patch = [outside; 3 * ROW];
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
                let round = Round::new::<Q::Products>(i, cin);
                let packed = if resident {
                    &panel[i * round_panel..]
                } else {
                    weight_sums = [[0; 32]; 3];
                    round.pack::<S, Q::Products, NV>(s, weights, p, panel, &mut weight_sums);
                    &panel[..]
                };
                for ky in ky0..ky1 {
                    let row = (y + ky - pad) * w;
                    for (cell, at) in patch[ky * ROW..][..cells + 2 * pad].iter_mut().zip(x..) {
                        match at.checked_sub(pad).filter(|&at| at < w) {
                            Some(at) => {
                                source.fill(s, cell, &input[(row + at) * cin + round.start..][..round.channels])
                            }
                            None => *cell = outside,
                        }
                    }
                }
                let mut offset = [0i32; 32];
                if source.excess() != 0 && (i == 0 || !resident) {
                    for (oc, offset) in offset.iter_mut().enumerate() {
                        let sum = weight_sums[ky0..ky1].iter().fold(0i32, |a, row| a.wrapping_add(row[oc]));
                        *offset = sum.wrapping_mul(source.excess()).wrapping_neg();
                    }
                }
                let taps =
                    Taps { patch: &patch, row_cells: ROW, kernel: k, ky0, ky1, groups: round.groups, panel: packed };
                tile::<S, Q::Products, NV>(s, cells, taps, &offset, i > 0, &mut sums);
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
            ConvOut::I8(out) => self.each::<S, Rounded, _>(s, sums, cells, at, out),
            ConvOut::I16(out) => self.each::<S, Rounded, _>(s, sums, cells, at, out),
            ConvOut::I16Add(out) => self.each::<S, Added, _>(s, sums, cells, at, out),
            ConvOut::F32(out) => self.each::<S, Plain, _>(s, sums, cells, at, out),
        }
    }

    #[inline(always)]
    fn each<S: Simd, R: Put<T>, T>(&self, s: S, sums: &Sums, cells: usize, at: usize, out: &mut [T]) {
        let c = s.splat_f(self.c);
        for lane in (0..self.count).step_by(S::LANES) {
            let n = (self.count - lane).min(S::LANES);
            let (scale, bias) = (s.load_f(&self.scale[lane..]), s.load_f(&self.bias[lane..]));
            for (m, sums) in sums.0.iter().enumerate().take(cells) {
                let y = s.add_f(s.mul_f(s.to_f(s.load(&sums[lane..])), scale), bias);
                R::put(s, y, c, &mut out[at + m * self.channels + lane..][..n]);
            }
        }
    }
}

/// What becomes of y.
trait Put<T> {
    /// `c`: see [`Conv::c`].
    fn put<S: Simd>(s: S, y: S::F, c: S::F, out: &mut [T]);
}

struct Rounded;

impl<T: Narrow> Put<T> for Rounded {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, _: S::F, out: &mut [T]) {
        T::narrow(s, rne_narrow(s, y), out);
    }
}

struct Added;

impl Put<i16> for Added {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, c: S::F, out: &mut [i16]) {
        let old = s.mul_f(s.to_f(s.widen_i16(out)), c);
        s.narrow_i16(rne_narrow(s, s.add_f(y, old)), out);
    }
}

struct Plain;

impl Put<f32> for Plain {
    #[inline(always)]
    fn put<S: Simd>(s: S, y: S::F, _: S::F, out: &mut [f32]) {
        s.store_f(y, out);
    }
}
