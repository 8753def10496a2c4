//! z (f32) to the first convolution's input (i16).

use crate::math::rne_i16;

/// out = saturate(rne(z * a)), with a = 1 / scale of the output.
pub fn quantize(a: f32, z: &[f32], out: &mut [i16]) {
    for (out, &z) in out.iter_mut().zip(z) {
        *out = rne_i16(z * a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even_and_saturates() {
        let mut out = [0i16; 8];
        quantize(2.0, &[0.25, 0.75, -0.25, 1e9, -1e9, 0.0, f32::NAN, 16383.6], &mut out);
        assert_eq!(out, [0, 2, 0, 32767, -32768, 0, -32768, 32767]);
    }
}
