//! Hostile bytes without a panic: structured and random mutation of the files that the host tools read. The loader and
//! the slots have such a test in fewstep-core.

use fewstep::export::{ExportOptions, StudentSpec, random_int4_student, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::flash::{Region, Target, hex, uf2};
use fewstep::nn::Arch;
use fewstep_core::slots::Manifest;
use fewstep_tests::fuzz::{fuzz, mutate};

fn image(side: usize, channels: usize, heads: usize, steps: usize) -> Vec<u8> {
    image_of(random_student, side, channels, heads, steps)
}

type Random = fn(&Arch, usize, u64) -> StudentSpec;

fn image_of(random: Random, side: usize, channels: usize, heads: usize, steps: usize) -> Vec<u8> {
    let arch = Arch {
        height: side,
        width: side,
        channels,
        classes: 2,
        patch: 2,
        widths: vec![8],
        encoder: Vec::new(),
        middle: 1,
        decoder: Vec::new(),
        attention_heads: heads,
        embed: 8,
        base: 0,
    };
    let options = ExportOptions::default();
    write_image(&random(&arch, steps, 1), &options).unwrap().bytes.to_vec()
}

/// An image that enlarges, in bands as low as they get.
fn bands() -> Vec<u8> {
    let arch = Arch { middle: 1, widths: vec![24], embed: 8, ..Arch::for_enlarging(48, 4, 1, 2) };
    let spec = random_student(&arch, 1, 1);
    let write = |arena_limit| {
        let exported = write_image(&spec, &ExportOptions { arena_limit, scratch_bytes: 0, ..ExportOptions::default() });
        exported.map(|exported| (exported.plan.arena_bytes, exported.bytes))
    };
    let mut smallest = write(None).unwrap();
    while let Ok(smaller) = write(Some(smallest.0 - 1)) {
        smallest = smaller;
    }
    smallest.1
}

/// The images that fewstep-core's test mutates are those that the exporter writes today. `FEWSTEP_WRITE=1` writes them.
#[test]
fn the_core_fuzzes_these_images() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/images");
    for (name, bytes) in [
        ("plain", image(4, 1, 0, 1)),
        ("attention", image(4, 1, 2, 2)),
        ("colour", image(6, 3, 0, 4)),
        ("int4", image_of(random_int4_student, 4, 1, 2, 2)),
        ("bands", bands()),
    ] {
        let path = folder.join(name).with_extension("fsw");
        if std::env::var_os("FEWSTEP_WRITE").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}.fsw is old: run this test with FEWSTEP_WRITE=1");
    }
}

#[test]
fn hex_files() {
    let region = Region { address: 0x0801_ffe0, bytes: (0..100u8).collect() };
    let text = hex::write(&region).into_bytes();
    fuzz("Intel HEX", 150_000, |random| {
        let mut bytes = text.clone();
        mutate(&mut bytes, random);
        let Ok(text) = std::str::from_utf8(&bytes) else { return false };
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        if random.chance(2) {
            // Right checksums again.
            for line in &mut lines {
                let digits = line.get(1..line.len().saturating_sub(2)).unwrap_or("");
                let pairs = digits.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).unwrap_or("x"));
                let sum = pairs.map(|p| u8::from_str_radix(p, 16).unwrap_or(0)).fold(0u8, u8::wrapping_add);
                *line = format!(":{digits}{:02X}", sum.wrapping_neg());
            }
        }
        hex::read(&lines.join("\n")).is_ok()
    });
}

