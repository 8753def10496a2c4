//! A folder with one sub-folder of PNG files a class. The classes are the sub-folders' names in byte order. Where the
//! only sub-folders are `train` and `test`, those hold the class folders of the two splits.
//!
//! Grey (1 channel) and RGB (3 channels) with 8 bits are read; all pictures must have the size and kind of the first.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use png::{BitDepth, ColorType, Decoder, Limits};

use super::{Dataset, MAX_CLASSES, MAX_PICTURES, MAX_SIDE, Split, check_shape, read_class_names};
use crate::files;

/// Most memory that decoding one PNG file may take beside its pixels, in bytes.
pub const MAX_PNG_BYTES: usize = 16 << 20;

const CONVERT: &str = "convert it to 8-bit grey or RGB without alpha";

/// Whether `folder` holds sub-folders.
pub fn is_png_folder(folder: &Path) -> bool {
    sub_folders(folder).is_ok_and(|folders| !folders.is_empty())
}

/// Reads one split of the class folders in `folder`. Without a `train` and `test` folder all pictures are training
/// pictures.
///
/// # Errors
/// One sentence that says what is wrong, in which file, and what to do.
pub fn open(folder: &Path, split: Split) -> Result<Dataset> {
    let top = sub_folders(folder)?;
    let is_split = |(name, path): &(String, PathBuf)| {
        (name == Split::Train.name() || name == Split::Test.name()) && sub_folders(path).is_ok_and(|f| !f.is_empty())
    };
    let (class_folders, mut class_names) = if top.iter().all(is_split) {
        let Some((_, path)) = top.iter().find(|(name, _)| name == split.name()) else {
            bail!(
                "{}: has no {} split; put class folders into {1}/ there or name another folder",
                folder.display(),
                split.name()
            );
        };
        let class_folders = sub_folders(path)?;
        // Training knows the classes; a small test split may lack some.
        let known = match top.iter().find(|(name, _)| name == Split::Train.name()) {
            Some((_, train)) => sub_folders(train)?,
            None => class_folders.clone(),
        };
        (class_folders, known.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    } else if split == Split::Train {
        let names = top.iter().map(|(name, _)| name.clone()).collect();
        (top, names)
    } else {
        bail!(
            "{}: has no test split, only class folders; move them into train/ and held-back pictures into test/ there",
            folder.display()
        );
    };
    if class_names.len() > MAX_CLASSES {
        bail!(
            "{}: has {} class folders, more than the {MAX_CLASSES} that are read; merge some",
            folder.display(),
            class_names.len()
        );
    }

    let mut reader = Reader::default();
    for (name, path) in &class_folders {
        let label = class_names.binary_search(name).map_err(|_| {
            anyhow!("{}: there is no such class in train/; add it there or remove this folder", path.display())
        })?;
        reader.read_class(path, u16::try_from(label)?)?;
    }
    let Reader { shape, pictures, labels } = reader;
    let (height, width, channels) =
        shape.with_context(|| format!("{}: holds no PNG files; put some in", folder.display()))?;
    if let Some(names) = read_class_names(folder)? {
        if names.len() != class_names.len() {
            bail!(
                "{}: classes.txt names {} classes but there are {} class folders; write one name for each, in the folders' order",
                folder.display(),
                names.len(),
                class_names.len()
            );
        }
        class_names = names;
    }
    Ok(Dataset { height, width, channels, class_names, pictures, labels })
}

/// Names and paths of the visible sub-folders, sorted by name.
fn sub_folders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    Ok(entries(folder)?.into_iter().filter(|(_, path)| path.is_dir()).collect())
}

/// Names and paths of what is in `folder`, sorted by name, without hidden files.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Default)]
struct Reader {
    /// Height, width, channels of the first picture.
    shape: Option<(usize, usize, usize)>,
    pictures: Vec<u8>,
    labels: Vec<u16>,
}

impl Reader {
    fn read_class(&mut self, folder: &Path, label: u16) -> Result<()> {
        let before = self.labels.len();
        for (_, path) in entries(folder)? {
            if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) || path.is_dir() {
                bail!("{}: is no PNG file, and class folders hold nothing else; convert or remove it", path.display());
            }
            self.read_picture(&path)?;
            self.labels.push(label);
            if self.labels.len() > MAX_PICTURES {
                bail!("{}: is one more than the {MAX_PICTURES} pictures that are read; split the set", path.display());
            }
        }
        if self.labels.len() == before {
            bail!("{}: holds no PNG files; put some in or remove the folder", folder.display());
        }
        Ok(())
    }

    fn read_picture(&mut self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        let (file, _) = files::open_file(path)?;
        let (shape, pixels) = decode(file, &name)?;
        match self.shape {
            None => self.shape = Some(shape),
            Some(first) if first != shape => bail!(
                "{name}: is {} but the pictures before it are {}; resize or convert it",
                describe(shape),
                describe(first)
            ),
            Some(_) => {}
        }
        let (height, width, channels) = shape;
        check_shape(&name, self.labels.len() + 1, height, width, channels)?;
        self.pictures.extend(pixels);
        Ok(())
    }
}

