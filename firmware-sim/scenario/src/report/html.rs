//! A page with the pictures, in one file.

use std::fmt::Write as _;

use png::{BitDepth, ColorType, Encoder};

use super::{counted, escape, figures, summary};
use crate::base64;
use crate::play::{Outcome, Picture, Row};

const STYLE: &str = "\
:root { color-scheme: light dark; --ok: #1a7f37; --bad: #c62828; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 0; }
section { border: 1px solid var(--line); border-radius: 8px; margin: 1.2rem 0; overflow: hidden; }
header { padding: .7rem 1rem; border-left: 6px solid var(--ok); } .failed > header { border-color: var(--bad); }
header p { margin: 0; opacity: .75; font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td { padding: .4rem .6rem; border-top: 1px solid var(--line); vertical-align: middle; }
td:first-child { opacity: .6; text-align: right; width: 2rem; }
tr.bad td { background: color-mix(in srgb, var(--bad) 14%, transparent); }
.problem { color: var(--bad); font-weight: 600; } .figures { opacity: .75; font-size: .85rem; }
img { image-rendering: pixelated; width: 84px; height: 84px; display: block; }
.ok { color: var(--ok); } .no { color: var(--bad); }
nav { columns: 20rem; } nav ol { margin: 0; } nav a { color: inherit; } nav li { break-inside: avoid; }
";

/// The report as a page that needs nothing beside it.
pub fn page(outcomes: &[Outcome]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Scenarios</title>\n<style>\n{STYLE}</style>\n<h1>Scenarios</h1>\n<p>{}</p>\n<nav><ol>\n",
        escape(&summary(outcomes))
    );
    for (number, outcome) in outcomes.iter().enumerate() {
        let (class, mark) = if outcome.passed { ("ok", "passed") } else { ("no", "FAILED") };
        let name = escape(&outcome.name);
        let _ = writeln!(html, "<li><a href=\"#s{number}\">{name}</a> <span class=\"{class}\">{mark}</span>");
    }
    html.push_str("</ol></nav>\n");
    for (number, outcome) in outcomes.iter().enumerate() {
        section(&mut html, number, outcome);
    }
    html.push_str("</html>\n");
    html
}

fn section(html: &mut String, number: usize, outcome: &Outcome) {
    let Outcome { name, file, board, seconds, passed, rows, .. } = outcome;
    let boots = counted(outcome.boots, "boot");
    let class = if *passed { "passed" } else { "failed" };
    let (name, file, board) = (escape(name), escape(file), escape(board));
    let _ = writeln!(
        html,
        "<section class=\"{class}\" id=\"s{number}\"><header><h2>{name}</h2>\
         <p>{file}, {board}, {boots}, {seconds:.1} s in the emulator</p></header>\n<div class=\"wide\"><table>"
    );
    for (number, row) in rows.iter().enumerate() {
        event(html, number + 1, row);
    }
    html.push_str("</table></div></section>\n");
}

fn event(html: &mut String, number: usize, row: &Row) {
    let class = if row.problem.is_some() { " class=\"bad\"" } else { "" };
    let _ = write!(html, "<tr{class}><td>{number}<td>{}<td>{}", escape(&row.event), escape(&row.result));
    if let Some(problem) = &row.problem {
        let _ = write!(html, "<div class=\"problem\">{}</div>", escape(problem));
    }
    let _ = write!(html, "<td class=\"figures\">{}<td>", escape(&figures(&row.measured).join(", ")));
    if let Some(png) = row.picture.as_ref().and_then(png) {
        let alt = escape(&row.event);
        let _ = write!(html, "<img alt=\"{alt}\" src=\"data:image/png;base64,{}\">", base64::encode(&png));
    }
    html.push('\n');
}

/// The picture as PNG; `None` where it has other than 1 or 3 channels.
fn png(picture: &Picture) -> Option<Vec<u8>> {
    let [height, width, channels] = picture.shape;
    let color = match channels {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        _ => return None,
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width.into(), height.into());
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&picture.bytes).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}
