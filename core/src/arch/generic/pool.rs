//! 2x2 average pooling, a vector of channels at a time.

use super::Simd;
use crate::ops::Pool;

/// See [`ops::avg_pool2`](crate::ops::avg_pool2).
#[inline(always)]
pub(in crate::arch) fn avg_pool2<S: Simd>(s: S, p: &Pool, input: &[i16], out: &mut [i16]) {
    let ch = p.channels;
    let row = p.width * ch;
    for (two_rows, out_row) in input.chunks_exact(2 * row).zip(out.chunks_exact_mut(row / 2)) {
        let (upper, lower) = two_rows.split_at(row);
        for ((upper, lower), out) in
            upper.chunks_exact(2 * ch).zip(lower.chunks_exact(2 * ch)).zip(out_row.chunks_exact_mut(ch))
        {
            for at in (0..ch).step_by(S::LANES) {
                let n = (ch - at).min(S::LANES);
                let upper = s.add(s.widen_i16(&upper[at..][..n]), s.widen_i16(&upper[ch + at..][..n]));
                let lower = s.add(s.widen_i16(&lower[at..][..n]), s.widen_i16(&lower[ch + at..][..n]));
                let sum = s.add(upper, lower);
                // An arithmetic shift of what is made positive first: the sum is at least -2^17.
                let shifted = s.shift_right::<2>(s.add(sum, s.splat((1 << 17) + 2)));
                s.narrow_i16(s.sub(shifted, s.splat(1 << 15)), &mut out[at..][..n]);
            }
        }
    }
}
