//! A page for the browser around a student image: static files that any server gives out.
//!
//! The core is in it as WebAssembly, with simd128 and without, compiled beforehand from `core/wasm`: whoever makes a
//! page needs neither a compiler nor the target wasm32. `sources.sha256` beside the compiled files says what they were
//! compiled from; `./check page` compares it, and `FEWSTEP_WRITE=1 ./check page` compiles them anew.

use crate::files;
use crate::sampling::StudentImage;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Name of the student image in the page's folder.
pub const STUDENT: &str = "student.fsw";

/// The files of a page beside the student.
pub const FILES: [(&str, &[u8]); 9] = [
    ("index.html", include_bytes!("site/index.html")),
    ("page.css", include_bytes!("site/page.css")),
    ("main.js", include_bytes!("site/main.js")),
    ("student.js", include_bytes!("site/student.js")),
    ("canvas.js", include_bytes!("site/canvas.js")),
    ("drawing.js", include_bytes!("site/drawing.js")),
    ("worker.js", include_bytes!("site/worker.js")),
    // For browsers without simd128, which are old.
    ("core.wasm", include_bytes!("site/core.wasm")),
    ("core-simd128.wasm", include_bytes!("site/core-simd128.wasm")),
];

/// Writes the page around `image` into `folder`, which is made if need be; files of the same names are replaced, the
/// first page last. Returns the bytes of all files.
///
/// # Errors
/// A file cannot be written.
pub fn write(folder: &Path, image: &StudentImage) -> Result<usize> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut bytes_of_all = 0;
    // From the end: whoever finds index.html finds the rest.
    for (name, bytes) in FILES.into_iter().chain([(STUDENT, image.bytes())]).rev() {
        files::write_atomic(&folder.join(name), |w| Ok(w.write_all(bytes)?))?;
        bytes_of_all += bytes.len();
    }
    Ok(bytes_of_all)
}