fn describe((height, width, channels): (usize, usize, usize)) -> String {
    format!("{height}x{width} {}", if channels == 1 { "grey" } else { "RGB" })
}

/// Reads one PNG file: (height, width, channels) and its pixels.
///
/// # Errors
/// It is not there, no whole PNG, or of a kind that is not read.
pub fn read_png(path: &Path) -> Result<((usize, usize, usize), Vec<u8>)> {
    let (file, _) = files::open_file(path)?;
    decode(file, &path.display().to_string())
}

/// Decodes one PNG file to (height, width, channels) and its pixels.
fn decode(file: File, name: &str) -> Result<((usize, usize, usize), Vec<u8>)> {
    let damaged = |e: png::DecodingError| anyhow!("{name}: is no whole PNG file ({e}); save it again");
    let decoder = Decoder::new_with_limits(BufReader::new(file), Limits { bytes: MAX_PNG_BYTES });
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let (height, width) = (info.height as usize, info.width as usize);
    if height > MAX_SIDE || width > MAX_SIDE {
        bail!("{name}: has {height}x{width} pixels; sides up to {MAX_SIDE} are read, so resize it");
    }
    let channels = match info.color_type {
        ColorType::Grayscale => 1,
        ColorType::Rgb => 3,
        ColorType::GrayscaleAlpha | ColorType::Rgba => bail!("{name}: has an alpha channel; {CONVERT}"),
        ColorType::Indexed => bail!("{name}: has a palette; {CONVERT}"),
    };
    if info.trns.is_some() {
        bail!("{name}: has a transparent colour; {CONVERT}");
    }
    if info.bit_depth != BitDepth::Eight {
        bail!("{name}: has {} bits a channel; {CONVERT}", info.bit_depth as u8);
    }
    let mut pixels = vec![0; height * width * channels];
    reader.next_frame(&mut pixels).map_err(damaged)?;
    reader.finish().map_err(damaged)?;
    Ok(((height, width, channels), pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a set of one 2x2 picture of a kind and returns what it says.
    fn opened(kind: &str, color: ColorType, depth: BitDepth, more: impl Fn(&mut png::Encoder<'_, File>)) -> String {
        let folder = std::env::temp_dir().join(format!("fewstep-png-{kind}-{}", std::process::id()));
        fs::create_dir_all(folder.join("class")).unwrap();
        let mut encoder = png::Encoder::new(File::create(folder.join("class/1.png")).unwrap(), 2, 2);
        encoder.set_color(color);
        encoder.set_depth(depth);
        more(&mut encoder);
        let row = (2 * color.samples() * depth as usize).div_ceil(8);
        encoder.write_header().unwrap().write_image_data(&vec![1; 2 * row]).unwrap();
        let said = match open(&folder, Split::Train) {
            Ok(data) => format!("{} channels: {:?}", data.channels, data.pictures),
            Err(e) => format!("{e:#}"),
        };
        fs::remove_dir_all(&folder).unwrap();
        said
    }

    #[test]
    fn eight_bit_grey_and_rgb_are_read() {
        let eight = BitDepth::Eight;
        assert_eq!(opened("grey", ColorType::Grayscale, eight, |_| {}), "1 channels: [1, 1, 1, 1]");
        assert_eq!(opened("rgb", ColorType::Rgb, eight, |_| {}), format!("3 channels: {:?}", [1; 12]));
    }

    #[test]
    fn other_kinds_are_refused_with_a_hint() {
        let eight = BitDepth::Eight;
        let grey = ColorType::Grayscale;
        for (said, wanted) in [
            (opened("grey-alpha", ColorType::GrayscaleAlpha, eight, |_| {}), "alpha channel"),
            (opened("rgba", ColorType::Rgba, eight, |_| {}), "alpha channel"),
            (opened("palette", ColorType::Indexed, eight, |e| e.set_palette(&[0; 6])), "palette"),
            (opened("sixteen", grey, BitDepth::Sixteen, |_| {}), "16 bits"),
            (opened("bits", grey, BitDepth::One, |_| {}), "1 bits"),
            (opened("transparent", grey, eight, |e| e.set_trns(&[0, 1])), "transparent colour"),
        ] {
            assert!(said.contains("1.png") && said.contains(wanted) && said.ends_with(CONVERT), "{said:?}: {wanted}");
        }
    }
}
