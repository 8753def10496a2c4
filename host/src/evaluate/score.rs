//! Classification accuracy score (Ravuri & Vinyals 2019, arXiv 1905.10887): a classifier trained on samples only,
//! tested on real pictures. It falls when samples lack what real pictures have, also where no distance shows it.

use crate::data::Dataset;
use crate::features::{FeatureArch, Training, accuracy, hex, train};
use crate::files;
use crate::nn::{Engine, Precision};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;

/// Trains classifiers, each once: a score is kept by what it is a function of.
pub struct Scores<'a> {
    pub folder: PathBuf,
    pub arch: FeatureArch,
    pub training: Training,
    pub precision: Precision,
    /// The real pictures that classifiers are tested on.
    pub test: &'a Dataset,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    score: f64,
}

impl Scores<'_> {
    /// The score of pictures with their labels.
    ///
    /// # Errors
    /// When the training fails or the folder cannot be written.
    pub fn score(&self, pictures: &[u8], labels: &[u16]) -> Result<f64> {
        let arithmetic = Engine::select(self.precision)?.name();
        let mut sum = Sha256::new();
        sum.update(pictures);
        labels.iter().for_each(|l| sum.update(l.to_le_bytes()));
        sum.update(serde_json::to_vec(&(&self.arch, &self.training, arithmetic))?);
        sum.update(&self.test.pictures);
        let key = hex(&sum.finalize()[..8]);
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let path = self.folder.join(format!("{key}.json"));
        if path.exists() {
            let kept: Kept = serde_json::from_slice(&files::read_file(&path, 1 << 16)?)
                .with_context(|| format!("{}: is damaged; delete it", path.display()))?;
            return Ok(kept.score);
        }
        let data = Dataset {
            class_names: self.test.class_names.clone(),
            pictures: pictures.to_vec(),
            labels: labels.to_vec(),
            ..*self.test
        };
        let net = train(&data, &self.arch, &self.training, Some(&self.folder.join(format!("{key}.state"))))?;
        Engine::select(Precision::F32)?;
        let score = accuracy(&net, self.test)?;
        let text = serde_json::to_string(&Kept { score })?;
        files::write_atomic(&path, |w| Ok(w.write_all(text.as_bytes())?))?;
        Ok(score)
    }
}
