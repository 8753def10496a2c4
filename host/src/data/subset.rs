//! A small balanced piece of a data set.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Dataset, Split, idx, npz};
use crate::files;
use crate::noise::{Purpose, Stream};

/// The first `per_class` pictures of each class, in the order in which they lie in `data`.
///
/// # Errors
/// When `per_class` is 0 or a class has fewer pictures.
pub fn subset(data: &Dataset, per_class: usize) -> Result<Dataset> {
    if per_class == 0 {
        bail!("0 pictures a class make no data set; ask for at least 1");
    }
    let mut taken = vec![0; data.classes()];
    let mut piece =
        Dataset { class_names: data.class_names.clone(), pictures: Vec::new(), labels: Vec::new(), ..*data };
    for (i, &label) in data.labels.iter().enumerate() {
        let taken = &mut taken[usize::from(label)];
        if *taken < per_class {
            *taken += 1;
            piece.pictures.extend_from_slice(data.picture(i));
            piece.labels.push(label);
        }
    }
    match taken.iter().position(|&n| n < per_class) {
        None => Ok(piece),
        Some(class) => bail!(
            "class {class} ({}) has only {} pictures where {per_class} are asked for; ask for fewer",
            data.class_names[class],
            taken[class]
        ),
    }
}

/// `count` pictures drawn by lot, every class as often, in turns; a function of the seed. Pictures and labels.
///
/// # Errors
/// When a class has too few pictures.
pub fn balanced(data: &Dataset, count: usize, seed: u64) -> Result<(Vec<u8>, Vec<u16>)> {
    let mut by_class = vec![Vec::new(); data.classes()];
    for (i, label) in data.labels.iter().enumerate() {
        by_class[usize::from(*label)].push(i);
    }
    for (class, members) in by_class.iter_mut().enumerate() {
        let wanted = count / data.classes() + usize::from(class < count % data.classes());
        ensure!(
            members.len() >= wanted,
            "class {class} ({}) has {} real pictures where {wanted} are needed; ask for fewer",
            data.class_names[class],
            members.len()
        );
        let random = Stream::new(seed, Purpose::Shuffle, class as u32, 4);
        for i in (1..members.len()).rev() {
            members.swap(i, (random.u64(i as u32) % (i as u64 + 1)) as usize);
        }
    }
    let (mut pictures, mut labels) = (Vec::with_capacity(count * data.picture_bytes()), Vec::with_capacity(count));
    for i in 0..count {
        let class = i % data.classes();
        pictures.extend_from_slice(data.picture(by_class[class][i / data.classes()]));
        labels.push(class as u16);
    }
    Ok((pictures, labels))
}

/// Writes `data` as one split of the set in `folder`, in a form that [`super::open`] reads: gzipped IDX for grey
/// pictures of at most 256 classes, otherwise `train.npz` or `test.npz`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_split(folder: &Path, split: Split, data: &Dataset) -> Result<()> {
    if data.channels == 1 && data.classes() <= 256 {
        let labels = data
            .labels
            .iter()
            .map(|&l| u8::try_from(l))
            .collect::<Result<Vec<u8>, _>>()
            .context("a label is above 255")?;
        idx::write_gz(&folder.join(idx::gz_name(split, true)), &[data.len(), data.height, data.width], &data.pictures)?;
        idx::write_gz(&folder.join(idx::gz_name(split, false)), &[data.len()], &labels)
    } else {
        let labels: Vec<i64> = data.labels.iter().map(|&l| i64::from(l)).collect();
        let path = folder.join(format!("{}.npz", split.name()));
        npz::write_npz(&path, &data.pictures, data.len(), data.height, data.width, data.channels, &labels)
    }
}

/// Writes the `classes.txt` of the set in `folder`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_class_names(folder: &Path, names: &[String]) -> Result<()> {
    files::write_atomic(&folder.join("classes.txt"), |w| Ok(w.write_all((names.join("\n") + "\n").as_bytes())?))
}
