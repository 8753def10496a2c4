//! Elementary functions in pure f32 and integers: the same bits on every target.
//!
//! Nothing here is fused and nothing comes from a platform's math library; each function is one written sequence of
//! IEEE operations. Errors given are against exact values over the stated range.

/// Adding and subtracting 1.5 * 2^23 rounds to an integer.
const ROUND: f32 = 12_582_912.0;

/// Rounds to the nearest integer, halves to even; |x| at most 2^22.
#[inline(always)]
pub fn rne(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// e^x; arguments are clamped to [-87, 88]; relative error below 3e-7.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let k = x * core::f32::consts::LOG2_E + ROUND;
    let n = k - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4; // ln 2 in two parts
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_5 + r * (0.041_665_8 + r * (0.008_365_2 + r * 0.001_394_4)))));
    // The low bits of k hold n in two's complement; shifted into the exponent they scale by 2^n.
    p * f32::from_bits((k.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// 1 / (1 + e^-x), relative error below 5e-7 for x above -87.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Natural logarithm of a positive normal number; absolute error below 1e-6 for x in (0, 1].
pub fn ln(x: f32) -> f32 {
    // x = m 2^e with m in [sqrt(1/2), sqrt(2)), then 2 atanh((m-1)/(m+1)).
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let e = (bits as i32) >> 23;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let p = s * (2.0 + q * (0.666_666_7 + q * (0.4 + q * (0.285_714_3 + q * 0.222_222_2))));
    e as f32 * core::f32::consts::LN_2 + p
}

/// Sine and cosine of an angle of at most a few hundred radians; absolute error below 2e-7 plus that of the argument.
pub fn sin_cos(x: f32) -> (f32, f32) {
    let q = rne(x * core::f32::consts::FRAC_2_PI);
    // pi/2 in three parts, so that the remainder keeps its bits.
    let r = ((x - q * 1.570_312_5) - q * 4.837_513e-4) - q * 7.549_79e-8;
    let s = r * r;
    let sin = r + r * s * (-0.166_666_67 + s * (0.008_333_33 + s * (-1.984_09e-4 + s * 2.718_3e-6)));
    let cos = 1.0 + s * (-0.5 + s * (0.041_666_67 + s * (-0.001_388_888_4 + s * (2.479_9e-5 - s * 2.6e-7))));
    match (q as i32) & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Square root, correctly rounded, of a non-negative normal number; 0 for everything else that is not above 0.
pub fn sqrt(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32;
    if bits >> 31 != 0 || exponent == 0 || exponent == 255 {
        return 0.0;
    }
    // x = m 2^e with m of 24 bits; an even e leaves the root's exponent whole.
    let e = exponent - 150;
    let m = u64::from(bits & 0x007f_ffff | 0x0080_0000) << (38 + (e & 1));
    let root = m.isqrt();
    // A sticky bit below the root makes the conversion round as the exact root would.
    let sticky = u64::from(root * root != m);
    let e = (e - (e & 1) - 38) / 2 - 1;
    ((root << 1) | sticky) as f32 * f32::from_bits(((e + 127) as u32) << 23)
}
