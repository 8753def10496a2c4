//! Arguments out of a frame, and their text (defmt's wire format 4).

use std::collections::BTreeMap;
use std::fmt::Write;

use defmt_parser::{DisplayHint, Fragment, ParserMode, Type};

use super::Table;

/// Formats nest by index; a frame cannot make them nest without end.
const MAX_DEPTH: usize = 32;
/// Formats of no bytes could otherwise fill the memory.
const MAX_ELEMENTS: u32 = 4096;

/// The rest of a frame.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn unsigned<const N: usize>(&mut self) -> Option<u128> {
        let mut wide = [0; 16];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        Some(u128::from_le_bytes(wide))
    }

    fn signed<const N: usize>(&mut self) -> Option<Value> {
        let bits = self.unsigned::<N>()?;
        let unused = 128 - 8 * N as u32;
        Some(Value::Signed { value: (bits << unused).cast_signed() >> unused, bits })
    }
}

/// Turns a format and the bytes of its arguments into text.
pub(super) struct Decoder<'t, 'b> {
    pub table: &'t Table,
    pub bytes: Bytes<'b>,
    pub depth: usize,
}

impl<'t> Decoder<'t, '_> {
    /// Takes the arguments of `format`; `parent` is the hint of the parameter that it stands in for.
    pub(super) fn format(&mut self, format: &str, parent: Option<&DisplayHint>) -> Option<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let fragments = defmt_parser::parse(format, ParserMode::ForwardsCompatible).ok()?;
        // An argument travels once, in the order of the indices, however often and wherever it is shown.
        let mut arguments = BTreeMap::new();
        for fragment in &fragments {
            if let Fragment::Parameter(parameter) = fragment {
                arguments.entry(parameter.index).or_insert(parameter);
            }
        }
        let mut values = BTreeMap::new();
        for (index, parameter) in arguments {
            let value = self.value(&parameter.ty, parameter.hint.as_ref().or(parent))?;
            values.insert(index, value);
        }
        let mut text = String::new();
        for fragment in &fragments {
            match fragment {
                Fragment::Literal(literal) => text.push_str(literal),
                Fragment::Parameter(parameter) => {
                    values.get(&parameter.index)?.show(parameter.hint.as_ref().or(parent), &mut text);
                }
            }
        }
        self.depth -= 1;
        Some(text)
    }

    fn value(&mut self, kind: &Type, hint: Option<&DisplayHint>) -> Option<Value> {
        let bytes = &mut self.bytes;
        Some(match kind {
            Type::U8 => Value::Unsigned(bytes.unsigned::<1>()?),
            Type::U16 => Value::Unsigned(bytes.unsigned::<2>()?),
            Type::U32 | Type::Usize => Value::Unsigned(bytes.unsigned::<4>()?),
            Type::U64 => Value::Unsigned(bytes.unsigned::<8>()?),
            Type::U128 => Value::Unsigned(bytes.unsigned::<16>()?),
            Type::I8 => bytes.signed::<1>()?,
            Type::I16 => bytes.signed::<2>()?,
            Type::I32 | Type::Isize => bytes.signed::<4>()?,
            Type::I64 => bytes.signed::<8>()?,
            Type::I128 => bytes.signed::<16>()?,
            Type::F32 => Value::Text(f32::from_le_bytes(bytes.array()?).to_string()),
            Type::F64 => Value::Text(f64::from_le_bytes(bytes.array()?).to_string()),
            Type::Bool => Value::Text(match bytes.u8()? {
                0 => "false".into(),
                1 => "true".into(),
                _ => return None,
            }),
            Type::Char => Value::Text(char::from_u32(bytes.u32()?)?.into()),
            Type::Str => {
                let length = bytes.u32()? as usize;
                Value::Quotable(String::from_utf8(bytes.take(length)?.to_vec()).ok()?)
            }
            Type::IStr => Value::Quotable(self.table.text(bytes.u16()?)?.into()),
            Type::U8Slice => {
                let length = bytes.u32()? as usize;
                Value::Bytes(bytes.take(length)?.to_vec())
            }
            Type::U8Array(length) => Value::Bytes(bytes.take(*length)?.to_vec()),
            Type::Debug | Type::Display => {
                // Text that the firmware formatted, up to a byte that UTF-8 does not have.
                let length = bytes.0.iter().position(|&byte| byte == 0xff)?;
                let text = bytes.take(length)?;
                bytes.take(1)?;
                Value::Text(std::str::from_utf8(text).ok()?.into())
            }
            Type::Format => {
                let format = self.table.text(bytes.u16()?)?;
                let format = self.variant(format)?;
                Value::Text(self.format(format, hint)?)
            }
            Type::FormatSequence => {
                let mut text = String::new();
                loop {
                    match self.bytes.u16()? {
                        0 => break Value::Text(text),
                        index => text += &self.format(self.table.text(index)?, hint)?,
                    }
                }
            }
            Type::FormatSlice => {
                let length = bytes.u32()?;
                self.elements(length, hint)?
            }
            Type::FormatArray(length) => self.elements(u32::try_from(*length).ok()?, hint)?,
            Type::BitField(_) => return None,
        })
    }

    /// The alternative of an enumeration's format that the frame names; other formats are their own.
    fn variant<'f>(&mut self, format: &'f str) -> Option<&'f str> {
        let bars = format.bytes().filter(|&byte| byte == b'|').count();
        let index = match bars {
            0 => return Some(format),
            1..=0xff => usize::from(self.bytes.u8()?),
            0x100..=0xffff => usize::from(self.bytes.u16()?),
            _ => self.bytes.u32()? as usize,
        };
        format.split('|').nth(index)
    }

    fn elements(&mut self, length: u32, hint: Option<&DisplayHint>) -> Option<Value> {
        let format = self.table.text(self.bytes.u16()?)?;
        if length > MAX_ELEMENTS {
            return None;
        }
        let mut texts = Vec::new();
        for _ in 0..length {
            let format = self.variant(format)?;
            texts.push(self.format(format, hint)?);
        }
        Some(Value::Text(format!("[{}]", texts.join(", "))))
    }
}

