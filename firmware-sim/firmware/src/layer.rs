//! One random layer: the backend, counted, against the scalar function, every output compared.

use fewstep_core::Backend;
use fewstep_core::ops::{Conv, ConvIn, ConvOut, Weights};
use fewstep_wire::{Kind, LayerReport, LayerRequest, Status};

use crate::{console, cpu, flash};

/// What the scratch is filled with, so that what was written to is seen.
const UNTOUCHED: u8 = 0x5a;

/// Runs `layer` if its outputs and scratch fit `memory`, which is aligned to 16 bytes.
pub fn run(layer: &LayerRequest, memory: &mut [u8]) -> Status {
    let outputs = layer.outputs();
    let bytes = (2 * outputs).next_multiple_of(16);
    let tensors = layer.places().and_then(|places| Some((places, flash::image().get(..places.end)?)));
    let Some((places, tensors)) = tensors else {
        defmt::error!("the layer's tensors do not fit the flash");
        return Status::RequestRefused;
    };
    let (input, weights) = (&tensors[places.input..places.weights], &tensors[places.weights..places.scale]);
    let (scale, bias) = (&tensors[places.scale..places.bias], &tensors[places.bias..]);
    let scratch_bytes = layer.scratch as usize;
    let input_bytes = input.len();
    let needed = input_bytes + 2 * bytes + scratch_bytes;
    if needed > memory.len() {
        defmt::error!("the layer needs {=usize} bytes of memory, there are {=usize}", needed, memory.len());
        return Status::ArenaTooSmall;
    }
    let (ram_input, rest) = memory.split_at_mut(input_bytes);
    let (got, rest) = rest.split_at_mut(bytes);
    let (want, rest) = rest.split_at_mut(bytes);
    let scratch = &mut rest[..scratch_bytes];
    // Weights stay in flash, as those of a student do; activations never lie there.
    ram_input.copy_from_slice(input);
    scratch.fill(UNTOUCHED);

    let [kernel, height, width, cin, cout] =
        [layer.kernel, layer.height, layer.width, layer.cin, layer.cout].map(usize::from);
    let p = Conv {
        height,
        width,
        cin,
        cout,
        kernel,
        weights: Weights::Int8(&bytemuck::cast_slice(weights)[..kernel * kernel * cin * cout]),
        scale: &bytemuck::cast_slice(scale)[..cout],
        bias: &bytemuck::cast_slice(bias)[..cout],
        a: layer.a,
        b: layer.b,
        c: 0.0,
        zp: layer.zp,
    };
    let input: &[i8] = &bytemuck::cast_slice(ram_input)[..height * width * cin];
    let (got, want): (&mut [i16], &mut [i16]) = (bytemuck::cast_slice_mut(got), bytemuck::cast_slice_mut(want));
    let (got, want) = (&mut got[..outputs], &mut want[..outputs]);
    let backend = Backend::best();
    let conv = backend.kernels().conv;
    cpu::counted(|| conv(&p, ConvIn::I8(input), ConvOut::I16(got), scratch));
    cpu::mark_step();
    (Backend::scalar().kernels().conv)(&p, ConvIn::I8(input), ConvOut::I16(want), &mut []);

    let report = LayerReport {
        differing: got.iter().zip(want).filter(|(got, want)| got != want).count() as u32,
        scratch: scratch.iter().rposition(|&byte| byte != UNTOUCHED).map_or(0, |last| last as u32 + 1),
        backend: backend.name(),
    };
    console::send(Kind::Layer, &[&report.emit(), report.backend.as_bytes()]);
    Status::Done
}
