//! Targets: chips and emulated boards as TOML files. The known ones are part of the program, so that it needs no folder
//! beside it; a file of one's own has the same fields.

use crate::files;
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::slots::HEAD_BYTES;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest target file in bytes.
const MAX_FILE: u64 = 64 << 10;

macro_rules! known {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every target that is part of the program.
        const KNOWN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../targets/", $name, ".toml")))),*];
    };
}

known![
    "an386",
    "an500",
    "an505",
    "an547",
    "esp32c3",
    "nrf52840",
    "nrf52840-single",
    "nrf5340",
    "nrf5340-single",
    "riscv32",
    "rp2350",
    "stm32f746",
    "stm32f746-single",
    "stm32h743",
];

/// A chip or board. Sizes are in bytes, addresses as a programmer takes them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Of the file, without its ending.
    #[serde(skip_deserializing)]
    pub name: String,
    pub description: String,
    /// As the compiler calls it: `cortex-m4`, `rv32imc` ...
    pub cpu: String,
    /// Clock of the CPU in Hz.
    pub clock_hz: u64,
    /// Family of UF2 files; without one there are none for this target.
    pub uf2_family: Option<u32>,
    /// What probe-rs calls the chip.
    pub probe: Option<String>,
    pub flash: Flash,
    pub ram: Ram,
    pub slots: Slots,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    pub origin: u32,
    pub size: u32,
    /// For the firmware, at the start.
    pub firmware: u32,
    /// Erased at once, where the slots are.
    pub erase: u32,
    /// Written at once.
    pub write: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    pub origin: u32,
    pub size: u32,
    pub stack: u32,
    /// Statics and buffers of the firmware, without the arena.
    pub firmware: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Whether a slot starts with the head of `fewstep_core::slots`; otherwise the image lies there alone.
    #[serde(default = "yes")]
    pub head: bool,
    /// Address of slot A.
    pub a: u32,
    /// Address of slot B, where there are two.
    pub b: Option<u32>,
    /// Bytes of each, head included.
    pub bytes: u32,
}

fn yes() -> bool {
    true
}

