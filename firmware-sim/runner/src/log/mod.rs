//! defmt lines. The wire format is decoded here, for the types that firmwares use, because defmt's own decoder brings
//! seventy crates (dates, CBOR, debug information) and half a minute of build time.

mod decode;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::elf::Elf;

/// Wire format that is decoded here.
const VERSION: &str = "_defmt_version_ = 4";
const ENCODING: &str = "_defmt_encoding_ = raw";

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `defmt::trace!`
    Trace,
    /// `defmt::debug!`
    Debug,
    /// `defmt::info!`
    Info,
    /// `defmt::warn!`
    Warn,
    /// `defmt::error!`
    Error,
    /// `defmt::println!`
    Print,
}

/// A line of a firmware's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// How important it is.
    pub level: Level,
    /// The text.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Trace => "TRACE ",
            Level::Debug => "DEBUG ",
            Level::Info => "INFO  ",
            Level::Warn => "WARN  ",
            Level::Error => "ERROR ",
            Level::Print => "",
        };
        write!(f, "{level}{}", self.text)
    }
}

/// The strings of a firmware, which stay in its ELF file; frames name them by index.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<u16, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` for strings that are not lines.
    level: Option<Level>,
    text: String,
}

/// A symbol's name is this, in JSON.
#[derive(Deserialize)]
struct Symbol {
    tag: String,
    data: String,
}

impl Table {
    /// Reads the strings of a firmware; an empty table for one that does not log.
    ///
    /// # Errors
    /// The firmware logs in a wire format that is not known here.
    pub(crate) fn new(elf: &Elf<'_>) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, index) in elf.symbols(".defmt") {
            // Markers of the linker script and mapping symbols are no strings.
            let (Ok(symbol), Ok(index)) = (serde_json::from_str::<Symbol>(name), u16::try_from(index)) else {
                continue;
            };
            let level = match symbol.tag.as_str() {
                "defmt_trace" => Some(Level::Trace),
                "defmt_debug" => Some(Level::Debug),
                "defmt_info" => Some(Level::Info),
                "defmt_warn" => Some(Level::Warn),
                "defmt_error" => Some(Level::Error),
                "defmt_println" => Some(Level::Print),
                "defmt_timestamp" => return Err(Error::Elf("defmt timestamps are not decoded here".into())),
                _ => None,
            };
            entries.insert(index, Entry { level, text: symbol.data });
        }
        if !entries.is_empty() {
            for needed in [VERSION, ENCODING] {
                if !elf.has_symbol(needed) {
                    return Err(Error::Elf(format!(
                        "the firmware's defmt is not of the kind decoded here: no {needed:?}"
                    )));
                }
            }
        }
        Ok(Self { entries })
    }

    /// Decodes a frame. What cannot be decoded becomes a warning with the frame's bytes, so that no line is lost.
    pub fn line(&self, frame: &[u8]) -> Line {
        self.decode(frame).unwrap_or_else(|| Line {
            level: Level::Warn,
            text: format!(
                "a log frame of {} bytes that cannot be decoded: {:02x?}",
                frame.len(),
                &frame[..frame.len().min(32)]
            ),
        })
    }

    fn decode(&self, frame: &[u8]) -> Option<Line> {
        let mut bytes = decode::Bytes(frame);
        let Entry { level: Some(level), text } = self.entries.get(&bytes.u16()?)? else {
            return None;
        };
        let mut decoder = decode::Decoder { table: self, bytes, depth: 0 };
        let text = decoder.format(text, None)?;
        decoder.bytes.0.is_empty().then_some(Line { level: *level, text })
    }

    fn text(&self, index: u16) -> Option<&str> {
        self.entries.get(&index).map(|entry| entry.text.as_str())
    }
}

#[cfg(test)]
impl Table {
    /// A table of lines (with a level) and other strings.
    fn of(entries: &[(u16, Option<Level>, &str)]) -> Self {
        let entry = |&(index, level, text): &(u16, Option<Level>, &str)| (index, Entry { level, text: text.into() });
        Self { entries: entries.iter().map(entry).collect() }
    }
}

#[cfg(test)]
mod tests;
