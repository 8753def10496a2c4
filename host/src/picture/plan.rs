//! The memory plan of a student image as SVG: every buffer a rectangle over the stages of a step (across) and the
//! bytes of the arena (up).

use super::plot::{escape, line, text};
use fewstep_core::format::{BufferRepr, Element, Image};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Size in SVG user units, and where the axes lie.
const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 1100.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 500.0;
/// About the width of a letter of the small labels.
const LETTER: f64 = 5.6;
/// Height of a line of them.
const LINE: f64 = 11.0;

/// Fills by what a buffer holds (Okabe and Ito's palette, lightened), and what the legend says.
const SCRATCH: (&str, &str) = ("#d9d9d6", "scratch of kernels");
const F32: (&str, &str) = ("#f3c6a5", "f32: state, embedding");
const I16: (&str, &str) = ("#a9cbe6", "int16: stream, outputs");
const I8: (&str, &str) = ("#a6dbc8", "int8: inputs");
const PEAK: &str = "#d55e00";

/// Name of a stage: an operation's, or of what comes before and after them.
pub fn stage_name(image: &Image, stage: u16) -> String {
    match stage {
        0 => "embedding".into(),
        _ if stage + 1 == image.stages() => "update".into(),
        _ => image.op_name(usize::from(stage) - 1).map_or_else(|| format!("op.{}", stage - 1), String::from),
    }
}

/// Names of the buffers: the first operation that writes one, or its part in the sampler.
fn buffer_names(image: &Image) -> BTreeMap<u16, String> {
    let roles = image.info().roles;
    let mut names = BTreeMap::from([
        (roles.z, "z".to_string()),
        (roles.film, "film".to_string()),
        (roles.first, "embedding".to_string()),
        (roles.second, "embedding".to_string()),
    ]);
    for i in 0..image.info().counts.ops {
        let Ok(op) = image.op(i.into()) else { continue };
        let name = stage_name(image, i + 1);
        if let fewstep_core::format::OpRepr::Attention { scores, .. } = op {
            names.entry(scores).or_insert_with(|| format!("{name} scores"));
        }
        names.entry(op.buffers().1).or_insert(name);
    }
    names
}

/// Draws the plan of a checked image; `title` is the file's name.
pub fn plan_svg(image: &Image, title: &str) -> String {
    let info = image.info();
    let stages = f64::from(image.stages());
    let arena = f64::from(info.arena_bytes.max(1));
    let x = |stage: f64| LEFT + (RIGHT - LEFT) * stage / stages;
    let y = |bytes: f64| BOTTOM - (BOTTOM - TOP) * bytes / arena;
    let peak = stage_name(image, info.peak_stage);

    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#262a32">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fafaf8"/>
<text x="{LEFT}" y="30" font-size="17" font-weight="600">{}</text>
<text x="{LEFT}" y="52">arena {} bytes; peak {} bytes of buffers, set by {}; scratch {} bytes</text>
"##,
        escape(title),
        info.arena_bytes,
        info.peak_bytes,
        escape(&peak),
        info.scratch_bytes,
    );
    for k in 0..=4 {
        let bytes = arena * f64::from(k) / 4.0;
        line(&mut svg, (LEFT, y(bytes)), (RIGHT, y(bytes)), "#e4e4e2");
        text(&mut svg, (LEFT - 8.0, y(bytes) + 4.0), "end", &format!("{bytes:.0}"));
    }
    if info.scratch_bytes > 0 {
        let whole = BufferRepr {
            offset: info.scratch_offset,
            first: 0,
            last: image.stages() - 1,
            height: 1,
            width: 1,
            channels: 0,
            element: Element::I8,
        };
        block(&mut svg, SCRATCH.0, "scratch", &whole, u64::from(info.scratch_bytes), &x, &y);
    }
    let names = buffer_names(image);
    for i in 0..info.counts.buffers {
        let Ok(buffer) = image.buffer(i) else { continue };
        let fill = match buffer.element {
            Element::I8 => I8,
            Element::I16 => I16,
            Element::F32 => F32,
        };
        let name = names.get(&i).map_or("unused", String::as_str);
        block(&mut svg, fill.0, name, &buffer, buffer.bytes(), &x, &y);
    }
    // The stage of the peak, and every stage's name where there is room for all.
    let (from, to) = (x(info.peak_stage.into()), x(f64::from(info.peak_stage) + 1.0));
    _ = writeln!(
        svg,
        r##"<rect x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}" fill="none" stroke="{PEAK}" stroke-width="2"/>"##,
        to - from,
        BOTTOM - TOP
    );
    let all = (RIGHT - LEFT) / stages >= LINE;
    for stage in 0..image.stages() {
        if !all && stage != info.peak_stage {
            continue;
        }
        let (at, color) = (x(f64::from(stage) + 0.5) + 4.0, if stage == info.peak_stage { PEAK } else { "#262a32" });
        _ = writeln!(
            svg,
            r##"<text transform="translate({at:.1} {:.1}) rotate(-60)" text-anchor="end" font-size="9.5" fill="{color}">{}</text>"##,
            BOTTOM + 12.0,
            escape(&stage_name(image, stage))
        );
    }
    for (k, (fill, label)) in [F32, I16, I8, SCRATCH].into_iter().enumerate() {
        let left = LEFT + 200.0 * k as f64;
        _ = writeln!(
            svg,
            r##"<rect x="{left}" y="{}" width="12" height="12" fill="{fill}" stroke="#ffffff"/>"##,
            TOP - 20.0
        );
        text(&mut svg, (left + 18.0, TOP - 9.0), "start", label);
    }
    text(&mut svg, (LEFT, HEIGHT - 10.0), "start", "Across: the stages of a step, in order. Up: bytes of the arena.");
    svg.push_str("</svg>\n");
    svg
}

