//! What this machine draws, to compare with.

use fewstep_core::{Model, Request, Session};
use fewstep_runner::WireRequest;

/// Bytes at a multiple of 16 in memory.
struct Aligned {
    units: Vec<u128>,
    length: usize,
}

impl Aligned {
    fn zeroed(length: usize) -> Self {
        Self { units: vec![0; length.div_ceil(16)], length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.units)[..self.length]
    }
}

/// The picture of `image` for `request`; why there is none otherwise.
pub fn picture(image: &[u8], request: &WireRequest) -> Result<Vec<u8>, String> {
    let mut aligned = Aligned::zeroed(image.len());
    aligned.bytes().copy_from_slice(image);
    let model = Model::parse(aligned.bytes()).map_err(|error| error.to_string())?;
    let mut arena = Aligned::zeroed(model.arena_bytes());
    let mut session = Session::new(&model, arena.bytes()).map_err(|error| error.to_string())?;
    let WireRequest { seed, class, w, steps, .. } = *request;
    let mut picture = vec![0; model.output_bytes()];
    session
        .sample(&Request { seed, class, w, steps, ..Request::default() }, &mut picture)
        .map_err(|error| error.to_string())?;
    Ok(picture)
}
