//! Draws pictures and says how long one took: for targets where the command line does not run.
//!
//! ```text
//! draw FILE.fsw BACKEND COUNT [prepared]    BACKEND: a name, or `best`; prepared: with weights that are made once.
//!                                           Prints: backend, CRC-32C of the pictures, median milliseconds of a picture
//! ```

use std::process::ExitCode;
use std::time::Instant;

use fewstep_core::format::crc::crc32c;
use fewstep_core::{Backend, IMAGE_ALIGN, Model, Prepared, Request, Session};

/// `len` bytes aligned as an image and an arena have to be.
fn aligned(storage: &mut Vec<u8>, len: usize) -> &mut [u8] {
    storage.resize(len + IMAGE_ALIGN, 0);
    let at = storage.as_ptr().align_offset(IMAGE_ALIGN);
    &mut storage[at..at + len]
}

fn draw(file: &str, name: &str, count: &str, prepared: bool) -> Result<(), String> {
    let count = count.parse::<u16>().ok().filter(|&count| count > 0).ok_or(format!("not a count: {count}"))?;
    let backend = match name {
        "best" => Backend::best(),
        _ => Backend::all().find(|backend| backend.name() == name).ok_or(format!("no backend {name} on this CPU"))?,
    };
    let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
    let (mut image, mut arena, mut pictures, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let image = aligned(&mut image, bytes.len());
    image.copy_from_slice(&bytes);
    let model = Model::parse(image).map_err(|e| format!("{file}: {e}"))?;
    let (arena, mut room) = (aligned(&mut arena, model.arena_bytes()), Vec::new());
    let weights;
    let mut session = if prepared {
        weights = Prepared::new(&model, backend, aligned(&mut room, Prepared::bytes(&model, backend)))
            .map_err(|e| format!("{file}: {e}"))?;
        Session::with_prepared(&weights, arena)
    } else {
        Session::with_backend(&model, arena, backend)
    }
    .map_err(|e| format!("{file}: {e}"))?;
    let mut picture = vec![0; model.output_bytes()];
    for i in 0..count {
        let request = Request { seed: i.into(), class: i % model.info().classes, w: 1.5, ..Request::default() };
        let start = Instant::now();
        session.sample(&request, &mut picture).map_err(|e| format!("{file}: {e}"))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        pictures.extend_from_slice(&picture);
    }
    times.sort_unstable_by(f64::total_cmp);
    println!("{} {:08x} {:.4}", backend.name(), crc32c(&pictures), times[times.len() / 2]);
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [file, name, count] => draw(file, name, count, false),
        [file, name, count, option] if option == "prepared" => draw(file, name, count, true),
        _ => Err("draw FILE.fsw BACKEND COUNT [prepared]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}
