//! Pictures for people: PNG files, labelled grids of samples, and line plots.

mod font;
mod grid;
pub mod html;
mod plan;
mod plot;
mod terminal;

pub use grid::Grid;
pub use plan::{plan_svg, stage_name};
pub use plot::{Plot, Series};
pub use terminal::{Display, show};

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

/// Writes pictures of one shape (height, width, channels) as an animated PNG that repeats for ever, each pixel `scale`
/// screen pixels, each picture `delay` milliseconds; whole or not at all.
///
/// # Errors
/// When there is no picture, one does not fit the shape, or the file cannot be written.
pub fn write_apng(
    path: &Path,
    frames: &[&[u8]],
    (h, w, c): (usize, usize, usize),
    scale: usize,
    delay: u16,
) -> Result<()> {
    let color = if c == 1 { ColorType::Grayscale } else { ColorType::Rgb };
    if frames.is_empty() || !matches!(c, 1 | 3) || frames.iter().any(|frame| frame.len() != h * w * c) {
        bail!("cannot write {}: the pictures are not of {h}x{w}x{c}", path.display());
    }
    let (height, width) = (u32::try_from(h * scale).context("height")?, u32::try_from(w * scale).context("width")?);
    let count = u32::try_from(frames.len()).context("pictures")?;
    files::write_atomic(path, |out| {
        let mut encoder = Encoder::new(out, width, height);
        encoder.set_color(color);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::High);
        encoder.set_animated(count, 0)?;
        encoder.set_frame_delay(delay, 1000)?;
        let mut writer = encoder.write_header()?;
        for frame in frames {
            writer.write_image_data(&enlarge(frame, w, c, scale))?;
        }
        Ok(writer.finish()?)
    })
}

/// Every pixel of `[h][w][c]` as a square of `scale` pixels.
pub fn enlarge(pixels: &[u8], w: usize, c: usize, scale: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() * scale * scale);
    for row in pixels.chunks_exact(w * c) {
        let wide: Vec<u8> = row.chunks_exact(c).flat_map(|pixel| pixel.repeat(scale)).collect();
        (0..scale).for_each(|_| out.extend_from_slice(&wide));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn animations_hold_their_pictures() {
        let path = std::env::temp_dir().join(format!("fewstep-apng-{}.png", std::process::id()));
        let frames: [&[u8]; 3] = [&[0, 255, 10, 20], &[1, 2, 3, 4], &[9; 4]];
        write_apng(&path, &frames, (2, 2, 1), 2, 40).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
        std::fs::remove_file(&path).unwrap();
        let control = *reader.info().animation_control().unwrap();
        assert_eq!((control.num_frames, control.num_plays), (3, 0));
        for frame in frames {
            let mut pixels = vec![0; 16];
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels, enlarge(frame, 2, 1, 2));
        }
        assert!(write_apng(&path, &[], (2, 2, 1), 1, 1).is_err());
        assert!(write_apng(&path, &[&[0; 3]], (2, 2, 1), 1, 1).is_err());
    }

    #[test]
    fn enlarged_pixels_are_squares() {
        assert_eq!(enlarge(&[1, 2, 3, 4], 2, 1, 2), [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
        assert_eq!(enlarge(&[1, 2, 3], 1, 3, 2), [1, 2, 3].repeat(4));
    }
}
