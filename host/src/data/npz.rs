//! The `.npz` form of guided-diffusion: a zip file of `arr_0.npy` (uint8, `[N, H, W, C]`) and `arr_1.npy` (int64
//! labels, `[N]`), as numpy's `savez(path, pictures, labels)` and `savez_compressed` write it. The `.npy` header is
//! described in <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Dataset, MAX_CLASSES, check_labels, check_shape, numbered_classes, read_class_names};
use crate::files;

/// Largest textual header of an `.npy` file, in bytes; numpy's own limit is 10000.
pub const MAX_NPY_HEADER_BYTES: usize = 1 << 14;

/// Most bytes that one deflated byte can stand for; a header that claims more lies.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Whether the file's name ends in `.npz`.
pub fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"))
}

/// Reads the pictures and labels in `path`. Class names are taken from a `classes.txt` beside it.
///
/// # Errors
/// One sentence that says what is wrong, in which file, and what to do.
pub fn open(path: &Path) -> Result<Dataset> {
    let name = path.display().to_string();
    let (file, _) = files::open_file(path)?;
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|e| anyhow!("{name}: is not a whole zip file, as an .npz is ({e}); fetch or save it again"))?;

    let pictures_name = format!("{name}: arr_0");
    let (shape, pictures) = read_array(&mut archive, &name, "arr_0", "u1", "uint8", |shape| match *shape {
        [n, h, w, c] => check_shape(&pictures_name, n, h, w, c),
        _ => bail!("{pictures_name}: has {} dimension(s) where N, H, W, C are wanted; reshape it", shape.len()),
    })?;
    let (count, height, width, channels) = (shape[0], shape[1], shape[2], shape[3]);
    let (_, bytes) = read_array(&mut archive, &name, "arr_1", "i8", "int64", |shape| match *shape {
        [n] if n == count => Ok(8 * n),
        [n] => bail!("{name}: arr_1 holds {n} labels but arr_0 {count} pictures; save both from the same set"),
        _ => bail!("{name}: arr_1 has {} dimension(s) where one label a picture is wanted; reshape it", shape.len()),
    })?;

    let mut labels = Vec::with_capacity(count);
    for (i, bytes) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let label = i64::from_le_bytes(*bytes);
        match u16::try_from(label) {
            Ok(small) if usize::from(small) < MAX_CLASSES => labels.push(small),
            _ => bail!(
                "{name}: arr_1: label {i} is {label}; labels from 0 to {} are read, so number the classes so",
                MAX_CLASSES - 1
            ),
        }
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let class_names = match read_class_names(folder)? {
        Some(names) => names,
        None => numbered_classes(labels.iter().map(|&l| usize::from(l) + 1).max().unwrap_or(0)),
    };
    check_labels(&format!("{name}: arr_1"), &labels, class_names.len())?;
    Ok(Dataset { height, width, channels, class_names, pictures, labels })
}

/// Writes `pictures` (`[n][h][w][c]`) and `labels` (`[n]`) so that [`open`] and numpy's `load` read them, whole or
/// not at all. The same input gives the same bytes.
///
/// # Errors
/// When the lengths do not fit each other or the file cannot be written.
pub fn write_npz(path: &Path, pictures: &[u8], n: usize, h: usize, w: usize, c: usize, labels: &[i64]) -> Result<()> {
    let bytes = [n, h, w, c].iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if bytes != Some(pictures.len()) || labels.len() != n {
        bail!(
            "cannot write {}: {} bytes of pictures and {} labels do not make {n} pictures of {h}x{w}x{c}",
            path.display(),
            pictures.len(),
            labels.len()
        );
    }
    files::write_atomic(path, |out| {
        let mut zip = ZipWriter::new_stream(out);
        // Sizes of 4 GiB and more need the 64-bit form, decided before the data is written.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::STORE)
            .large_file(pictures.len() as u64 >= u64::from(u32::MAX));
        zip.start_file("arr_0.npy", options)?;
        zip.write_all(&npy_header("|u1", &format!("({n}, {h}, {w}, {c})")))?;
        zip.write_all(pictures)?;
        zip.start_file("arr_1.npy", options)?;
        zip.write_all(&npy_header("<i8", &format!("({n},)")))?;
        for label in labels {
            zip.write_all(&label.to_le_bytes())?;
        }
        zip.finish()?;
        Ok(())
    })
}

/// Version 1.0 header, padded so that the data starts at a multiple of 64.
fn npy_header(descr: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    // A dictionary with four sizes is below 200 bytes.
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.bytes());
    header
}

