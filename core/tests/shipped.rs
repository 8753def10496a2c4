//! Whole pictures of the shipped students, with every backend that this CPU runs: the committed bytes.
//!
//! The table below was printed by
//!
//! ```text
//! cargo test --release -p fewstep-core --test shipped -- --ignored --nocapture
//! ```
//!
//! `FEWSTEP_EXPECT_BACKENDS`, names with spaces between, says which backends have to be there: emulated CPUs have them or
//! have them not.

use std::path::PathBuf;

use fewstep_core::format::crc::crc32c;
use fewstep_core::{Backend, IMAGE_ALIGN, Model, Prepared, Request, Sampler, Session};

/// File, number of pictures, CRC-32C of the pictures one behind the other.
const GOLDEN: [(&str, u16, u32); 4] = [
    ("fashion-mnist-student-1.fsw", 20, 0xd03e_8613),
    ("fashion-mnist-student-2.fsw", 2, 0xb877_f075),
    ("fashion-mnist-student-4.fsw", 2, 0x7cb6_6d7d),
    ("fashion-mnist-student-4-int4.fsw", 2, 0x1928_dee2),
];

/// `len` bytes aligned as an image and an arena have to be.
fn aligned(storage: &mut Vec<u8>, len: usize) -> &mut [u8] {
    storage.resize(len + IMAGE_ALIGN, 0);
    let at = storage.as_ptr().align_offset(IMAGE_ALIGN);
    &mut storage[at..at + len]
}

/// `count` pictures: of every class in turn, by both samplers, of two strengths.
fn pictures(name: &str, count: u16, backend: Backend, prepared: bool) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets").join(name);
    let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut image, mut arena) = (Vec::new(), Vec::new());
    let image = aligned(&mut image, file.len());
    image.copy_from_slice(&file);
    let model = Model::parse(image).unwrap();
    let (arena, mut room) = (aligned(&mut arena, model.arena_bytes()), Vec::new());
    let prepared =
        prepared.then(|| Prepared::new(&model, backend, aligned(&mut room, Prepared::bytes(&model, backend))).unwrap());
    let mut session = match &prepared {
        Some(prepared) => Session::with_prepared(prepared, arena),
        None => Session::with_backend(&model, arena, backend),
    }
    .unwrap();
    let mut pictures = Vec::new();
    for i in 0..count {
        let (w, sampler) = if i % 2 == 0 { (1.5, Sampler::Deterministic) } else { (3.0, Sampler::Stochastic) };
        let class = i % model.info().classes;
        let request = Request { seed: u64::from(i), class, w, sampler, ..Request::default() };
        let mut picture = vec![0; model.output_bytes()];
        session.sample(&request, &mut picture).unwrap();
        pictures.extend(picture);
    }
    pictures
}

#[test]
fn pictures_are_the_golden_ones() {
    for (name, count, golden) in GOLDEN {
        for (backend, prepared) in Backend::all().flat_map(|backend| [(backend, false), (backend, true)]) {
            let found = crc32c(&pictures(name, count, backend, prepared));
            assert_eq!(found, golden, "{name} with {}, prepared: {prepared}: {found:#010x}", backend.name());
        }
    }
}

#[test]
fn expected_backends_are_there() {
    let Ok(expected) = std::env::var("FEWSTEP_EXPECT_BACKENDS") else { return };
    let found: Vec<_> = Backend::all().map(|b| b.name()).collect();
    assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
#[ignore = "prints the table"]
fn print() {
    for (name, count, _) in GOLDEN {
        println!("    (\"{name}\", {count}, {:#010x}),", crc32c(&pictures(name, count, Backend::scalar(), false)));
    }
}