impl Target {
    /// Names of the targets that are part of the program, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// A known target by its name, or a file of one's own by a path that ends in `.toml`.
    ///
    /// # Errors
    /// There is none of that name, or the file is wrong.
    pub fn find(name: &str) -> Result<Self> {
        if name.ends_with(".toml") {
            let path = Path::new(name);
            let bytes = files::read_file(path, MAX_FILE)?;
            let text = String::from_utf8(bytes).ok().with_context(|| format!("{name}: is not UTF-8 text"))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return Self::parse(&stem, &text).with_context(|| name.to_string());
        }
        match KNOWN.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => Self::parse(known, text),
            None => bail!(
                "unknown target {name:?}: there are {}; or give a file of your own that ends in .toml",
                Self::names().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Reads and checks the text of a target file.
    ///
    /// # Errors
    /// Fields are missing, unknown or do not fit each other.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut target: Self = toml::from_str(text).map_err(|e| anyhow::anyhow!("{}", e.to_string().trim_end()))?;
        target.name = name.into();
        target.check()?;
        Ok(target)
    }

    fn check(&self) -> Result<()> {
        let Self { flash, ram, slots, .. } = self;
        ensure!(self.clock_hz > 0, "clock_hz is 0; give the clock of the CPU in Hz");
        for (what, origin, size) in [("flash", flash.origin, flash.size), ("ram", ram.origin, ram.size)] {
            ensure!(size > 0, "{what}.size is 0; give its bytes");
            ensure!(
                u64::from(origin) + u64::from(size) <= 1 << 32,
                "{what}.origin + {what}.size is beyond 32 bits; correct them"
            );
        }
        ensure!(
            flash.write.is_power_of_two() && flash.write <= 64,
            "flash.write = {} must be a power of two up to 64",
            flash.write
        );
        let block = flash.erase.max(HEAD_BYTES as u32);
        ensure!(
            flash.erase >= flash.write
                && flash.erase.is_multiple_of(flash.write)
                && block.is_multiple_of(flash.erase)
                && block.is_multiple_of(HEAD_BYTES as u32),
            "flash.erase = {} must be a multiple of flash.write and a multiple or divisor of {HEAD_BYTES}",
            flash.erase
        );
        let needed = u64::from(ram.stack) + u64::from(ram.firmware);
        ensure!(needed <= ram.size.into(), "ram.stack + ram.firmware = {needed} is more than ram.size = {}", ram.size);
        let image = u32::from(slots.head) * HEAD_BYTES as u32;
        ensure!(
            slots.bytes > image && slots.bytes.is_multiple_of(block),
            "slots.bytes = {:#x} must be a multiple of {block:#x}, the block that is erased, and hold an image",
            slots.bytes
        );
        let (start, end) = (u64::from(flash.origin), u64::from(flash.origin) + u64::from(flash.size));
        for (name, at) in [("a", Some(slots.a)), ("b", slots.b)] {
            let Some(at) = at else { continue };
            ensure!(
                u64::from(at) >= start && at.wrapping_sub(flash.origin).is_multiple_of(block),
                "slots.{name} = {at:#x} is not aligned to {block:#x}, the block that is erased; move it to such an address"
            );
            ensure!(
                u64::from(at) >= start + u64::from(flash.firmware),
                "slots.{name} = {at:#x} overlaps the firmware, which ends at {:#x}; move the slot behind it or lower flash.firmware",
                start + u64::from(flash.firmware)
            );
            ensure!(
                u64::from(at) + u64::from(slots.bytes) <= end,
                "slots.{name} ends at {:#x}, behind the flash, which ends at {end:#x}; lower slots.bytes",
                u64::from(at) + u64::from(slots.bytes)
            );
        }
        if let Some(b) = slots.b {
            ensure!(
                slots.a.abs_diff(b) >= slots.bytes,
                "slots.a and slots.b share bytes; move one or lower slots.bytes"
            );
        }
        Ok(())
    }

    /// Bytes that an image may have.
    pub fn image_bytes(&self) -> u32 {
        self.slots.bytes - u32::from(self.slots.head) * HEAD_BYTES as u32
    }

    /// Bytes that an arena may have.
    pub fn arena_bytes(&self) -> u32 {
        self.ram.size - self.ram.stack - self.ram.firmware
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_targets_are_right_and_sorted() {
        for name in Target::names() {
            assert_eq!(Target::find(name).unwrap().name, name);
        }
        assert!(Target::names().is_sorted());
    }

    #[test]
    fn wrong_files_are_refused_with_what_to_change() {
        let text = KNOWN.iter().find(|(name, _)| *name == "nrf52840").unwrap().1;
        for (from, to, says) in [
            ("a = 0x1_8000", "a = 0x1_0000", "overlaps the firmware, which ends at 0x18000; move the slot behind it"),
            ("a = 0x1_8000", "a = 0x1_8004", "is not aligned to 0x1000"),
            ("b = 0x8_c000", "b = 0x8_d000", "behind the flash"),
            ("b = 0x8_c000", "b = 0x1_9000", "share bytes"),
            ("bytes = 0x7_4000", "bytes = 0x400", "must be a multiple of 0x1000"),
            ("write = 4", "write = 3", "power of two up to 64"),
            ("erase = 0x1000", "erase = 0", "flash.erase = 0"),
            ("stack = 0x4000", "stack = 0x8_0000", "is more than ram.size"),
            ("origin = 0x0\n", "origin = 0xffff_0000\n", "beyond 32 bits"),
            ("clock_hz = 64_000_000", "clock_hz = 0", "clock_hz is 0"),
            ("firmware = 0x1_8000", "firmwar = 0x1_8000", "unknown field `firmwar`"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = format!("{:#}", Target::parse("x", &text.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(says), "{to}: {error}");
        }
        let error = Target::find("nrf99").unwrap_err().to_string();
        assert!(error.contains("stm32h743") && error.contains("a file of your own"), "{error}");
    }
}
