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
    let mut checker = Checker { image, place: Place::File, error: None };
    let _ = checker.all();
    match checker.error {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Keeps the first error; every function returns `None` once there is one. Handed from caller to caller, as a `Result`,
/// errors of 56 bytes would be a tenth of a firmware's code.
struct Checker<'i> {
    image: &'i Image<'i>,
    /// What is looked at.
    place: Place,
    error: Option<ParseError>,
}

/// Why: the error that was kept. `Some` is right.
type Checked<T = ()> = Option<T>;

impl Checker<'_> {
    fn all(&mut self) -> Checked {
        self.tensors()?;
        self.plan()?;
        self.embedding()?;
        self.roles()?;
        self.ops()?;
        self.steps()?;
        self.totals()
    }

    /// A problem of the place that is looked at.
    #[inline(never)]
    fn fail(&mut self, problem: Problem) -> Checked {
        self.error = Some(ParseError::new(self.place, problem));
        None
    }

    #[inline(never)]
    fn equal(&mut self, what: &'static str, expected: u32, found: u32) -> Checked {
        self.equal64(what, expected.into(), found.into())
    }

    #[inline(never)]
    fn equal64(&mut self, what: &'static str, expected: u64, found: u64) -> Checked {
        if expected == found { Some(()) } else { self.fail(Problem::Mismatch { what, expected, found }) }
    }

    #[inline(never)]
    fn at_most(&mut self, what: &'static str, found: u64, max: u64) -> Checked {
        if found <= max { Some(()) } else { self.fail(Problem::OutOfRange { what, found, min: 0, max }) }
    }

    /// Within +-[`MAX_MAGNITUDE`], and from `least` on. Not a number is not.
    #[inline(never)]
    fn number(&mut self, what: &'static str, found: f32, least: f32) -> Checked {
        let usable = (least..=MAX_MAGNITUDE).contains(&found);
        if usable { Some(()) } else { self.fail(Problem::BadNumber { what, found }) }
    }

    fn finite(&mut self, what: &'static str, found: f32) -> Checked {
        self.number(what, found, -MAX_MAGNITUDE)
    }

    fn overlap(&mut self, with: u16) -> Checked {
        self.fail(Problem::Overlap { with: with.into() })
    }

    fn not_live<T>(&mut self, buffer: u16) -> Checked<T> {
        self.fail(Problem::NotLive { buffer: buffer.into() })?;
        None
    }

    /// What a record says, or its error.
    fn kept<T>(&mut self, record: Result<T, ParseError>) -> Checked<T> {
        match record {
            Ok(record) => Some(record),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    #[inline(never)]
    fn buffer(&mut self, index: u16) -> Checked<BufferRepr> {
        self.kept(self.image.buffer(index))
    }

    /// The tensor, which is looked at from then on.
    #[inline(never)]
    fn tensor(&mut self, index: u16) -> Checked<TensorRepr> {
        self.place = Place::Tensor(index.into());
        self.kept(self.image.tensor(index))
    }

    #[inline(never)]
    fn op_of(&mut self, index: usize) -> Checked<OpRepr> {
        self.kept(self.image.op(index))
    }

    /// Every tensor lies within the data; every f32 is finite, every weight of four bits has a multiplier.
    fn tensors(&mut self) -> Checked {
        for index in 0..self.image.info().counts.tensors {
            let tensor = self.tensor(index)?;
            if tensor.element == Element::F32 {
                for &value in self.image.f32s(index) {
                    self.finite("value", value)?;
                }
            }
            if let Weights::Int4(weights) = self.image.weights(index) {
                let max = int4::MAX_MULTIPLIER.into();
                match weights.fault() {
                    Some(Fault::Multiplier) => {
                        self.fail(Problem::OutOfRange { what: "multiplier of a group", found: 0, min: 1, max })?
                    }
                    Some(Fault::Padding) => {
                        self.fail(Problem::Unknown { what: "value in unused bits of four-bit weights", found: 1 })?
                    }
                    None => {}
                }
            }
        }
        Some(())
    }

    /// Every buffer lies within the arena and shares no bytes with another that lives at the same time.
    fn plan(&mut self) -> Checked {
        let info = self.image.info();
        let scratch_end = u64::from(info.scratch_offset) + u64::from(info.scratch_bytes);
        let mut end = scratch_end;
        for i in 0..info.counts.buffers {
            let buffer = self.buffer(i)?;
            self.place = Place::Buffer(i.into());
            self.at_most("end in the arena", buffer.end(), info.arena_bytes.into())?;
            end = end.max(buffer.end());
            if info.scratch_bytes > 0
                && u64::from(buffer.offset) < scratch_end
                && u64::from(info.scratch_offset) < buffer.end()
            {
                self.place = Place::Info;
                return self.overlap(i);
            }
            for j in 0..i {
                let other = self.buffer(j)?;
                if buffer.lives_with(&other) && buffer.overlaps(&other) {
                    return self.overlap(j);
                }
            }
        }
        self.place = Place::Info;
        self.equal64("arena size", end.next_multiple_of(IMAGE_ALIGN as u64), info.arena_bytes.into())
    }

    /// Weights of a dense layer: i8, of eight bits or four.
    fn dense_weights(&mut self, index: u16, dims: [u16; 4]) -> Checked {
        match self.tensor(index)? {
            tensor if tensor.layout == Layout::Int4 => self.shape(&tensor, dims),
            _ => self.typed_tensor(index, Element::I8, dims),
        }
    }

    /// A tensor of f32 has these dimensions.
    #[inline(never)]
    fn floats(&mut self, index: u16, rows: u16, columns: u16) -> Checked {
        self.typed_tensor(index, Element::F32, [rows, columns, 1, 1])
    }

    /// A tensor has this type and these dimensions.
    #[inline(never)]
    fn typed_tensor(&mut self, index: u16, element: Element, dims: [u16; 4]) -> Checked {
        let tensor = self.tensor(index)?;
        self.equal("element type", element as u32, tensor.element as u32)?;
        self.equal("layout", Layout::Canonical as u32, tensor.layout as u32)?;
        self.shape(&tensor, dims)
    }

    #[inline(never)]
    fn shape(&mut self, tensor: &TensorRepr, dims: [u16; 4]) -> Checked {
        for (&expected, found) in dims.iter().zip(tensor.dims) {
            self.equal("dimension", expected.into(), found.into())?;
        }
        Some(())
    }

    fn embedding(&mut self) -> Checked {
        let info = self.image.info();
        let (e, f, t) = (info.embed, info.film, &info.embedding);
        self.floats(t.class, info.classes, e)?;
        self.floats(t.guidance, e, GUIDANCE_FEATURES as u16)?;
        self.dense_weights(t.hidden_weights, [e, e, 1, 1])?;
        self.floats(t.hidden_scale, e, 1)?;
        self.floats(t.hidden_bias, e, 1)?;
        self.dense_weights(t.film_weights, [f, e, 1, 1])?;
        self.floats(t.film_scale, f, 1)?;
        self.floats(t.film_bias, f, 1)
    }

    /// Weights of a convolution: blocks are for int8 inputs, and whole.
    fn conv_weights(&mut self, index: u16, dims: [u16; 4], input: Element) -> Checked {
        let weights = self.tensor(index)?;
        self.equal("element type", Element::I8 as u32, weights.element as u32)?;
        self.shape(&weights, dims)?;
        if cfg!(feature = "blocks") && weights.layout == Layout::Blocks {
            let [cout, _, _, cin] = dims.map(u32::from);
            self.equal("element type of the inputs of blocks", Element::I8 as u32, input as u32)?;
            self.equal("outputs in whole blocks", cout.next_multiple_of(blocks::OUTPUTS as u32), cout)?;
            self.equal("inputs in whole groups", cin.next_multiple_of(blocks::GROUP as u32), cin)?;
        }
        Some(())
    }

    /// A buffer holds f32 in this shape, from stage `first` to stage `until`.
    #[inline(never)]
    fn role(&mut self, index: u16, shape: (u16, u16, u16), (first, until): (u16, u16)) -> Checked {
        let buffer = self.buffer(index)?;
        self.place = Place::Buffer(index.into());
        self.equal("element type", Element::F32 as u32, buffer.element as u32)?;
        self.same_shape(shape, buffer.shape())?;
        self.place = Place::Info;
        if buffer.first <= first && until <= buffer.last { Some(()) } else { self.not_live(index) }
    }

    #[inline(never)]
    fn same_shape(&mut self, expected: (u16, u16, u16), found: (u16, u16, u16)) -> Checked {
        self.equal("height", expected.0.into(), found.0.into())?;
        self.equal("width", expected.1.into(), found.1.into())?;
        self.equal("channels", expected.2.into(), found.2.into())
    }

    /// The buffers of the sampler and the embedding have their shapes and live long enough.
    fn roles(&mut self) -> Checked {
        let info = self.image.info();
        let r = &info.roles;
        let (h, w) = (info.height / info.patch.max(1), info.width / info.patch.max(1));
        // Patch and picture channels are capped at 8 and 12.
        let state = (h, w, info.patch * info.patch * info.channels);
        let last = self.image.stages() - 1;
        self.role(r.z, state, (0, last))?;
        // What one band leaves to the next lives all the while.
        let (v_from, film_to) = if self.image.rounds() > 1 { (1, last) } else { (last, 0) };
        self.role(r.v, state, (v_from, last))?;
        self.role(r.film, (1, 1, info.film), (0, film_to))?;
        self.bands(state)?;
        self.role(r.first, (1, 1, info.embed), (0, 0))?;
        self.role(r.second, (1, 1, info.embed), (0, 0))?;
        let own = [r.z, r.film, r.first, r.second];
        for (i, a) in own.iter().enumerate() {
            if own.iter().skip(i + 1).any(|b| a == b) {
                return self.overlap(*a);
            }
        }
        if r.z == r.v { self.overlap(r.v) } else { Some(()) }
    }

    /// A student that enlarges has whole bands of its rows, and the base and the result of a window where they are needed.
    fn bands(&mut self, (h, w, channels): (u16, u16, u16)) -> Checked {
        let Some(b) = self.image.bands() else { return Some(()) };
        let (info, last) = (self.image.info(), self.image.stages() - 1);
        let place = Place::Section(kind::BANDS);
        self.place = place;
        self.equal("direction of what enlarges", Direction::ToPicture as u32, info.direction as u32)?;
        self.equal("channels of details", 3 * u32::from(b.base_channels), info.channels.into())?;
        self.at_most("rows of a window", b.rows.into(), h.into())?;
        let halo = if b.rows == h { b.halo.into() } else { 0 };
        self.equal("rows that are no halo, of a window of all rows", 0, halo)?;
        self.equal("rows in whole bands", u32::from(h).next_multiple_of(b.band().into()), h.into())?;
        self.role(b.base, (b.rows, w, info.patch * info.patch * b.base_channels), (1, 1))?;
        self.role(b.out, (b.rows, w, channels), (last, last))?;
        let r = &info.roles;
        if [r.z, r.v, r.film, b.out].contains(&b.base) || [r.z, r.film].contains(&b.out) {
            self.place = place;
            return self.overlap(b.out);
        }
        Some(())
    }

    /// Every operation fits its buffers and tensors, and reads only what holds a value.
    fn ops(&mut self) -> Checked {
        let r = self.image.info().roles;
        let mut written = Written([0; MAX_BUFFERS as usize / 32]);
        for buffer in [r.z, r.film, r.first, r.second].into_iter().chain(self.image.bands().map(|bands| bands.base)) {
            written.set(buffer);
        }
        for index in 0..self.image.info().counts.ops {
            self.op(index, &mut written)?;
        }
        // Where v is put together from bands, the operations leave it alone; a window of all rows is v.
        let (out, banded) = (self.image.bands().map_or(r.v, |bands| bands.out), self.image.rounds() > 1);
        if banded == (out == r.v) {
            self.place = Place::Section(kind::BANDS);
            return self.overlap(out);
        }
        self.place = Place::Info;
        if banded && written.get(r.v) {
            return self.overlap(r.v);
        }
        self.holds(&written, out)?;
        if banded { self.reach() } else { Some(()) }
    }

    /// The halo of bands is as wide as the operations reach: a row for each 3x3 convolution, whatever their order. What
    /// looks farther has no place in bands.
    fn reach(&mut self) -> Checked {
        let Some(bands) = self.image.bands() else { return Some(()) };
        let mut rows = 0;
        for index in 0..usize::from(self.image.info().counts.ops) {
            self.place = Place::Op(index);
            match self.op_of(index)? {
                OpRepr::Conv { kernel, .. } => rows += u64::from(kernel / 2),
                OpRepr::Quantize { .. } | OpRepr::NormAct { per_cell: true, .. } => {}
                op @ (OpRepr::NormAct { .. }
                | OpRepr::AvgPool2 { .. }
                | OpRepr::UpsampleAdd { .. }
                | OpRepr::Attention { .. }) => {
                    let found = op.buffers().0.into();
                    return self.fail(Problem::Unknown { what: "operation in bands", found });
                }
            }
        }
        self.place = Place::Section(kind::BANDS);
        let found = bands.halo.into();
        if found >= rows {
            Some(())
        } else {
            self.fail(Problem::OutOfRange { what: "halo", found, min: rows, max: u64::MAX })
        }
    }

    /// The buffer, which lives at `stage`.
    #[inline(never)]
    fn live(&mut self, index: u16, stage: u16) -> Checked<BufferRepr> {
        let buffer = self.buffer(index)?;
        if (buffer.first..=buffer.last).contains(&stage) { Some(buffer) } else { self.not_live(index) }
    }

    fn holds(&mut self, written: &Written, index: u16) -> Checked {
        if written.get(index) { Some(()) } else { self.not_live(index) }
    }

    #[inline(never)]
    fn element(&mut self, what: &'static str, buffer: &BufferRepr, allowed: &[Element]) -> Checked {
        let found = buffer.element;
        if allowed.contains(&found) { Some(()) } else { self.fail(Problem::Unknown { what, found: found as u32 }) }
    }

    fn op(&mut self, index: u16, written: &mut Written) -> Checked {
        let place = Place::Op(index.into());
        let stage = index + 1;
        const SRC: &str = "element type for the source";
        const DST: &str = "element type for the destination";

        self.place = place;
        let op = self.op_of(index.into())?;
        let (src_index, dst_index) = op.buffers();
        let (src, dst) = (self.live(src_index, stage)?, self.live(dst_index, stage)?);
        self.holds(written, src_index)?;
        if op.in_place() {
            self.holds(written, dst_index)?;
        }
        // Different buffers that live at the same time share no bytes, see plan().
        if src_index == dst_index {
            return self.overlap(src_index);
        }
        let inputs = [Some(self.image.info().roles.z), self.image.bands().map(|bands| bands.base)];
        if inputs.contains(&Some(dst_index)) {
            return self.overlap(dst_index);
        }

        match op {
            OpRepr::Quantize { .. } => {
                self.element(SRC, &src, &[Element::F32])?;
                self.element(DST, &dst, &[Element::I16])?;
                // Of a state in bands, a window.
                let of_state = src_index == self.image.info().roles.z;
                let rows = self.image.bands().filter(|_| of_state).map_or(src.height, |bands| bands.rows);
                self.same_shape((rows, src.width, src.channels), dst.shape())?;
            }
            OpRepr::Conv { kernel, residual, weights, scale, bias, .. } => {
                self.element(SRC, &src, &[Element::I8, Element::I16])?;
                let allowed: &[_] = if residual { &[Element::I16] } else { &[Element::I8, Element::I16, Element::F32] };
                self.element(DST, &dst, allowed)?;
                self.same_shape((src.height, src.width, dst.channels), dst.shape())?;
                let (k, cout) = (u16::from(kernel), dst.channels);
                self.conv_weights(weights, [cout, k, k, src.channels], src.element)?;
                self.floats(scale, cout, 1)?;
                self.floats(bias, cout, 1)?;
                self.place = place;
                self.accumulators(weights, src.element)?;
            }
            OpRepr::NormAct { group, per_cell, film, gamma, beta, .. } => {
                self.element(SRC, &src, &[Element::I16])?;
                self.element(DST, &dst, &[Element::I8, Element::I16])?;
                self.same_shape(src.shape(), dst.shape())?;
                let ch = src.channels;
                self.whole("channels in whole groups", ch, group)?;
                let cells = if per_cell { 1 } else { src.cells() };
                self.at_most("values in a group", cells * u64::from(group), MAX_GROUP_VALUES)?;
                self.floats(gamma, ch, 1)?;
                self.floats(beta, ch, 1)?;
                self.place = place;
                if film != NONE {
                    self.live(self.image.info().roles.film, stage)?;
                    let end = u64::from(film) + 2 * u64::from(ch);
                    self.at_most("end in the film row", end, self.image.info().film.into())?;
                }
            }
            OpRepr::AvgPool2 { .. } | OpRepr::UpsampleAdd { .. } => {
                self.element(SRC, &src, &[Element::I16])?;
                self.element(DST, &dst, &[Element::I16])?;
                let pool = matches!(op, OpRepr::AvgPool2 { .. });
                let (large, small) = if pool { (&src, &dst) } else { (&dst, &src) };
                self.halves(large, small)?;
            }
            OpRepr::Attention { scores, heads, .. } => {
                self.element(SRC, &src, &[Element::I8])?;
                self.element(DST, &dst, &[Element::I8])?;
                self.equal("height", src.height.into(), dst.height.into())?;
                self.equal("width", src.width.into(), dst.width.into())?;
                self.equal("source channels", 3 * u32::from(dst.channels), src.channels.into())?;
                self.whole("channels in whole heads", dst.channels, heads)?;
                let buffer = self.live(scores, stage)?;
                self.element("element type for the scores", &buffer, &[Element::F32])?;
                self.equal64("scores", dst.cells(), buffer.len())?;
                // Scratch must not be one of the sampler's own buffers.
                let r = self.image.info().roles;
                let base = self.image.bands().map_or(r.z, |bands| bands.base);
                if [r.z, r.film, base, src_index, dst_index].contains(&scores) {
                    return self.overlap(scores);
                }
            }
        }
        written.set(dst_index);
        Some(())
    }

    /// `channels` are a multiple of `of`.
    fn whole(&mut self, what: &'static str, channels: u16, of: u8) -> Checked {
        let channels = u32::from(channels);
        self.equal(what, channels.next_multiple_of(u32::from(of).max(1)), channels)
    }

    /// `small` is half as high and wide as `large`, with the same channels.
    fn halves(&mut self, large: &BufferRepr, small: &BufferRepr) -> Checked {
        self.equal("height", 2 * u32::from(small.height), large.height.into())?;
        self.equal("width", 2 * u32::from(small.width), large.width.into())?;
        self.equal("channels", small.channels.into(), large.channels.into())
    }

    /// No input can overflow the i32 accumulator, at no point of the sum: with |q| <= Q, every partial sum is at most
    /// Q times the sum of |w|, twice that with a zero point.
    fn accumulators(&mut self, weights: u16, input: Element) -> Checked {
        let largest = if input == Element::I8 { 2 * 128 } else { 32768 };
        // The place is the operation's.
        let Ok(tensor) = self.image.tensor(weights) else { return Some(()) };
        let [cout, height, width, cin] = tensor.dims.map(usize::from);
        let (row, weights) = (height * width * cin, self.image.weights(weights));
        if cfg!(feature = "blocks") && tensor.layout == Layout::Blocks {
            for block in weights.int8().chunks_exact((row * blocks::OUTPUTS).max(1)).take(cout / blocks::OUTPUTS) {
                let mut sums = [0; blocks::OUTPUTS];
                for (i, group) in block.chunks_exact(blocks::GROUP).enumerate() {
                    sums[i % blocks::OUTPUTS] += magnitudes(group);
                }
                for sum in sums {
                    self.accumulator(sum, largest)?;
                }
            }
            return Some(());
        }
        for channel in 0..cout {
            let mut sum = 0;
            weights.each((channel, row), 0, row, |_, some| sum += magnitudes(some));
            self.accumulator(sum, largest)?;
        }
        Some(())
    }

    fn accumulator(&mut self, sum: u32, largest: u32) -> Checked {
        self.at_most("largest accumulator", u64::from(sum) * u64::from(largest), MAX_SUM)
    }

    /// Angles fall from at most pi/2 to above 0, an encoder's rise from 0 to below pi/2; every factor is usable.
    fn steps(&mut self) -> Checked {
        // pi/2 as f32 or a rounding above.
        let most = 1.571f32;
        let mut before = None;
        for step in 0..usize::from(self.image.info().steps) {
            self.place = Place::Step(step);
            let phi = self.image.phi(step);
            let follows = match (self.image.info().direction, before) {
                (Direction::ToPicture, before) => phi > 0.0 && phi < before.unwrap_or(most),
                // A picture is where it starts: no noise is in it.
                (Direction::ToNoise, None) => phi == 0.0,
                (Direction::ToNoise, Some(before)) => phi > before && phi < FRAC_PI_2,
            };
            if !follows {
                return self.fail(Problem::BadNumber { what: "angle", found: phi });
            }
            before = Some(phi);
            if let Some(&byte) = self.image.step_padding(step).iter().find(|&&byte| byte != 0) {
                return self.fail(Problem::Unknown { what: "reserved field", found: byte.into() });
            }
            for &value in self.image.time(step) {
                self.finite("time row", value)?;
            }
            for op in 0..usize::from(self.image.info().counts.ops) {
                self.params(step, op)?;
            }
        }
        Some(())
    }

    fn params(&mut self, step: usize, index: usize) -> Checked {
        self.place = Place::StepOp { step, op: index };
        let p = self.image.params(step, index);
        let op = self.op_of(index)?;
        let (src, dst) = op.buffers();
        // What an operation does not use is checked too, so that a file has one meaning.
        self.finite("a", p.a)?;
        self.finite("b", p.b)?;
        self.finite("c", p.c)?;
        // Which of them are factors, and whose zero point it is.
        let (a, b, c, zero) = match op {
            OpRepr::Quantize { .. } => (true, false, false, None),
            OpRepr::Conv { residual, .. } => (true, true, residual, Some(src)),
            OpRepr::NormAct { .. } => (true, true, false, Some(dst)),
            OpRepr::AvgPool2 { .. } => (false, false, false, None),
            OpRepr::UpsampleAdd { .. } => (true, false, true, None),
            // Zero points of qkv and output are 0.
            OpRepr::Attention { .. } => (true, true, false, None),
        };
        for (used, what, value) in [(a, "a", p.a), (b, "b", p.b), (c, "c", p.c)] {
            if used {
                self.number(what, value, MIN_FACTOR)?;
            }
        }
        let i8s = match zero {
            Some(buffer) => self.buffer(buffer)?.element == Element::I8,
            None => false,
        };
        let usable = if i8s { (-128..=127).contains(&p.zp) } else { p.zp == 0 };
        if usable { Some(()) } else { self.fail(Problem::BadNumber { what: "zero point", found: p.zp as f32 }) }
    }

    /// What the info record says about work and memory is so.
    fn totals(&mut self) -> Checked {
        let info = self.image.info();
        let macs: u64 = (0..usize::from(info.counts.ops)).map(|op| self.image.op_macs(op)).sum();
        self.place = Place::Info;
        let macs = macs.wrapping_mul(self.image.rounds().into()).wrapping_add(self.image.embed_macs());
        self.equal64("MACs per step", macs, info.macs_per_step)?;
        let mut peak = (0, 0);
        for stage in 0..self.image.stages() {
            let live = self.live_bytes(stage)?;
            if live > peak.0 {
                peak = (live, stage);
            }
        }
        self.equal64("peak size", peak.0, info.peak_bytes.into())?;
        self.equal("peak stage", peak.1.into(), info.peak_stage.into())
    }

    /// Bytes of the buffers that live at `stage`.
    fn live_bytes(&mut self, stage: u16) -> Checked<u64> {
        let mut bytes = 0;
        for i in 0..self.image.info().counts.buffers {
            let buffer = self.buffer(i)?;
            if (buffer.first..=buffer.last).contains(&stage) {
                bytes += buffer.bytes();
            }
        }
        Some(bytes)
    }
}

/// Which buffers hold a value.
struct Written([u32; MAX_BUFFERS as usize / 32]);

impl Written {
    fn set(&mut self, buffer: u16) {
        if let Some(word) = self.0.get_mut(usize::from(buffer / 32)) {
            *word |= 1 << (buffer % 32);
        }
    }

    fn get(&self, buffer: u16) -> bool {
        self.0.get(usize::from(buffer / 32)).is_some_and(|word| word >> (buffer % 32) & 1 == 1)
    }
}

/// Sum of |w|, which fits: an output channel has at most 9 * 4096 weights.
fn magnitudes(weights: &[i8]) -> u32 {
    weights.iter().map(|&w| u32::from(w.unsigned_abs())).sum()
}

/// Largest accumulator.
const MAX_SUM: u64 = i32::MAX as u64;
