//! IDX files (<http://yann.lecun.com/exdb/mnist/>), plain or gzipped: a big-endian magic number `00 00 type dims`,
//! one 32-bit size a dimension, then the elements row-major. Only unsigned bytes (type 8) are read and written.
//!
//! A set is four files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
//! `t10k-labels-idx1-ubyte`, each also with `.gz`, and with `.idx` in place of `-idx`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use super::{
    Dataset, FASHION_MNIST_CLASSES, MAX_PICTURES, Split, check_labels, check_shape, numbered_classes, read_class_names,
};
use crate::files;

/// Most bytes that one gzipped byte can stand for (deflate's limit is 1032:1); a header that claims more lies.
const MAX_GZIP_RATIO: u64 = 1032;

#[derive(Clone, Copy)]
enum Part {
    Images,
    Labels,
}

/// Whether `folder` holds at least one file of an IDX set.
pub fn is_idx_folder(folder: &Path) -> bool {
    [Split::Train, Split::Test]
        .iter()
        .any(|&split| [Part::Images, Part::Labels].iter().any(|&part| find(folder, split, part).is_some()))
}

/// Reads one split of the IDX set in `folder`.
///
/// # Errors
/// One sentence that says what is wrong, in which file, and what to do.
pub fn open(folder: &Path, split: Split) -> Result<Dataset> {
    let images = must_find(folder, split, Part::Images)?;
    let labels_path = must_find(folder, split, Part::Labels)?;
    let (sizes, pictures) = read_images(&images)?;
    let [count, height, width] = sizes;
    let labels = read_labels(&labels_path)?;
    if labels.len() != count {
        bail!(
            "{} holds {count} pictures but {} holds {} labels; take both files from the same set",
            images.display(),
            labels_path.display(),
            labels.len()
        );
    }
    let labels: Vec<u16> = labels.into_iter().map(u16::from).collect();
    let class_names = match read_class_names(folder)? {
        Some(names) => names,
        None => {
            let classes = count_classes(folder, split, &labels)?;
            if (height, width, classes) == (28, 28, FASHION_MNIST_CLASSES.len()) {
                FASHION_MNIST_CLASSES.map(str::to_owned).to_vec()
            } else {
                numbered_classes(classes)
            }
        }
    };
    check_labels(&labels_path.display().to_string(), &labels, class_names.len())?;
    Ok(Dataset { height, width, channels: 1, class_names, pictures, labels })
}

/// Writes `elements` (row-major, `sizes` big) as a gzipped IDX file, whole or not at all. The same input gives the
/// same bytes: no time and no name is stored.
///
/// # Errors
/// When the sizes do not fit the elements or the format, or writing fails.
pub fn write_gz(path: &Path, sizes: &[usize], elements: &[u8]) -> Result<()> {
    let dims = u8::try_from(sizes.len()).context("an IDX file has at most 255 dimensions")?;
    if sizes.iter().product::<usize>() != elements.len() {
        bail!("{}: sizes {sizes:?} do not fit {} elements", path.display(), elements.len());
    }
    files::write_atomic(path, |w| {
        let mut gz = GzBuilder::new().mtime(0).write(w, Compression::best());
        gz.write_all(&[0, 0, 8, dims])?;
        for &size in sizes {
            gz.write_all(&u32::try_from(size).context("a size does not fit 32 bits")?.to_be_bytes())?;
        }
        gz.write_all(elements)?;
        gz.finish()?;
        Ok(())
    })
}

/// Name of a published file, gzipped form.
pub fn gz_name(split: Split, images: bool) -> String {
    let part = if images { Part::Images } else { Part::Labels };
    format!("{}.gz", stem(split, part, "-"))
}

fn stem(split: Split, part: Part, separator: &str) -> String {
    let split = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    match part {
        Part::Images => format!("{split}-images{separator}idx3-ubyte"),
        Part::Labels => format!("{split}-labels{separator}idx1-ubyte"),
    }
}

fn find(folder: &Path, split: Split, part: Part) -> Option<PathBuf> {
    ["-", "."]
        .iter()
        .flat_map(|separator| ["", ".gz"].map(|end| folder.join(stem(split, part, separator) + end)))
        .find(|path| path.is_file())
}