#[test]
fn uf2_files() {
    let region = Region { address: 0x1010_0000, bytes: (0..600u32).map(|i| i as u8).collect() };
    let file = uf2::write(&region, 0xe48b_ff58).unwrap();
    fuzz("UF2", 150_000, |random| {
        let mut bytes = file.clone();
        if random.chance(2) {
            mutate(&mut bytes, random);
        } else {
            // A field of a block's head.
            let at = random.below(3) * 512 + random.below(8) * 4;
            let value = [0, 1, 256, 476, 477, u32::MAX, random.word()][random.below(7)];
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        uf2::read(&bytes).is_ok()
    });
}

#[test]
fn target_files() {
    let corpus = [
        include_str!("../../host/targets/stm32h743.toml"),
        include_str!("../../host/targets/nrf5340.toml"),
        include_str!("../../host/targets/an386.toml"),
    ]
    .map(|text| text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"));
    let image = image(4, 1, 0, 1);
    fuzz("targets", 60_000, |random| {
        let mut bytes = corpus[random.below(corpus.len())].clone().into_bytes();
        if random.chance(2) {
            mutate(&mut bytes, random);
        } else {
            // Another number somewhere.
            let text = String::from_utf8(bytes).unwrap();
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            let at = random.below(lines.len());
            if let Some((key, _)) = lines[at].split_once(" = ") {
                let value = [0, 1, 16, 1024, 0x8000_0000, u64::from(u32::MAX), u64::from(random.word())];
                lines[at] = format!("{key} = {}", value[random.below(7)]);
            }
            bytes = lines.join("\n").into_bytes();
        }
        let Ok(text) = String::from_utf8(bytes) else { return false };
        let Ok(target) = Target::parse("x", &text) else { return false };
        // What is accepted can be planned for.
        let _ = fewstep::flash::fit::fit(&AlignedBytes::from(&image[..]), &target, &[]);
        let manifest = Manifest::of(&image, 1);
        let _ = fewstep::flash::plan(&image, &manifest, &target, fewstep::flash::SlotName::A, 1);
        true
    });
}

/// Every shipped scenario, with its words changed: a number, a name, a line, a byte.
#[test]
fn scenario_files() {
    let folder = fewstep_tests::project().join("firmware-sim/scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let corpus: Vec<String> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    const WORDS: [&str; 12] =
        ["0", "-1", "4294967296", "18446744073709551616", "nan", "1e400", "\"\"", "[]", "{}", "true", "[[event]]", "="];
    fuzz("scenarios", 60_000, |random| {
        let text = &corpus[random.below(corpus.len())];
        let changed: String;
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let at = random.below(lines.len());
        match random.below(4) {
            0 => {
                lines.remove(at);
            }
            1 => lines.insert(at, lines[random.below(lines.len())]),
            _ => {
                let words: Vec<&str> = lines[at].split(' ').collect();
                let place = random.below(words.len());
                let word = WORDS[random.below(WORDS.len())];
                changed = words
                    .iter()
                    .enumerate()
                    .map(|(i, w)| if i == place { word } else { *w })
                    .collect::<Vec<_>>()
                    .join(" ");
                lines[at] = &changed;
            }
        }
        let mut bytes = lines.join("\n").into_bytes();
        if random.chance(4) {
            mutate(&mut bytes, random);
        }
        let Ok(text) = String::from_utf8(bytes) else { return false };
        let Ok(file) = fewstep_scenario::ScenarioFile::parse(&text) else { return false };
        // What is accepted can be told.
        file.events.iter().map(ToString::to_string).all(|line| !line.is_empty())
    });
}

/// Key files, private and public, damaged in any way.
#[test]
fn key_files() {
    use fewstep_scenario::signing::{SigningKey, public_key};
    let key = SigningKey::generate();
    let corpus = [key.to_pem(), key.public_pem()];
    fuzz("keys", 100_000, |random| {
        let mut bytes = corpus[random.below(corpus.len())].clone().into_bytes();
        mutate(&mut bytes, random);
        let Ok(text) = String::from_utf8(bytes) else { return false };
        let private = SigningKey::from_pem(&text);
        public_key(&text).is_ok() | private.is_ok_and(|key| key.to_pem().len() == corpus[0].len())
    });
}

/// C arrays and ELF files that the program reads back, and files of counts.
#[test]
fn files_read_back() {
    let target = Target::find("stm32h743").unwrap();
    let region = Region { address: 0x0802_0000, bytes: (0..96u8).collect() };
    let folder = fewstep_tests::Folder::new("fuzz-read-back");
    let counts = b"[[count]]\ncpu = \"cortex-m7\"\nimage = 0x1234\ninstructions_per_step = 35_900_000\n".to_vec();
    let path = folder.join("x.elf");
    fewstep::flash::write_checked(&path, &region, fewstep::flash::Format::Elf, &target).unwrap();
    let elf = std::fs::read(&path).unwrap();
    fuzz("ELF", 100_000, |random| {
        let mut bytes = elf.clone();
        mutate(&mut bytes, random);
        fewstep::flash::elf::read(&bytes).is_ok()
    });
    fuzz("counts", 60_000, |random| {
        let mut bytes = counts.clone();
        mutate(&mut bytes, random);
        std::str::from_utf8(&bytes).is_ok_and(|text| fewstep::flash::counts::parse(text).is_ok())
    });
}
