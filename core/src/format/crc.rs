//! CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as in iSCSI and ext4.

/// Remainders of BITS bits: [2^BITS].
const fn table<const BITS: u32, const LEN: usize>() -> [u32; LEN] {
    let mut table = [0; LEN];
    let mut i = 0;
    while i < LEN {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < BITS {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// By bytes: a table of a kilobyte.
#[cfg(any(not(target_os = "none"), test))]
fn by_bytes(crc: u32, byte: u8) -> u32 {
    const TABLE: [u32; 256] = table::<8, 256>();
    (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]
}

/// By half bytes, for firmware: a table of 64 bytes, and four instructions more a byte.
#[cfg(any(target_os = "none", test))]
fn by_halves(crc: u32, byte: u8) -> u32 {
    const TABLE: [u32; 16] = table::<4, 16>();
    let half = |crc: u32| (crc >> 4) ^ TABLE[crc as usize % 16];
    half(half(crc ^ u32::from(byte)))
}

#[cfg(not(target_os = "none"))]
use by_bytes as next;
#[cfg(target_os = "none")]
use by_halves as next;

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// CRC-32C of some bytes with checksum `crc`, followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, &byte| next(crc, byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check value and the vectors of RFC 3720, appendix B.4.
    #[test]
    fn published_vectors() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), 0x46dd_794e);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn halves_equal_bytes() {
        let mut crc = !0;
        for i in 0..100_000u32 {
            let byte = (i.wrapping_mul(2_654_435_761) >> 24) as u8;
            assert_eq!(by_halves(crc, byte), by_bytes(crc, byte));
            crc = by_bytes(crc, byte);
        }
    }
}
