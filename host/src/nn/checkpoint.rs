//! A network on disk: safetensors with the architecture, what kind of network it is and where it came from in the
//! header's metadata.

use super::params::Params;
use super::unet::{Arch, UNet};
use crate::files;
use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use fewstep_core::Direction;
use fewstep_core::format::header::MAGIC;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest checkpoint that is read, in bytes.
pub const MAX_CHECKPOINT_BYTES: u64 = 1 << 30;
const FORMAT: &str = "fewstep-checkpoint-1";

/// What a checkpoint's network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "steps")]
pub enum Kind {
    /// Class-conditional with a null class; guidance takes two evaluations.
    Teacher,
    /// One evaluation with w as an input, any number of steps (stage 1).
    Guided,
    /// Distilled for this number of steps, w as an input.
    Student(usize),
    /// As a student, from pictures to their noise.
    Encoder(usize),
}

impl Kind {
    /// The way of its steps.
    pub fn direction(&self) -> Direction {
        match self {
            Kind::Encoder(_) => Direction::ToNoise,
            _ => Direction::ToPicture,
        }
    }

    /// "teacher", "guided" or "4-step student".
    pub fn describe(&self) -> String {
        match self {
            Kind::Teacher => "teacher".into(),
            Kind::Guided => "guided (stage 1)".into(),
            Kind::Student(n) => format!("{n}-step student"),
            Kind::Encoder(n) => format!("{n}-step encoder"),
        }
    }
}

/// A network with its kind and provenance.
#[derive(Clone)]
pub struct Checkpoint {
    pub kind: Kind,
    pub net: UNet,
    pub class_names: Vec<String>,
    /// Where it came from: short keys and values.
    pub provenance: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    kind: Kind,
    arch: Arch,
    class_names: Vec<String>,
    provenance: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Writes the checkpoint in `dtype` (f32 or f16), atomically.
    pub fn save(&self, path: &Path, dtype: DType) -> Result<()> {
        let header = Header {
            kind: self.kind,
            arch: self.net.arch.clone(),
            class_names: self.class_names.clone(),
            provenance: self.provenance.clone(),
        };
        let tensors = self
            .net
            .params
            .tensors()
            .iter()
            .map(|(k, t)| Ok((k.clone(), t.to_dtype(dtype)?.to_device(&Device::Cpu)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        write_tensors(path, &tensors, serde_json::to_string(&header)?)
    }

    /// Reads a checkpoint as f32 onto `device`.
    pub fn open(path: &Path, device: &Device) -> Result<Checkpoint> {
        let (tensors, header) = read_tensors(path, device)?;
        let found: Value = serde_json::from_str(&header).unwrap_or_default();
        ensure!(
            found.get("unet").is_none(),
            "{}: an imported teacher; it is sampled, evaluated and distilled, nothing else",
            path.display()
        );
        let header: Header = serde_json::from_value(found).with_context(|| {
            format!("{}: the checkpoint's description is damaged; use a file that fewstep wrote", path.display())
        })?;
        header.arch.check().map_err(|e| anyhow!("{}: {e}", path.display()))?;
        let net = UNet { arch: header.arch, params: Params::frozen(tensors) };
        for (name, want) in expected_shapes(&net)? {
            match net.params.tensors().get(&name) {
                Some(t) if t.dims() == want => {}
                Some(t) => {
                    bail!("{}: tensor {name} has shape {:?}, its architecture needs {want:?}", path.display(), t.dims())
                }
                None => bail!("{}: tensor {name} is missing", path.display()),
            }
        }
        ensure!(
            net.guided() == !matches!(header.kind, Kind::Teacher),
            "{}: a {} {} the input w; the file is inconsistent",
            path.display(),
            header.kind.describe(),
            if net.guided() { "cannot have" } else { "needs" }
        );
        ensure!(
            header.class_names.len() == net.arch.classes,
            "{}: {} class names for {} classes",
            path.display(),
            header.class_names.len(),
            net.arch.classes
        );
        Ok(Checkpoint { kind: header.kind, net, class_names: header.class_names, provenance: header.provenance })
    }
}

fn expected_shapes(net: &UNet) -> Result<Vec<(String, Vec<usize>)>> {
    let fresh = UNet { arch: net.arch.clone(), params: Params::frozen(UNet::init(&net.arch, 0, &Device::Cpu)?) };
    let tensors = if net.guided() { fresh.add_guidance_input()? } else { fresh.params.tensors().clone() };
    Ok(tensors.into_iter().map(|(k, t)| (k, t.dims().to_vec())).collect())
}

/// Writes named tensors with a description, atomically.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>, description: String) -> Result<()> {
    let contiguous: Vec<(&String, Tensor)> =
        tensors.iter().map(|(k, t)| Ok((k, t.contiguous()?))).collect::<Result<_>>()?;
    let plain = safetensors::serialize(contiguous.iter().map(|(k, t)| (k.as_str(), t)), None)?;
    // The library writes metadata in random order; put in here, the same content gives the same bytes.
    let (len, rest) = plain.split_first_chunk::<8>().context("no header was written")?;
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*len))?);
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(header)?;
    header.insert("__metadata__".into(), json!({ "fewstep": description, "format": FORMAT }));
    let mut header = serde_json::to_string(&header)?;
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    files::write_atomic(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(header.as_bytes())?;
        Ok(w.write_all(data)?)
    })
}

/// Says what a file is that cannot be read as a checkpoint.
fn no_checkpoint(path: &Path, bytes: &[u8]) -> anyhow::Error {
    let what = if bytes.starts_with(&MAGIC) {
        "a student image, not a fewstep checkpoint; give a .safetensors file that train-features, train-teacher or distill wrote"
    } else if bytes.get(8) == Some(&b'{') {
        "a damaged checkpoint, or one of another program; copy it again, or give a file that train-features, train-teacher or distill wrote"
    } else {
        "neither a student image nor a checkpoint of fewstep; give a file that export (.fsw) or train-features, \
         train-teacher or distill (.safetensors) wrote"
    };
    anyhow!("{}: {what}", path.display())
}

/// Reads what [`write_tensors`] wrote: tensors as f32 on `device`, and the description.
pub fn read_tensors(path: &Path, device: &Device) -> Result<(BTreeMap<String, Tensor>, String)> {
    let bytes = files::read_file(path, MAX_CHECKPOINT_BYTES)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|_| no_checkpoint(path, &bytes))?;
    let description = metadata
        .metadata()
        .as_ref()
        .filter(|m| m.get("format").is_some_and(|f| f == FORMAT))
        .and_then(|m| m.get("fewstep").cloned())
        .ok_or_else(|| no_checkpoint(path, &bytes))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|_| no_checkpoint(path, &bytes))?
        .into_iter()
        .map(|(k, t)| Ok((k, t.to_dtype(DType::F32)?)))
        .collect::<Result<_>>()?;
    Ok((tensors, description))
}
