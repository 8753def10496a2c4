//! Elementary functions in pure f32 and integers: one written order, no fused operations, no platform libm, so that
//! every target gives the same bits. Accurate to about 1e-7 relative (see the tests for the bounds that hold).

use core::f32::consts::{FRAC_PI_2, LOG2_E};

/// 1.5 * 2^23: adding it leaves no fraction bits, so the addition itself rounds half to even.
const ROUNDING: f32 = 12_582_912.0;

/// ln 2 to 12 bits: its product with an exponent is exact.
const LN_2_HIGH: f32 = 2839.0 / 4096.0;

/// The rest of ln 2.
const LN_2_LOW: f32 = 3.194_618_3e-5;

/// Bound of [`rne`]: beyond every i16 with any zero point, and small enough for the magic addition.
const RNE_LIMIT: f32 = 2_097_152.0;

/// Rounds to the nearest integer, halves to even, after clamping to +-2^21. NaN gives the lower bound.
#[inline]
pub fn rne(x: f32) -> i32 {
    // Written as comparisons, not `clamp`, so that NaN takes the same way on every target.
    let x = if x > -RNE_LIMIT { x } else { -RNE_LIMIT };
    let x = if x < RNE_LIMIT { x } else { RNE_LIMIT };
    ((x + ROUNDING).to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32)
}

/// [`rne`], then saturation to i8.
#[inline]
pub fn rne_i8(x: f32) -> i8 {
    rne(x).clamp(-128, 127) as i8
}

/// [`rne`], then saturation to i16.
#[inline]
pub fn rne_i16(x: f32) -> i16 {
    rne(x).clamp(-32768, 32767) as i16
}

/// 2^k for k in -126..=127.
#[inline]
fn exp2i(k: i32) -> f32 {
    f32::from_bits(((k + 127) as u32) << 23)
}

/// e^x, with x clamped to -87 ..= 88; NaN counts as -87.
// In firmware one copy is enough: what calls it for every value has an exponential of its own.
#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
pub fn exp(x: f32) -> f32 {
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    // x = k ln 2 + r with |r| <= ln(2)/2; ln 2 in two parts, k times the first is exact.
    let k = rne(x * LOG2_E);
    let kf = k as f32;
    let r = (x - kf * LN_2_HIGH) - kf * LN_2_LOW;
    // (e^r - 1 - r) / r^2, interpolated at Chebyshev nodes: relative error of e^r 1.1e-8.
    let p = 0.001_392_692_7;
    let p = p * r + 0.008_363_774;
    let p = p * r + 0.041_666_55;
    let p = p * r + 0.166_665_73;
    let p = p * r + 0.5;
    let e = (p * (r * r) + r) + 1.0;
    e * exp2i(k)
}

/// 1 / (1 + e^-x).
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x / (1 + e^-x).
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Natural logarithm of a positive normal number. Anything else gives a number without meaning.
pub fn ln(x: f32) -> f32 {
    // x = m 2^k with m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) puts the cut there.
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let k = (bits as i32) >> 23;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    // ln m = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), |s| <= 0.172.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let p = 2.0 / 9.0;
    let p = p * q + 2.0 / 7.0;
    let p = p * q + 2.0 / 5.0;
    let p = p * q + 2.0 / 3.0;
    let low = s * (p * q);
    let kf = k as f32;
    (kf * LN_2_HIGH + s * 2.0) + (low + kf * LN_2_LOW)
}

