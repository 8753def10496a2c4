//! Pictures of twice the size: a picture is its base, the mean of every 2x2 square, and details, the other coefficients
//! of the Haar wavelet. A network draws the details; the means are the base's whatever it draws, so that the large
//! picture agrees with the small one. The core puts both together
//! ([`Geometry::enlarge`](fewstep_core::sampler::picture::Geometry::enlarge)).

use crate::diffusion::{space_to_depth, to_batch, to_byte, to_signed};
use crate::nn::Arch;
use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
pub use fewstep_core::sampler::picture::DETAIL_SCALE;

/// The base [H][W][C] and the details [H][W][3 C] of a picture [2 H][2 W][C], H and W those of `arch`.
pub fn split(arch: &Arch, picture: &[u8], base: &mut [f32], details: &mut [f32]) {
    let (c, row) = (arch.base, 2 * arch.width * arch.base);
    for y in 0..arch.height {
        for x in 0..arch.width {
            let pixel = y * arch.width + x;
            for i in 0..c {
                let at = |dy: usize, dx: usize| to_signed(picture[(2 * y + dy) * row + (2 * x + dx) * c + i]);
                let [a, b, e, d] = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
                base[pixel * c + i] = (a + b + e + d) / 4.0;
                let coefficients = [a - b + e - d, a + b - e - d, a - b - e + d];
                for (k, coefficient) in coefficients.into_iter().enumerate() {
                    details[(pixel * 3 + k) * c + i] = coefficient / 4.0 * DETAIL_SCALE;
                }
            }
        }
    }
}

/// The base of a picture as bytes [H][W][C].
pub fn halved(arch: &Arch, picture: &[u8]) -> Vec<u8> {
    let mut base = vec![0.0; arch.base_shape().picture_len()];
    split(arch, picture, &mut base, &mut vec![0.0; arch.picture_len()]);
    base.into_iter().map(to_byte).collect()
}

/// Puts a picture of the data into space-to-depth form: z, and the base where the network has one.
pub fn load(arch: &Arch, picture: &[u8], z: &mut [f32], base: &mut [f32]) {
    if arch.base == 0 {
        let values: Vec<f32> = picture.iter().map(|v| to_signed(*v)).collect();
        return space_to_depth(arch, &values, z);
    }
    let (mut small, mut details) = (vec![0.0; base.len()], vec![0.0; z.len()]);
    split(arch, picture, &mut small, &mut details);
    space_to_depth(&arch.base_shape(), &small, base);
    space_to_depth(arch, &details, z);
}

/// Pictures to enlarge, [count][H][W][C] bytes, as a network reads them.
pub fn bases(arch: &Arch, pictures: &[u8], device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = pictures.iter().map(|v| to_signed(*v)).collect();
    to_batch(&arch.base_shape(), &values, device)
}

/// The pictures of twice the size, as bytes, of bases as bytes and details as values [count][H][W][3 C].
pub fn join(arch: &Arch, bases: &[u8], details: &[f32]) -> Vec<u8> {
    let (small, len) = (arch.base_shape().picture_len(), arch.picture_len());
    let geometry = fewstep_core::sampler::picture::Geometry {
        height: arch.height,
        width: arch.width,
        channels: arch.channels,
        patch: 1,
    };
    let mut out = vec![0; 4 * bases.len()];
    for ((base, details), out) in
        bases.chunks_exact(small).zip(details.chunks_exact(len)).zip(out.chunks_exact_mut(4 * small))
    {
        geometry.enlarge(base, details, out);
    }
    out
}

/// How well large pictures agree with the small ones they were made from.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Consistency {
    /// Mean PSNR in dB of the large pictures, halved by means of 2x2 squares, against the small ones; 100 for equal ones.
    pub psnr_db: f64,
    /// The worst of them.
    pub worst_psnr_db: f64,
    /// Mean difference of neighbouring rows where bands meet, over that of the other rows at the same place in a cell;
    /// none without bands.
    pub seam: Option<f64>,
}

/// Measures pictures [count][2 H][2 W][C] against `bases` [count][H][W][C]; bands begin every `band` rows of the large
/// pictures, cells every `cell`.
pub fn consistency(
    (height, width, channels): (usize, usize, usize),
    bases: &[u8],
    large: &[u8],
    band: usize,
    cell: usize,
) -> Result<Consistency> {
    let small = height * width * channels;
    ensure!(
        small > 0 && large.len() == 4 * bases.len() && bases.len().is_multiple_of(small),
        "{} bytes of pictures twice the size of {} bytes",
        large.len(),
        bases.len()
    );
    let row = 2 * width * channels;
    let mut psnr = Vec::new();
    let (mut seams, mut rest) = (Vec::new(), Vec::new());
    for (base, large) in bases.chunks_exact(small).zip(large.chunks_exact(4 * small)) {
        let mut square = 0.0;
        for (i, b) in base.iter().enumerate() {
            let (y, x) = (i / (width * channels), i % (width * channels));
            let at = 2 * y * row + 2 * (x - x % channels) + x % channels;
            let sum: u32 =
                [at, at + channels, at + row, at + row + channels].iter().map(|j| u32::from(large[*j])).sum();
            square += (f64::from(sum) / 4.0 - f64::from(*b)).powi(2);
        }
        psnr.push((10.0 * (255.0f64.powi(2) * small as f64 / square.max(1e-9)).log10()).min(100.0));
        for y in (cell..2 * height).step_by(cell) {
            let (above, below) = (&large[(y - 1) * row..y * row], &large[y * row..(y + 1) * row]);
            let step: u64 = above.iter().zip(below).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            if y % band == 0 { seams.push(step) } else { rest.push(step) }
        }
    }
    let mean = |v: &[u64]| v.iter().sum::<u64>() as f64 / v.len().max(1) as f64;
    Ok(Consistency {
        psnr_db: psnr.iter().sum::<f64>() / psnr.len().max(1) as f64,
        worst_psnr_db: psnr.iter().copied().fold(100.0, f64::min),
        seam: (!seams.is_empty()).then(|| mean(&seams) / mean(&rest).max(1e-9)),
    })
}
