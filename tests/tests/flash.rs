//! `fewstep flash` and `fewstep fit`: independent readers see what was written, a written slot boots, refusals help.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::flash::counts;
use fewstep::flash::fit::{Fit, fit};
use fewstep::flash::{Region, Target};
use fewstep::nn::{Arch, Checkpoint};
use fewstep_core::Model;
use fewstep_core::slots::{HEAD_BYTES, Layout, Rules, Slots};
use fewstep_tests::flash::Flash;
use fewstep_tests::{Folder, fewstep_program, project};
use serde_json::Value;

fn student() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fashion-mnist-student-4.fsw")
}

fn fewstep(arguments: &[&str]) -> Output {
    Command::new(fewstep_program()).args(arguments).output().unwrap()
}

/// Runs `flash` and returns its report.
fn flash(target: &str, slot: &str, out: &Path) -> Value {
    let file = student();
    let arguments =
        ["flash", file.to_str().unwrap(), "--target", target, "--slot", slot, "--out", out.to_str().unwrap(), "--json"];
    let output = fewstep(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = fewstep(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The raw bytes, which other formats are compared with.
fn raw(folder: &Folder, target: &str, slot: &str) -> Region {
    let path = folder.join("raw.bin");
    let report = flash(target, slot, &path);
    Region { address: report["address"].as_u64().unwrap() as u32, bytes: std::fs::read(path).unwrap() }
}

#[test]
fn a_written_slot_boots_confirmed() {
    let folder = Folder::new("flash-boots");
    let image = std::fs::read(student()).unwrap();
    for slot in ["a", "b"] {
        let target = Target::find("stm32h743").unwrap();
        let region = raw(&folder, "stm32h743", slot);
        let origin = target.flash.origin;
        let mut chip = Flash::<32, { 128 << 10 }>::new(target.flash.size as usize);
        chip.program((region.address - origin) as usize, &region.bytes);
        let layout =
            Layout { a: target.slots.a - origin, b: target.slots.b.unwrap() - origin, bytes: target.slots.bytes };
        let mut slots = Slots::new(chip, layout, Rules::default()).unwrap();
        let booted = slots.boot().unwrap();
        assert!(!booted.trial && booted.version == 1);
        let at = booted.offset as usize;
        let bytes = AlignedBytes::from(&slots.flash().bytes()[at..at + booted.bytes as usize]);
        assert!(*bytes == image);
        Model::parse(&bytes).unwrap();
    }
}

#[test]
fn emulated_boards_read_the_image_where_it_is_written() {
    let folder = Folder::new("flash-boards");
    let image = std::fs::read(student()).unwrap();
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-sim/boards");
    for name in ["an386", "an500", "an505", "an547", "riscv32"] {
        let text = std::fs::read_to_string(boards.join(name).join("board.toml")).unwrap();
        let board: toml::Table = text.parse().unwrap();
        let number = |key: &str| u32::try_from(board["flash"][key].as_integer().unwrap()).unwrap();
        let region = raw(&folder, name, "a");
        assert_eq!(region.address, number("origin") + number("firmware"), "{name}");
        assert!(region.bytes[..image.len()] == image, "{name}");
        let target = Target::find(name).unwrap();
        assert_eq!(target.slots.bytes, number("size") - number("firmware") - number("request"), "{name}");
    }
}

#[test]
fn hex_is_what_another_reader_reads() {
    let folder = Folder::new("flash-hex");
    let want = raw(&folder, "stm32h743", "b");
    let path = folder.join("x.hex");
    flash("stm32h743", "b", &path);
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut base, mut bytes, mut first) = (0, Vec::new(), None);
    for record in ihex::Reader::new(&text) {
        match record.unwrap() {
            ihex::Record::Data { offset, value } => {
                let at = base + u32::from(offset);
                assert_eq!(at, *first.get_or_insert(at) + bytes.len() as u32);
                bytes.extend(value);
            }
            ihex::Record::ExtendedLinearAddress(upper) => base = u32::from(upper) << 16,
            ihex::Record::EndOfFile => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first, Some(want.address));
    assert!(bytes == want.bytes);
}

#[test]
fn uf2_is_what_another_reader_reads() {
    let folder = Folder::new("flash-uf2");
    let want = raw(&folder, "rp2350", "a");
    let path = folder.join("x.uf2");
    flash("rp2350", "a", &path);
    let (bytes, families) = uf2_decode::convert_from_uf2(&std::fs::read(&path).unwrap()).unwrap();
    assert!(bytes[..want.bytes.len()] == want.bytes && bytes.len() < want.bytes.len() + 256);
    assert_eq!(families.get(&0xe48b_ff58), Some(&u64::from(want.address)));
}

/// objcopy reads HEX and ELF; without one the test says so, and fails where tools are required.
#[test]
fn objcopy_makes_the_same_binary() {
    let tools = ["arm-none-eabi-objcopy", "llvm-objcopy", "objcopy"];
    let Some(tool) = tools.iter().find(|t| Command::new(t).arg("--version").output().is_ok()) else {
        assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "no objcopy: install binutils-arm-none-eabi");
        println!("SKIPPED: no objcopy");
        return;
    };
    let folder = Folder::new("flash-objcopy");
    let want = raw(&folder, "stm32h743", "a");
    for (name, form) in [("x.elf", None), ("x.hex", Some("ihex"))] {
        let (path, out) = (folder.join(name), folder.join("back.bin"));
        flash("stm32h743", "a", &path);
        let mut command = Command::new(tool);
        if let Some(form) = form {
            command.args(["-I", form]);
        }
        let done = command.args(["-O", "binary"]).arg(&path).arg(&out).output().unwrap();
        assert!(done.status.success(), "{tool} {name}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(std::fs::read(out).unwrap() == want.bytes, "{tool} {name}");
    }
}

/// The C array is compiled and read out of the object.
#[test]
fn a_compiler_takes_the_c_array() {
    let folder = Folder::new("flash-c");
    let want = raw(&folder, "nrf52840-single", "a");
    let path = folder.join("my weights.c");
    flash("nrf52840-single", "a", &path);
    let (object, out) = (folder.join("x.o"), folder.join("x.bin"));
    let done = Command::new("cc").args(["-Wall", "-Werror", "-c", "-o"]).args([&object, &path]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = Command::new("objcopy").args(["-O", "binary", "-j", ".fewstep"]).args([&object, &out]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::read(out).unwrap() == want.bytes);
    let header = std::fs::read_to_string(folder.join("my weights.h")).unwrap();
    assert!(header.contains(&format!("MY_WEIGHTS_ADDRESS UINT32_C(0x{:08x})", want.address)), "{header}");
}

#[test]
fn refusals_say_what_to_change() {
    let folder = Folder::new("flash-refusals");
    let (file, out) = (student(), folder.join("x.hex"));
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    let uf2 = folder.join("x.uf2");
    let uf2 = uf2.to_str().unwrap();
    let nrf = include_str!("../../host/targets/nrf52840-single.toml");
    let own = |name: &str, from: &str, to: &str| {
        assert!(nrf.contains(from));
        let path = folder.join(name);
        std::fs::write(&path, nrf.replacen(from, to, 1)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let overlap = own("overlap.toml", "a = 0x1_8000", "a = 0x1_0000");
    let misaligned = own("misaligned.toml", "a = 0x1_8000", "a = 0x1_8010");
    let small = own("small.toml", "size = 0x4_0000", "size = 0x1_0000");
    let flash = |target: &str, out: &str, more: &[&str]| {
        refusal(&[&["flash", file, "--target", target, "--out", out], more].concat())
    };
    for (message, says) in [
        (flash("stm32h999", out, &[]), vec!["unknown target", "stm32h743"]),
        (flash("nrf52840", out, &[]), vec!["a slot of nrf52840 holds", "fewstep fit FILE --target nrf52840"]),
        (flash("nrf52840-single", out, &["--slot", "b"]), vec!["has one slot; use --slot a"]),
        (flash("nrf5340-single", uf2, &[]), vec!["has no UF2 family: use another format"]),
        (flash(&overlap, out, &[]), vec!["overlaps the firmware", "move the slot behind it"]),
        (flash(&misaligned, out, &[]), vec!["is not aligned to 0x1000"]),
        (flash(&small, out, &[]), vec!["needs an arena of"]),
        (flash("stm32h743", folder.join("x.xyz").to_str().unwrap(), &[]), vec!["tells no format", "--format"]),
        (flash("stm32h743", out, &["--format", "c"]), vec!["its ending .hex is not that of --format c"]),
        (flash("stm32h743", folder.join("x.h").to_str().unwrap(), &["--format", "c"]), vec!["name the .c file"]),
        (flash("stm32h743", folder.join("x.h").to_str().unwrap(), &[]), vec!["name the .c file"]),
        (flash("stm32h743", out, &["--image-version", "-1"]), vec!["--image-version", "-1 is not in 0..=4294967295"]),
        (flash("stm32h743", out, &["--sequence", "-1"]), vec!["--sequence", "-1 is not in 0..=4294967295"]),
    ] {
        assert!(says.iter().all(|s| message.contains(s)), "{message}");
        assert!(message.lines().count() <= 1 || message.contains("toml"), "{message}");
    }
    assert!(!folder.names().iter().any(|n| n.starts_with("x.")), "{:?}", folder.names());
}

#[test]
fn fit_tells_what_would_make_it_fit() {
    let file = student();
    let file = file.to_str().unwrap();
    let report = |arguments: &[&str]| -> Value {
        let output = fewstep(&[&["fit", file, "--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = report(&["--all"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), Target::names().count());
    let order: Vec<_> =
        all.iter().map(|f| (!f["fits"].as_bool().unwrap(), f["estimated_seconds"].as_f64().unwrap())).collect();
    assert!(order.is_sorted(), "{order:?}");
    let h7 = report(&["--target", "stm32h743"]);
    assert!(h7["fits"] == true && h7["counted"] == false && h7["remedies"].as_array().unwrap().is_empty());
    assert!(h7["flash"]["image"].as_u64().unwrap() == std::fs::metadata(file).unwrap().len() + 1024);
    assert!(refusal(&["fit", file]).contains("give --target NAME, or --all"));
    // The whole program ends with 2 where it does not fit, with the remedies in its message.
    let message = refusal(&["fit", file, "--target", "nrf52840"]);
    for says in ["int4 weights", "--weights int4", "% of the channels", "--target nrf52840-single"] {
        assert!(message.contains(says), "{message}");
    }
    // Counts are taken where there are some.
    let folder = Folder::new("fit-counts");
    let crc = fewstep_core::format::crc::crc32c(&std::fs::read(file).unwrap());
    let counts = folder.join("counts.toml");
    let text = format!("[[count]]\ncpu = \"cortex-m7\"\nimage = {crc}\ninstructions_per_step = 480_000_000\n");
    std::fs::write(&counts, text).unwrap();
    let h7 = report(&["--target", "stm32h743", "--counts", counts.to_str().unwrap()]);
    assert!(h7["counted"] == true && h7["estimated_seconds"] == 4.0);
    // And refused where they are of another CPU or another image: both are named.
    let nrf = ["fit", file, "--target", "nrf52840-single", "--counts", counts.to_str().unwrap()];
    let message = refusal(&nrf);
    let image = format!("{crc:#010x}");
    assert!(message.contains(&format!("no count for cortex-m4 with image {image}")), "{message}");
    assert!(message.contains(&format!("but cortex-m7 with image {image}")), "{message}");
    assert!(message.contains("--board an386 --out counts.toml"), "{message}");
    let other = project().join("assets/fashion-mnist-student-2.fsw");
    for which in [&["--target", "stm32h743"][..], &["--all"]] {
        let arguments = [&["fit", other.to_str().unwrap(), "--counts", counts.to_str().unwrap()], which].concat();
        let message = refusal(&arguments);
        assert!(message.contains("has no count for") && message.contains(&image), "{message}");
    }
}

/// Runs docs/flashing.md's lines that count, as they stand there.
#[cfg(unix)]
#[test]
fn counted_on_a_board_then_fitted() {
    let folder = Folder::new("fit-counted");
    let assets = std::fs::canonicalize(project().join("assets")).unwrap();
    std::os::unix::fs::symlink(assets, folder.join("assets")).unwrap();
    let page = std::fs::read_to_string(project().join("docs/flashing.md")).unwrap();
    let lines: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("counts.toml"))
        .filter_map(|line| line.strip_prefix("fewstep "))
        .collect();
    let run = |line: &str| {
        Command::new(fewstep_program()).args(line.split_whitespace()).current_dir(folder.path()).output().unwrap()
    };
    let [count, fitted] = lines[..] else { panic!("{lines:?}") };
    let output = run(count);
    let log = String::from_utf8_lossy(&output.stderr);
    if log.contains("is not on the PATH") || log.contains("no Rust target") || log.contains("cannot count") {
        assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "{log}");
        println!("SKIPPED: {log}");
        return;
    }
    assert!(output.status.success(), "{log}");
    // Each step is told once.
    assert_eq!(log.lines().filter(|line| line.contains("step 1 of 4")).count(), 1, "{log}");
    let image = std::fs::read(student()).unwrap();
    let text = std::fs::read_to_string(folder.join("counts.toml")).unwrap();
    let [count] = &counts::parse(&text).unwrap()[..] else { panic!("{text}") };
    assert_eq!((count.cpu.as_str(), count.image), ("cortex-m7", fewstep_core::format::crc::crc32c(&image)));
    let output = run(fitted);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("counted by the simulator"), "{said}");
    let picture: f64 = count.instructions_per_step as f64 * 4.0 / 1e6;
    assert!(said.contains(&format!("{picture:.1} M per picture of 4 steps")), "{said}");
    // The estimate is made from this student.
    let estimate = fit(&AlignedBytes::from(&image[..]), &Target::find("stm32h743").unwrap(), &[]).unwrap();
    let part = estimate.instructions_per_picture as f64 / (picture * 1e6);
    assert!((0.95..1.05).contains(&part), "{part}");
}

/// A file that does not fit promises no updates.
#[test]
fn what_is_too_large_has_no_updates() {
    let file = student();
    let file = file.to_str().unwrap();
    for (target, fits) in [("stm32h743", true), ("nrf52840", false)] {
        let output = fewstep(&["fit", file, "--target", target]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.contains("TOO LARGE"), !fits, "{said}");
        assert_eq!(said.contains("beside the running image"), fits, "{said}");
    }
}

/// The size that is said for int4 weights is that of the shipped student with such, to the byte.
#[test]
fn int4_is_as_large_as_is_said() {
    let shipped = |name: &str| AlignedBytes::from(&std::fs::read(project().join("assets").join(name)).unwrap()[..]);
    let (int8, int4) = (shipped("fashion-mnist-student-4.fsw"), shipped("fashion-mnist-student-4-int4.fsw"));
    let target = Target::find("nrf52840").unwrap();
    let refused = fit(&int8, &target, &[]).unwrap();
    assert_eq!(remedy(&refused, "int4 weights", "bytes"), (int4.len() + HEAD_BYTES) as u64);
    assert!(
        refused.remedies.iter().any(|r| r.contains("`fewstep export STUDENT.safetensors --steps 4 --weights int4 "))
    );
    assert!(fit(&int4, &target, &[]).unwrap().fits);
    // Its arena has room for decoded weights.
    let arena = |image: &AlignedBytes| u64::from(Model::parse(image).unwrap().info().arena_bytes);
    assert!(arena(&int4) - arena(&int8) <= remedy(&refused, "int4 weights", "more"));
    // Who has them is not told to take them.
    let mut tight = target.clone();
    tight.slots.bytes = int4.len() as u32;
    let refused = fit(&int4, &tight, &[]).unwrap();
    assert!(!refused.fits && !refused.remedies.iter().any(|r| r.starts_with("int4")), "{:?}", refused.remedies);
}

/// The number before a word in the remedy that starts with `start`.
fn remedy(fit: &Fit, start: &str, before: &str) -> u64 {
    let remedy = fit.remedies.iter().find(|r| r.starts_with(start)).unwrap_or_else(|| panic!("{:?}", fit.remedies));
    let words: Vec<&str> = remedy.split(' ').collect();
    let place = words.iter().position(|word| *word == before).unwrap();
    words[place - 1].parse().unwrap_or_else(|_| panic!("{remedy}"))
}

/// What is said to make it fit is done, with random weights, and then it fits.
#[test]
fn what_would_make_it_fit_does() {
    let shipped = project().join("assets/fashion-mnist-student-4.safetensors");
    let arch = Checkpoint::open(&shipped, &candle_core::Device::Cpu).unwrap().net.arch;
    let export = |arch: &Arch, steps: usize, scratch_bytes: u32| {
        let options = ExportOptions { scratch_bytes, ..ExportOptions::default() };
        AlignedBytes::from(&write_image(&random_student(arch, steps, 1), &options).unwrap().bytes[..])
    };
    let scratch = ExportOptions::default().scratch_bytes;
    let whole = export(&arch, 4, scratch);
    let info = Model::parse(&whole).unwrap().info();
    let roomy = Target::find("stm32h743").unwrap();
    assert!(fit(&whole, &roomy, &[]).unwrap().fits);

    // Fewer channels: as many as are said, down to the next multiple of 8.
    let small = Target::find("nrf52840").unwrap();
    let refused = fit(&whole, &small, &[]).unwrap();
    let percent = remedy(&refused, "a narrower student", "%") as usize;
    assert!((50..100).contains(&percent) && !refused.remedies.iter().any(|r| r.starts_with("fewer steps")));
    let narrow = |percent: usize| Arch {
        widths: arch.widths.iter().map(|w| w * percent / 100 / 8 * 8).collect(),
        ..arch.clone()
    };
    assert!(fit(&export(&narrow(percent), 4, scratch), &small, &[]).unwrap().fits, "{percent} %");

    // Fewer steps: where the image is too large by less than its rows of parameters.
    let mut tight = roomy.clone();
    tight.slots.bytes = info.file_bytes + HEAD_BYTES as u32 - 1500;
    let steps = remedy(&fit(&whole, &tight, &[]).unwrap(), "fewer steps:", "instead") as usize;
    assert!((1..4).contains(&steps) && fit(&export(&arch, steps, scratch), &tight, &[]).unwrap().fits, "{steps}");

    // Less scratch, and fewer channels, for the arena.
    let mut tight = roomy.clone();
    tight.ram.size = tight.ram.stack + tight.ram.firmware + info.arena_bytes - 5000;
    let less = remedy(&fit(&whole, &tight, &[]).unwrap(), "less scratch:", "bytes") as u32;
    assert!(less < scratch && fit(&export(&arch, 4, less), &tight, &[]).unwrap().fits, "{less}");
    for (part, of) in [(3, 4), (1, 2), (2, 5)] {
        tight.ram.size = tight.ram.stack + tight.ram.firmware + info.arena_bytes * part / of;
        let refused = fit(&whole, &tight, &[]).unwrap();
        let percent = remedy(&refused, "a narrower student", "%") as usize;
        let scratch = remedy(&refused, "a narrower student", "bytes") as u32;
        assert!(narrow(percent).widths.iter().all(|&width| width >= 8), "{percent} %");
        let narrower = fit(&export(&narrow(percent), 4, scratch), &tight, &[]).unwrap();
        assert!(narrower.ram.image <= narrower.ram.room, "{part}/{of}, {percent} %: {:?}", narrower.ram);
    }
    // Where even the narrowest is too wide, no width is advised.
    tight.ram.size = tight.ram.stack + tight.ram.firmware + info.arena_bytes / 8;
    let refused = fit(&whole, &tight, &[]).unwrap();
    assert!(refused.remedies.iter().any(|r| r.contains("no width is small enough")), "{:?}", refused.remedies);
    assert!(!refused.remedies.iter().any(|r| r.starts_with("a narrower student")), "{:?}", refused.remedies);
}
