//! What the project's HTML pages share: head and style, text, pictures within the page.

use fewstep_scenario::base64;

pub use super::plot::escape;

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;\
color:#262a32;background:#fafaf8}table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;text-align:right;\
border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}small{color:#606670}\
img,svg{max-width:100%;height:auto}code{font-size:90%}pre{padding:.7em;background:#f0f0ec;white-space:pre-wrap;\
overflow-wrap:anywhere}.strip{width:640px;image-rendering:pixelated;display:block}.values td{text-align:left}\
.pictures td{vertical-align:middle}";

/// The start of a page; what follows is its content, to be ended with `</html>`.
pub fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}</title>\n<style>{STYLE}</style>\n",
        escape(title)
    )
}

/// A PNG file within the page, in a column of small pictures that are shown large.
pub fn strip(png: &[u8], alt: &str) -> String {
    format!("<img class=\"strip\" src=\"data:image/png;base64,{}\" alt=\"{}\">", base64::encode(png), escape(alt))
}
