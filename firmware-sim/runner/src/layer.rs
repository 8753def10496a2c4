//! One layer, measured on a board: instructions of the board's kernels, and whether every output is the scalar
//! function's.

use std::fmt;
use std::str::FromStr;

use fewstep_wire::LayerRequest;
use serde::Serialize;

use crate::error::Error;
use crate::firmware::Options;
use crate::simulate::{Event, Simulator};

/// A convolution to measure, int8 to int16 (the residual stream's type), with random tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Side of the kernel: 1 or 3.
    pub kernel: u16,
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Input channels.
    pub cin: u16,
    /// Output channels.
    pub cout: u16,
}

/// Not a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a layer is written KxK:HxWxCIN:COUT, such as 3x3:16x16x32:32, with a kernel of 1x1 or 3x3 and numbers from 1 to 65535"
)]
pub struct LayerError;

impl FromStr for Layer {
    type Err = LayerError;

    fn from_str(text: &str) -> Result<Self, LayerError> {
        let numbers = |text: &str, count: usize| {
            let numbers: Option<Vec<u16>> =
                text.split('x').map(|number| number.parse().ok().filter(|&number| number > 0)).collect();
            numbers.filter(|numbers| numbers.len() == count).ok_or(LayerError)
        };
        let parts: Vec<&str> = text.split(':').collect();
        let &[kernel, input, cout] = parts.as_slice() else { return Err(LayerError) };
        let (kernel, input, cout) = (numbers(kernel, 2)?, numbers(input, 3)?, numbers(cout, 1)?);
        if kernel[0] != kernel[1] || !matches!(kernel[0], 1 | 3) {
            return Err(LayerError);
        }
        Ok(Self { kernel: kernel[0], height: input[0], width: input[1], cin: input[2], cout: cout[0] })
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, height, width, cin, cout } = self;
        write!(f, "{kernel}x{kernel}:{height}x{width}x{cin}:{cout}")
    }
}

impl Layer {
    /// Multiply-accumulates of the definition, padding included.
    pub fn macs(&self) -> u64 {
        let Self { kernel, height, width, cin, cout } = *self;
        [kernel, kernel, height, width, cin, cout].map(u64::from).iter().product()
    }
}

/// A measured layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerOutcome {
    /// The board's name.
    pub board: String,
    /// Executed instructions of the whole layer: transforms, bias, requantization and store included. `None` when the
    /// emulator has no plugins.
    pub instructions: Option<u64>,
    /// Multiply-accumulates of the definition.
    pub macs: u64,
    /// Name of the kernels that ran.
    pub method: String,
    /// Bytes of scratch up to the last one written to, at most those granted.
    pub scratch_bytes: u32,
    /// Whether every output is the scalar function's.
    pub equal: bool,
}

/// Measures `layer` on a board, with `scratch` bytes of scratch and random tensors of `seed`. The firmware is built with
/// its feature `layer`.
///
/// # Errors
/// As [`Simulator::new`] and [`Simulator::run`]; the layer's weights do not fit the board's flash, or its activations and
/// scratch not its memory.
pub fn measure_layer(
    board: &str,
    layer: &Layer,
    scratch: u32,
    seed: u64,
    options: &Options,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<LayerOutcome, Error> {
    let mut options = options.clone();
    options.features.push("layer".into());
    Simulator::new(board, &options, on_event)?.run_layer(layer, scratch, seed, on_event)
}

/// The request for a layer, and its tensors.
pub(crate) fn material(layer: &Layer, scratch: u32, seed: u64) -> Option<(LayerRequest, Vec<u8>)> {
    let &Layer { kernel, height, width, cin, cout } = layer;
    // Weights and inputs have a standard deviation of about 73: a few outputs saturate.
    let typical = 73.0 * 73.0 * (f32::from(kernel) * f32::from(kernel) * f32::from(cin)).sqrt();
    let request = LayerRequest { kernel, height, width, cin, cout, scratch, zp: -37, a: 1.0e6 / typical, b: 3000.0 };
    let places = request.places()?;
    let mut numbers = SplitMix(seed);
    let mut tensors = vec![0; places.end];
    tensors[..places.scale].chunks_mut(8).for_each(|chunk| {
        chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
    });
    for (from, to, low, high) in [(places.scale, places.bias, 0.002, 0.02), (places.bias, places.end, -1.0, 1.0)] {
        for chunk in tensors[from..to].chunks_exact_mut(4) {
            let unit = (numbers.next() >> 40) as f32 / 16_777_216.0;
            chunk.copy_from_slice(&(low + (high - low) * unit).to_le_bytes());
        }
    }
    Some((request, tensors))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_as_they_are_written() {
        let layer = Layer { kernel: 1, height: 14, width: 13, cin: 48, cout: 96 };
        assert_eq!("1x1:14x13x48:96".parse(), Ok(layer));
        assert_eq!(layer.to_string().parse(), Ok(layer));
        assert_eq!(layer.macs(), 14 * 13 * 48 * 96);
        for wrong in [
            "",
            "3x3",
            "3x3:7x7x96",
            "3x1:7x7x96:96",
            "2x2:7x7x96:96",
            "3x3:7x0x96:96",
            "3x3:7x7x70000:1",
            "3x3:7x7:96:1",
        ] {
            assert_eq!(wrong.parse::<Layer>(), Err(LayerError), "{wrong}");
        }
    }

    #[test]
    fn tensors_depend_on_the_seed_alone() {
        let layer = Layer { kernel: 3, height: 2, width: 3, cin: 5, cout: 4 };
        let (request, tensors) = material(&layer, 10, 1).unwrap();
        assert_eq!(tensors.len(), request.places().unwrap().end);
        assert_eq!(material(&layer, 10, 1).unwrap().1, tensors);
        assert_ne!(material(&layer, 10, 2).unwrap().1, tensors);
    }
}
