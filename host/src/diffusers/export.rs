//! A network of the project as a folder that diffusers loads. Its residual streams are added and its time is an angle,
//! which no `UNet2DModel` can express; so the folder brings the network's own code, and diffusers loads it as a custom
//! pipeline.

use crate::files;
use crate::nn::{Checkpoint, Kind};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const MODEL: &str = include_str!("python/fewstep_unet.py");
const PIPELINE: &str = include_str!("python/pipeline.py");

/// The parameter's name and values in PyTorch's order.
fn parameter(name: &str, t: &Tensor) -> Result<(String, Tensor)> {
    let t = t.to_device(&Device::Cpu)?;
    // [cout, k, k, cin] to [cout, cin, k, k].
    let t = if t.rank() == 4 { t.permute((0, 3, 1, 2))?.contiguous()? } else { t };
    let name = match name.rsplit_once('.') {
        Some((norm, "scale")) => format!("{norm}.weight"),
        Some((norm, "shift")) => format!("{norm}.bias"),
        Some(("embed", "class" | "guidance")) => format!("{name}.weight"),
        _ => name.to_string(),
    };
    // "embed" is an entry of the configuration, which diffusers makes an attribute of the model.
    Ok((name.strip_prefix("embed.").map_or(name.clone(), |part| format!("embedding.{part}")), t))
}

/// Fills the new folder `folder` with a teacher, a network of stage 1, or a student.
///
/// # Errors
/// The checkpoint is an encoder or was fine-tuned for int8, or the folder cannot be written.
pub fn export(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let steps = match checkpoint.kind {
        Kind::Teacher | Kind::Guided => None,
        Kind::Student(n) => Some(n),
        Kind::Encoder(_) => bail!("an encoder does not draw; only what draws has a pipeline of diffusers"),
    };
    let net = &checkpoint.net;
    if net.params.tensors().keys().any(|name| name.starts_with("quant.")) {
        bail!("its weights are meant to be rounded to int8; give the student before --int8-images");
    }
    let tensors: BTreeMap<String, Tensor> =
        net.params.tensors().iter().map(|(name, t)| parameter(name, t)).collect::<Result<_>>()?;
    let a = &net.arch;
    let config = json!({
        "_class_name": "FewstepUNet", "_diffusers_version": "0.27.2",
        "height": a.height, "width": a.width, "channels": a.channels, "classes": a.classes, "patch": a.patch,
        "widths": a.widths, "encoder": a.encoder, "middle": a.middle, "decoder": a.decoder,
        "attention_heads": a.attention_heads, "embed": a.embed, "guided": net.guided(), "steps": steps,
        "class_names": checkpoint.class_names,
    });
    let index = json!({
        "_class_name": ["pipeline", "FewstepPipeline"], "_diffusers_version": "0.27.2",
        "unet": ["fewstep_unet", "FewstepUNet"],
    });
    let unet = folder.join("unet");
    fs::create_dir_all(&unet).with_context(|| format!("cannot make the folder {}", unet.display()))?;
    let text = |path: &Path, text: &str| files::write_atomic(path, |w| Ok(w.write_all(text.as_bytes())?));
    let values = |path: &Path, value: &Value| text(path, &format!("{}\n", serde_json::to_string_pretty(value)?));
    text(&unet.join("fewstep_unet.py"), MODEL)?;
    values(&unet.join("config.json"), &config)?;
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    let bytes = safetensors::serialize(tensors.iter().map(|(k, t)| (k.as_str(), t)), metadata)?;
    files::write_atomic(&unet.join("diffusion_pytorch_model.safetensors"), |w| Ok(w.write_all(&bytes)?))?;
    text(&folder.join("pipeline.py"), PIPELINE)?;
    // Last: with it the folder is whole.
    values(&folder.join("model_index.json"), &index)
}
