//! Strings: the provenance section (key, value, key, value, ...) and the optional names section.
//!
//! A string is a u16 length and that many bytes of UTF-8. A length of 0 for a key or name ends the list.

use crate::error::{ParseError, Place, Problem};

/// Iterates over the strings of a section; stops at the first that does not read.
#[derive(Clone, Debug)]
pub struct Strings<'a>(pub(super) &'a [u8]);

/// Splits the first string off.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*len).into())
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (string, rest) = split(self.0)?;
        self.0 = rest;
        core::str::from_utf8(string).ok()
    }
}

/// Checks that a section holds whole strings up to its end mark, `per_record` of them in each record.
///
/// # Errors
/// A length beyond the section, or bytes that are not UTF-8.
pub(super) fn check(section: &[u8], per_record: usize, place: fn(usize) -> Place) -> Result<usize, ParseError> {
    let mut rest = section;
    let mut count = 0;
    loop {
        // The end: no room for a length, or a length of 0 where a record starts.
        match rest.split_first_chunk::<2>() {
            None | Some(([0, 0], _)) => return Ok(count),
            Some(_) => {}
        }
        for _ in 0..per_record {
            let short = Problem::TooShort { need: section.len().saturating_add(1), have: section.len() };
            let (string, after) = split(rest).ok_or(ParseError::new(place(count), short))?;
            if !is_utf8(string) {
                return Err(ParseError::new(place(count), Problem::NotUtf8));
            }
            rest = after;
        }
        count += 1;
    }
}

/// Whether bytes are UTF-8 (RFC 3629). The library's function is four times as large: it is made for long texts.
#[inline(never)]
fn is_utf8(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((&lead, after)) = rest.split_first() {
        // Bits of the lead byte, and the smallest number that needs so many bytes.
        let (more, bits, least) = match lead {
            0..0x80 => (0, lead, 0),
            0xc0..0xe0 => (1, lead & 0x1f, 0x80),
            0xe0..0xf0 => (2, lead & 0xf, 0x800),
            0xf0..0xf8 => (3, lead & 7, 0x1_0000),
            _ => return false,
        };
        let Some((continued, after)) = after.split_at_checked(more) else { return false };
        let mut number = u32::from(bits);
        for &byte in continued {
            if byte & 0xc0 != 0x80 {
                return false;
            }
            number = number << 6 | u32::from(byte & 0x3f);
        }
        if number < least || number > 0x10_ffff || number >> 11 == 0x1b {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_what_the_library_says() {
        // All starts of two bytes, with every kind of byte behind them.
        for start in (0..=u16::MAX).step_by(if cfg!(miri) { 251 } else { 1 }) {
            let [a, b] = start.to_be_bytes();
            assert_eq!(is_utf8(&[a, b]), core::str::from_utf8(&[a, b]).is_ok(), "{a:x} {b:x}");
            for c in [0, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xff] {
                for bytes in [&[a, b, c][..], &[a, b, c, 0x80], &[a, b, c, 0xbf, 0x41], &[0x41, a, b, c, 0xc2]] {
                    assert_eq!(is_utf8(bytes), core::str::from_utf8(bytes).is_ok(), "{bytes:x?}");
                }
            }
        }
        assert!(is_utf8(b""));
    }

    #[test]
    fn lists_end_at_a_zero_length_or_the_section() {
        let bytes = b"\x01\0k\x02\0v1\x01\0q\0\0\0\0\0\0";
        assert_eq!(check(bytes, 2, Place::Provenance), Ok(2));
        assert_eq!(Strings(bytes).take(4).collect::<Vec<_>>(), ["k", "v1", "q", ""]);
        assert_eq!(check(b"", 2, Place::Provenance), Ok(0));
    }

    #[test]
    fn damaged_strings_are_errors() {
        let short = check(b"\x01\0k\x09\0v", 2, Place::Provenance).unwrap_err();
        assert!(matches!(short.problem, Problem::TooShort { .. }));
        let text = check(b"\x01\0\xff\0\0", 1, Place::Provenance).unwrap_err();
        assert_eq!(text.problem, Problem::NotUtf8);
    }
}
