//! Every backend of the core against its scalar functions, on the CPU itself: random convolutions of every channel count
//! from 1 to 40, weights of eight bits and of four, both kernels, both inputs, all four outputs, with and without scratch, and layers at the extremes.

use bytemuck::{AnyBitPattern, NoUninit};
use fewstep_core::arch::Backend;
use fewstep_core::ops::int4::packed_len;
use fewstep_core::ops::{Conv, ConvIn, ConvOut, Int4, Weights};
use fewstep_core::sampler::noise::philox4x32;

const MOST: usize = 40;
const SIDE: usize = 9;
const CELLS: usize = SIDE * SIDE;

/// Repeatable bytes.
pub struct Numbers(u32);

impl Numbers {
    pub fn from(start: u32) -> Self {
        Self(start)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(16) {
            self.0 += 1;
            let words = philox4x32([self.0, 7, 7, 7], [3, 9]);
            let fresh: &[u8] = bytemuck::cast_slice(&words);
            piece.copy_from_slice(&fresh[..piece.len()]);
        }
    }

    /// Of -1 ..= 1 times `bound`.
    pub fn floats(&mut self, values: &mut [f32], bound: f32) {
        self.fill(bytemuck::cast_slice_mut(values));
        for value in values {
            *value = value.to_bits() as i32 as f32 / 2_147_483_648.0 * bound;
        }
    }
}

/// The first `count` elements of the memory that is left.
pub fn take<'a, T: AnyBitPattern + NoUninit>(memory: &mut &'a mut [u8], count: usize) -> &'a mut [T] {
    let bytes = (count * size_of::<T>()).next_multiple_of(16);
    let (taken, rest) = core::mem::take(memory).split_at_mut(bytes);
    *memory = rest;
    &mut bytemuck::cast_slice_mut(taken)[..count]
}

/// A matrix of weights, of eight bits or of four.
pub fn some(weights: &[i8], rows: usize, row: usize, four: bool) -> Weights<'_> {
    if !four {
        return Weights::Int8(&weights[..rows * row]);
    }
    let bytes = bytemuck::cast_slice(&weights[..packed_len(rows, row)]);
    Weights::Int4(Int4::new(bytes, rows, row).expect("as many bytes as it has"))
}

/// Panics at the first difference. `memory` is aligned to 16 bytes.
pub fn run(mut memory: &mut [u8]) {
    let weights: &mut [i8] = take(&mut memory, 9 * MOST * MOST);
    let input: &mut [u8] = take(&mut memory, 2 * CELLS * MOST);
    let scale: &mut [f32] = take(&mut memory, MOST);
    let bias: &mut [f32] = take(&mut memory, MOST);
    let got: &mut [u8] = take(&mut memory, 4 * CELLS * MOST);
    let want: &mut [u8] = take(&mut memory, 4 * CELLS * MOST);
    let scratch: &mut [u8] = take(&mut memory, 20 * 1024);
    let mut numbers = Numbers(0);
    let mut layers = 0u32;
    for cin in 1..=MOST {
        for cout in 1..=MOST {
            let turn = cin * 3 + cout * 7;
            let (height, width) = (1 + turn % SIDE, 1 + (turn / SIDE + cout) % SIDE);
            let kernel = if turn % 4 == 0 { 1 } else { 3 };
            let wide = cin % 4 == 1 && cout % 2 == 0;
            // Without scratch, with too little for most layers, and with plenty; a multiple of four bytes or not.
            let scratch_bytes = [20 * 1024, 3001, 20 * 1024, 0, 8 * 1024][turn % 5];
            numbers.fill(bytemuck::cast_slice_mut(weights));
            numbers.fill(input);
            // Extremes: everything at an end.
            if turn % 11 == 0 {
                weights.fill([-128, 127][cout % 2]);
                input.fill([0x80, 0x7f][cin % 2]);
            }
            // Factors that give denormal products, and infinite ones.
            let (most_scale, most_bias) = match turn % 13 {
                3 => (1.0e-38, 1.0e-41),
                5 => (1.0e36, 1.0e38),
                _ => (0.01, 3.0),
            };
            numbers.floats(scale, most_scale);
            numbers.floats(bias, most_bias);
            numbers.fill(got);
            // Old values of a residual stream are any i16, but any four bytes are not a float that equals itself.
            want.copy_from_slice(got);
            let p = Conv {
                height,
                width,
                cin,
                cout,
                kernel,
                weights: some(weights, cout, kernel * kernel * cin, turn % 3 == 1),
                scale: &scale[..cout],
                bias: &bias[..cout],
                a: if wide { 0.31 / 256.0 } else { 0.31 },
                b: 7.0,
                c: 0.83,
                zp: if wide { 0 } else { [-128, 127, -37, 0][cout % 4] },
            };
            for (backend, out) in [(Backend::best(), &mut *got), (Backend::scalar(), &mut *want)] {
                numbers.fill(scratch);
                let cells = height * width;
                let input = match wide {
                    true => ConvIn::I16(&bytemuck::cast_slice(input)[..cells * cin]),
                    false => ConvIn::I8(&bytemuck::cast_slice(input)[..cells * cin]),
                };
                let out = match (cin + cout) % 4 {
                    0 => ConvOut::I8(&mut bytemuck::cast_slice_mut(out)[..cells * cout]),
                    1 => ConvOut::I16(&mut bytemuck::cast_slice_mut(out)[..cells * cout]),
                    2 => ConvOut::I16Add(&mut bytemuck::cast_slice_mut(out)[..cells * cout]),
                    _ => ConvOut::F32(&mut bytemuck::cast_slice_mut(out)[..cells * cout]),
                };
                (backend.kernels().conv)(&p, input, out, &mut scratch[..scratch_bytes]);
            }
            // Byte for byte, what lies after the outputs too.
            assert!(got == want, "{height}x{width}x{cin} to {cout}, {kernel}x{kernel}, {scratch_bytes}");
            layers += 1;
        }
    }
    defmt::info!("{=u32} layers of {=str} equal scalar", layers, Backend::best().name());
}
