//! Whether the records of an image fit together, so that nothing can go wrong when it runs: every index, shape,
//! element type, live range and number.

use core::f32::consts::FRAC_PI_2;

use super::buffer::{BufferRepr, Element};
use super::header::kind;
use super::image::Image;
use super::info::Direction;
use super::limits::{MAX_BUFFERS, MAX_GROUP_VALUES, MAX_MAGNITUDE, MIN_FACTOR};
use super::op::{NONE, OpRepr};
use super::tensor::{Layout, TensorRepr};
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};
use crate::ops::embed::GUIDANCE_FEATURES;
use crate::ops::int4::{self, Fault};
use crate::ops::{Weights, blocks};

/// Checks everything that [`Image::parse`] has not.
///
/// # Errors
/// The first thing that does not fit, with its place.
pub fn check(image: &Image<'_>) -> Result<(), ParseError> {
    tensors(image)?;
    plan(image)?;
    embedding(image)?;
    roles(image)?;
    ops(image)?;
    steps(image)?;
    totals(image)
}

fn equal(place: Place, what: &'static str, expected: u64, found: u64) -> Result<(), ParseError> {
    match expected == found {
        true => Ok(()),
        false => Err(ParseError::new(place, Problem::Mismatch { what, expected, found })),
    }
}

fn at_most(place: Place, what: &'static str, found: u64, max: u64) -> Result<(), ParseError> {
    match found <= max {
        true => Ok(()),
        false => Err(ParseError::new(place, Problem::OutOfRange { what, found, min: 0, max })),
    }
}

fn finite(place: Place, what: &'static str, found: f32) -> Result<(), ParseError> {
    match found.abs() <= MAX_MAGNITUDE {
        true => Ok(()),
        false => Err(ParseError::new(place, Problem::BadNumber { what, found })),
    }
}

fn factor(place: Place, what: &'static str, found: f32) -> Result<(), ParseError> {
    match (MIN_FACTOR..=MAX_MAGNITUDE).contains(&found) {
        true => Ok(()),
        false => Err(ParseError::new(place, Problem::BadNumber { what, found })),
    }
}

