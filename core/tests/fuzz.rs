//! Hostile bytes without a panic: structured and random mutation of student images and of slots in flash. Needs only
//! the stable toolchain. `./check fuzz` runs a hundred times as many, optimised and with overflow checks:
//!
//! ```text
//! FEWSTEP_FUZZ=100 cargo test -p fewstep-core --features signed --profile checked --test fuzz -- --nocapture
//! ```
//!
//! The images are written by `FEWSTEP_WRITE=1 cargo test --release --workspace --test fuzz the_core_fuzzes_these_images`.

#[path = "../../tests/src/flash.rs"]
#[allow(dead_code)]
mod flash;
#[path = "../../tests/src/fuzz.rs"]
mod hostile;

use fewstep_core::format::crc::crc32c;
use fewstep_core::format::header::{HEADER_LEN, SECTION_LEN};
use fewstep_core::slots::{HEAD_BYTES, Layout, Manifest, Rules, Slots, head};
use fewstep_core::{Direction, Model, Request, Session};
use flash::Flash;
use hostile::{fuzz, mutate};

/// Memory for so many bytes, aligned as images and arenas are.
fn memory(bytes: usize) -> Vec<u128> {
    vec![0; bytes.div_ceil(size_of::<u128>())]
}

/// Makes checksums right, so that what lies behind them is reached.
fn repair(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let count = usize::from(u16::from_le_bytes([bytes[12], bytes[13]])).min((bytes.len() - HEADER_LEN) / SECTION_LEN);
    for i in 0..count {
        let at = HEADER_LEN + i * SECTION_LEN;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (from, len) = (word(at + 4), word(at + 8));
        if let Some(section) = from.checked_add(len).and_then(|end| bytes.get(from..end)) {
            let crc = crc32c(section);
            bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let crc = crc32c(&[&bytes[..28], &bytes[HEADER_LEN..HEADER_LEN + count * SECTION_LEN]].concat());
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn loader_and_one_step() {
    let corpus: [&[u8]; 5] = [
        include_bytes!("images/plain.fsw"),
        include_bytes!("images/attention.fsw"),
        include_bytes!("images/colour.fsw"),
        include_bytes!("images/int4.fsw"),
        include_bytes!("images/bands.fsw"),
    ];
    fuzz("loader and one step", 6_000, |random| {
        let mut bytes = corpus[random.below(corpus.len())].to_vec();
        mutate(&mut bytes, random);
        if !random.chance(8) {
            repair(&mut bytes);
        }
        let mut file = memory(bytes.len());
        let file = &mut bytemuck::cast_slice_mut(&mut file)[..bytes.len()];
        file.copy_from_slice(&bytes);
        let Ok(model) = Model::parse(file) else { return false };
        // Whatever passed may be run; its cost is what it says.
        let info = model.info();
        // (Miri is for the parser: it knows no vector instructions, and takes minutes for a step.)
        if cfg!(miri) || info.macs_per_step > 1 << 22 || info.arena_bytes > 1 << 22 {
            return true;
        }
        let mut arena = memory(model.arena_bytes());
        let mut session =
            Session::new(&model, bytemuck::cast_slice_mut(&mut arena)).expect("an arena of the size asked for");
        let request = Request { seed: 1, class: 0, w: info.w_min, ..Request::default() };
        let base = vec![77; model.base_bytes().unwrap_or_default()];
        match (info.direction, model.base_bytes()) {
            (Direction::ToPicture, None) => session.begin(&request),
            (Direction::ToPicture, Some(_)) => session.begin_enlarge(&request, &base),
            (Direction::ToNoise, _) => session.begin_encode(&request, &vec![7; model.output_bytes()]),
        }
        .expect("a right request");
        session.step();
        true
    });
}

#[test]
fn slot_heads_and_chunk_writer() {
    const SLOT: usize = 3072;
    let layout = Layout { a: 0, b: SLOT as u32, bytes: SLOT as u32 };
    let old: Vec<u8> = (0..700u32).map(|i| i as u8).collect();
    let head = head::confirmed(&Manifest::of(&old, 3), 1, 4).unwrap();
    let cell = |at: usize, bytes: &mut [u8]| {
        let crc = crc32c(&bytes[at..at + 12]);
        bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
    };
    fuzz("slot heads and chunk writer", 6_000, |random| {
        let mut flash = Flash::<4, 1024>::new(2 * SLOT);
        for slot in [0, SLOT] {
            let mut bytes = [&head[..], &old].concat();
            if random.chance(2) {
                mutate(&mut bytes, random);
                bytes.resize(HEAD_BYTES + old.len(), 0xff);
            }
            if random.chance(2) {
                // Fields with right checksums: version, length, number, cells of any kind.
                let at = [4, 8, 16, 96][random.below(4)];
                let value = [0, 1, 700, 2048, 2049, u32::MAX, random.word()][random.below(7)];
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                let crc = crc32c(&bytes[..92]);
                bytes[92..96].copy_from_slice(&crc.to_le_bytes());
                let crc = crc32c(&bytes[..124]);
                bytes[124..128].copy_from_slice(&crc.to_le_bytes());
                for i in 0..20 {
                    if random.chance(3) {
                        let at = 128 + i * 16;
                        bytes[at..at + 4].copy_from_slice([b"redy", b"tria", b"conf", b"mark"][random.below(4)]);
                        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
                        let value = [0, 1024, 2048, 3072, u32::MAX, random.word()][random.below(6)];
                        bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
                        cell(at, &mut bytes);
                    }
                }
            }
            // Blank words count as erased.
            for (i, word) in bytes.chunks(4).enumerate().filter(|(_, word)| *word != [0xff; 4]) {
                flash.program(slot + i * 4, word);
            }
        }
        let mut slots = Slots::new(flash, layout, Rules::default()).unwrap();
        let booted = slots.boot();
        let running = |flash: &Flash<4, 1024>| {
            booted.map(|b| flash.bytes()[b.offset as usize..(b.offset + b.bytes) as usize].to_vec())
        };
        let before = running(slots.flash());
        let mut manifest = Manifest::of(&old, random.word()).emit().to_vec();
        if random.chance(2) {
            mutate(&mut manifest, random);
            if manifest.len() >= 96 && random.chance(2) {
                let crc = crc32c(&manifest[..92]);
                manifest[92..96].copy_from_slice(&crc.to_le_bytes());
            }
        }
        let Ok(manifest) = Manifest::parse(&manifest) else { return false };
        for _ in 0..1 + random.below(6) {
            let _ = match random.below(6) {
                0 => slots.begin(&manifest),
                1 => slots.resume(&manifest),
                2 => slots.confirm(),
                3 => slots.finish(),
                _ => slots.push(&old[..random.below(old.len() + 1)]),
            };
        }
        assert!(running(slots.flash()) == before, "the writer touched what runs");
        let broken = slots.release().broken;
        assert!(broken.is_empty(), "{broken:?}");
        booted.is_some()
    });
}
