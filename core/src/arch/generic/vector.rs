//! The vector trait, and the functions of [`math`](crate::math) on vectors: the same operations in the same order.

use super::panel::{Products, Rows};
use super::tile::{Panel, Sums, Taps, tile};
use super::winograd::products as winograd;
use crate::ops::Weights;

/// Lanes of 32 bits, and the instructions on them that the kernels need.
///
/// A value is a token: whoever holds one may use the instructions. [`load`](Self::load) and [`store`](Self::store) need
/// a slice of at least a vector. All other loads take the first elements of a slice that may be shorter; missing ones
/// are 0. All other stores write as many as the slice takes.
pub(crate) trait Simd: Copy {
    /// Products of int8 inputs, where `BYTES`.
    type Bytes: Products<Self>;
    /// Products of int16 inputs; of int8 ones too, where not `BYTES`.
    type Words: Products<Self>;
    /// i32 lanes.
    type I: Copy;
    /// f32 lanes.
    type F: Copy;
    /// As many `I` as there are lanes.
    type Square: AsMut<[Self::I]>;

    /// Lanes of a vector.
    const LANES: usize;
    /// Most cells of a tile of the [`Products`] of this module: with two vectors of sums for each, two of weights and one
    /// of inputs, the registers are full.
    const TILE: usize;
    /// Whether int8 inputs are multiplied as they are.
    const BYTES: bool;
    /// Whether `Bytes` takes weights of -128 too.
    const ANY_WEIGHT: bool = true;

    /// Whether 3x3 convolutions of int8 may go through Winograd's algorithm in int16.
    const WINOGRAD: bool = false;
    /// Whether weights for `Bytes` can be prepared: where tiles read the image's, there is nothing to prepare.
    const PANELS: bool = Self::BYTES && !<Self::Bytes as Products<Self>>::BLOCKS;

    /// Whether int8 inputs of these weights go through `Bytes`.
    #[inline(always)]
    fn takes(weights: &Weights<'_>) -> bool {
        // Weights of four bits are never -128. Not `contains`: this goes through all of them, in vectors.
        Self::BYTES && (Self::ANY_WEIGHT || weights.int8().iter().fold(0, |least, &w| w.min(least)) > i8::MIN)
    }

    /// Will be read soon.
    #[inline(always)]
    fn prefetch(self, _from: &[i8]) {}

    /// [`tile`]. A backend may have it as a function of its own instead of a copy for each caller.
    #[inline(always)]
    fn tile<P: Products<Self>, const NV: usize>(
        self,
        cells: usize,
        taps: &Taps<'_>,
        panel: Panel<'_>,
        start: Option<&[i32]>,
        sums: &mut Sums,
    ) {
        tile::<Self, P, NV>(self, cells, taps, panel, start, sums);
    }

    /// [`Products::pack`], likewise.
    #[inline(always)]
    fn pack<P: Products<Self>, const NV: usize>(self, rows: Rows<'_>, panel: &mut [i32]) {
        P::pack::<NV>(self, rows, panel);
    }

    /// [`winograd::sums`], likewise.
    #[inline(always)]
    fn products<const NV: usize, const IN: usize>(self, p: winograd::Products<'_>, sums: &mut winograd::Sums) {
        winograd::sums::<Self, NV, IN>(self, p, sums);
    }

    /// [`winograd::round`], likewise.
    #[inline(always)]
    fn round_of_products<const NV: usize, const IN: usize, const M: usize>(
        self,
        round: winograd::Round<'_>,
        acc: &mut [[Self::I; NV]; M],
    ) {
        winograd::round::<Self, NV, IN, M>(self, round, acc);
    }

