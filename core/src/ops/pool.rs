//! 2x2 average pooling.

use crate::part::{part, part_mut};

/// Shape of the input; the output is half as high and wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Input rows, even.
    pub height: usize,
    /// Input columns, even.
    pub width: usize,
    /// Channels of input and output.
    pub channels: usize,
}

/// out = (a + b + c + d + 2) >> 2 over each square of four cells. Same scale as the input.
///
/// input: [height][width][channels], out: [height / 2][width / 2][channels].
pub fn avg_pool2(p: &Pool, input: &[i16], out: &mut [i16]) {
    let ch = p.channels.max(1);
    let row = p.width * ch;
    for (two_rows, y) in input.chunks_exact((2 * row).max(1)).zip(0..) {
        let out_row = part_mut(out, y * (row / 2), row / 2);
        let (upper, lower) = (part(two_rows, 0, row), part(two_rows, row, row));
        for (out, x) in out_row.chunks_exact_mut(ch).zip(0..) {
            let (upper, lower) = (part(upper, 2 * x * ch, 2 * ch), part(lower, 2 * x * ch, 2 * ch));
            let ((a, b), (c, d)) = (upper.split_at(upper.len() / 2), lower.split_at(lower.len() / 2));
            for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                let sum = i32::from(a) + i32::from(b) + i32::from(c) + i32::from(d);
                *out = ((sum + 2) >> 2) as i16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_four_and_rounds_half_up() {
        let p = Pool { height: 2, width: 4, channels: 1 };
        let mut out = [0; 2];
        avg_pool2(&p, &[1, 0, -1, 0, 1, 0, -1, 0], &mut out);
        assert_eq!(out, [1, 0]);
        avg_pool2(&p, &[32767, 32767, -32768, -32768, 32767, 32767, -32768, -32768], &mut out);
        assert_eq!(out, [32767, -32768]);
    }

    #[test]
    fn equals_the_floor_of_the_mean_plus_a_half() {
        let p = Pool { height: 6, width: 4, channels: 5 };
        let input: Vec<i16> = (0..120i32).map(|i| (i * 7919 % 65536 - 32768) as i16).collect();
        let mut out = vec![0; 30];
        avg_pool2(&p, &input, &mut out);
        for (i, &got) in out.iter().enumerate() {
            let (y, x, c) = (i / 10, i / 5 % 2, i % 5);
            let at = |dy: usize, dx: usize| f64::from(input[((2 * y + dy) * 4 + 2 * x + dx) * 5 + c]);
            let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
            assert_eq!(f64::from(got), (mean + 0.5).floor());
        }
    }
}
