//! Rounded results without float arithmetic: a fixed-point estimate with a bound of its distance from the scalar
//! function's value. Where no boundary between two integers lies within that distance, the integer is certain; elsewhere
//! the caller asks the scalar function.

/// Fraction bits of an estimate.
pub const FRACTION: u32 = 14;
const HALF: i32 = 1 << (FRACTION - 1);
const MASK: i32 = (1 << FRACTION) - 1;

/// Upper 32 bits of a product.
#[inline(always)]
pub fn high(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

/// The nearest integer to every number within `error` of `estimate`, both with [`FRACTION`] fraction bits; `None` if there
/// are several, or a tie.
#[inline(always)]
pub fn certain(estimate: i32, error: i32) -> Option<i32> {
    let shifted = estimate + HALF;
    let fraction = shifted & MASK;
    (fraction > error && fraction < MASK - error).then_some(shifted >> FRACTION)
}

/// `x` * 2^`bits`, rounded towards zero, if it is within +-`limit`.
pub fn fixed(x: f32, bits: u32, limit: i32) -> Option<i32> {
    let scaled = x * (1u64 << bits) as f32;
    let limit = limit as f32;
    (-limit < scaled && scaled < limit).then_some(scaled as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_integers_are_those_of_everything_near() {
        for estimate in -70_000..70_000 {
            for error in [0, 1, 100, 5000] {
                let ends = [estimate - error, estimate + error].map(|x| f64::from(x) / f64::from(1 << FRACTION));
                let near = ends.map(f64::round_ties_even);
                match certain(estimate, error) {
                    Some(integer) => assert!(near.iter().all(|&near| near == f64::from(integer)), "{estimate} {error}"),
                    None => assert!(
                        ends.iter().any(|end| (end - end.floor() - 0.5).abs() < 2.0 / 16384.0) || near[0] != near[1],
                        "{estimate} {error}"
                    ),
                }
            }
        }
    }
}
