//! The bands section: how an image that enlarges pictures computes them, a band of rows at a time. One record.
//!
//! Its state is the details of a picture of twice the size: 3 values a channel for every pixel of the picture that is
//! enlarged, the base. The operations see a window of `rows` rows of cells, of which the middle, `rows - 2 * halo`, is
//! the band; the halo is as wide as the operations reach, so that a band has the bytes of the whole.

use super::bytes::{put, u16_at};
use super::limits::MAX_BASE_CHANNELS;
use crate::error::{ParseError, Place, Problem};
use crate::format::header::kind;

/// Bytes of the record.
pub const BANDS_LEN: usize = 16;

/// The record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandsRepr {
    /// Channels of the picture that is enlarged.
    pub base_channels: u16,
    /// Rows of cells of a window.
    pub rows: u16,
    /// Rows of a window before and after its band; 0 for one window of all rows.
    pub halo: u16,
    /// f32 buffer [rows][width / patch][patch * patch * base channels]: the base under the window.
    pub base: u16,
    /// f32 buffer [rows][width / patch][patch * patch * channels]: what the operations say of the window.
    pub out: u16,
}

mod field {
    pub const BASE_CHANNELS: usize = 0;
    pub const ROWS: usize = 2;
    pub const HALO: usize = 4;
    pub const BASE: usize = 6;
    pub const OUT: usize = 8;
    pub const RESERVED: usize = 10;
}

impl BandsRepr {
    /// Reads the record and checks it by itself.
    ///
    /// # Errors
    /// A field out of range.
    pub fn parse(record: &[u8; BANDS_LEN]) -> Result<Self, ParseError> {
        let fail = |problem| Err(ParseError::new(Place::Section(kind::BANDS), problem));
        let of = |at| u16_at(record, at);
        let bands = Self {
            base_channels: of(field::BASE_CHANNELS),
            rows: of(field::ROWS),
            halo: of(field::HALO),
            base: of(field::BASE),
            out: of(field::OUT),
        };
        let channels = bands.base_channels;
        if !(1..=MAX_BASE_CHANNELS).contains(&channels) {
            let (found, max) = (channels.into(), MAX_BASE_CHANNELS.into());
            return fail(Problem::OutOfRange { what: "channels of the base", found, min: 1, max });
        }
        let least = 2 * u64::from(bands.halo) + 1;
        if u64::from(bands.rows) < least {
            let found = bands.rows.into();
            return fail(Problem::OutOfRange { what: "rows of a window", found, min: least, max: u16::MAX.into() });
        }
        if record[field::RESERVED..].iter().any(|&b| b != 0) {
            return fail(Problem::Unknown { what: "reserved field", found: 1 });
        }
        Ok(bands)
    }

    /// Writes the record.
    pub fn emit(&self, out: &mut [u8; BANDS_LEN]) {
        out.fill(0);
        for (at, value) in [
            (field::BASE_CHANNELS, self.base_channels),
            (field::ROWS, self.rows),
            (field::HALO, self.halo),
            (field::BASE, self.base),
            (field::OUT, self.out),
        ] {
            put(out, at, &value.to_le_bytes());
        }
    }

    /// Rows of a band, at least one.
    pub fn band(&self) -> u16 {
        self.rows.saturating_sub(self.halo.saturating_mul(2)).max(1)
    }

    /// Bands of a state of `height` rows of cells.
    pub fn count(&self, height: u16) -> u16 {
        height.div_ceil(self.band())
    }

    /// Where band number `index` of a state of `height` rows of cells lies. Its window is within the state.
    pub fn place(&self, index: u16, height: u16) -> BandPlace {
        let (height, band) = (usize::from(height), usize::from(self.band()));
        let start = (usize::from(index) * band).min(height);
        let window = start.saturating_sub(self.halo.into()).min(height.saturating_sub(self.rows.into()));
        BandPlace { start, rows: band.min(height - start), window }
    }
}

/// A band of a state, in rows of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandPlace {
    /// Its first row.
    pub start: usize,
    /// Its rows.
    pub rows: usize,
    /// First row of its window, not after `start`.
    pub window: usize,
}