fn must_find(folder: &Path, split: Split, part: Part) -> Result<PathBuf> {
    find(folder, split, part).ok_or_else(|| {
        anyhow!(
            "{}: has no {} split, as {} is missing (with or without .gz); put the file there or name another folder",
            folder.display(),
            split.name(),
            stem(split, part, "-")
        )
    })
}

/// One more than the highest label of either split: a small test split may lack the last class, and both splits must
/// agree on the number.
fn count_classes(folder: &Path, split: Split, labels: &[u16]) -> Result<usize> {
    let other = match split {
        Split::Train => Split::Test,
        Split::Test => Split::Train,
    };
    let mut highest = labels.iter().copied().max().unwrap_or(0);
    if let Some(path) = find(folder, other, Part::Labels) {
        highest = read_labels(&path)?.into_iter().map(u16::from).fold(highest, u16::max);
    }
    Ok(usize::from(highest) + 1)
}

fn read_images(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    read(path, |name, [count, height, width]| check_shape(name, count, height, width, 1))
}

fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let (_, labels) = read(path, |name, [count]| match count {
        1..=MAX_PICTURES => Ok(count),
        0 => bail!("{name}: holds no labels; name a set with at least one"),
        _ => bail!("{name}: claims {count} labels, more than the {MAX_PICTURES} that are read; split the set"),
    })?;
    Ok(labels)
}

/// Reads an IDX file of unsigned bytes with `DIMS` dimensions. `check` gets the sizes and returns how many elements
/// they make, or refuses them.
fn read<const DIMS: usize>(
    path: &Path,
    check: impl FnOnce(&str, [usize; DIMS]) -> Result<usize>,
) -> Result<([usize; DIMS], Vec<u8>)> {
    let name = path.display().to_string();
    let (file, file_bytes) = files::open_file(path)?;
    let mut raw = BufReader::with_capacity(1 << 16, file);
    // The first bytes tell, not the name: browsers and servers unpack files without renaming them.
    let gzipped = raw.fill_buf().with_context(|| format!("cannot read {name}"))?.starts_with(&[0x1f, 0x8b]);
    let mut input: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };

    let mut magic = [0; 4];
    read_exact(&mut input, &mut magic, &name, "the magic number")?;
    let wanted = [0, 0, 8, DIMS as u8];
    if magic != wanted {
        bail!(
            "{name}: begins with {:#010x} where an IDX file of unsigned bytes with {DIMS} dimension(s) begins with {:#010x}; \
             it is another kind of file or damaged, so fetch it again",
            u32::from_be_bytes(magic),
            u32::from_be_bytes(wanted)
        );
    }
    let mut sizes = [0; DIMS];
    for size in &mut sizes {
        let mut bytes = [0; 4];
        read_exact(&mut input, &mut bytes, &name, "the sizes")?;
        *size = usize::try_from(u32::from_be_bytes(bytes))?;
    }
    let expected = check(&name, sizes)?;

    let backed = if gzipped { file_bytes.saturating_mul(MAX_GZIP_RATIO) } else { file_bytes };
    if expected as u64 > backed {
        bail!(
            "{name}: is truncated: its header claims {expected} elements, more than a file of {file_bytes} bytes can hold; fetch it again"
        );
    }
    // Grows with what is really there.
    let mut elements = Vec::new();
    (&mut input).take(expected as u64).read_to_end(&mut elements).map_err(|e| explain(e, &name, "the elements"))?;
    if elements.len() < expected {
        bail!(
            "{name}: is truncated: its header claims {expected} elements but {} are there; fetch it again",
            elements.len()
        );
    }
    let mut more = [0; 1];
    if input.read(&mut more).map_err(|e| explain(e, &name, "the end"))? != 0 {
        bail!("{name}: goes on after the {expected} elements that its header claims; it is damaged, so fetch it again");
    }
    Ok((sizes, elements))
}

fn read_exact(input: &mut dyn Read, bytes: &mut [u8], name: &str, what: &str) -> Result<()> {
    input.read_exact(bytes).map_err(|e| explain(e, name, what))
}

fn explain(error: std::io::Error, name: &str, what: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => anyhow!("{name}: is truncated in {what}; fetch it again"),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            anyhow!("{name}: its gzip data is damaged in {what} ({error}); fetch it again")
        }
        _ => anyhow::Error::new(error).context(format!("cannot read {name}")),
    }
}
