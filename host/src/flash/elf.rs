//! ELF: the bytes in one section that is loaded at its address, and symbols at its start and end.

use super::Region;
use anyhow::{Context, Result, ensure};
use object::write::elf::{FileHeader, ProgramHeader, SectionHeader, Sym, Writer};
use object::{Endianness, Object, ObjectSection, elf};

/// Where the bytes are.
pub const SECTION: &str = ".fewstep";
/// Most bytes that [`read`] takes.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of a 32-bit ELF file for the machine of `cpu`.
pub fn write(region: &Region, cpu: &str) -> Result<Vec<u8>> {
    let (machine, flags) = if cpu.starts_with("cortex-m") {
        (elf::EM_ARM, elf::EF_ARM_EABI_VER5)
    } else if cpu.starts_with("rv32") {
        (elf::EM_RISCV, 0)
    } else {
        anyhow::bail!("cpu {cpu:?} has no ELF machine here; use cortex-m... or rv32..., or another format");
    };
    let len = region.bytes.len() as u64;
    let mut file = Vec::new();
    let mut writer = Writer::new(Endianness::Little, false, &mut file);
    writer.reserve_null_section_index();
    writer.reserve_file_header();
    writer.reserve_program_headers(1);
    let offset = writer.reserve(region.bytes.len(), 16) as u64;
    let name = writer.add_section_name(SECTION.as_bytes());
    let section = writer.reserve_section_index();
    let symbols = [("fewstep_slot_start", 0), ("fewstep_slot_end", len)];
    let names = symbols.map(|(name, _)| writer.add_string(name.as_bytes()));
    writer.reserve_symtab_section_index();
    writer.reserve_strtab_section_index();
    writer.reserve_shstrtab_section_index();
    writer.reserve_null_symbol_index();
    for _ in symbols {
        writer.reserve_symbol_index(Some(section));
    }
    writer.reserve_symtab();
    writer.reserve_strtab();
    writer.reserve_shstrtab();
    writer.reserve_section_headers();

    let header =
        FileHeader { os_abi: 0, abi_version: 0, e_type: elf::ET_EXEC, e_machine: machine, e_entry: 0, e_flags: flags };
    writer.write_file_header(&header)?;
    writer.write_align_program_headers();
    writer.write_program_header(&ProgramHeader {
        p_type: elf::PT_LOAD,
        p_flags: elf::PF_R,
        p_offset: offset,
        p_vaddr: region.address.into(),
        p_paddr: region.address.into(),
        p_filesz: len,
        p_memsz: len,
        p_align: 16,
    });
    writer.pad_until(offset as usize);
    writer.write(&region.bytes);
    writer.write_null_symbol();
    for (name, (_, at)) in names.into_iter().zip(symbols) {
        writer.write_symbol(&Sym {
            name: Some(name),
            section: Some(section),
            st_info: elf::STB_GLOBAL << 4 | elf::STT_OBJECT,
            st_other: 0,
            st_shndx: 0,
            st_value: u64::from(region.address) + at,
            st_size: 0,
        });
    }
    writer.write_strtab();
    writer.write_shstrtab();
    writer.write_null_section_header();
    writer.write_section_header(&SectionHeader {
        name: Some(name),
        sh_type: elf::SHT_PROGBITS,
        sh_flags: elf::SHF_ALLOC.into(),
        sh_addr: region.address.into(),
        sh_offset: offset,
        sh_size: len,
        sh_link: 0,
        sh_info: 0,
        sh_addralign: 16,
        sh_entsize: 0,
    });
    // Only the null symbol is local.
    writer.write_symtab_section_header(1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok(file)
}

/// Reads the section back.
///
/// # Errors
/// It is no ELF file, or has no such section.
pub fn read(file: &[u8]) -> Result<Region> {
    let file = object::File::parse(file).context("is no ELF file")?;
    let section = file.section_by_name(SECTION).with_context(|| format!("has no section {SECTION}"))?;
    ensure!(section.size() <= MAX_BYTES, "{SECTION} has more than {MAX_BYTES} bytes");
    Ok(Region { address: u32::try_from(section.address())?, bytes: section.data()?.to_vec() })
}