/// Every tensor lies within the data; every f32 is finite, every weight of four bits has a multiplier.
fn tensors(image: &Image<'_>) -> Result<(), ParseError> {
    for index in 0..image.info().counts.tensors {
        let tensor = image.tensor(index)?;
        if tensor.element == Element::F32 {
            for &value in image.f32s(index) {
                finite(Place::Tensor(index.into()), "value", value)?;
            }
        }
        if let Weights::Int4(weights) = image.weights(index) {
            let fail = |problem| Err(ParseError::new(Place::Tensor(index.into()), problem));
            match weights.fault() {
                Some(Fault::Multiplier) => {
                    let max = int4::MAX_MULTIPLIER.into();
                    return fail(Problem::OutOfRange { what: "multiplier of a group", found: 0, min: 1, max });
                }
                Some(Fault::Padding) => {
                    return fail(Problem::Unknown { what: "value in unused bits of four-bit weights", found: 1 });
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// Every buffer lies within the arena and shares no bytes with another that lives at the same time.
fn plan(image: &Image<'_>) -> Result<(), ParseError> {
    let info = image.info();
    let count = info.counts.buffers;
    let scratch_end = u64::from(info.scratch_offset) + u64::from(info.scratch_bytes);
    let mut end = scratch_end;
    for i in 0..count {
        let buffer = image.buffer(i)?;
        let place = Place::Buffer(i.into());
        at_most(place, "end in the arena", buffer.end(), info.arena_bytes.into())?;
        end = end.max(buffer.end());
        if info.scratch_bytes > 0
            && u64::from(buffer.offset) < scratch_end
            && u64::from(info.scratch_offset) < buffer.end()
        {
            return Err(ParseError::new(Place::Info, Problem::Overlap { with: i.into() }));
        }
        for j in 0..i {
            let other = image.buffer(j)?;
            if buffer.lives_with(&other) && buffer.overlaps(&other) {
                return Err(ParseError::new(place, Problem::Overlap { with: j.into() }));
            }
        }
    }
    equal(Place::Info, "arena size", end.next_multiple_of(IMAGE_ALIGN as u64), info.arena_bytes.into())
}

/// Weights of a dense layer: i8, of eight bits or four.
fn dense_weights(image: &Image<'_>, index: u16, dims: [u16; 4]) -> Result<(), ParseError> {
    match image.tensor(index)?.layout {
        Layout::Int4 => shape(Place::Tensor(index.into()), &image.tensor(index)?, dims),
        _ => tensor(image, index, Element::I8, dims),
    }
}

/// A tensor has this type and these dimensions.
fn tensor(image: &Image<'_>, index: u16, element: Element, dims: [u16; 4]) -> Result<(), ParseError> {
    let tensor = image.tensor(index)?;
    let place = Place::Tensor(index.into());
    equal(place, "element type", element as u64, tensor.element as u64)?;
    equal(place, "layout", Layout::Canonical as u64, tensor.layout as u64)?;
    shape(place, &tensor, dims)
}

fn shape(place: Place, tensor: &TensorRepr, dims: [u16; 4]) -> Result<(), ParseError> {
    for (&expected, found) in dims.iter().zip(tensor.dims) {
        equal(place, "dimension", expected.into(), found.into())?;
    }
    Ok(())
}

fn embedding(image: &Image<'_>) -> Result<(), ParseError> {
    let info = image.info();
    let (e, f, t) = (info.embed, info.film, &info.embedding);
    tensor(image, t.class, Element::F32, [info.classes, e, 1, 1])?;
    tensor(image, t.guidance, Element::F32, [e, GUIDANCE_FEATURES as u16, 1, 1])?;
    dense_weights(image, t.hidden_weights, [e, e, 1, 1])?;
    tensor(image, t.hidden_scale, Element::F32, [e, 1, 1, 1])?;
    tensor(image, t.hidden_bias, Element::F32, [e, 1, 1, 1])?;
    dense_weights(image, t.film_weights, [f, e, 1, 1])?;
    tensor(image, t.film_scale, Element::F32, [f, 1, 1, 1])?;
    tensor(image, t.film_bias, Element::F32, [f, 1, 1, 1])
}

/// Weights of a convolution: blocks are for int8 inputs, and whole.
fn conv_weights(image: &Image<'_>, index: u16, dims: [u16; 4], input: Element) -> Result<(), ParseError> {
    let weights = image.tensor(index)?;
    let place = Place::Tensor(index.into());
    equal(place, "element type", Element::I8 as u64, weights.element as u64)?;
    shape(place, &weights, dims)?;
    if weights.layout == Layout::Blocks {
        let [cout, _, _, cin] = dims.map(usize::from);
        equal(place, "element type of the inputs of blocks", Element::I8 as u64, input as u64)?;
        equal(place, "outputs in whole blocks", cout.next_multiple_of(blocks::OUTPUTS) as u64, cout as u64)?;
        equal(place, "inputs in whole groups", cin.next_multiple_of(blocks::GROUP) as u64, cin as u64)?;
    }
    Ok(())
}

/// A buffer holds f32 in this shape.
fn role(image: &Image<'_>, index: u16, shape: (u16, u16, u16)) -> Result<BufferRepr, ParseError> {
    let buffer = image.buffer(index)?;
    let place = Place::Buffer(index.into());
    equal(place, "element type", Element::F32 as u64, buffer.element as u64)?;
    same_shape(place, shape, buffer.shape())?;
    Ok(buffer)
}

fn same_shape(place: Place, expected: (u16, u16, u16), found: (u16, u16, u16)) -> Result<(), ParseError> {
    equal(place, "height", expected.0.into(), found.0.into())?;
    equal(place, "width", expected.1.into(), found.1.into())?;
    equal(place, "channels", expected.2.into(), found.2.into())
}

/// The buffers of the sampler and the embedding have their shapes and live long enough.
fn roles(image: &Image<'_>) -> Result<(), ParseError> {
    let info = image.info();
    let r = &info.roles;
    let (h, w) = (info.height / info.patch.max(1), info.width / info.patch.max(1));
    // Patch and picture channels are capped at 8 and 12.
    let state = (h, w, info.patch * info.patch * info.channels);
    let last = image.stages() - 1;
    if let Some(b) = image.bands() {
        let place = Place::Section(kind::BANDS);
        equal(place, "direction of what enlarges", Direction::ToPicture as u64, info.direction as u64)?;
        equal(place, "channels of details", 3 * u64::from(b.base_channels), info.channels.into())?;
        at_most(place, "rows of a window", b.rows.into(), h.into())?;
        equal(place, "rows that are no halo, of a window of all rows", 0, if b.rows == h { b.halo.into() } else { 0 })?;
        equal(place, "rows in whole bands", u64::from(h).next_multiple_of(b.band().into()), h.into())?;
    }
    let live =
        |index: u16, buffer: &BufferRepr, first: u16, until: u16| match buffer.first <= first && until <= buffer.last {
            true => Ok(()),
            false => Err(ParseError::new(Place::Info, Problem::NotLive { buffer: index.into() })),
        };
    live(r.z, &role(image, r.z, state)?, 0, last)?;
    // What one band leaves to the next lives all the while.
    let (v_from, film_to) = if image.rounds() > 1 { (1, last) } else { (last, 0) };
    live(r.v, &role(image, r.v, state)?, v_from, last)?;
    live(r.film, &role(image, r.film, (1, 1, info.film))?, 0, film_to)?;
    if let Some(b) = image.bands() {
        live(b.base, &role(image, b.base, (b.rows, w, info.patch * info.patch * b.base_channels))?, 1, 1)?;
        live(b.out, &role(image, b.out, (b.rows, state.1, state.2))?, last, last)?;
        if [r.z, r.v, r.film, b.out].contains(&b.base) || [r.z, r.film].contains(&b.out) {
            return Err(ParseError::new(Place::Section(kind::BANDS), Problem::Overlap { with: b.out.into() }));
        }
    }
    live(r.first, &role(image, r.first, (1, 1, info.embed))?, 0, 0)?;
    live(r.second, &role(image, r.second, (1, 1, info.embed))?, 0, 0)?;
    for (i, a) in [r.z, r.film, r.first, r.second].into_iter().enumerate() {
        for b in [r.z, r.film, r.first, r.second].into_iter().skip(i + 1) {
            if a == b {
                return Err(ParseError::new(Place::Info, Problem::Overlap { with: a.into() }));
            }
        }
    }
    match r.z == r.v {
        true => Err(ParseError::new(Place::Info, Problem::Overlap { with: r.v.into() })),
        false => Ok(()),
    }
}

/// Which buffers hold a value.
struct Written([u64; MAX_BUFFERS as usize / 64]);

impl Written {
    fn set(&mut self, buffer: u16) {
        if let Some(word) = self.0.get_mut(usize::from(buffer / 64)) {
            *word |= 1 << (buffer % 64);
        }
    }

    fn get(&self, buffer: u16) -> bool {
        self.0.get(usize::from(buffer / 64)).is_some_and(|word| word >> (buffer % 64) & 1 == 1)
    }
}

/// Every operation fits its buffers and tensors, and reads only what holds a value.
fn ops(image: &Image<'_>) -> Result<(), ParseError> {
    let r = image.info().roles;
    let mut written = Written([0; MAX_BUFFERS as usize / 64]);
    for buffer in [r.z, r.film, r.first, r.second].into_iter().chain(image.bands().map(|bands| bands.base)) {
        written.set(buffer);
    }
    for index in 0..image.info().counts.ops {
        op(image, index, &mut written)?;
    }
    // Where v is put together from bands, the operations leave it alone; a window of all rows is v.
    let (out, banded) = (image.bands().map_or(r.v, |bands| bands.out), image.rounds() > 1);
    if banded == (out == r.v) {
        return Err(ParseError::new(Place::Section(kind::BANDS), Problem::Overlap { with: out.into() }));
    }
    if banded && written.get(r.v) {
        return Err(ParseError::new(Place::Info, Problem::Overlap { with: r.v.into() }));
    }
    if !written.get(out) {
        return Err(ParseError::new(Place::Info, Problem::NotLive { buffer: out.into() }));
    }
    if banded { reach(image) } else { Ok(()) }
}

/// The halo of bands is as wide as the operations reach: a row for each 3x3 convolution, whatever their order. What
/// looks farther has no place in bands.
fn reach(image: &Image<'_>) -> Result<(), ParseError> {
    let Some(bands) = image.bands() else { return Ok(()) };
    let mut rows = 0u64;
    for index in 0..usize::from(image.info().counts.ops) {
        match image.op(index)? {
            OpRepr::Conv { kernel, .. } => rows += u64::from(kernel / 2),
            OpRepr::Quantize { .. } | OpRepr::NormAct { per_cell: true, .. } => {}
            op @ (OpRepr::NormAct { .. }
            | OpRepr::AvgPool2 { .. }
            | OpRepr::UpsampleAdd { .. }
            | OpRepr::Attention { .. }) => {
                let found = op.buffers().0.into();
                return Err(ParseError::new(Place::Op(index), Problem::Unknown { what: "operation in bands", found }));
            }
        }
    }
    let (found, max) = (bands.halo.into(), u64::MAX);
    match found >= rows {
        true => Ok(()),
        false => Err(ParseError::new(
            Place::Section(kind::BANDS),
            Problem::OutOfRange { what: "halo", found, min: rows, max },
        )),
    }
}

fn op(image: &Image<'_>, index: u16, written: &mut Written) -> Result<(), ParseError> {
    let place = Place::Op(index.into());
    let stage = index + 1;
    let not_live = |buffer: u16| ParseError::new(place, Problem::NotLive { buffer: buffer.into() });
    let live = |index: u16| {
        let buffer = image.buffer(index)?;
        match (buffer.first..=buffer.last).contains(&stage) {
            true => Ok(buffer),
            false => Err(not_live(index)),
        }
    };
    let holds = |written: &Written, index: u16| match written.get(index) {
        true => Ok(()),
        false => Err(not_live(index)),
    };
    let element = |what, buffer: &BufferRepr, allowed: &[Element]| match allowed.contains(&buffer.element) {
        true => Ok(()),
        false => Err(ParseError::new(place, Problem::Unknown { what, found: buffer.element as u32 })),
    };
    const SRC: &str = "element type for the source";
    const DST: &str = "element type for the destination";

    let op = image.op(index.into())?;
    let (src_index, dst_index) = op.buffers();
    let (src, dst) = (live(src_index)?, live(dst_index)?);
    holds(written, src_index)?;
    if op.in_place() {
        holds(written, dst_index)?;
    }
    // Different buffers that live at the same time share no bytes, see plan().
    if src_index == dst_index {
        return Err(ParseError::new(place, Problem::Overlap { with: src_index.into() }));
    }
    let inputs = [Some(image.info().roles.z), image.bands().map(|bands| bands.base)];
    if inputs.contains(&Some(dst_index)) {
        return Err(ParseError::new(place, Problem::Overlap { with: dst_index.into() }));
    }

    match op {
        OpRepr::Quantize { .. } => {
            element(SRC, &src, &[Element::F32])?;
            element(DST, &dst, &[Element::I16])?;
            // Of a state in bands, a window.
            let rows = image.bands().filter(|_| src_index == image.info().roles.z).map_or(src.height, |b| b.rows);
            same_shape(place, (rows, src.width, src.channels), dst.shape())?;
        }
        OpRepr::Conv { kernel, residual, weights, scale, bias, .. } => {
            element(SRC, &src, &[Element::I8, Element::I16])?;
            let allowed: &[_] = if residual { &[Element::I16] } else { &[Element::I8, Element::I16, Element::F32] };
            element(DST, &dst, allowed)?;
            same_shape(place, (src.height, src.width, dst.channels), dst.shape())?;
            let (k, cout) = (u16::from(kernel), dst.channels);
            conv_weights(image, weights, [cout, k, k, src.channels], src.element)?;
            tensor(image, scale, Element::F32, [cout, 1, 1, 1])?;
            tensor(image, bias, Element::F32, [cout, 1, 1, 1])?;
            accumulators(image, place, weights, src.element)?;
        }
        OpRepr::NormAct { group, per_cell, film, gamma, beta, .. } => {
            element(SRC, &src, &[Element::I16])?;
            element(DST, &dst, &[Element::I8, Element::I16])?;
            same_shape(place, src.shape(), dst.shape())?;
            let ch = src.channels;
            let group = u16::from(group);
            equal(place, "channels in whole groups", ch.next_multiple_of(group.max(1)).into(), ch.into())?;
            let cells = if per_cell { 1 } else { src.cells() };
            at_most(place, "values in a group", cells * u64::from(group), MAX_GROUP_VALUES)?;
            tensor(image, gamma, Element::F32, [ch, 1, 1, 1])?;
            tensor(image, beta, Element::F32, [ch, 1, 1, 1])?;
            if film != NONE {
                live(image.info().roles.film)?;
                at_most(place, "end in the film row", u64::from(film) + 2 * u64::from(ch), image.info().film.into())?;
            }
        }
        OpRepr::AvgPool2 { .. } => {
            element(SRC, &src, &[Element::I16])?;
            element(DST, &dst, &[Element::I16])?;
            halves(place, &src, &dst)?;
        }
        OpRepr::UpsampleAdd { .. } => {
            element(SRC, &src, &[Element::I16])?;
            element(DST, &dst, &[Element::I16])?;
            halves(place, &dst, &src)?;
        }
        OpRepr::Attention { scores, heads, .. } => {
            element(SRC, &src, &[Element::I8])?;
            element(DST, &dst, &[Element::I8])?;
            equal(place, "height", src.height.into(), dst.height.into())?;
            equal(place, "width", src.width.into(), dst.width.into())?;
            equal(place, "source channels", 3 * u64::from(dst.channels), src.channels.into())?;
            let whole = dst.channels.next_multiple_of(u16::from(heads).max(1));
            equal(place, "channels in whole heads", whole.into(), dst.channels.into())?;
            let buffer = live(scores)?;
            element("element type for the scores", &buffer, &[Element::F32])?;
            equal(place, "scores", dst.cells(), buffer.len())?;
            // Scratch must not be one of the sampler's own buffers.
            let r = image.info().roles;
            let base = image.bands().map_or(r.z, |bands| bands.base);
            if [r.z, r.film, base, src_index, dst_index].contains(&scores) {
                return Err(ParseError::new(place, Problem::Overlap { with: scores.into() }));
            }
        }
    }
    written.set(dst_index);
    Ok(())
}

/// `small` is half as high and wide as `large`, with the same channels.
fn halves(place: Place, large: &BufferRepr, small: &BufferRepr) -> Result<(), ParseError> {
    equal(place, "height", 2 * u64::from(small.height), large.height.into())?;
    equal(place, "width", 2 * u64::from(small.width), large.width.into())?;
    equal(place, "channels", small.channels.into(), large.channels.into())
}

/// No input can overflow the i32 accumulator, at no point of the sum: with |q| <= Q, every partial sum is at most
/// Q times the sum of |w|, twice that with a zero point.
fn accumulators(image: &Image<'_>, place: Place, weights: u16, input: Element) -> Result<(), ParseError> {
    let largest: u64 = if input == Element::I8 { 2 * 128 } else { 32768 };
    let tensor = image.tensor(weights)?;
    let [cout, height, width, cin] = tensor.dims.map(usize::from);
    let (row, values) = (height * width * cin, image.i8s(weights));
    let sum = |weights: &[i8]| weights.iter().map(|&w| u64::from(w.unsigned_abs())).sum::<u64>();
    match tensor.layout {
        Layout::Canonical => {
            for row in values.chunks_exact(row.max(1)) {
                at_most(place, "largest accumulator", sum(row) * largest, MAX_SUM)?;
            }
        }
        Layout::Blocks => {
            for block in values.chunks_exact((row * blocks::OUTPUTS).max(1)).take(cout / blocks::OUTPUTS) {
                let mut sums = [0; blocks::OUTPUTS];
                for (i, group) in block.chunks_exact(blocks::GROUP).enumerate() {
                    sums[i % blocks::OUTPUTS] += sum(group);
                }
                for sum in sums {
                    at_most(place, "largest accumulator", sum * largest, MAX_SUM)?;
                }
            }
        }
        Layout::Int4 => {
            let Weights::Int4(weights) = image.weights(weights) else { return Ok(()) };
            for channel in 0..cout {
                let mut total = 0;
                weights.each(channel, 0, row, |_, some| total += sum(some));
                at_most(place, "largest accumulator", total * largest, MAX_SUM)?;
            }
        }
    }
    Ok(())
}

/// Largest accumulator.
const MAX_SUM: u64 = i32::MAX as u64;

/// Angles fall from at most pi/2 to above 0, an encoder's rise from 0 to below pi/2; every factor is usable.
fn steps(image: &Image<'_>) -> Result<(), ParseError> {
    // pi/2 as f32 or a rounding above.
    let most = 1.571f32;
    let mut before = None;
    for step in 0..usize::from(image.info().steps) {
        let place = Place::Step(step);
        let phi = image.phi(step);
        let follows = match (image.info().direction, before) {
            (Direction::ToPicture, before) => phi > 0.0 && phi < before.unwrap_or(most),
            // A picture is where it starts: no noise is in it.
            (Direction::ToNoise, None) => phi == 0.0,
            (Direction::ToNoise, Some(before)) => phi > before && phi < FRAC_PI_2,
        };
        if !follows {
            return Err(ParseError::new(place, Problem::BadNumber { what: "angle", found: phi }));
        }
        before = Some(phi);
        if let Some(&byte) = image.step_padding(step).iter().find(|&&byte| byte != 0) {
            return Err(ParseError::new(place, Problem::Unknown { what: "reserved field", found: byte.into() }));
        }
        for &value in image.time(step) {
            finite(place, "time row", value)?;
        }
        for op in 0..usize::from(image.info().counts.ops) {
            params(image, step, op)?;
        }
    }
    Ok(())
}

fn params(image: &Image<'_>, step: usize, index: usize) -> Result<(), ParseError> {
    let place = Place::StepOp { step, op: index };
    let p = image.params(step, index);
    let op = image.op(index)?;
    let (src, dst) = op.buffers();
    let zero_point = |element| match (element, p.zp) {
        (Element::I8, -128..=127) | (_, 0) => Ok(()),
        _ => Err(ParseError::new(place, Problem::BadNumber { what: "zero point", found: p.zp as f32 })),
    };
    // What an operation does not use is checked too, so that a file has one meaning.
    finite(place, "a", p.a)?;
    finite(place, "b", p.b)?;
    finite(place, "c", p.c)?;
    match op {
        OpRepr::Quantize { .. } => {
            factor(place, "a", p.a)?;
            zero_point(Element::F32)
        }
        OpRepr::Conv { residual, .. } => {
            factor(place, "a", p.a)?;
            factor(place, "b", p.b)?;
            if residual {
                factor(place, "c", p.c)?;
            }
            zero_point(image.buffer(src)?.element)
        }
        OpRepr::NormAct { .. } => {
            factor(place, "a", p.a)?;
            factor(place, "b", p.b)?;
            zero_point(image.buffer(dst)?.element)
        }
        OpRepr::AvgPool2 { .. } => zero_point(Element::I16),
        OpRepr::UpsampleAdd { .. } => {
            factor(place, "a", p.a)?;
            factor(place, "c", p.c)?;
            zero_point(Element::I16)
        }
        OpRepr::Attention { .. } => {
            factor(place, "a", p.a)?;
            factor(place, "b", p.b)?;
            // Zero points of qkv and output are 0.
            zero_point(Element::F32)
        }
    }
}

/// What the info record says about work and memory is so.
fn totals(image: &Image<'_>) -> Result<(), ParseError> {
    let info = image.info();
    let macs: u64 = (0..usize::from(info.counts.ops)).map(|op| image.op_macs(op)).sum();
    let macs = macs.wrapping_mul(image.rounds().into()).wrapping_add(image.embed_macs());
    equal(Place::Info, "MACs per step", macs, info.macs_per_step)?;
    let mut peak = (0, 0);
    for stage in 0..image.stages() {
        let live = live_bytes(image, stage)?;
        if live > peak.0 {
            peak = (live, stage);
        }
    }
    equal(Place::Info, "peak size", peak.0, info.peak_bytes.into())?;
    equal(Place::Info, "peak stage", peak.1.into(), info.peak_stage.into())
}

/// Bytes of the buffers that live at `stage`.
fn live_bytes(image: &Image<'_>, stage: u16) -> Result<u64, ParseError> {
    let mut bytes = 0;
    for i in 0..image.info().counts.buffers {
        let buffer = image.buffer(i)?;
        if (buffer.first..=buffer.last).contains(&stage) {
            bytes += buffer.bytes();
        }
    }
    Ok(bytes)
}
