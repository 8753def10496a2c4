//! 2x2 average pooling.

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
    let ch = p.channels;
    let row = p.width * ch;
    for (two_rows, out_row) in input.chunks_exact(2 * row).zip(out.chunks_exact_mut(row / 2)) {
        let (upper, lower) = two_rows.split_at(row);
        for ((upper, lower), out) in
            upper.chunks_exact(2 * ch).zip(lower.chunks_exact(2 * ch)).zip(out_row.chunks_exact_mut(ch))
        {
            for c in 0..ch {
                let sum =
                    i32::from(upper[c]) + i32::from(upper[ch + c]) + i32::from(lower[c]) + i32::from(lower[ch + c]);
                out[c] = ((sum + 2) >> 2) as i16;
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
