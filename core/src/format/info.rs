//! The info section: one record.

use core::ops::Range;

use super::bytes::{f32_at, put, u16_at, u32_at};
use super::limits::*;
use crate::arena::IMAGE_ALIGN;
use crate::error::{ParseError, Place, Problem};

/// Bytes of the info record.
pub const INFO_LEN: usize = 96;

/// The machine for which an image's weights are laid out. Every core runs every profile with the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Profile {
    /// Weights in the specification's order.
    Canonical = 0,
    /// x86-64 with VNNI.
    X86Vnni = 1,
    /// Armv7E-M and Armv8-M with the DSP extension.
    ArmDsp = 2,
    /// AArch64 with the dot product extension.
    NeonDot = 3,
    /// AArch64 with the int8 matrix multiply extension.
    NeonI8mm = 4,
}

impl Profile {
    /// The name as the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Canonical => "canonical",
            Profile::X86Vnni => "x86-vnni",
            Profile::ArmDsp => "arm-dsp",
            Profile::NeonDot => "neon-dot",
            Profile::NeonI8mm => "neon-i8mm",
        }
    }
}

/// What a pixel's byte stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Normalisation {
    /// Bytes 0 to 255 are -1 to 1: x = byte / 127.5 - 1.
    Symmetric = 0,
}

/// Which way an image's steps go. The angle phi is pi/2 at noise and 0 at the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Direction {
    /// From noise to a picture: sampling.
    #[default]
    ToPicture = 0,
    /// From a picture to its noise: a distilled encoder.
    ToNoise = 1,
}

/// The info record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfoRepr {
    /// Picture height in pixels.
    pub height: u16,
    /// Picture width in pixels.
    pub width: u16,
    /// Picture channels.
    pub channels: u16,
    /// Side of the space-to-depth square.
    pub patch: u16,
    /// Classes.
    pub classes: u16,
    /// Denoising steps N.
    pub steps: u16,
    /// Embedding width E.
    pub embed: u16,
    /// Scales and shifts of all residual blocks, F.
    pub film: u16,
    /// Layout of the weights.
    pub profile: Profile,
    /// Meaning of a byte.
    pub normalisation: Normalisation,
    /// Which way the steps go.
    pub direction: Direction,
    /// Smallest guidance strength.
    pub w_min: f32,
    /// Largest guidance strength.
    pub w_max: f32,
    /// Multiply-accumulates of one step.
    pub macs_per_step: u64,
    /// Bytes of the arena.
    pub arena_bytes: u32,
    /// Bytes of the buffers that live at `peak_stage`, the most at any stage.
    pub peak_bytes: u32,
    /// Stage with the most live bytes (0 = embedding, 1 + i = op i, last = update of z).
    pub peak_stage: u16,
    /// Arena bytes granted to kernels as scratch: first byte.
    pub scratch_offset: u32,
    /// Arena bytes granted to kernels as scratch: length, may be 0.
    pub scratch_bytes: u32,
    /// Records in the sections ops, buffers, tensors.
    pub counts: Counts,
    /// Tensors of the embedding.
    pub embedding: EmbeddingRepr,
    /// Buffers that the sampler uses.
    pub roles: RolesRepr,
}

/// Number of records of each counted section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations.
    pub ops: u16,
    /// Buffers.
    pub buffers: u16,
    /// Tensors.
    pub tensors: u16,
}

/// Tensor indices of the embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingRepr {
    /// f32 [classes][E].
    pub class: u16,
    /// f32 [E][8].
    pub guidance: u16,
    /// i8 [E][E].
    pub hidden_weights: u16,
    /// f32 [E].
    pub hidden_scale: u16,
    /// f32 [E].
    pub hidden_bias: u16,
    /// i8 [F][E].
    pub film_weights: u16,
    /// f32 [F].
    pub film_scale: u16,
    /// f32 [F].
    pub film_bias: u16,
}

/// Buffer indices that the sampler uses, all f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolesRepr {
    /// State of the sampler: [height / patch][width / patch][patch * patch * channels].
    pub z: u16,
    /// Output of the network, shaped as z.
    pub v: u16,
    /// [1][1][F].
    pub film: u16,
    /// Scratch of the embedding, [1][1][E].
    pub first: u16,
    /// Scratch of the embedding, [1][1][E].
    pub second: u16,
}

mod field {
    pub const HEIGHT: usize = 0;
    pub const WIDTH: usize = 2;
    pub const CHANNELS: usize = 4;
    pub const PATCH: usize = 6;
    pub const CLASSES: usize = 8;
    pub const STEPS: usize = 10;
    pub const EMBED: usize = 12;
    pub const FILM: usize = 14;
    pub const W_MIN: usize = 16;
    pub const W_MAX: usize = 20;
    pub const MACS: usize = 24;
    pub const ARENA_BYTES: usize = 32;
    pub const PEAK_BYTES: usize = 36;
    pub const SCRATCH_OFFSET: usize = 40;
    pub const SCRATCH_BYTES: usize = 44;
    pub const PEAK_STAGE: usize = 48;
    pub const PROFILE: usize = 50;
    pub const NORMALISATION: usize = 51;
    pub const COUNTS: usize = 52;
    pub const EMBEDDING: usize = 58;
    pub const ROLES: usize = 74;
    pub const DIRECTION: usize = 84;
    pub const RESERVED: usize = 85;
}

