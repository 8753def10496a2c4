//! Labelled pictures: [`open`] looks at what lies at a path and reads it into a [`Dataset`].
//!
//! Three forms are read: a folder of IDX files as MNIST publishes them ([`idx`]), a folder with one sub-folder of
//! PNG files a class ([`png_folder`]), and an `.npz` of guided-diffusion's form or a folder with `train.npz` and
//! `test.npz` ([`npz`]). A `classes.txt` beside the data (one name a line) names the classes of any of them.

pub mod idx;
pub mod npz;
pub mod png_folder;
pub mod subset;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;

/// Largest height and width of a picture.
pub const MAX_SIDE: usize = 1024;
/// Largest number of pictures in one split.
pub const MAX_PICTURES: usize = 1 << 26;
/// Largest number of bytes of all pictures of one split, as they lie in memory.
pub const MAX_PIXEL_BYTES: usize = 1 << 34;
/// Largest number of classes.
pub const MAX_CLASSES: usize = 10_000;
/// Largest size of a `classes.txt`, in bytes.
pub const MAX_CLASSES_TXT_BYTES: u64 = 1 << 20;

/// The classes of Fashion-MNIST, in the order of its labels.
pub const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Which part of a data set to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Test,
}

impl Split {
    /// "train" or "test": the word in messages and folder names.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

/// Labelled pictures of one size, all in memory. Holds at least one picture, and every label is below [`classes`].
///
/// [`classes`]: Dataset::classes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub height: usize,
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Name of each class, by label.
    pub class_names: Vec<String>,
    /// `[len][height][width][channels]`, row-major, 0 black to 255 white.
    pub pictures: Vec<u8>,
    /// `[len]`, each below `class_names.len()`.
    pub labels: Vec<u16>,
}

impl Dataset {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true for what [`open`] returns.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one picture: `height * width * channels`.
    pub fn picture_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Picture `i`, `[height][width][channels]`.
    ///
    /// # Panics
    /// When `i` is not below [`len`](Dataset::len).
    pub fn picture(&self, i: usize) -> &[u8] {
        &self.pictures[i * self.picture_bytes()..][..self.picture_bytes()]
    }
}

/// Reads one split of the data at `path`, whatever its form.
///
/// # Errors
/// One sentence that says what is wrong, in which file, and what to do.
pub fn open(path: &Path, split: Split) -> Result<Dataset> {
    if !path.exists() {
        bail!("{}: there is nothing there; name a data folder or an .npz file", path.display());
    }
    if !path.is_dir() {
        return match (npz::is_npz(path), split) {
            (true, Split::Train) => npz::open(path),
            (true, Split::Test) => bail!(
                "{}: has no test split, as an .npz holds one; name a folder with train.npz and test.npz",
                path.display()
            ),
            (false, _) => {
                bail!("{}: is neither a folder nor an .npz file; name the folder that holds the data", path.display())
            }
        };
    }
    let npz_path = |split: Split| path.join(format!("{}.npz", split.name()));
    if idx::is_idx_folder(path) {
        idx::open(path, split)
    } else if npz_path(split).is_file() {
        npz::open(&npz_path(split))
    } else if npz_path(Split::Train).is_file() || npz_path(Split::Test).is_file() {
        bail!("{}: has no {} split; put it there as {1}.npz or name another folder", path.display(), split.name())
    } else if png_folder::is_png_folder(path) {
        png_folder::open(path, split)
    } else {
        bail!(
            "{}: holds no pictures in a form that is known; wanted are IDX files, class folders of PNG files, or an .npz",
            path.display()
        )
    }
}

/// Checks the size of pictures that a header promises. `name` says where, in messages.
fn check_shape(name: &str, count: usize, height: usize, width: usize, channels: usize) -> Result<usize> {
    if count == 0 {
        bail!("{name}: holds no pictures; name a set with at least one");
    }
    if count > MAX_PICTURES {
        bail!("{name}: claims {count} pictures, more than the {MAX_PICTURES} that are read; split the set");
    }
    if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
        bail!(
            "{name}: claims pictures of {height}x{width} pixels; sides from 1 to {MAX_SIDE} are read, so resize them"
        );
    }
    if channels != 1 && channels != 3 {
        bail!("{name}: claims pictures of {channels} channels; 1 (grey) or 3 (RGB) are read, so convert them");
    }
    // None of the factors is above 2^26, so the product fits 64 bits: 26 + 10 + 10 + 2.
    let bytes = count as u64 * (height * width * channels) as u64;
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= MAX_PIXEL_BYTES => Ok(bytes),
        _ => bail!(
            "{name}: claims {bytes} bytes of pixels, more than the {MAX_PIXEL_BYTES} that are read; split the set"
        ),
    }
}

/// The names in `classes.txt` in `folder`, if there is one: one a line, blank lines at the end ignored.
fn read_class_names(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join("classes.txt");
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read_file(&path, MAX_CLASSES_TXT_BYTES)?;
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{}: is not UTF-8 text; save it as UTF-8", path.display()))?;
    let names: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if let Some(line) = names.iter().position(String::is_empty) {
        bail!("{}: line {} is empty; write one class name a line", path.display(), line + 1);
    }
    if names.is_empty() || names.len() > MAX_CLASSES {
        bail!("{}: names {} classes; write 1 to {MAX_CLASSES} names, one a line", path.display(), names.len());
    }
    Ok(Some(names))
}

/// Checks that each label is below `classes`. `name` says where, in messages.
fn check_labels(name: &str, labels: &[u16], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(i) => bail!(
            "{name}: label {i} is {}, but classes.txt names only classes 0 to {}; add the missing names or correct the label",
            labels[i],
            classes - 1
        ),
    }
}

/// "0", "1", ...: names of classes that have none.
fn numbered_classes(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}
