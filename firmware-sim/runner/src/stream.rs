//! Records out of the bytes of a UART.

use fewstep_wire::{Crc32c, FRAME_BYTES, HEAD_BYTES, MAGIC, MAX_PAYLOAD};

/// After so many bytes that are no record nothing is looked for any more: checking what might be one takes time.
const MAX_SKIPPED: usize = 32 << 10;

/// Finds records in a stream that arrives in pieces. Bytes that are no record are skipped and counted: a record that a
/// fault cuts off must not hide the record that tells of the fault.
#[derive(Debug, Default)]
pub struct Stream {
    bytes: Vec<u8>,
    skipped: usize,
}

impl Stream {
    /// Takes the next bytes, and hands kind and payload of every complete record to `on_record`.
    pub fn push(&mut self, bytes: &[u8], mut on_record: impl FnMut(u8, &[u8])) {
        self.bytes.extend_from_slice(bytes);
        self.drain(false, &mut on_record);
    }

    /// The stream has ended: looks for records in what is left. Returns the number of bytes that were no record.
    pub fn finish(mut self, mut on_record: impl FnMut(u8, &[u8])) -> usize {
        self.drain(true, &mut on_record);
        self.skipped + self.bytes.len()
    }

    fn drain(&mut self, ended: bool, on_record: &mut dyn FnMut(u8, &[u8])) {
        let mut at = 0;
        while at < self.bytes.len() {
            if self.skipped >= MAX_SKIPPED {
                self.skipped += self.bytes.len() - at;
                at = self.bytes.len();
                break;
            }
            match record(&self.bytes[at..]) {
                Found::Record { kind, payload, length } => {
                    on_record(kind, payload);
                    at += length;
                }
                Found::Incomplete if !ended => break,
                Found::Incomplete | Found::Nothing => {
                    at += 1;
                    self.skipped += 1;
                }
            }
        }
        self.bytes.drain(..at);
    }
}

enum Found<'a> {
    Record { kind: u8, payload: &'a [u8], length: usize },
    Incomplete,
    Nothing,
}

/// What stands at the start of `bytes`.
fn record(bytes: &[u8]) -> Found<'_> {
    if bytes.first().is_some_and(|&first| first != MAGIC) {
        return Found::Nothing;
    }
    let Some(&[_, kind, low, high]) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Found::Incomplete;
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length > MAX_PAYLOAD {
        return Found::Nothing;
    }
    let length = length + FRAME_BYTES;
    let Some(bytes) = bytes.get(..length) else {
        return Found::Incomplete;
    };
    let (body, crc) = bytes.split_at(length - 4);
    if Crc32c::new().update(&body[1..]).value().to_le_bytes() != crc {
        return Found::Nothing;
    }
    Found::Record { kind, payload: &body[HEAD_BYTES..], length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![MAGIC, kind];
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(payload);
        bytes.extend(Crc32c::new().update(&bytes[1..]).value().to_le_bytes());
        bytes
    }

    /// Reads a stream in pieces of `size` bytes: records, and bytes skipped.
    fn read(bytes: &[u8], size: usize) -> (Vec<(u8, Vec<u8>)>, usize) {
        let mut stream = Stream::default();
        let mut records = Vec::new();
        for piece in bytes.chunks(size) {
            stream.push(piece, |kind, payload| records.push((kind, payload.to_vec())));
        }
        let skipped = stream.finish(|kind, payload| records.push((kind, payload.to_vec())));
        (records, skipped)
    }

    #[test]
    fn records_arrive_whole_however_they_are_cut() {
        let picture: Vec<u8> = (0..784).map(|i| if i % 3 == 0 { MAGIC } else { i as u8 }).collect();
        let bytes = [framed(4, &picture), framed(1, &[]), framed(1, b"line")].concat();
        for size in [1, 2, 3, 7, 100, 10_000] {
            let (records, skipped) = read(&bytes, size);
            assert_eq!(records, [(4, picture.clone()), (1, vec![]), (1, b"line".to_vec())], "pieces of {size}");
            assert_eq!(skipped, 0);
        }
    }

    #[test]
    fn a_record_is_found_behind_one_that_was_cut_off() {
        let cut = &framed(4, &[9; 784])[..300];
        let bytes = [cut, &framed(7, &[1; 28])].concat();
        for size in [1, 50, 10_000] {
            assert_eq!(read(&bytes, size), (vec![(7, vec![1; 28])], 300), "pieces of {size}");
        }
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let bytes = framed(4, b"picture");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (records, skipped) = read(&damaged, 3);
            assert!(records.is_empty() && skipped == bytes.len(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = framed(4, b"picture");
        for length in 1..bytes.len() {
            assert_eq!(read(&bytes[..length], 4), (vec![], length));
        }
        assert_eq!(read(&[], 1), (vec![], 0));
    }

    /// A generator of the usual kind, so that the same noise comes each time; about one byte in eight is a magic.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 29 == 0 { MAGIC } else { (state >> 16) as u8 }
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn noise_is_skipped() {
        let bytes = [&noise(3000)[..], &framed(5, b"end")].concat();
        assert_eq!(read(&bytes, 1000), (vec![(5, b"end".to_vec())], 3000));
    }

    #[test]
    fn endless_noise_takes_no_more_time_than_its_length() {
        for bytes in [noise(4 << 20), [MAGIC, 1, 0, 0x40].repeat(1 << 20)] {
            let start = std::time::Instant::now();
            assert_eq!(read(&bytes, 8192), (vec![], bytes.len()));
            assert!(start.elapsed() < std::time::Duration::from_secs(60));
        }
    }
}