enum Value {
    Unsigned(u128),
    /// `bits` is its two's complement, which hexadecimal and binary show.
    Signed {
        value: i128,
        bits: u128,
    },
    Bytes(Vec<u8>),
    /// A string, which `:?` shows in quotes.
    Quotable(String),
    Text(String),
}

impl Value {
    fn show(&self, hint: Option<&DisplayHint>, text: &mut String) {
        match self {
            Self::Unsigned(value) => text.push_str(&number(*value, *value, hint)),
            Self::Signed { value, bits } => text.push_str(&number(*value, *bits, hint)),
            Self::Bytes(bytes) => match hint {
                Some(DisplayHint::Ascii) => {
                    let _ = write!(text, "b\"{}\"", bytes.escape_ascii());
                }
                _ => {
                    let numbers: Vec<String> = bytes.iter().map(|&byte| number(byte, u128::from(byte), hint)).collect();
                    let _ = write!(text, "[{}]", numbers.join(", "));
                }
            },
            Self::Quotable(string) if matches!(hint, Some(DisplayHint::Debug)) => {
                let _ = write!(text, "{string:?}");
            }
            Self::Quotable(string) | Self::Text(string) => text.push_str(string),
        }
    }
}

/// A number in the base that the hint names, as Rust's formatting shows it; `bits` is its two's complement.
fn number(value: impl std::fmt::Display, bits: u128, hint: Option<&DisplayHint>) -> String {
    // A frame must not make a line of gigabytes.
    let width = |zero_pad: usize| zero_pad.min(256);
    match hint {
        Some(&DisplayHint::Hexadecimal { alternate, uppercase, zero_pad }) => {
            let width = width(zero_pad);
            match (alternate, uppercase) {
                (false, false) => format!("{bits:0width$x}"),
                (false, true) => format!("{bits:0width$X}"),
                (true, false) => format!("{bits:#0width$x}"),
                (true, true) => format!("{bits:#0width$X}"),
            }
        }
        Some(&DisplayHint::Binary { alternate: false, zero_pad }) => format!("{bits:00$b}", width(zero_pad)),
        Some(&DisplayHint::Binary { alternate: true, zero_pad }) => format!("{bits:#00$b}", width(zero_pad)),
        Some(&DisplayHint::Octal { alternate: false, zero_pad }) => format!("{bits:00$o}", width(zero_pad)),
        Some(&DisplayHint::Octal { alternate: true, zero_pad }) => format!("{bits:#00$o}", width(zero_pad)),
        Some(&DisplayHint::NoHint { zero_pad }) => format!("{value:00$}", width(zero_pad)),
        _ => value.to_string(),
    }
}
