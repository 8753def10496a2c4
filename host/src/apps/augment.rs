//! Labelled pictures from a student, as a data set.

use super::student::{Painter, Task};
use crate::data::{Dataset, Split, idx, npz, subset};
use crate::picture::write_png;
use anyhow::{Context, Result, bail, ensure};
use fewstep_core::Request;
use std::fs;
use std::path::Path;

/// A form of data set that the readers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Gzipped IDX files as MNIST's, for grey pictures
    Idx,
    /// train.npz in a folder, or an .npz file
    Npz,
    /// A folder of PNG files a class
    Png,
}

/// Request `i` of an endless sequence: classes in turn, then strengths in turn, each picture of its own seed
/// `first.seed + i`. `core/examples/training_pictures.rs` draws the same sequence on a device.
pub fn request(first: &Request, classes: u16, strengths: &[f32], i: u64) -> Request {
    let turn = i / u64::from(classes);
    Request {
        seed: first.seed.wrapping_add(i),
        class: (i % u64::from(classes)) as u16,
        w: strengths[(turn % strengths.len() as u64) as usize],
        ..*first
    }
}

/// The first `count` pictures of the sequence, labelled.
///
/// # Errors
/// A request does not fit the image.
pub fn pictures(
    painter: &Painter,
    first: &Request,
    strengths: &[f32],
    count: usize,
    progress: impl Fn(usize) + Sync,
) -> Result<Dataset> {
    let classes = painter.info().classes;
    let work: Vec<_> = (0..count as u64).map(|i| (request(first, classes, strengths, i), Task::Sample)).collect();
    let pictures = painter.draw_with(&work, progress)?;
    let labels = work.iter().map(|(request, _)| request.class).collect();
    let (height, width, channels) = painter.shape();
    Ok(Dataset { height, width, channels, class_names: painter.class_names(), pictures, labels })
}

/// `first`, then `second`, of one shape; classes are the first's.
///
/// # Errors
/// The shapes differ, or the second has classes that the first has not.
pub fn joined(first: &Dataset, second: &Dataset) -> Result<Dataset> {
    let shape = |d: &Dataset| (d.height, d.width, d.channels);
    ensure!(shape(first) == shape(second), "pictures of {:?} and {:?} make no set", shape(first), shape(second));
    ensure!(
        second.labels.iter().all(|label| usize::from(*label) < first.classes()),
        "{} classes where the other pictures have {}",
        second.classes(),
        first.classes()
    );
    let mut all = first.clone();
    all.pictures.extend_from_slice(&second.pictures);
    all.labels.extend_from_slice(&second.labels);
    Ok(all)
}

/// The form that `--out` and `--form` ask for: by the name's end, else IDX where pictures and classes allow it.
///
/// # Errors
/// The pictures cannot be written so.
pub fn form(out: &Path, asked: Option<Form>, data: (usize, usize)) -> Result<Form> {
    let (channels, classes) = data;
    let file = npz::is_npz(out);
    let idx = channels == 1 && classes <= 256;
    match asked {
        Some(Form::Idx) if !idx => bail!("--form idx: IDX holds grey pictures of at most 256 classes; take npz or png"),
        Some(form) if file && form != Form::Npz => {
            bail!("--out {}: names an .npz file, --form another form; give a folder", out.display())
        }
        Some(form) => Ok(form),
        None if file => Ok(Form::Npz),
        None => Ok(if idx { Form::Idx } else { Form::Npz }),
    }
}

/// Refuses an `out` in which something is lost or mixed up.
///
/// # Errors
/// It is a folder with files in it, or cannot be made.
pub fn check_out(out: &Path) -> Result<()> {
    if npz::is_npz(out) {
        return crate::files::check_output(out);
    }
    ensure!(!out.exists() || out.is_dir(), "--out {}: is a file; name a folder, or an .npz", out.display());
    if out.is_dir() {
        let mut entries = fs::read_dir(out).with_context(|| format!("cannot read the folder {}", out.display()))?;
        ensure!(
            entries.next().is_none(),
            "--out {}: is a folder with files in it; name an empty or a new one",
            out.display()
        );
    } else {
        // The folder itself is made at the end, with the pictures.
        crate::files::check_output(out)?;
    }
    Ok(())
}

/// Writes `data` as a training split that `data::open` reads. A folder is filled under another name and renamed.
///
/// # Errors
/// A file cannot be written.
pub fn write(out: &Path, form: Form, data: &Dataset) -> Result<()> {
    if npz::is_npz(out) {
        return write_npz(out, data);
    }
    let mut name = out.file_name().with_context(|| format!("--out {}: names no folder", out.display()))?.to_owned();
    name.push(format!(".part-{}", std::process::id()));
    let part = out.with_file_name(name);
    fs::create_dir(&part).with_context(|| format!("cannot make the folder {}", part.display()))?;
    let written = fill(&part, form, data).and_then(|()| {
        if out.is_dir() {
            fs::remove_dir(out).with_context(|| format!("cannot replace the folder {}", out.display()))?;
        }
        fs::rename(&part, out).with_context(|| format!("cannot make the folder {}", out.display()))
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&part);
    }
    written
}

fn fill(folder: &Path, form: Form, data: &Dataset) -> Result<()> {
    match form {
        Form::Idx => {
            let labels: Vec<u8> = data.labels.iter().map(|l| Ok(u8::try_from(*l)?)).collect::<Result<_>>()?;
            let sizes = [data.len(), data.height, data.width];
            idx::write_gz(&folder.join(idx::gz_name(Split::Train, true)), &sizes, &data.pictures)?;
            idx::write_gz(&folder.join(idx::gz_name(Split::Train, false)), &[data.len()], &labels)?;
        }
        Form::Npz => write_npz(&folder.join("train.npz"), data)?,
        Form::Png => {
            // Folders are classes in the order of their names: numbers of one length keep the labels.
            let digits = (data.classes() - 1).to_string().len();
            for class in 0..data.classes() {
                let folder = folder.join(format!("{class:0digits$}"));
                fs::create_dir(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            }
            for (i, label) in data.labels.iter().enumerate() {
                let path = folder.join(format!("{label:0digits$}/{i:08}.png"));
                write_png(&path, data.picture(i), data.height, data.width, data.channels)?;
            }
        }
    }
    subset::write_class_names(folder, &data.class_names)
}

fn write_npz(path: &Path, data: &Dataset) -> Result<()> {
    let labels: Vec<i64> = data.labels.iter().map(|l| i64::from(*l)).collect();
    npz::write_npz(path, &data.pictures, data.len(), data.height, data.width, data.channels, &labels)
}
