//! CRC-32C (Castagnoli), reflected, as in iSCSI (RFC 3720, B.4) and in student images.

/// A running CRC-32C.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Nothing taken in yet.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Takes in `bytes`. Bit by bit: a table would cost a kilobyte of flash for some thousand bytes a picture.
    pub fn update(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            self.0 ^= u32::from(byte);
            for _ in 0..8 {
                self.0 = (self.0 >> 1) ^ (0x82f6_3b78 & (self.0 & 1).wrapping_neg());
            }
        }
        self
    }

    /// The checksum.
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Crc32c;

    #[test]
    fn published_vectors() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and 0..31.
        assert_eq!(Crc32c::new().update(&[0; 32]).value(), 0x8a91_36aa);
        assert_eq!(Crc32c::new().update(&[0xff; 32]).value(), 0x62a8_ab43);
        let rising: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(Crc32c::new().update(&rising).value(), 0x46dd_794e);
        assert_eq!(Crc32c::new().update(&rising[..7]).update(&rising[7..]).value(), 0x46dd_794e);
    }
}
