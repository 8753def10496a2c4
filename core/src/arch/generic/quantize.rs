//! z to int16.

use super::Simd;

/// See [`ops::quantize`](crate::ops::quantize()).
#[inline(always)]
pub(in crate::arch) fn quantize<S: Simd>(s: S, a: f32, z: &[f32], out: &mut [i16]) {
    let a = s.splat_f(a);
    for (out, z) in out.chunks_mut(S::LANES).zip(z.chunks(S::LANES)) {
        let n = out.len().min(z.len());
        s.narrow_i16(s.round_narrow(s.mul_f(s.load_f(&z[..n]), a)), &mut out[..n]);
    }
}