    fn splat(self, x: i32) -> Self::I;
    fn load(self, from: &[i32]) -> Self::I;
    fn store(self, x: Self::I, to: &mut [i32]);
    fn add(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub(self, a: Self::I, b: Self::I) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Of the two i16 of a lane, wrapping.
    fn add_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// Of the two i16 of a lane, wrapping.
    fn sub_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping.
    fn mul(self, a: Self::I, b: Self::I) -> Self::I;
    fn shift_left<const N: u32>(self, x: Self::I) -> Self::I;
    fn shift_right<const N: u32>(self, x: Self::I) -> Self::I;
    /// Arithmetic; `n` is a constant in the end.
    fn shift_right_signed(self, x: Self::I, n: u32) -> Self::I;
    /// Per lane: sum + the products of the four bytes of `u` (unsigned) and of `w` (signed), wrapping, not saturating.
    #[cfg(target_arch = "x86_64")]
    fn dot_bytes(self, sum: Self::I, u: Self::I, w: Self::I) -> Self::I;
    /// Per lane: sum + the products of the two i16 of `q`, which are the same in all lanes, and of `w`, which are as
    /// [`pairs`](Self::pairs) orders them; wrapping.
    fn dot_words(self, sum: Self::I, q: Self::I, w: Self::I) -> Self::I;

    /// Two i16 a lane, as [`dot_words`](Self::dot_words) takes its second factor.
    #[inline(always)]
    fn pairs(self, w: Self::I) -> Self::I {
        w
    }

    /// Squares of i32 lanes that hold an i16 each.
    fn squares(self, q: Self::I) -> Self::I;

    /// The sum of the two i16 of a lane, and that of their squares, which is unsigned.
    #[inline(always)]
    fn pair_sums(self, q: Self::I) -> (Self::I, Self::I) {
        let high = self.shift_right_signed(q, 16);
        let low = self.shift_right_signed(self.shift_left::<16>(q), 16);
        (self.add(low, high), self.add(self.squares(low), self.squares(high)))
    }

    /// i8 to i32.
    fn widen_i8(self, from: &[i8]) -> Self::I;
    /// i16 to i32.
    fn widen_i16(self, from: &[i16]) -> Self::I;
    /// i32 to i8, saturating.
    fn narrow_i8(self, x: Self::I, to: &mut [i8]);
    /// i32 to i16, saturating.
    fn narrow_i16(self, x: Self::I, to: &mut [i16]);
    /// [`narrow_i8`](Self::narrow_i8) of several vectors, all of which `to` takes.
    #[inline(always)]
    fn narrow_all_i8<const N: usize>(self, x: [Self::I; N], to: &mut [i8]) {
        for i in 0..N {
            self.narrow_i8(x[i], &mut to[i * Self::LANES..][..Self::LANES]);
        }
    }
    /// [`narrow_i16`](Self::narrow_i16) of several vectors, all of which `to` takes.
    #[inline(always)]
    fn narrow_all_i16<const N: usize>(self, x: [Self::I; N], to: &mut [i16]) {
        for i in 0..N {
            self.narrow_i16(x[i], &mut to[i * Self::LANES..][..Self::LANES]);
        }
    }
    /// Four i8 to a lane.
    fn load_bytes(self, from: &[i8]) -> Self::I;
    /// Two i16 to a lane.
    fn load_pairs(self, from: &[i16]) -> Self::I;
    /// Two i8, widened to i16, to a lane.
    fn load_words(self, from: &[i8]) -> Self::I;
    fn square(self) -> Self::Square;
    /// Lane j of vector i becomes lane i of vector j.
    fn transpose(self, square: &mut Self::Square);

    fn splat_f(self, x: f32) -> Self::F;
    fn load_f(self, from: &[f32]) -> Self::F;
    fn store_f(self, x: Self::F, to: &mut [f32]);
    fn add_f(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub_f(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul_f(self, a: Self::F, b: Self::F) -> Self::F;
    fn div_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// a > b ? a : b, so b where either is NaN.
    fn max_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// a < b ? a : b, so b where either is NaN.
    fn min_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// x > bound ? x : bound, for a bound that is neither NaN nor zero: NaN becomes the bound.
    #[inline(always)]
    fn at_least(self, x: Self::F, bound: f32) -> Self::F {
        self.max_f(x, self.splat_f(bound))
    }
    /// x < bound ? x : bound, for a bound that is neither NaN nor zero: NaN becomes the bound.
    #[inline(always)]
    fn at_most(self, x: Self::F, bound: f32) -> Self::F {
        self.min_f(x, self.splat_f(bound))
    }
    /// The bits with the sign flipped.
    fn negate_f(self, x: Self::F) -> Self::F;
    fn to_f(self, x: Self::I) -> Self::F;
    /// Nearest integer, halves to even, of what is within +-2^22.
    fn round(self, x: Self::F) -> Self::I;
    /// [`math::rne`](crate::math::rne) for a saturating narrowing to at most 16 bits that follows: what is beyond them
    /// stays beyond, NaN is too low.
    fn round_narrow(self, x: Self::F) -> Self::I;
    /// The same bits.
    fn as_f(self, x: Self::I) -> Self::F;
    /// Four rows of `rows` times `x`, each as [`dot8`](crate::ops::embed::dot8).
    fn dot8_rows(self, x: &[f32], rows: &[i8]) -> [f32; 4];
}

/// The first N elements, zeros where there are fewer.
#[inline(always)]
pub(in crate::arch) fn padded<T: Copy + Default, const N: usize>(from: &[T]) -> [T; N] {
    match from.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut out = [T::default(); N];
            out[..from.len()].copy_from_slice(from);
            out
        }
    }
}

/// As many elements as `to` has, at most N.
#[inline(always)]
pub(in crate::arch) fn put<T: Copy, const N: usize>(x: [T; N], to: &mut [T]) {
    match to.first_chunk_mut() {
        Some(whole) => *whole = x,
        None => to.copy_from_slice(&x[..to.len()]),
    }
}

/// Elements that i32 lanes saturate to.
pub(super) trait Narrow: Sized {
    fn narrow<S: Simd>(s: S, x: S::I, to: &mut [Self]);
    /// Of whole vectors.
    fn narrow_all<S: Simd, const N: usize>(s: S, x: [S::I; N], to: &mut [Self]);
}

impl Narrow for i8 {
    #[inline(always)]
    fn narrow<S: Simd>(s: S, x: S::I, to: &mut [i8]) {
        s.narrow_i8(x, to);
    }

