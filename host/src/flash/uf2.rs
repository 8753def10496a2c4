//! UF2: blocks of 512 bytes with 256 of data each, at their address, for the family of chips that they name.

use super::{Region, hex::joined};
use anyhow::{Result, bail, ensure};

const BLOCK: usize = 512;
/// Data bytes that boot loaders expect in a block; 476 fit.
const DATA: usize = 256;
const MAX_DATA: u32 = 476;
const START: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const END: u32 = 0x0ab1_6f30;
/// The block is not for flash.
const NOT_MAIN_FLASH: u32 = 1;
/// The word at 28 is a family, not a length.
const FAMILY: u32 = 0x2000;

/// The bytes of a UF2 file. The last block is padded with erased flash, so its length is 256 too.
pub fn write(region: &Region, family: u32) -> Result<Vec<u8>> {
    ensure!(
        region.address.is_multiple_of(DATA as u32),
        "address {:#x} is not a multiple of {DATA}, which UF2 boot loaders want; move the slot",
        region.address
    );
    let count = region.bytes.len().div_ceil(DATA);
    let mut file = Vec::with_capacity(count * BLOCK);
    for (i, data) in region.bytes.chunks(DATA).enumerate() {
        let address = region.address.wrapping_add((i * DATA) as u32);
        for word in [START[0], START[1], FAMILY, address, DATA as u32, i as u32, count as u32, family] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        let from = file.len();
        file.extend_from_slice(data);
        file.resize(from + DATA, 0xff);
        file.resize(from + MAX_DATA as usize, 0);
        file.extend_from_slice(&END.to_le_bytes());
    }
    Ok(file)
}

/// Reads a file: its regions and the family that all its blocks name, if they do.
///
/// # Errors
/// It is no UF2 file, blocks are missing or there twice, or they name different families.
pub fn read(file: &[u8]) -> Result<(Vec<Region>, Option<u32>)> {
    ensure!(
        !file.is_empty() && file.len().is_multiple_of(BLOCK),
        "{} bytes are not whole blocks of {BLOCK}",
        file.len()
    );
    let count = file.len() / BLOCK;
    let (mut family, mut parts) = (None, Vec::new());
    for (i, block) in file.chunks_exact(BLOCK).enumerate() {
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        ensure!([word(0), word(4)] == START && word(508) == END, "block {i} has not the magic numbers");
        let (flags, address, len) = (word(8), word(12), word(16));
        ensure!(word(20) as usize == i && word(24) as usize == count, "block {i} is not the {i}. of {count}");
        ensure!(len <= MAX_DATA, "block {i} says {len} bytes, a block holds {MAX_DATA}");
        ensure!(address.checked_add(len).is_some(), "block {i} is beyond 32 bits");
        let named = (flags & FAMILY != 0).then(|| word(28));
        if i > 0 && named != family {
            bail!("block {i} is for another family than the first");
        }
        family = named;
        if flags & NOT_MAIN_FLASH == 0 {
            parts.push(Region { address, bytes: block[32..32 + len as usize].to_vec() });
        }
    }
    Ok((joined(parts)?, family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        for len in [1, 255, 256, 257, 5000] {
            let region = Region { address: 0x1000_0100, bytes: (0..len).map(|i| (i % 251) as u8).collect() };
            let file = write(&region, 0xada5_2840).unwrap();
            let (regions, family) = read(&file).unwrap();
            assert_eq!(family, Some(0xada5_2840));
            assert_eq!((regions.len(), regions[0].address), (1, region.address));
            let (data, pad) = regions[0].bytes.split_at(len);
            assert!(data == region.bytes && pad.iter().all(|b| *b == 0xff));
        }
        assert!(write(&Region { address: 16, bytes: vec![0] }, 1).is_err());
    }

    #[test]
    fn damage_is_named() {
        let file = write(&Region { address: 0, bytes: vec![5; 600] }, 1).unwrap();
        for (at, says) in [
            (0, "magic"),
            (511, "magic"),
            (20, "is not the"),
            (24, "is not the"),
            (17, "512 bytes"),
            (512 + 29, "family"),
        ] {
            let mut file = file.clone();
            file[at] ^= 1;
            if at == 17 {
                file[at] = 2;
            }
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(says), "{at}: {error}");
        }
        assert!(read(&file[..511]).is_err() && read(&[]).is_err());
        assert!(read(&file[..512]).unwrap_err().to_string().contains("of 1"));
    }
}
