//! Upsampling: a vector of channels of one source cell goes to four destination cells.

use super::Simd;
use crate::ops::Upsample;

/// See [`ops::upsample_add`](crate::ops::upsample_add).
#[inline(always)]
pub(in crate::arch) fn upsample_add<S: Simd>(s: S, p: &Upsample, src: &[i16], dst: &mut [i16]) {
    let ch = p.channels;
    let row = p.width * ch;
    let (a, c) = (s.splat_f(p.a), s.splat_f(p.c));
    for (y, dst_row) in dst.chunks_exact_mut(row).enumerate() {
        let src_row = &src[(y / 2) * (row / 2)..][..row / 2];
        for (src, two_cells) in src_row.chunks_exact(ch).zip(dst_row.chunks_exact_mut(2 * ch)) {
            let (left, right) = two_cells.split_at_mut(ch);
            for at in (0..ch).step_by(S::LANES) {
                let n = (ch - at).min(S::LANES);
                let add = s.mul_f(s.to_f(s.widen_i16(&src[at..][..n])), a);
                for cell in [&mut left[at..][..n], &mut right[at..][..n]] {
                    let old = s.mul_f(s.to_f(s.widen_i16(cell)), c);
                    s.narrow_i16(s.round_narrow(s.add_f(old, add)), cell);
                }
            }
        }
    }
}