    #[inline(always)]
    fn narrow_all<S: Simd, const N: usize>(s: S, x: [S::I; N], to: &mut [i8]) {
        s.narrow_all_i8(x, to);
    }
}

impl Narrow for i16 {
    #[inline(always)]
    fn narrow<S: Simd>(s: S, x: S::I, to: &mut [i16]) {
        s.narrow_i16(x, to);
    }

    #[inline(always)]
    fn narrow_all<S: Simd, const N: usize>(s: S, x: [S::I; N], to: &mut [i16]) {
        s.narrow_all_i16(x, to);
    }
}

/// [`math::rne`](crate::math::rne).
#[inline(always)]
pub(in crate::arch) fn rne<S: Simd>(s: S, x: S::F) -> S::I {
    s.round(s.at_most(s.at_least(x, -2_097_152.0), 2_097_152.0))
}

/// [`math::exp`](crate::math::exp).
#[inline(always)]
pub(in crate::arch) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let [y] = exps(s, [x]);
    y
}

/// [`math::silu`](crate::math::silu).
#[inline(always)]
pub(in crate::arch) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let [y] = silus(s, [x]);
    y
}

/// [`math::exp`](crate::math::exp) of several vectors, step by step: each step waits for the last one, so a CPU that is
/// given one vector after the other mostly waits.
#[expect(clippy::excessive_precision, reason = "as in `math`")]
#[inline(always)]
pub(in crate::arch) fn exps<S: Simd, const N: usize>(s: S, mut x: [S::F; N]) -> [S::F; N] {
    // Loops, not closures: those may become functions, which are not compiled for the instruction set.
    let (mut k, mut p) = ([s.splat(0); N], [s.splat_f(0.001_392_692_7); N]);
    for x in &mut x {
        *x = s.at_most(s.at_least(*x, -87.0), 88.0);
    }
    for i in 0..N {
        // Bounded already: no clamp as in `rne`.
        k[i] = s.round(s.mul_f(x[i], s.splat_f(core::f32::consts::LOG2_E)));
    }
    for i in 0..N {
        let kf = s.to_f(k[i]);
        x[i] = s.sub_f(x[i], s.mul_f(kf, s.splat_f(0.693_115_234_375)));
        x[i] = s.sub_f(x[i], s.mul_f(kf, s.splat_f(3.194_618_3e-5)));
    }
    for factor in [0.008_363_774, 0.041_666_55, 0.166_665_73, 0.5] {
        for i in 0..N {
            p[i] = s.add_f(s.mul_f(p[i], x[i]), s.splat_f(factor));
        }
    }
    for i in 0..N {
        p[i] = s.add_f(s.add_f(s.mul_f(p[i], s.mul_f(x[i], x[i])), x[i]), s.splat_f(1.0));
    }
    for i in 0..N {
        p[i] = s.mul_f(p[i], s.as_f(s.shift_left::<23>(s.add(k[i], s.splat(127)))));
    }
    p
}

/// [`math::silu`](crate::math::silu) of several vectors, as [`exps`].
#[inline(always)]
pub(in crate::arch) fn silus<S: Simd, const N: usize>(s: S, x: [S::F; N]) -> [S::F; N] {
    let mut y = x;
    for y in &mut y {
        *y = s.negate_f(*y);
    }
    y = exps(s, y);
    for i in 0..N {
        y[i] = s.div_f(x[i], s.add_f(s.splat_f(1.0), y[i]));
    }
    y
}