/// A field of 16 bits and what it may be.
struct Bounds {
    what: &'static str,
    at: u8,
    min: u8,
    max: u16,
}

const fn bounds(what: &'static str, at: usize, min: u8, max: u16) -> Bounds {
    Bounds { what, at: at as u8, min, max }
}

/// In the order in which they are looked at: a table is a quarter of the calls' code.
static BOUNDS: [Bounds; 11] = [
    bounds("picture height", field::HEIGHT, 1, MAX_SIDE),
    bounds("picture width", field::WIDTH, 1, MAX_SIDE),
    bounds("picture channels", field::CHANNELS, 1, MAX_PICTURE_CHANNELS),
    bounds("patch", field::PATCH, 1, MAX_PATCH),
    bounds("number of classes", field::CLASSES, 1, MAX_CLASSES),
    bounds("number of steps", field::STEPS, 1, MAX_STEPS),
    bounds("embedding width", field::EMBED, 8, MAX_EMBED),
    bounds("film width", field::FILM, 1, MAX_FILM),
    bounds("number of ops", field::COUNTS, 1, MAX_OPS),
    bounds("number of buffers", field::COUNTS + 2, 1, MAX_BUFFERS),
    bounds("number of tensors", field::COUNTS + 4, 1, MAX_TENSORS),
];

fn within(what: &'static str, found: u32, min: u32, max: u32) -> Result<(), ParseError> {
    if found < min || found > max {
        let (found, min, max) = (found.into(), min.into(), max.into());
        return Err(ParseError::new(Place::Info, Problem::OutOfRange { what, found, min, max }));
    }
    Ok(())
}

impl InfoRepr {
    /// Bytes of the arena that kernels may use as scratch.
    pub fn scratch(&self) -> Range<usize> {
        match self.scratch_bytes {
            // Where the offset lies does not matter then, and may be within a buffer.
            0 => 0..0,
            bytes => self.scratch_offset as usize..self.scratch_offset as usize + bytes as usize,
        }
    }

    /// Reads and checks the record by itself: every cap, every enumeration.
    ///
    /// # Errors
    /// The first field out of range.
    pub fn parse(record: &[u8; INFO_LEN]) -> Result<Self, ParseError> {
        let fail = |problem| Err(ParseError::new(Place::Info, problem));
        let u16_of = |at| u16_at(record, at);
        let u32_of = |at| u32_at(record, at);
        let profile = match record[field::PROFILE] {
            0 => Profile::Canonical,
            1 => Profile::X86Vnni,
            2 => Profile::ArmDsp,
            3 => Profile::NeonDot,
            4 => Profile::NeonI8mm,
            other => return fail(Problem::Unknown { what: "profile", found: other.into() }),
        };
        let normalisation = match record[field::NORMALISATION] {
            0 => Normalisation::Symmetric,
            other => return fail(Problem::Unknown { what: "normalisation", found: other.into() }),
        };
        let direction = match record[field::DIRECTION] {
            0 => Direction::ToPicture,
            1 => Direction::ToNoise,
            other => return fail(Problem::Unknown { what: "direction", found: other.into() }),
        };
        for &Bounds { what, at, min, max } in &BOUNDS {
            let [low, high] = [0, 1].map(|byte| record.get(usize::from(at) + byte).copied().unwrap_or_default());
            within(what, u16::from_le_bytes([low, high]).into(), min.into(), max.into())?;
        }
        let info = Self {
            height: u16_of(field::HEIGHT),
            width: u16_of(field::WIDTH),
            channels: u16_of(field::CHANNELS),
            patch: u16_of(field::PATCH),
            classes: u16_of(field::CLASSES),
            steps: u16_of(field::STEPS),
            embed: u16_of(field::EMBED),
            film: u16_of(field::FILM),
            profile,
            normalisation,
            direction,
            w_min: f32_at(record, field::W_MIN),
            w_max: f32_at(record, field::W_MAX),
            macs_per_step: u64::from(u32_of(field::MACS)) | u64::from(u32_of(field::MACS + 4)) << 32,
            arena_bytes: u32_of(field::ARENA_BYTES),
            peak_bytes: u32_of(field::PEAK_BYTES),
            peak_stage: u16_of(field::PEAK_STAGE),
            scratch_offset: u32_of(field::SCRATCH_OFFSET),
            scratch_bytes: u32_of(field::SCRATCH_BYTES),
            counts: Counts {
                ops: u16_of(field::COUNTS),
                buffers: u16_of(field::COUNTS + 2),
                tensors: u16_of(field::COUNTS + 4),
            },
            embedding: EmbeddingRepr {
                class: u16_of(field::EMBEDDING),
                guidance: u16_of(field::EMBEDDING + 2),
                hidden_weights: u16_of(field::EMBEDDING + 4),
                hidden_scale: u16_of(field::EMBEDDING + 6),
                hidden_bias: u16_of(field::EMBEDDING + 8),
                film_weights: u16_of(field::EMBEDDING + 10),
                film_scale: u16_of(field::EMBEDDING + 12),
                film_bias: u16_of(field::EMBEDDING + 14),
            },
            roles: RolesRepr {
                z: u16_of(field::ROLES),
                v: u16_of(field::ROLES + 2),
                film: u16_of(field::ROLES + 4),
                first: u16_of(field::ROLES + 6),
                second: u16_of(field::ROLES + 8),
            },
        };
        info.check()?;
        if record[field::RESERVED..].iter().any(|&b| b != 0) {
            return fail(Problem::Unknown { what: "reserved field", found: 1 });
        }
        Ok(info)
    }

