//! Nearest-neighbour upsampling, added to the stream of the higher level.

use crate::math::rne_i16;
use crate::part::{part, part_mut};

/// Shape of the destination and the two scale ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Upsample {
    /// Rows of the destination, even.
    pub height: usize,
    /// Columns of the destination, even.
    pub width: usize,
    /// Channels of both.
    pub channels: usize,
    /// Scale of the source over scale of the result.
    pub a: f32,
    /// Scale of the destination before over scale of the result.
    pub c: f32,
}

/// dst = saturate(rne(dst * c + src * a)), every source cell for four destination cells, in place.
///
/// src: [height / 2][width / 2][channels], dst: [height][width][channels].
pub fn upsample_add(p: &Upsample, src: &[i16], dst: &mut [i16]) {
    let ch = p.channels.max(1);
    let row = (p.width * ch).max(1);
    for (y, dst_row) in dst.chunks_exact_mut(row).enumerate() {
        let src_row = part(src, (y / 2) * (row / 2), row / 2);
        for (src, x) in src_row.chunks_exact(ch).zip(0..) {
            for cell in part_mut(dst_row, 2 * x * ch, 2 * ch).chunks_exact_mut(ch) {
                for (dst, &src) in cell.iter_mut().zip(src) {
                    *dst = rne_i16(f32::from(*dst) * p.c + f32::from(src) * p.a);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_oracle_and_saturates() {
        let p = Upsample { height: 4, width: 6, channels: 3, a: 0.75, c: 0.5 };
        let src: Vec<i16> = (0..18).map(|i| (i * 3001 - 25000) as i16).collect();
        let before: Vec<i16> = (0..72).map(|i| (i * 907 - 32000) as i16).collect();
        let mut dst = before.clone();
        upsample_add(&p, &src, &mut dst);
        for (i, &got) in dst.iter().enumerate() {
            let (y, x, c) = (i / 18, i / 3 % 6, i % 3);
            let want = f64::from(before[i]) * 0.5 + f64::from(src[(y / 2 * 3 + x / 2) * 3 + c]) * 0.75;
            assert_eq!(f64::from(got), want.round_ties_even().clamp(-32768.0, 32767.0));
        }
        let p = Upsample { height: 2, width: 2, channels: 1, a: 1.0, c: 1.0 };
        let mut dst = [32767, -32768, 0, 1];
        upsample_add(&p, &[32767], &mut dst);
        assert_eq!(dst, [32767, -1, 32767, 32767]);
    }
}