/// Sine and cosine of r, |r| <= pi/4, and `quadrant` quarter turns (Taylor; the error is below 3e-8).
#[inline(never)]
fn sincos_of_quadrant(r: f32, quadrant: u32) -> (f32, f32) {
    let q = r * r;
    let s = 1.0 / 362_880.0;
    let s = s * q - 1.0 / 5_040.0;
    let s = s * q + 1.0 / 120.0;
    let s = s * q - 1.0 / 6.0;
    let sin = r + r * (q * s);
    let c = 1.0 / 40_320.0;
    let c = c * q - 1.0 / 720.0;
    let c = c * q + 1.0 / 24.0;
    let c = c * q - 0.5;
    let cos = 1.0 + q * c;
    match quadrant & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// (sine, cosine) of x radians, for |x| <= 10000; larger ones lose accuracy.
pub fn sincos(x: f32) -> (f32, f32) {
    let k = rne(x * core::f32::consts::FRAC_2_PI);
    let kf = k as f32;
    // pi/2 in three parts; k times each of the first two is exact.
    let r = ((x - kf * 1.570_312_5) - kf * 4.837_513e-4) - kf * 7.549_79e-8;
    sincos_of_quadrant(r, k as u32)
}

/// (sine, cosine) of `turn` / 2^32 turns. The reduction is exact.
pub fn sincos_turn(turn: u32) -> (f32, f32) {
    let shifted = turn.wrapping_add(1 << 29);
    let rest = (shifted & 0x3fff_ffff) as i32 - (1 << 29);
    // rest / 2^30 quarter turns.
    let r = rest as f32 * (FRAC_PI_2 / 1_073_741_824.0);
    sincos_of_quadrant(r, shifted >> 30)
}

/// Square root, correctly rounded, by integers. Zero for everything that is not positive.
pub fn sqrt(x: f32) -> f32 {
    if x.is_nan() || x <= 0.0 {
        return 0.0;
    }
    if x == f32::INFINITY {
        return x;
    }
    // x = mantissa * 2^exponent.
    let bits = x.to_bits();
    let field = (bits >> 23) as i32;
    let (mut mantissa, mut exponent) = match field {
        0 => (u64::from(bits), -149),
        _ => (u64::from(bits & 0x007f_ffff | 0x0080_0000), field - 150),
    };
    if exponent % 2 != 0 {
        mantissa *= 2;
        exponent -= 1;
    }
    let shift = (mantissa.leading_zeros() & !1) as i32;
    let value = mantissa << shift;
    // 32 bits of the root; the last bit stands for everything below, so that one rounding follows.
    let root = root_of_high(value);
    let sticky = u32::from(u64::from(root) * u64::from(root) != value);
    (root | sticky) as f32 * exp2i((exponent - shift) / 2)
}

/// The integer square root, rounded down, of a number from 2^62 on: its upper half of 16 bits digit by digit, the lower by
/// a division (Zimmermann, Karatsuba Square Root, 1999). No step is wider than a 32-bit division and product, which is
/// what small CPUs have; `u64::isqrt` would bring a 64-bit division and a table with it.
fn root_of_high(value: u64) -> u32 {
    debug_assert!(value >= 1 << 62);
    let (high, low) = ((value >> 32) as u32, value as u32);
    // root^2 + rest is what was looked at so far.
    let (mut root, mut rest) = (0u32, high);
    let mut bit = 1u32 << 30;
    while bit > 0 {
        let with = root | bit;
        root >>= 1;
        if rest >= with {
            rest -= with;
            root |= bit;
        }
        bit >>= 2;
    }
    // Not 0, which the compiler does not see.
    let root = root.max(1);
    // rest <= 2 root. The next 16 bits q: (rest 2^16 + the next half word) / (2 root), of which rest 2^16 may have 33 bits,
    // halved on both sides.
    let next = u64::from(rest) << 16 | u64::from(low >> 16);
    let half = (next >> 1) as u32;
    let q = half / root;
    // What is left, with the last half word, less q^2; where that is negative, q was one too large.
    let left = i64::from(half % root) << 17 | (next as i64 & 1) << 16 | i64::from(low & 0xffff);
    let root = (u64::from(root) << 16) + u64::from(q);
    let large = left < i64::from(q) * i64::from(q);
    (root - u64::from(large)) as u32
}

/// 1 / sqrt(var + eps) for `n` integers with the given sum and sum of squares, where
/// var = (n * squares - sum^2) / n^2: exact up to the integer root, then one division.
///
/// `n` at most 2^16, each value within i16, `eps` >= 0 in squared units of the integers.
pub fn inv_std(n: u32, sum: i32, squares: u64, eps: f32) -> f32 {
    let n = n.clamp(1, 1 << 16);
    let magnitude = u64::from(sum.unsigned_abs());
    let spread = (u64::from(n).wrapping_mul(squares)).saturating_sub(magnitude * magnitude);
    let nf = n as f32;
    // Saturating conversion; the bound leaves room for the sum.
    let eps = ((eps * (nf * nf)) as u64).min(1 << 62);
    let total = spread.min(1 << 62).wrapping_add(eps).max(1);
    // The root of a number shifted to the top has 32 significant bits.
    let shift = total.leading_zeros() & !1;
    let root = root_of_high(total << shift);
    nf * exp2i((shift / 2) as i32) / root as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_the_library() {
        let mut x = 88_172_645_463_325_252u64;
        for _ in 0..1_000_000 {
            x = (x ^ x << 13) ^ (x ^ x << 13) >> 7;
            x ^= x << 17;
            let root = x | 1 << 31;
            let square = (root & 0xffff_ffff).pow(2);
            for value in [x | 1 << 62, square, square.wrapping_sub(1), square.saturating_add(1)] {
                if value >= 1 << 62 {
                    assert_eq!(u64::from(root_of_high(value)), value.isqrt(), "{value}");
                }
            }
        }
        for value in [1 << 62, u64::MAX, u64::MAX - 1, u64::MAX << 32, (u64::MAX << 32) - 1, 3 << 62] {
            assert_eq!(u64::from(root_of_high(value)), value.isqrt(), "{value}");
        }
    }

    /// Largest relative difference of `f` and `g` over `n` points of [lo, hi].
    fn worst(f: impl Fn(f32) -> f32, g: impl Fn(f64) -> f64, lo: f64, hi: f64, n: u32) -> f64 {
        (0..=n)
            .map(|i| {
                let x = (lo + (hi - lo) * f64::from(i) / f64::from(n)) as f32;
                let want = g(f64::from(x));
                ((f64::from(f(x)) - want) / want.abs().max(1e-30)).abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn the_parts_of_ln_2_add_up() {
        let sum = f64::from(LN_2_HIGH) + f64::from(LN_2_LOW);
        assert!((sum - core::f64::consts::LN_2).abs() < 1e-11);
    }

    #[test]
    fn exp_is_accurate() {
        assert!(worst(exp, f64::exp, -86.9, 87.9, 1_000_000) < 2.0e-7);
        assert!(worst(exp, f64::exp, -1.0, 1.0, 1_000_000) < 1.5e-7);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NAN) > 0.0 && exp(-1e30) > 0.0);
    }

    #[test]
    fn ln_is_accurate() {
        assert!(worst(ln, f64::ln, 1e-30, 0.99, 1_000_000) < 2.5e-7);
        assert!(worst(ln, f64::ln, 1.01, 1e30, 1_000_000) < 2.5e-7);
        assert!((1..1000).all(|i| {
            let x = i as f32 / 16_777_216.0;
            (f64::from(ln(x)) - f64::from(x).ln()).abs() < 2e-6
        }));
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sincos_is_accurate() {
        for i in -400_000..=400_000i32 {
            let x = i as f32 * 1.0e-4;
            let (s, c) = sincos(x);
            let (ws, wc) = (f64::from(x).sin(), f64::from(x).cos());
            assert!((f64::from(s) - ws).abs() < 1.2e-7, "sin {x}");
            assert!((f64::from(c) - wc).abs() < 1.2e-7, "cos {x}");
        }
    }

    #[test]
    fn sincos_turn_is_accurate() {
        for i in 0..100_000u32 {
            let turn = i.wrapping_mul(0x9e37_79b9);
            let angle = f64::from(turn) * core::f64::consts::TAU / 4_294_967_296.0;
            let (s, c) = sincos_turn(turn);
            assert!((f64::from(s) - angle.sin()).abs() < 1.2e-7);
            assert!((f64::from(c) - angle.cos()).abs() < 1.2e-7);
        }
        assert_eq!(sincos_turn(0), (0.0, 1.0));
        assert_eq!(sincos_turn(1 << 30), (1.0, 0.0));
        assert_eq!(sincos_turn(1 << 31).1, -1.0);
    }

    #[test]
    fn sqrt_is_correctly_rounded() {
        let mut bits = 1u32;
        while bits < 0x7f80_0000 {
            let x = f32::from_bits(bits);
            assert_eq!(sqrt(x).to_bits(), x.sqrt().to_bits(), "sqrt {x:e}");
            bits += 1 + bits % 3001;
        }
        for i in 0..100_000u32 {
            assert_eq!(sqrt(i as f32), (i as f32).sqrt());
        }
        assert_eq!(sqrt(-1.0), 0.0);
        assert_eq!(sqrt(f32::NAN), 0.0);
    }

    #[test]
    fn rne_rounds_half_to_even_and_saturates() {
        for (x, want) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (127.5, 128), (0.49999997, 0)]
        {
            assert_eq!(rne(x), want, "{x}");
        }
        assert_eq!((rne_i8(1e30), rne_i8(-1e30), rne_i8(127.4), rne_i8(-128.6)), (127, -128, 127, -128));
        assert_eq!((rne_i16(1e30), rne_i16(-1e30), rne_i16(32767.6)), (32767, -32768, 32767));
        assert_eq!(rne_i8(f32::NAN), -128);
        assert_eq!(rne_i8(-f32::NAN), -128);
        for i in -70_000..70_000 {
            assert_eq!(rne(i as f32 * 0.25), (i as f32 * 0.25).round_ties_even() as i32);
        }
    }

    #[test]
    fn silu_is_accurate() {
        let silu64 = |x: f64| x / (1.0 + (-x).exp());
        assert!(worst(silu, silu64, -80.0, -1e-3, 400_000) < 5e-7);
        assert!(worst(silu, silu64, 1e-3, 80.0, 400_000) < 5e-7);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0, 400_000) < 5e-7);
    }

    #[test]
    fn inv_std_is_accurate_at_the_extremes() {
        let cases: [(&[i16], f32); 5] =
            [(&[0; 8], 0.5), (&[-32768; 16], 1.0), (&[7, -7, 7, -7], 0.0), (&[32767, -32768], 100.0), (&[3], 1e-3)];
        for (values, eps) in cases {
            let n = values.len() as f64;
            let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
            let squares: u64 = values.iter().map(|&v| (i64::from(v) * i64::from(v)) as u64).sum();
            let mean = f64::from(sum) / n;
            let var = squares as f64 / n - mean * mean;
            let want = 1.0 / (var + f64::from(eps)).sqrt();
            let got = f64::from(inv_std(values.len() as u32, sum, squares, eps));
            // eps enters as an integer multiple of 1/n^2.
            let tolerance = if var == 0.0 { 0.5 } else { 1e-6 };
            if f64::from(eps) * n * n >= 1.0 {
                assert!((got / want - 1.0).abs() < tolerance, "{values:?} {got} {want}");
            }
            assert!(got.is_finite());
        }
        // The largest group: 2^16 values, all at an end.
        let n = 1u32 << 16;
        let got = inv_std(n, i32::MIN, u64::from(n) << 30, 1.0);
        assert!((got - 1.0).abs() < 1e-6, "{got}");
        let got = inv_std(n, 0, u64::from(n) << 30, 0.0);
        assert!((got * 32768.0 - 1.0).abs() < 1e-6, "{got}");
        assert!(inv_std(8, 0, 0, 1e30) > 0.0);
    }
}