/// A buffer: rectangle, tooltip, and its name where it fits.
fn block(
    svg: &mut String,
    fill: &str,
    name: &str,
    buffer: &BufferRepr,
    bytes: u64,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) {
    let (left, right) = (x(buffer.first.into()), x(f64::from(buffer.last) + 1.0));
    let (low, high) = (y(buffer.offset.into()), y(f64::from(buffer.offset) + bytes as f64));
    let shape = match buffer.channels {
        0 => String::new(),
        _ => format!(", {}x{}x{} {:?}", buffer.height, buffer.width, buffer.channels, buffer.element).to_lowercase(),
    };
    _ = writeln!(
        svg,
        r##"<rect x="{left:.1}" y="{high:.1}" width="{:.1}" height="{:.1}" fill="{fill}" stroke="#ffffff"><title>{}{shape}: {bytes} bytes at {}, stages {} to {}</title></rect>"##,
        right - left,
        low - high,
        escape(name),
        buffer.offset,
        buffer.first,
        buffer.last
    );
    let (width, height, need) = (right - left, low - high, name.chars().count() as f64 * LETTER + 4.0);
    let (cx, cy) = ((left + right) / 2.0, (low + high) / 2.0 + 3.5);
    if width >= need && height >= LINE {
        _ = writeln!(
            svg,
            r##"<text x="{cx:.1}" y="{cy:.1}" text-anchor="middle" font-size="9.5">{}</text>"##,
            escape(name)
        );
    } else if height >= need && width >= LINE {
        _ = writeln!(
            svg,
            r##"<text transform="translate({:.1} {:.1}) rotate(-90)" text-anchor="middle" font-size="9.5">{}</text>"##,
            cx + 3.5,
            cy - 3.5,
            escape(name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{ExportOptions, random_student, write_image};
    use crate::files::AlignedBytes;
    use crate::nn::Arch;

    #[test]
    fn every_buffer_is_drawn_within_the_frame() {
        let spec = random_student(&Arch::for_pictures(28, 28, 1, 10), 2, 1);
        for scratch_bytes in [0, 4096] {
            let options = ExportOptions { scratch_bytes, ..ExportOptions::default() };
            let exported = write_image(&spec, &options).unwrap();
            let bytes = AlignedBytes::from(exported.bytes.as_slice());
            let svg = plan_svg(&Image::parse(&bytes).unwrap(), "a <student> & its \"plan\"");
            let blocks = exported.plan.buffers.len() + usize::from(scratch_bytes > 0);
            assert_eq!(svg.matches("<title>").count(), blocks);
            assert!(svg.contains("a &lt;student&gt; &amp; its &quot;plan&quot;"));
            let peak = exported.stage_name(exported.plan.peak_stage);
            assert!(svg.contains(&format!("set by {peak};")), "{}", &svg[..600]);
            for rect in svg.split("<rect ").filter(|rect| rect.contains("<title>")) {
                let number = |key: &str| -> f64 {
                    let from = rect.find(&format!("{key}=\"")).unwrap() + key.len() + 2;
                    rect[from..].split('"').next().unwrap().parse().unwrap()
                };
                let (x, y) = (number("x"), number("y"));
                assert!(x >= LEFT - 0.1 && x + number("width") <= RIGHT + 0.1, "{rect}");
                assert!(y >= TOP - 0.1 && y + number("height") <= BOTTOM + 0.1, "{rect}");
            }
        }
    }
}
