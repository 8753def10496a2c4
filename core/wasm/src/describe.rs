//! What a student says about itself, as JSON.

use core::fmt::{self, Write};

use fewstep_core::{Model, backend};

/// Text in memory of a fixed size.
#[derive(Debug)]
pub struct Text {
    bytes: &'static mut [u8],
    len: usize,
}

impl Text {
    /// No text yet, room for as much as there are bytes.
    pub fn new(bytes: &'static mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    /// No text again.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The text, UTF-8.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Text {
    /// Writes all of `text`, or nothing where there is too little room.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A string of JSON: at most six bytes for each of the text's, and the quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// Writes shape, classes, steps, strengths, cost, kernels and provenance as one JSON object.
///
/// # Errors
/// There is no room for it in `out`: 512 bytes and six times the file's are enough.
pub fn describe(model: &Model, out: &mut impl Write) -> fmt::Result {
    let info = model.info();
    write!(out, "{{\"height\":{},\"width\":{},\"channels\":{}", info.height, info.width, info.channels)?;
    write!(out, ",\"classes\":{},\"steps\":{}", info.classes, info.steps)?;
    write!(out, ",\"guidance\":[{},{}],\"macsPerStep\":{}", info.w_min, info.w_max, info.macs_per_step)?;
    write!(out, ",\"arenaBytes\":{},\"fileBytes\":{}", info.arena_bytes, info.file_bytes)?;
    write!(out, ",\"backend\":{},\"provenance\":[", Quoted(backend()))?;
    for (i, (key, value)) in model.provenance().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(out, "{comma}[{},{}]", Quoted(key), Quoted(value))?;
    }
    out.write_str("]}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room;

    #[test]
    fn strings_of_files_cannot_leave_their_quotes() {
        assert_eq!(Quoted("a\"b\\c\n\u{e4}").to_string(), "\"a\\\"b\\\\c\\u000a\u{e4}\"");
    }

    #[test]
    fn text_takes_what_fits() {
        let mut text = Text::new(room(5).unwrap());
        text.write_str("abc").unwrap();
        text.write_str("def").unwrap_err();
        text.write_str("\u{e4}").unwrap();
        assert_eq!(text.bytes(), "abc\u{e4}".as_bytes());
        text.clear();
        assert!(text.bytes().is_empty());
    }
}
