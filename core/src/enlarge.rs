//! A picture that is enlarged: the windows of rows that the operations see, band after band, and the pixels of what noise
//! became.

use crate::arena::{typed, views};
use crate::format::Image;
use crate::part::part;
use crate::sampler::picture::Geometry;
use crate::session::Stage;

/// Prepares the arena for `stage` of band `band`; returns the first cell of the band's window.
/// Before the first operation the base under the window is put where the operations read it; after the last, what they
/// said of the band is put into v.
pub(crate) fn prepare(image: &Image<'_>, base: &[u8], band: u16, stage: Stage, arena: &mut [u8]) -> Option<usize> {
    let (info, bands) = (image.info(), image.bands()?);
    let patch = info.patch.max(1);
    let (height, width) = (info.height / patch, usize::from(info.width / patch));
    let place = bands.place(band, height);
    match stage {
        Stage::Op(0) => {
            let (rows, channels) = (usize::from(bands.rows) * usize::from(patch), usize::from(bands.base_channels));
            let geometry = Geometry { height: rows, width: info.width.into(), channels, patch: patch.into() };
            let row = geometry.width * channels;
            let [into, ..] = views(arena, [image.buffer(bands.base).ok()?.range(), 0..0, 0..0])?;
            geometry.load(part(base, place.window * geometry.patch * row, rows * row), 1.0, typed(into));
        }
        // A window of all rows is v itself.
        Stage::Update if bands.out != info.roles.v => {
            let (out, v) = (image.buffer(bands.out).ok()?, image.buffer(info.roles.v).ok()?);
            let [from, into, _] = views(arena, [out.range(), v.range(), 0..0])?;
            let (row, skipped) = (width * usize::from(v.channels), place.start - place.window);
            let from = part(typed::<f32>(from), skipped * row, place.rows * row);
            typed::<f32>(into).get_mut(place.start * row..)?.get_mut(..from.len())?.copy_from_slice(from);
        }
        _ => {}
    }
    Some(place.window * width)
}
