//! A frozen classifier on disk: safetensors with shape, hash and provenance in the header.

use super::arch::FeatureArch;
use super::net::{Classifier, Extracted};
use crate::nn::{Params, read_tensors, write_tensors};
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Provenance of a student: the extractors in whose features it was finished, their short hashes with ", " between.
pub const MATCHED: &str = "matched";

/// A classifier that no longer changes, and where it came from.
pub struct Extractor {
    pub net: Classifier,
    pub class_names: Vec<String>,
    /// Short keys and values: command, data, seed, accuracy.
    pub provenance: BTreeMap<String, String>,
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    features: FeatureArch,
    scale: f32,
    class_names: Vec<String>,
    /// SHA-256 of [`hash`].
    hash: String,
    provenance: BTreeMap<String, String>,
}

impl Extractor {
    /// Freezes a network: its values are rounded to f16, as they are stored, and its features scaled so that over
    /// `pictures` their variances have the mean 1.
    pub fn freeze(net: &Classifier, pictures: &[u8], class_names: Vec<String>) -> Result<Extractor> {
        let tensors = net.params.tensors().iter();
        let tensors = tensors.map(|(k, t)| Ok((k.clone(), t.to_dtype(DType::F16)?.to_dtype(DType::F32)?)));
        let params = Params::frozen(tensors.collect::<Result<_>>()?);
        let mut net = Classifier { arch: net.arch.clone(), params, scale: 1.0 };
        let variance = mean_variance(&net.extract(pictures)?);
        if variance > 0.0 {
            net.scale = (1.0 / variance.sqrt()) as f32;
        }
        Ok(Extractor { hash: hash(&net)?, net, class_names, provenance: BTreeMap::new() })
    }

    /// SHA-256 over shape and values, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The beginning of the hash, enough to tell extractors apart: how students name those they were finished with.
    pub fn short_hash(&self) -> &str {
        &self.hash[..16]
    }

    /// Writes the extractor, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            features: self.net.arch.clone(),
            scale: self.net.scale,
            class_names: self.class_names.clone(),
            hash: self.hash.clone(),
            provenance: self.provenance.clone(),
        };
        let tensors = self.net.params.tensors().iter().map(|(k, t)| Ok((k.clone(), t.to_dtype(DType::F16)?)));
        write_tensors(path, &tensors.collect::<Result<_>>()?, serde_json::to_string(&header)?)
    }

    /// Reads an extractor and proves that it is the one its hash names.
    pub fn open(path: &Path) -> Result<Extractor> {
        let (tensors, header) = read_tensors(path, &Device::Cpu)?;
        let header: Header = serde_json::from_str(&header)
            .with_context(|| format!("{}: holds no feature extractor; make one with train-features", path.display()))?;
        let arch = header.features;
        arch.check().map_err(|e| anyhow!("{}: {e}", path.display()))?;
        let wanted = Classifier::init(&arch, 0)?;
        ensure!(
            wanted.len() == tensors.len()
                && wanted.iter().all(|(name, t)| tensors.get(name).is_some_and(|found| found.dims() == t.dims())),
            "{}: its tensors do not fit its description; make it again with train-features",
            path.display()
        );
        ensure!(
            header.class_names.len() == arch.classes,
            "{}: {} class names for {} classes",
            path.display(),
            header.class_names.len(),
            arch.classes
        );
        ensure!(
            header.scale.is_finite() && header.scale > 0.0,
            "{}: a scale of {} makes no features; use an undamaged file",
            path.display(),
            header.scale
        );
        let net = Classifier { arch, params: Params::frozen(tensors), scale: header.scale };
        let hash = hash(&net)?;
        ensure!(
            hash == header.hash,
            "{}: its values have the hash {hash}, it claims {}; use an undamaged file",
            path.display(),
            header.hash
        );
        Ok(Extractor { net, class_names: header.class_names, provenance: header.provenance, hash })
    }
}

/// Variance of the features, averaged over them.
fn mean_variance(seen: &Extracted) -> f64 {
    let (d, n) = (seen.width, (seen.features.len() / seen.width) as f64);
    let rows = || seen.features.chunks_exact(d);
    let mut mean = vec![0.0; d];
    for row in rows() {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n);
    }
    let squares = rows().flat_map(|row| row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2)));
    squares.sum::<f64>() / (n * d as f64)
}

/// SHA-256 over the shape's JSON, the scale and, by name, each tensor's name, sizes and values (little endian).
fn hash(net: &Classifier) -> Result<String> {
    let mut sum = Sha256::new();
    sum.update(serde_json::to_vec(&net.arch)?);
    sum.update(net.scale.to_le_bytes());
    for (name, tensor) in net.params.tensors() {
        sum.update([&[0], name.as_bytes(), &[0]].concat());
        for size in tensor.dims() {
            sum.update((*size as u64).to_le_bytes());
        }
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            sum.update(value.to_le_bytes());
        }
    }
    Ok(hex(&sum.finalize()))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}
