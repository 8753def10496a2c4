//! The sections of a student image, and typed access to their records.

use core::fmt;

use bytemuck::AnyBitPattern;

use super::bands::{BANDS_LEN, BandsRepr};
use super::buffer::{BUFFER_LEN, BufferRepr, Element};
use super::crc::crc32c;
use super::header::{HEADER_LEN, HeaderRepr, OPTIONAL, SECTION_LEN, SectionRepr, kind};
use super::info::{INFO_LEN, InfoRepr};
use super::op::{OP_LEN, OpRepr};
use super::step::{PARAMS_LEN, Params, STEP_HEAD_LEN, step_len};
use super::tensor::{Layout, TENSOR_LEN, TensorRepr};
use super::text::{self, Strings};
use crate::ENLARGES;
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};
use crate::ops::{Int4, Weights};

/// A view of a student image whose header, checksums, section lengths and info record are right. Whether the records
/// fit together is [`check`](super::check::check)'s business; access to what does not fit gives `None` or an empty
/// slice.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    header: HeaderRepr,
    info: InfoRepr,
    bands: Option<BandsRepr>,
    ops: &'a [[u8; OP_LEN]],
    buffers: &'a [[u8; BUFFER_LEN]],
    tensors: &'a [[u8; TENSOR_LEN]],
    steps: &'a [u8],
    data: &'a [u8],
    provenance: &'a [u8],
    names: &'a [u8],
}

impl fmt::Debug for Image<'_> {
    /// The header and the info record; not the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("header", &self.header).field("info", &self.info).finish_non_exhaustive()
    }
}

/// The sections by kind, as they are found.
#[derive(Default)]
struct Found<'a> {
    info: Option<&'a [u8]>,
    ops: Option<&'a [u8]>,
    buffers: Option<&'a [u8]>,
    tensors: Option<&'a [u8]>,
    steps: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    provenance: Option<&'a [u8]>,
    names: Option<&'a [u8]>,
    bands: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    fn locate(file: &'a [u8], table: &[[u8; SECTION_LEN]]) -> Result<Self, ParseError> {
        let mut found = Self::default();
        let mut next = HEADER_LEN + table.len() * SECTION_LEN;
        for record in table {
            let section = SectionRepr::parse(record, next as u32)?;
            let place = Place::Section(section.kind);
            let end = next.saturating_add(section.len as usize);
            let Some(bytes) = file.get(next..end) else {
                return Err(ParseError::new(place, Problem::TooShort { need: end, have: file.len() }));
            };
            next = end;
            let computed = crc32c(bytes);
            if computed != section.crc {
                return Err(ParseError::new(place, Problem::Crc { stored: section.crc, computed }));
            }
            let slot = match section.kind {
                kind::INFO => &mut found.info,
                kind::OPS => &mut found.ops,
                kind::BUFFERS => &mut found.buffers,
                kind::TENSORS => &mut found.tensors,
                kind::STEPS => &mut found.steps,
                kind::DATA => &mut found.data,
                kind::PROVENANCE => &mut found.provenance,
                kind::NAMES => &mut found.names,
                kind::BANDS if ENLARGES => &mut found.bands,
                other if other & OPTIONAL != 0 => continue,
                other => return Err(ParseError::new(place, Problem::Unknown { what: "section", found: other })),
            };
            if slot.replace(bytes).is_some() {
                return Err(ParseError::new(place, Problem::Count { what: "this section", found: 2 }));
            }
        }
        if next != file.len() {
            let (expected, found) = (next as u64, file.len() as u64);
            return Err(ParseError::new(Place::Header, Problem::Mismatch { what: "file length", expected, found }));
        }
        Ok(found)
    }
}

/// The section, if it is there and has the length that `bytes` of records need.
fn records(section: Option<&[u8]>, kind: u32, bytes: usize) -> Result<&[u8], ParseError> {
    let place = Place::Section(kind);
    let section = section.ok_or(ParseError::new(place, Problem::Count { what: "this section", found: 0 }))?;
    let expected = bytes.next_multiple_of(IMAGE_ALIGN);
    if section.len() != expected {
        let (expected, found) = (expected as u64, section.len() as u64);
        return Err(ParseError::new(place, Problem::Mismatch { what: "length", expected, found }));
    }
    Ok(section.get(..bytes).unwrap_or_default())
}

