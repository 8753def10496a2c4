//! Pictures of a model, drawn once and kept: a killed evaluation goes on, and a larger count takes up a smaller one.

use crate::data::npz;
use crate::features::hex;
use crate::sampling::{Job, Source};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Pictures of one file of the cache: what a kill can lose.
pub const CHUNK: usize = 256;

/// What is drawn: picture i has seed `seed + i` and class `i % classes`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    pub w: f32,
    pub steps: usize,
    pub seed: u64,
    pub count: usize,
}

/// A folder of drawn pictures.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In `folder`, which is made when the first picture is drawn.
    pub fn new(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    /// The folder of a model's pictures: named by what they are a function of, so that an entry never lies.
    fn entry(&self, file: &Path, bytes: &[u8], d: &Drawing, arithmetic: &str) -> PathBuf {
        let mut sum = Sha256::new();
        sum.update(bytes);
        sum.update(format!("|w {} steps {} seed {} {arithmetic}", d.w.to_bits(), d.steps, d.seed));
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(48).collect();
        self.folder.join(format!("{stem}-{}-steps-w{}-{}", d.steps, d.w, &hex(&sum.finalize())[..16]))
    }

    /// The pictures [count, H, W, C] of a model whose file holds `bytes`, from the cache as far as they are there.
    /// `progress` hears how many are at hand.
    ///
    /// # Errors
    /// When the model cannot draw them, or the folder cannot be written.
    pub fn pictures(
        &self,
        (file, bytes, source): (&Path, &[u8], &Source),
        d: &Drawing,
        arithmetic: &str,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<u8>> {
        let folder = self.entry(file, bytes, d, arithmetic);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let (classes, (h, w, c)) = (source.classes()?, source.shape()?);
        let mut all = Vec::with_capacity(d.count * h * w * c);
        for (i, from) in (0..d.count).step_by(CHUNK).enumerate() {
            let n = CHUNK.min(d.count - from);
            let path = folder.join(format!("{i:05}.npz"));
            let labels: Vec<u16> = (from..from + n).map(|k| (k % classes) as u16).collect();
            let kept = if path.exists() { Some(npz::open(&path)?) } else { None };
            match kept.filter(|k| k.len() >= n) {
                Some(kept) => {
                    ensure!(
                        (kept.height, kept.width, kept.channels) == (h, w, c) && kept.labels[..n] == labels,
                        "{}: holds other pictures than its name says; delete it",
                        path.display()
                    );
                    all.extend_from_slice(&kept.pictures[..n * h * w * c]);
                }
                None => {
                    let job = Job::new(d.seed.wrapping_add(from as u64), labels.clone(), d.w, Some(d.steps));
                    let drawn = source.draw(&job, |_| {})?;
                    let labels: Vec<i64> = labels.iter().map(|l| i64::from(*l)).collect();
                    npz::write_npz(&path, &drawn.pictures, n, h, w, c, &labels)?;
                    all.extend(drawn.pictures);
                }
            }
            progress(from + n);
        }
        Ok(all)
    }
}
