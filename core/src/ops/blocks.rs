//! The order of a convolution's weights in blocks, for int8 dot products: a vector of outputs is one load.
//!
//! [cout / 32][parts of 64 inputs][kernel][kernel][inputs of the part / 4][32 outputs][4 inputs]. The last part has as
//! many inputs as are left. Outputs are in whole blocks, inputs in whole groups.

/// Outputs of a block.
pub const OUTPUTS: usize = 32;
/// Inputs that lie together for one output.
pub const GROUP: usize = 4;
/// Inputs of a part.
pub const PART: usize = 64;

/// Where output `oc`'s group of inputs that starts at input `i` (a multiple of 4) of tap `tap` of `taps` lies.
#[inline]
pub fn group(taps: usize, cin: usize, oc: usize, tap: usize, i: usize) -> usize {
    let block = oc / OUTPUTS * taps * cin * OUTPUTS;
    let start = i / PART * PART;
    let inputs = (cin - start).min(PART);
    let part = (start * taps + tap * inputs) * OUTPUTS;
    block + part + (i % PART / GROUP * OUTPUTS + oc % OUTPUTS) * GROUP
}

/// Whether weights of this shape can be in blocks.
pub fn fits(cin: usize, cout: usize) -> bool {
    cin.is_multiple_of(GROUP) && cout.is_multiple_of(OUTPUTS)
}

/// Copies row-major weights [cout][taps][cin] into blocks.
///
/// # Panics
/// When the shape does not [fit](fits), or a slice is not as long as it says.
pub fn pack(taps: usize, cin: usize, weights: &[i8], blocks: &mut [i8]) {
    assert!(weights.len() == blocks.len() && fits(cin, weights.len() / (taps * cin)));
    for (oc, row) in weights.chunks_exact(taps * cin).enumerate() {
        for (tap, row) in row.chunks_exact(cin).enumerate() {
            for (i, values) in row.chunks_exact(GROUP).enumerate() {
                blocks[group(taps, cin, oc, tap, i * GROUP)..][..GROUP].copy_from_slice(values);
            }
        }
    }
}

/// Copies inputs `from ..` of tap `tap` of output `oc` into `row`, in their order.
#[inline]
pub fn unpack(taps: usize, cin: usize, blocks: &[i8], (oc, tap, from): (usize, usize, usize), row: &mut [i8]) {
    for (i, values) in row.chunks_exact_mut(GROUP).enumerate() {
        values.copy_from_slice(&blocks[group(taps, cin, oc, tap, from + i * GROUP)..][..GROUP]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Numbers;
    use std::vec;

    #[test]
    fn every_weight_has_one_place() {
        for (taps, cin, cout) in [(9, 4, 32), (1, 64, 64), (9, 68, 32), (1, 200, 96), (9, 128, 64)] {
            let mut seen = vec![false; taps * cin * cout];
            for oc in 0..cout {
                for tap in 0..taps {
                    for i in (0..cin).step_by(GROUP) {
                        for seen in &mut seen[group(taps, cin, oc, tap, i)..][..GROUP] {
                            assert!(!core::mem::replace(seen, true));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn unpacking_gives_back_what_was_packed() {
        let (taps, cin, cout) = (9, 68, 64);
        let weights = Numbers(5).i8s(taps * cin * cout);
        let mut blocks = vec![0; weights.len()];
        pack(taps, cin, &weights, &mut blocks);
        for oc in 0..cout {
            for tap in 0..taps {
                let mut row = vec![0; cin - 8];
                unpack(taps, cin, &blocks, (oc, tap, 8), &mut row);
                assert_eq!(row, weights[(oc * taps + tap) * cin + 8..][..cin - 8]);
            }
        }
    }
}
