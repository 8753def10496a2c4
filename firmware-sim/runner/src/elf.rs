//! What of a firmware lies where, from its ELF file.

use object::elf::{PT_LOAD, SHF_ALLOC, SHF_WRITE, SHT_NOBITS};
use object::read::elf::{ElfFile32, ProgramHeader, SectionHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolKind};
use serde::Serialize;

use crate::Error;

/// A section that the target's memory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its address when the firmware runs.
    pub address: u32,
    /// Bytes.
    pub bytes: u32,
    /// Whether flash holds it: all but zeroed memory. Initialised data is both in flash and in RAM.
    pub in_flash: bool,
}

/// A read ELF file.
pub(crate) struct Elf<'a> {
    file: ElfFile32<'a>,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let file = ElfFile32::parse(bytes).map_err(|error| Error::Elf(error.to_string()))?;
        Ok(Self { file })
    }

    /// Sections that the target's memory holds, empty ones left out, by address.
    pub(crate) fn sections(&self) -> Result<Vec<Section>, Error> {
        let endian = self.file.endian();
        let table = self.file.elf_section_table();
        let mut sections = Vec::new();
        for header in table.iter() {
            if header.sh_flags(endian).0 & SHF_ALLOC.0 == 0 || header.sh_size(endian) == 0 {
                continue;
            }
            let name = table.section_name(endian, header).map_err(|error| Error::Elf(error.to_string()))?;
            sections.push(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                address: header.sh_addr(endian),
                bytes: header.sh_size(endian),
                in_flash: header.sh_type(endian) != SHT_NOBITS,
            });
        }
        sections.sort_by_key(|section| section.address);
        Ok(sections)
    }

    /// Where the CPU starts.
    pub(crate) fn entry(&self) -> u32 {
        self.file.elf_header().e_entry.get(self.file.endian())
    }

    /// One past the last byte of flash that the file fills: the load addresses of its segments, so that the initial
    /// values of data are counted where they are stored.
    pub(crate) fn flash_end(&self) -> u64 {
        let endian: Endianness = self.file.endian();
        self.file
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == PT_LOAD && header.p_filesz(endian) > 0)
            .map(|header| u64::from(header.p_paddr(endian)) + u64::from(header.p_filesz(endian)))
            .max()
            .unwrap_or(0)
    }

    /// Names and values of the symbols of a section, and of symbols without a section for `None`.
    pub(crate) fn symbols(&self, section: &str) -> impl Iterator<Item = (&str, u64)> {
        let index = self.file.section_by_name(section).map(|section| object::ObjectSection::index(&section));
        self.file
            .symbols()
            .filter(move |symbol| index.is_some() && symbol.section_index() == index)
            .filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())))
    }

    /// Names of all symbols.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.file.symbols().filter_map(|symbol| symbol.name().ok())
    }

    /// Names of the statics in memory that can be written.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &str> {
        let (endian, table) = (self.file.endian(), self.file.elf_section_table());
        self.file
            .symbols()
            .filter(move |symbol| {
                let section = symbol.section_index().and_then(|index| table.section(index).ok());
                symbol.kind() == SymbolKind::Data
                    && section.is_some_and(|header| header.sh_flags(endian).0 & SHF_WRITE.0 != 0)
            })
            .filter_map(|symbol| symbol.name().ok())
    }

    /// Whether any symbol has this name.
    pub(crate) fn has_symbol(&self, name: &str) -> bool {
        self.file.symbols().any(|symbol| symbol.name() == Ok(name))
    }
}
