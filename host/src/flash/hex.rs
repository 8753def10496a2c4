//! Intel HEX: records of type 00 (data), 01 (end), 04 (upper half of the address); the reader knows 02, 03 and 05 too.

use super::Region;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;

/// Data bytes a line.
const LINE: usize = 16;
/// Most bytes that a file may describe.
const MAX_BYTES: usize = 64 << 20;

/// The text of a HEX file.
pub fn write(region: &Region) -> String {
    let mut text = String::with_capacity(region.bytes.len() * 3);
    let mut upper = None;
    let (mut address, mut rest) = (region.address, &region.bytes[..]);
    while !rest.is_empty() {
        if upper != Some(address >> 16) {
            upper = Some(address >> 16);
            record(&mut text, 4, 0, &((address >> 16) as u16).to_be_bytes());
        }
        // A line does not cross 64 KB.
        let room = (0x1_0000 - (address as usize & 0xffff)).min(LINE);
        let (line, after) = rest.split_at(room.min(rest.len()));
        record(&mut text, 0, address as u16, line);
        address = address.wrapping_add(line.len() as u32);
        rest = after;
    }
    record(&mut text, 1, 0, &[]);
    text
}

fn record(text: &mut String, kind: u8, address: u16, data: &[u8]) {
    let [high, low] = address.to_be_bytes();
    let mut sum = 0u8;
    text.push(':');
    for byte in [data.len() as u8, high, low, kind].iter().chain(data) {
        sum = sum.wrapping_add(*byte);
        let _ = write!(text, "{byte:02X}");
    }
    let _ = writeln!(text, "{:02X}", sum.wrapping_neg());
}

/// Reads a file; neighbouring bytes become one region, in the order of their addresses.
///
/// # Errors
/// A line is no record, its checksum is wrong, bytes are given twice, or there is no end.
pub fn read(text: &str) -> Result<Vec<Region>> {
    let mut parts: Vec<Region> = Vec::new();
    let (mut base, mut total) = (0u32, 0);
    for (number, line) in text.lines().enumerate() {
        let what = || format!("line {}", number + 1);
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let bytes = digits(line).with_context(what)?;
        let [len, high, low, kind, data @ .., _] = &bytes[..] else { bail!("{}: is too short", what()) };
        ensure!(usize::from(*len) == data.len(), "{}: says {len} bytes and has {}", what(), data.len());
        ensure!(bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0, "{}: its checksum is wrong", what());
        let offset = u16::from_be_bytes([*high, *low]);
        match (kind, data) {
            (0, _) => {
                total += data.len();
                ensure!(total <= MAX_BYTES, "{}: more than {MAX_BYTES} bytes", what());
                let address = base.checked_add(offset.into()).filter(|at| at.checked_add(data.len() as u32).is_some());
                let address = address.with_context(|| format!("{}: beyond 32 bits", what()))?;
                match parts.last_mut() {
                    Some(last) if last.address.checked_add(last.bytes.len() as u32) == Some(address) => {
                        last.bytes.extend_from_slice(data);
                    }
                    _ => parts.push(Region { address, bytes: data.to_vec() }),
                }
            }
            (1, []) => return joined(parts),
            (2, [a, b]) => base = u32::from(u16::from_be_bytes([*a, *b])) << 4,
            (4, [a, b]) => base = u32::from(u16::from_be_bytes([*a, *b])) << 16,
            // Where execution starts: nothing to write.
            (3 | 5, [_, _, _, _]) => {}
            _ => bail!("{}: record of type {kind} with {} bytes", what(), data.len()),
        }
    }
    bail!("there is no end record; the file is cut")
}

fn digits(line: &str) -> Result<Vec<u8>> {
    let hex = line.strip_prefix(':').context("does not start with a colon")?.as_bytes();
    ensure!(hex.len().is_multiple_of(2), "has half a byte");
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    hex.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<_>>()
        .context("holds something else than hexadecimal digits")
}

/// Sorts regions and joins those that touch.
pub(super) fn joined(mut parts: Vec<Region>) -> Result<Vec<Region>> {
    parts.retain(|part| !part.bytes.is_empty());
    parts.sort_by_key(|part| part.address);
    let mut regions: Vec<Region> = Vec::new();
    for part in parts {
        let Some(last) = regions.last_mut() else {
            regions.push(part);
            continue;
        };
        let end = u64::from(last.address) + last.bytes.len() as u64;
        ensure!(u64::from(part.address) >= end, "bytes at {:#x} are given twice", part.address);
        if u64::from(part.address) == end {
            last.bytes.extend_from_slice(&part.bytes);
        } else {
            regions.push(part);
        }
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Intel's "Hexadecimal Object File Format Specification", appendix-like: one line by hand.
    #[test]
    fn a_line_by_hand() {
        let region = Region { address: 0x0010_0100, bytes: vec![0x21, 0x46, 0x01] };
        assert_eq!(write(&region), ":020000040010EA\n:0301000021460194\n:00000001FF\n");
        assert_eq!(read(&write(&region)).unwrap(), [region]);
    }

    #[test]
    fn regions_across_64_kb_come_back() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7 / 3) as u8).collect();
        for address in [0, 3, 0xfff8, 0x0800_fff1, 0u32.wrapping_sub(200_001)] {
            let region = Region { address, bytes: bytes.clone() };
            assert_eq!(read(&write(&region)).unwrap(), [region], "{address:#x}");
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, says) in [
            ("", "no end record"),
            (":00000001FE\n", "line 1: its checksum"),
            ("\n:0000\n", "line 2: is too short"),
            ("x", "line 1"),
            (":0\n", "half a byte"),
            (":zz\n", "hexadecimal"),
            (":02000000FFFF\n", "says 2 bytes and has 1"),
            (":0100000000FF\n:0100000000FF\n:00000001FF\n", "given twice"),
            (":00000009F7\n", "type 9"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
