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
pub(super) fn check(section: &[u8], per_record: usize, place: impl Fn(usize) -> Place) -> Result<usize, ParseError> {
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
            core::str::from_utf8(string).map_err(|_| ParseError::new(place(count), Problem::NotUtf8))?;
            rest = after;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
