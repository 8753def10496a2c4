//! 2x2 average pooling, a vector of channels at a time.

use super::Simd;
use crate::ops::Pool;

/// See [`ops::avg_pool2`](crate::ops::avg_pool2).
#[inline(always)]
pub(in crate::arch) fn avg_pool2<S: Simd>(s: S, p: &Pool, input: &[i16], out: &mut [i16]) {
    let ch = p.channels;
    let row = p.width * ch;
    // Whole vectors have a length that the compiler knows; what is left over has not.
    let whole = ch / S::LANES * S::LANES;
    for (two_rows, out_row) in input.chunks_exact(2 * row).zip(out.chunks_exact_mut(row / 2)) {
        let (upper, lower) = two_rows.split_at(row);
        let cells = upper.chunks_exact(2 * ch).zip(lower.chunks_exact(2 * ch));
        for ((upper, lower), out) in cells.zip(out_row.chunks_exact_mut(ch)) {
            let ((a, b), (c, d)) = (upper.split_at(ch), lower.split_at(ch));
            let left = a.chunks_exact(S::LANES).zip(c.chunks_exact(S::LANES));
            let right = b.chunks_exact(S::LANES).zip(d.chunks_exact(S::LANES));
            for (((a, c), (b, d)), out) in left.zip(right).zip(out.chunks_exact_mut(S::LANES)) {
                average(s, [a, b, c, d], out);
            }
            if whole < ch {
                average(s, [&a[whole..], &b[whole..], &c[whole..], &d[whole..]], &mut out[whole..]);
            }
        }
    }
}

/// Up to a vector of means.
#[inline(always)]
fn average<S: Simd>(s: S, [a, b, c, d]: [&[i16]; 4], out: &mut [i16]) {
    let (upper, lower) = (s.add(s.widen_i16(a), s.widen_i16(b)), s.add(s.widen_i16(c), s.widen_i16(d)));
    // An arithmetic shift of what is made positive first: the sum is at least -2^17.
    let shifted = s.shift_right::<2>(s.add(s.add(upper, lower), s.splat((1 << 17) + 2)));
    s.narrow_i16(s.sub(shifted, s.splat(1 << 15)), out);
}
