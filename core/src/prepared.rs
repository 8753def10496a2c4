//! Weights as a backend multiplies them, made once.

#[cfg(not(target_os = "none"))]
use crate::{
    Backend, Model,
    arch::Preparing,
    arena,
    error::ArenaError,
    format::{Image, Layout, OpRepr},
    ops::Conv,
};

/// Weights as the kernels of a backend multiply them, for any number of sessions that use them
/// ([`Session::with_prepared`](crate::Session::with_prepared)): without, a kernel makes them from the image's for every
/// evaluation. Pictures have the same bytes either way.
///
/// For programs with megabytes to spare: not for targets without an operating system.
///
/// ```no_run
/// # use fewstep_core::{Arena, Backend, Model, Prepared, Request, Session};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (model, mut room, mut arena) = (Model::parse(&[])?, [0u8; 0], Arena::<65536>::new());
/// let backend = Backend::best();
/// // `room`: Prepared::bytes(&model, backend) bytes, 16-byte aligned.
/// let prepared = Prepared::new(&model, backend, &mut room)?;
/// let mut session = Session::with_prepared(&prepared, arena.bytes())?;
/// # Ok(()) }
/// ```
#[cfg(not(target_os = "none"))]
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    pub(crate) model: &'a Model<'a>,
    pub(crate) backend: Backend,
    pub(crate) panels: Panels<'a>,
}

/// Panels begin on a cache line.
#[cfg(not(target_os = "none"))]
const LINE: usize = 64;

#[cfg(not(target_os = "none"))]
impl<'a> Prepared<'a> {
    /// Bytes of memory that [`Prepared::new`] needs; few where the backend's kernels take weights as they are.
    pub fn bytes(model: &Model<'_>, backend: Backend) -> usize {
        let words: usize = layers(model.image(), backend)
            .map(|(preparing, conv, blocks)| {
                (preparing.prepare)(&conv, blocks, &mut []).next_multiple_of(LINE / size_of::<i32>())
            })
            .sum();
        (places(model) + words) * size_of::<i32>() + LINE
    }

    /// Makes them in `room`, which is 16-byte aligned; more is allowed.
    ///
    /// # Errors
    /// The room is too small or not aligned.
    pub fn new(model: &'a Model<'a>, backend: Backend, room: &'a mut [u8]) -> Result<Self, ArenaError> {
        let words: &mut [i32] = arena::typed(arena::claim(room, Self::bytes(model, backend))?);
        let (places, panels) = words.split_at_mut(places(model));
        let first = panels.as_ptr().align_offset(LINE);
        let mut rest = panels.get_mut(first..).unwrap_or_default();
        let mut at = places.len() + first;
        let ops = (0..model.op_count()).map(|op| layer(model.image(), backend, op));
        for (place, layer) in places.iter_mut().zip(ops) {
            *place = at as i32;
            if let Some((preparing, conv, blocks)) = layer {
                let len = (preparing.prepare)(&conv, blocks, rest).next_multiple_of(LINE / size_of::<i32>());
                rest = rest.get_mut(len..).unwrap_or_default();
                at += len;
            }
        }
        if let Some(end) = places.last_mut() {
            *end = at as i32;
        }
        Ok(Self { model, backend, panels: Panels { words } })
    }
}

/// A place for each operation and the end.
#[cfg(not(target_os = "none"))]
fn places(model: &Model<'_>) -> usize {
    model.op_count() + 1
}

/// Operation `op`, where it is a convolution whose weights this backend prepares; and whether they lie in blocks.
#[cfg(not(target_os = "none"))]
fn layer<'a>(image: &Image<'a>, backend: Backend, op: usize) -> Option<(Preparing, Conv<'a>, bool)> {
    let preparing = backend.kernels().preparing?;
    let op = image.op(op).ok()?;
    let (src, dst) = op.buffers();
    let (src, dst) = (image.buffer(src).ok()?, image.buffer(dst).ok()?);
    let OpRepr::Conv { kernel, weights, .. } = op else { return None };
    if src.element != crate::format::Element::I8 {
        return None;
    }
    let conv = Conv {
        height: dst.height.into(),
        width: dst.width.into(),
        cin: src.channels.into(),
        cout: dst.channels.into(),
        kernel: kernel.into(),
        weights: image.weights(weights),
        // What follows the products is no part of the weights.
        scale: &[],
        bias: &[],
        a: 0.0,
        b: 0.0,
        c: 0.0,
        zp: 0,
    };
    Some((preparing, conv, image.tensor(weights).ok()?.layout == Layout::Blocks))
}

/// All of them.
#[cfg(not(target_os = "none"))]
fn layers<'a>(image: &Image<'a>, backend: Backend) -> impl Iterator<Item = (Preparing, Conv<'a>, bool)> {
    (0..usize::from(image.info().counts.ops)).filter_map(move |op| layer(image, backend, op))
}

/// Prepared weights by operation: where each one's begin and the end, then the weights. Nothing where there is no
/// operating system, so that it costs firmware nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Panels<'a> {
    #[cfg(not(target_os = "none"))]
    words: &'a [i32],
    #[cfg(target_os = "none")]
    words: core::marker::PhantomData<&'a [i32]>,
}

#[cfg(not(target_os = "none"))]
impl<'a> Panels<'a> {
    /// Those of operation `op`; empty where there are none.
    pub(crate) fn of(&self, op: usize) -> &'a [i32] {
        let place = |op: usize| self.words.get(op).map(|&place| place as usize);
        let (Some(from), Some(to)) = (place(op), place(op + 1)) else { return &[] };
        self.words.get(from..to).unwrap_or_default()
    }
}
