//! The formats by name, and writing a file that was read back.

use super::{Region, Target, c_array, elf, hex, uf2};
use crate::files;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Largest file that is read back, in bytes.
const MAX_FILE: u64 = 512 << 20;

/// How flash tools want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Intel HEX
    Hex,
    /// UF2, with the family of the target
    Uf2,
    /// The bytes alone; the address is printed
    Bin,
    /// ELF with one section
    Elf,
    /// C array in a .c file, and its .h file
    C,
}

impl Format {
    /// By the ending of a file's name, or as `asked` where that tells none.
    ///
    /// # Errors
    /// The ending is another format's than the one that is asked for, or tells none and none is asked for.
    pub fn choose(path: &Path, asked: Option<Format>) -> Result<Self> {
        let place = path.display();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let told = match &ending[..] {
            "hex" | "ihex" => Some(Format::Hex),
            "uf2" => Some(Format::Uf2),
            "bin" => Some(Format::Bin),
            "elf" => Some(Format::Elf),
            "c" => Some(Format::C),
            "h" => bail!("{place}: the header is written beside the array, under the same name; name the .c file"),
            _ => None,
        };
        match (told, asked) {
            (Some(told), Some(asked)) if told != asked => {
                let name = format!("{asked:?}").to_ascii_lowercase();
                bail!("{place}: its ending .{ending} is not that of --format {name}; change one, or leave --format out")
            }
            (Some(format), _) | (None, Some(format)) => Ok(format),
            (None, None) => {
                bail!("{place}: its ending tells no format; end it in .hex, .uf2, .bin, .elf or .c, or give --format")
            }
        }
    }
}

/// Writes `region` to `path`, reads it back from there and compares. A file that is not equal is removed. Returns the
/// files written.
///
/// # Errors
/// The format has no form for this target, or the file system refuses.
pub fn write_checked(path: &Path, region: &Region, format: Format, target: &Target) -> Result<Vec<PathBuf>> {
    let mut contents = vec![(path.to_path_buf(), Vec::new())];
    match format {
        Format::Hex => contents[0].1 = hex::write(region).into_bytes(),
        Format::Bin => contents[0].1 = region.bytes.clone(),
        Format::Elf => contents[0].1 = elf::write(region, &target.cpu)?,
        Format::Uf2 => {
            let family = target.uf2_family.with_context(|| {
                format!("{} has no UF2 family: use another format, or a target file with uf2_family", target.name)
            })?;
            contents[0].1 = uf2::write(region, family)?;
        }
        Format::C => {
            let header = path.with_extension("h");
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = c_array::identifier(&stem);
            let beside = header.file_name().unwrap_or_default().to_string_lossy();
            contents[0].1 = c_array::source(region, &name, &beside).into_bytes();
            contents.push((header.clone(), c_array::header(region, &name, &target.name).into_bytes()));
        }
    }
    for (path, bytes) in &contents {
        files::write_atomic(path, |out| Ok(out.write_all(bytes)?))?;
    }
    let paths: Vec<PathBuf> = contents.into_iter().map(|(path, _)| path).collect();
    let equal = read_back(&paths, format, region, target);
    if !matches!(equal, Ok(true)) {
        for path in &paths {
            let _ = std::fs::remove_file(path);
        }
        equal.with_context(|| format!("{}: cannot be read back", path.display()))?;
        bail!("{}: reads back differently; the disk may be damaged, write to another one", path.display());
    }
    Ok(paths)
}

/// Whether the files hold the region.
fn read_back(paths: &[PathBuf], format: Format, region: &Region, target: &Target) -> Result<bool> {
    // A pipe or a device cannot be read back.
    if !std::fs::metadata(&paths[0])?.is_file() {
        return Ok(true);
    }
    let bytes = files::read_file(&paths[0], MAX_FILE)?;
    let one = |mut regions: Vec<Region>| (regions.len() == 1).then(|| regions.remove(0));
    let found = match format {
        Format::Bin => Some(Region { address: region.address, bytes }),
        Format::Hex => one(hex::read(std::str::from_utf8(&bytes)?)?),
        Format::Elf => Some(elf::read(&bytes)?),
        Format::Uf2 => {
            let (regions, family) = uf2::read(&bytes)?;
            // Its last block is padded.
            one(regions).filter(|_| family == target.uf2_family).map(|mut found| {
                found.bytes.truncate(region.bytes.len());
                found
            })
        }
        Format::C => {
            let header = files::read_file(&paths[1], MAX_FILE)?;
            Some(c_array::read(std::str::from_utf8(&bytes)?, std::str::from_utf8(&header)?)?)
        }
    };
    Ok(found.as_ref() == Some(region))
}