/// Reads array `array` of little-endian (or single-byte) type `code`; `type_name` is numpy's word for it. `check` gets
/// the shape and returns how many bytes of data it makes, or refuses it.
fn read_array(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    array: &str,
    code: &str,
    type_name: &str,
    check: impl FnOnce(&[usize]) -> Result<usize>,
) -> Result<(Vec<usize>, Vec<u8>)> {
    let name = format!("{name}: {array}");
    let index = archive.index_for_name(&format!("{array}.npy")).with_context(|| {
        format!(
            "{name}: there is no such array; save with numpy.savez(path, pictures, labels), which makes arr_0 and arr_1"
        )
    })?;
    // Raw, as the zip package is built without its decompressors; deflate and the checksum are done here.
    let entry = archive.by_index_raw(index).map_err(|e| damaged(&name, &e))?;
    let (method, stored_bytes, crc) = (entry.compression(), entry.compressed_size(), entry.crc32());
    let (input, ratio): (Box<dyn Read>, u64) = match method {
        CompressionMethod::STORE => (Box::new(entry), 1),
        CompressionMethod::DEFLATE => (Box::new(DeflateDecoder::new(BufReader::new(entry))), MAX_DEFLATE_RATIO),
        _ => bail!("{name}: is packed by {method:?}, which is not read; save with numpy.savez or savez_compressed"),
    };
    let mut input = Summed { input, crc: Crc::new() };

    let header = read_header(&mut input, &name)?;
    if header.descr.trim_start_matches(['<', '|', '=']) != code {
        bail!(
            "{name}: has type {:?} where {type_name} is wanted; convert it with .astype(numpy.{type_name})",
            header.descr
        );
    }
    if header.fortran_order {
        bail!("{name}: lies in Fortran order; save numpy.ascontiguousarray of it");
    }
    let expected = check(&header.shape)?;
    // A lower bound of the file's size is enough to refuse a header that claims more than there can be.
    if expected as u64 > stored_bytes.saturating_mul(ratio) {
        bail!(
            "{name}: is truncated: its header claims {expected} bytes, more than {stored_bytes} stored ones can hold; save it again"
        );
    }
    let mut data = Vec::new();
    (&mut input).take(expected as u64).read_to_end(&mut data).map_err(|e| damaged(&name, &e))?;
    if data.len() < expected {
        bail!("{name}: is truncated: its header claims {expected} bytes but {} are there; save it again", data.len());
    }
    if input.read(&mut [0]).map_err(|e| damaged(&name, &e))? != 0 {
        bail!("{name}: goes on after the {expected} bytes that its header claims; save it again");
    }
    if input.crc.sum() != crc {
        bail!("{name}: its checksum is wrong, so it is damaged; fetch or save it again");
    }
    Ok((header.shape, data))
}

fn damaged(name: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{name}: is damaged ({error}); fetch or save it again")
}

/// Passes bytes on and sums them.
struct Summed<'a> {
    input: Box<dyn Read + 'a>,
    crc: Crc,
}

impl Read for Summed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(bytes)?;
        self.crc.update(&bytes[..n]);
        Ok(n)
    }
}

#[derive(Debug, PartialEq)]
struct NpyHeader {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

fn read_header(input: &mut impl Read, name: &str) -> Result<NpyHeader> {
    let mut exact = |bytes: &mut [u8]| {
        input.read_exact(bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => anyhow!("{name}: is truncated in its header; save it again"),
            _ => damaged(name, &e),
        })
    };
    let mut magic = [0; 8];
    exact(&mut magic)?;
    let length = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut bytes = [0; 2];
            exact(&mut bytes)?;
            usize::from(u16::from_le_bytes(bytes))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut bytes = [0; 4];
            exact(&mut bytes)?;
            usize::try_from(u32::from_le_bytes(bytes))?
        }
        _ => bail!("{name}: does not begin as an .npy file of version 1 to 3 does; save it again with numpy"),
    };
    if length > MAX_NPY_HEADER_BYTES {
        bail!(
            "{name}: claims a header of {length} bytes, more than the {MAX_NPY_HEADER_BYTES} that are read; save it again"
        );
    }
    let mut text = vec![0; length];
    exact(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    parse_header(&text).with_context(|| {
        format!("{name}: has a header that is not understood: {:?}; save it again with numpy", text.trim())
    })
}

/// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }`; None for anything else.
fn parse_header(text: &str) -> Option<NpyHeader> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        let after = match key {
            "descr" => {
                let (text, after) = quoted(value)?;
                descr = Some(text.to_owned());
                after
            }
            "fortran_order" => {
                let (flag, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, value.strip_prefix("False")?),
                };
                fortran_order = Some(flag);
                after
            }
            "shape" => {
                let (inner, after) = value.strip_prefix('(')?.split_once(')')?;
                let inner = inner.trim();
                let inner = inner.strip_suffix(',').unwrap_or(inner);
                shape = Some(match inner {
                    "" => Vec::new(),
                    sizes => sizes.split(',').map(|size| size.trim().parse().ok()).collect::<Option<Vec<usize>>>()?,
                });
                after
            }
            _ => return None,
        };
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(NpyHeader { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// The string literal that `text` begins with, and what follows it. numpy writes no escapes.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_parsed_in_any_order() {
        let wanted = NpyHeader { descr: "<i8".into(), fortran_order: false, shape: vec![3] };
        for text in [
            "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }   \n",
            "{\"shape\":(3,),'fortran_order':False,\"descr\":'<i8'}",
        ] {
            assert_eq!(parse_header(text).as_ref(), Some(&wanted), "{text}");
        }
        assert_eq!(parse_header("{'descr': '|u1', 'fortran_order': True, 'shape': (), }").unwrap().shape, [0; 0]);
    }

    #[test]
    fn odd_headers_are_refused() {
        for text in [
            "",
            "{",
            "}",
            "{}",
            "{'descr': '<i8'}",
            "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '<i8', 'fortran_order': None, 'shape': (3,)}",
            "{'descr': '<i8', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '<i8', 'fortran_order': False, 'shape': (3,) 'x': 1}",
            "{'descr': '<i8', 'fortran_order': False, 'shape': 3}",
            "{'é': '<i8', 'fortran_order': False, 'shape': (3,)}",
            "{é",
        ] {
            assert_eq!(parse_header(text), None, "{text}");
        }
    }

    #[test]
    fn written_header_is_padded_and_understood() {
        let header = npy_header("|u1", "(4294967295, 1024, 1024, 3)");
        assert_eq!(header.len() % 64, 0);
        let read = read_header(&mut header.as_slice(), "x").unwrap();
        assert_eq!(
            read,
            NpyHeader { descr: "|u1".into(), fortran_order: false, shape: vec![4294967295, 1024, 1024, 3] }
        );
    }
}