impl<'a> Image<'a> {
    /// Finds the sections. `bytes` may be longer than the image (a flash slot); the rest is ignored.
    ///
    /// # Errors
    /// Memory that is not 16-byte aligned, a wrong header, section table, checksum, info record or section length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let file_error = |problem| ParseError::new(Place::File, problem);
        if !(bytes.as_ptr() as usize).is_multiple_of(IMAGE_ALIGN) {
            return Err(file_error(Problem::NotAligned { need: IMAGE_ALIGN }));
        }
        let (header, table) = HeaderRepr::parse(bytes)?;
        let need = header.file_bytes as usize;
        let file = bytes.get(..need).ok_or(file_error(Problem::TooShort { need, have: bytes.len() }))?;
        let found = Found::locate(file, table)?;

        let info = records(found.info, kind::INFO, INFO_LEN)?;
        let short = ParseError::new(Place::Info, Problem::TooShort { need: INFO_LEN, have: info.len() });
        let info = InfoRepr::parse(info.first_chunk().ok_or(short)?)?;
        let bands = match found.bands {
            Some(_) if ENLARGES => {
                records(found.bands, kind::BANDS, BANDS_LEN)?.first_chunk().map(BandsRepr::parse).transpose()?
            }
            _ => None,
        };
        let (ops, buffers, tensors) =
            (usize::from(info.counts.ops), usize::from(info.counts.buffers), usize::from(info.counts.tensors));
        let steps = step_len(info.embed.into(), ops) * usize::from(info.steps);
        let data = found
            .data
            .ok_or(ParseError::new(Place::Section(kind::DATA), Problem::Count { what: "this section", found: 0 }))?;
        let image = Self {
            header,
            info,
            bands,
            ops: records(found.ops, kind::OPS, ops * OP_LEN)?.as_chunks().0,
            buffers: records(found.buffers, kind::BUFFERS, buffers * BUFFER_LEN)?.as_chunks().0,
            tensors: records(found.tensors, kind::TENSORS, tensors * TENSOR_LEN)?.as_chunks().0,
            steps: records(found.steps, kind::STEPS, steps)?,
            data,
            provenance: found.provenance.unwrap_or_default(),
            names: found.names.unwrap_or_default(),
        };
        text::check(image.provenance, 2, Place::Provenance)?;
        let names = text::check(image.names, 1, |_| Place::Section(kind::NAMES))?;
        if names != 0 && names != ops {
            let (expected, found) = (ops as u64, names as u64);
            let problem = Problem::Mismatch { what: "number of names", expected, found };
            return Err(ParseError::new(Place::Section(kind::NAMES), problem));
        }
        Ok(image)
    }

    /// The header.
    pub fn header(&self) -> &HeaderRepr {
        &self.header
    }

    /// The info record.
    pub fn info(&self) -> &InfoRepr {
        &self.info
    }

    /// How a picture is enlarged; none in images that draw from noise alone.
    pub fn bands(&self) -> Option<&BandsRepr> {
        self.bands.as_ref().filter(|_| ENLARGES)
    }

    /// How often a step's operations run: once for every band.
    pub fn rounds(&self) -> u16 {
        self.bands().map_or(1, |bands| bands.count(self.info.height / self.info.patch.max(1)))
    }

    /// Stages of one step: the embedding, every operation, the update of z.
    pub fn stages(&self) -> u16 {
        // At most MAX_OPS + 2.
        self.info.counts.ops + 2
    }

    /// Operation `index`.
    ///
    /// # Errors
    /// The index is beyond the last, or the record is wrong by itself.
    pub fn op(&self, index: usize) -> Result<OpRepr, ParseError> {
        let record = self.ops.get(index).ok_or(beyond(Place::Op(index), self.ops.len()))?;
        OpRepr::parse(record, index)
    }

    /// Buffer `index`.
    ///
    /// # Errors
    /// The index is beyond the last, or the record is wrong by itself.
    pub fn buffer(&self, index: u16) -> Result<BufferRepr, ParseError> {
        let index = usize::from(index);
        let record = self.buffers.get(index).ok_or(beyond(Place::Buffer(index), self.buffers.len()))?;
        BufferRepr::parse(record, index, self.stages())
    }

    /// Tensor `index`.
    ///
    /// # Errors
    /// The index is beyond the last, or the record is wrong by itself or goes beyond the data.
    pub fn tensor(&self, index: u16) -> Result<TensorRepr, ParseError> {
        let index = usize::from(index);
        let record = self.tensors.get(index).ok_or(beyond(Place::Tensor(index), self.tensors.len()))?;
        TensorRepr::parse(record, index, self.data.len())
    }

    /// Values of an i8 tensor; empty when it is none, or of four bits.
    pub fn i8s(&self, index: u16) -> &'a [i8] {
        self.values(index, Element::I8)
    }

    /// Weights of an i8 tensor, of eight bits or four; none when it is no such tensor.
    pub fn weights(&self, index: u16) -> Weights<'a> {
        match self.tensor(index) {
            Ok(tensor) if tensor.layout == Layout::Int4 => {
                let [rows, row @ ..] = tensor.dims.map(usize::from);
                let matrix = Int4::new(self.bytes(&tensor), rows, row.iter().product());
                matrix.map_or(Weights::Int8(&[]), Weights::Int4)
            }
            _ => Weights::Int8(self.i8s(index)),
        }
    }

    /// Values of an f32 tensor; empty when it is none.
    pub fn f32s(&self, index: u16) -> &'a [f32] {
        self.values(index, Element::F32)
    }

    fn values<T: AnyBitPattern>(&self, index: u16, element: Element) -> &'a [T] {
        let Ok(tensor) = self.tensor(index) else { return &[] };
        if tensor.element != element || tensor.layout == Layout::Int4 {
            return &[];
        }
        bytemuck::try_cast_slice(self.bytes(&tensor)).unwrap_or_default()
    }

    fn bytes(&self, tensor: &TensorRepr) -> &'a [u8] {
        let from = tensor.offset as usize;
        self.data.get(from..from.saturating_add(tensor.bytes() as usize)).unwrap_or_default()
    }

    /// The row of step `step`.
    fn step(&self, step: usize) -> &'a [u8] {
        let len = step_len(self.info.embed.into(), self.ops.len());
        self.steps.chunks_exact(len.max(1)).nth(step).unwrap_or_default()
    }

    /// Angle at which step `step` starts, in radians.
    pub fn phi(&self, step: usize) -> f32 {
        self.step(step).first_chunk().map_or(0.0, |&bytes| f32::from_le_bytes(bytes))
    }

    /// The bytes between the angle and the time row: zeros.
    pub(super) fn step_padding(&self, step: usize) -> &'a [u8] {
        self.step(step).get(4..STEP_HEAD_LEN).unwrap_or_default()
    }

    /// \[E\]: row of the time table.
    pub fn time(&self, step: usize) -> &'a [f32] {
        let end = STEP_HEAD_LEN + 4 * usize::from(self.info.embed);
        bytemuck::try_cast_slice(self.step(step).get(STEP_HEAD_LEN..end).unwrap_or_default()).unwrap_or_default()
    }

    /// Parameters of operation `op` at step `step`.
    pub fn params(&self, step: usize, op: usize) -> Params {
        let from = STEP_HEAD_LEN + 4 * usize::from(self.info.embed) + PARAMS_LEN * op;
        let row = self.step(step).get(from..).and_then(|row| row.first_chunk());
        row.map_or(Params::default(), Params::parse)
    }

    /// Key and value strings.
    pub fn provenance(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut strings = Strings(self.provenance);
        core::iter::from_fn(move || {
            let key = strings.next().filter(|key| !key.is_empty())?;
            Some((key, strings.next()?))
        })
    }

    /// Name of operation `index`, where the image has names.
    pub fn op_name(&self, index: usize) -> Option<&'a str> {
        Strings(self.names).nth(index).filter(|name| !name.is_empty())
    }

    /// Multiply-accumulates of operation `index`.
    pub fn op_macs(&self, index: usize) -> u64 {
        let macs = || -> Result<u64, ParseError> {
            Ok(match self.op(index)? {
                OpRepr::Conv { src, dst, kernel, .. } => {
                    let (src, dst) = (self.buffer(src)?, self.buffer(dst)?);
                    dst.len() * u64::from(kernel) * u64::from(kernel) * u64::from(src.channels)
                }
                OpRepr::Attention { dst, .. } => {
                    let dst = self.buffer(dst)?;
                    2 * dst.cells() * dst.len()
                }
                _ => 0,
            })
        };
        macs().unwrap_or(0)
    }

    /// Multiply-accumulates of the embedding.
    pub fn embed_macs(&self) -> u64 {
        let (e, f) = (u64::from(self.info.embed), u64::from(self.info.film));
        e * (crate::ops::embed::GUIDANCE_FEATURES as u64 + e + f)
    }
}

fn beyond(place: Place, count: usize) -> ParseError {
    let index = match place {
        Place::Op(i) | Place::Buffer(i) | Place::Tensor(i) => i,
        _ => 0,
    };
    let max = (count as u64).saturating_sub(1);
    ParseError::new(place, Problem::OutOfRange { what: "index", found: index as u64, min: 0, max })
}