    fn check(&self) -> Result<(), ParseError> {
        let multiples = [
            ("picture height", u32::from(self.height), u32::from(self.patch)),
            ("picture width", self.width.into(), self.patch.into()),
            ("embedding width", self.embed.into(), 8),
            ("arena size", self.arena_bytes, IMAGE_ALIGN as u32),
            ("scratch offset", self.scratch_offset, IMAGE_ALIGN as u32),
        ];
        for (what, found, of) in multiples {
            let above = found % of.max(1);
            if above != 0 {
                let expected = u64::from(found - above) + u64::from(of);
                let found = found.into();
                return Err(ParseError::new(Place::Info, Problem::Mismatch { what, expected, found }));
            }
        }
        let scratch_end = self.scratch_offset.saturating_add(self.scratch_bytes);
        let ranges = [
            ("arena size", self.arena_bytes, IMAGE_ALIGN as u32, MAX_ARENA_BYTES),
            ("peak stage", self.peak_stage.into(), 0, u32::from(self.counts.ops) + 1),
            ("peak size", self.peak_bytes, 1, self.arena_bytes),
            ("end of scratch", scratch_end, 0, self.arena_bytes),
        ];
        for (what, found, min, max) in ranges {
            within(what, found, min, max)?;
        }
        let bad = |what, found| Err(ParseError::new(Place::Info, Problem::BadNumber { what, found }));
        if !(0.0..=MAX_W).contains(&self.w_min) {
            return bad("smallest w", self.w_min);
        }
        if !(self.w_min..=MAX_W).contains(&self.w_max) {
            return bad("largest w", self.w_max);
        }
        Ok(())
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; INFO_LEN]) {
        out.fill(0);
        let halves = [
            (field::HEIGHT, self.height),
            (field::WIDTH, self.width),
            (field::CHANNELS, self.channels),
            (field::PATCH, self.patch),
            (field::CLASSES, self.classes),
            (field::STEPS, self.steps),
            (field::EMBED, self.embed),
            (field::FILM, self.film),
            (field::PEAK_STAGE, self.peak_stage),
            (field::COUNTS, self.counts.ops),
            (field::COUNTS + 2, self.counts.buffers),
            (field::COUNTS + 4, self.counts.tensors),
            (field::EMBEDDING, self.embedding.class),
            (field::EMBEDDING + 2, self.embedding.guidance),
            (field::EMBEDDING + 4, self.embedding.hidden_weights),
            (field::EMBEDDING + 6, self.embedding.hidden_scale),
            (field::EMBEDDING + 8, self.embedding.hidden_bias),
            (field::EMBEDDING + 10, self.embedding.film_weights),
            (field::EMBEDDING + 12, self.embedding.film_scale),
            (field::EMBEDDING + 14, self.embedding.film_bias),
            (field::ROLES, self.roles.z),
            (field::ROLES + 2, self.roles.v),
            (field::ROLES + 4, self.roles.film),
            (field::ROLES + 6, self.roles.first),
            (field::ROLES + 8, self.roles.second),
        ];
        for (at, value) in halves {
            put(out, at, &value.to_le_bytes());
        }
        put(out, field::W_MIN, &self.w_min.to_le_bytes());
        put(out, field::W_MAX, &self.w_max.to_le_bytes());
        put(out, field::MACS, &self.macs_per_step.to_le_bytes());
        put(out, field::ARENA_BYTES, &self.arena_bytes.to_le_bytes());
        put(out, field::PEAK_BYTES, &self.peak_bytes.to_le_bytes());
        put(out, field::SCRATCH_OFFSET, &self.scratch_offset.to_le_bytes());
        put(out, field::SCRATCH_BYTES, &self.scratch_bytes.to_le_bytes());
        out[field::PROFILE] = self.profile as u8;
        out[field::NORMALISATION] = self.normalisation as u8;
        out[field::DIRECTION] = self.direction as u8;
    }
}
