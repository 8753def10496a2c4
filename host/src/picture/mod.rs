//! Pictures for people: PNG files, labelled grids of samples, and line plots.

mod font;
mod grid;
mod plan;
mod plot;

pub use grid::Grid;
pub use plan::{plan_svg, stage_name};
pub use plot::{Plot, Series};

use std::path::Path;

use anyhow::{Context, Result, bail};
use png::{BitDepth, ColorType, Compression, Encoder};

use crate::files;

/// Writes `pixels` (`[h][w][c]`, row-major, c 1 for grey or 3 for RGB) as an 8-bit PNG file, whole or not at all.
///
/// # Errors
/// When the sizes do not fit the pixels or the file cannot be written.
pub fn write_png(path: &Path, pixels: &[u8], h: usize, w: usize, c: usize) -> Result<()> {
    let color = match c {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        _ => bail!("cannot write {}: pictures have 1 or 3 channels, not {c}", path.display()),
    };
    let bytes = h.checked_mul(w).and_then(|n| n.checked_mul(c));
    if bytes != Some(pixels.len()) || pixels.is_empty() {
        bail!("cannot write {}: {} bytes do not make a picture of {h}x{w}x{c}", path.display(), pixels.len());
    }
    let (height, width) = (u32::try_from(h).context("height")?, u32::try_from(w).context("width")?);
    files::write_atomic(path, |out| {
        let mut encoder = Encoder::new(out, width, height);
        encoder.set_color(color);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::High);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        Ok(writer.finish()?)
    })
}
