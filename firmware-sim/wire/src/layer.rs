//! One layer, measured: what to run and what came of it.

use crate::bytes::{Reader, Writer};
use crate::crc::Crc32c;

const MAGIC: u32 = u32::from_le_bytes(*b"FSLY");
const VERSION: u16 = 1;

/// A convolution to run, in the place of a [`Request`](crate::Request); its tensors lie in the slot of the student image.
///
/// ```text
///  0  magic "FSLY"   4  version u16   6  kernel u16   8  height u16  10  width u16  12  cin u16  14  cout u16
/// 16  scratch u32   20  zero point i32  24  a f32  28  b f32  32  zero, 28 bytes  60  CRC-32C of the first 60
///
/// tensors, each at a multiple of 16: input i8 [height][width][cin], weights i8 [cout][kernel][kernel][cin],
/// scale f32 [cout], bias f32 [cout]
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerRequest {
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
    /// Bytes of scratch to grant.
    pub scratch: u32,
    /// Zero point of the input.
    pub zp: i32,
    /// Scale of the input over scale of the output.
    pub a: f32,
    /// 1 over scale of the output.
    pub b: f32,
}

/// Where the tensors of a layer lie in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPlaces {
    /// Input.
    pub input: usize,
    /// Weights.
    pub weights: usize,
    /// Scales.
    pub scale: usize,
    /// Biases.
    pub bias: usize,
    /// One past the last byte.
    pub end: usize,
}

impl LayerRequest {
    /// Size in flash.
    pub const BYTES: usize = 64;

    /// The bytes to place in flash.
    pub fn emit(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut writer = Writer(&mut bytes);
        writer.put(&MAGIC.to_le_bytes());
        for value in [VERSION, self.kernel, self.height, self.width, self.cin, self.cout] {
            writer.put(&value.to_le_bytes());
        }
        writer.put(&self.scratch.to_le_bytes());
        writer.put(&self.zp.to_le_bytes());
        writer.put(&self.a.to_le_bytes());
        writer.put(&self.b.to_le_bytes());
        let crc = Crc32c::new().update(&bytes[..60]).value();
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`LayerRequest::emit`] wrote; `None` for anything else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.first_chunk()?;
        if Crc32c::new().update(&bytes[..60]).value().to_le_bytes() != bytes[60..] {
            return None;
        }
        let mut reader = Reader(bytes);
        let known = reader.u32()? == MAGIC && reader.u16()? == VERSION;
        let layer = Self {
            kernel: reader.u16()?,
            height: reader.u16()?,
            width: reader.u16()?,
            cin: reader.u16()?,
            cout: reader.u16()?,
            scratch: reader.u32()?,
            zp: reader.u32()? as i32,
            a: reader.f32()?,
            b: reader.f32()?,
        };
        (known && matches!(layer.kernel, 1 | 3)).then_some(layer)
    }

    /// Where the tensors lie; `None` when they have more than 2^31 bytes.
    pub fn places(&self) -> Option<LayerPlaces> {
        let [kernel, height, width, cin, cout] =
            [self.kernel, self.height, self.width, self.cin, self.cout].map(u64::from);
        let mut at = 0u64;
        let mut place = |bytes: u64| {
            let start = at;
            at = (at + bytes).next_multiple_of(16);
            usize::try_from(start).ok().filter(|_| at < 1 << 31)
        };
        Some(LayerPlaces {
            input: place(height * width * cin)?,
            weights: place(kernel * kernel * cin * cout)?,
            scale: place(4 * cout)?,
            bias: place(4 * cout)?,
            end: place(0)?,
        })
    }

    /// Numbers of the output.
    pub fn outputs(&self) -> usize {
        usize::from(self.height) * usize::from(self.width) * usize::from(self.cout)
    }
}

/// What came of a layer: payload of [`Kind::Layer`](crate::Kind::Layer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerReport<'a> {
    /// Outputs that differ from the scalar function's.
    pub differing: u32,
    /// Bytes of scratch up to the last one written to.
    pub scratch: u32,
    /// Name of the kernels in use.
    pub backend: &'a str,
}

impl<'a> LayerReport<'a> {
    /// The payload without the backend's name, which follows.
    pub fn emit(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let mut writer = Writer(&mut bytes);
        writer.put(&self.differing.to_le_bytes());
        writer.put(&self.scratch.to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        Some(Self { differing: reader.u32()?, scratch: reader.u32()?, backend: reader.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: LayerRequest =
        LayerRequest { kernel: 3, height: 7, width: 5, cin: 9, cout: 11, scratch: 20000, zp: -37, a: 0.5, b: 7.0 };

    #[test]
    fn layers_come_back_and_damaged_ones_do_not() {
        let bytes = LAYER.emit();
        assert_eq!(LayerRequest::parse(&bytes), Some(LAYER));
        for bit in 0..8 * LayerRequest::BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(LayerRequest::parse(&damaged), None, "bit {bit}");
        }
        assert_eq!(LayerRequest::parse(&LayerRequest { kernel: 2, ..LAYER }.emit()), None);
        assert_eq!(LayerRequest::parse(&crate::Request::default().emit()), None);
    }

    #[test]
    fn places_do_not_overlap_and_are_aligned() {
        let places = LAYER.places().unwrap();
        assert_eq!(places, LayerPlaces { input: 0, weights: 320, scale: 1216, bias: 1264, end: 1312 });
        let most = LayerRequest { height: 65535, width: 65535, cin: 65535, ..LAYER };
        assert_eq!(most.places(), None);
    }

    #[test]
    fn reports_come_back() {
        let report = LayerReport { differing: 3, scratch: 4, backend: "" };
        assert_eq!(LayerReport::parse(&report.emit()), Some(report));
        assert_eq!(LayerReport::parse(&[0; 7]), None);
    }
}
