//! Pictures of twice the size: bands give the bytes of the whole, the large picture agrees with the small one, and the
//! way from data to `sample --upscale` is the one of every student.

use std::process::{Command, Output};

use fewstep::data::{Dataset, npz};
use fewstep::enlarge::{consistency, halved, join, split};
use fewstep::export::{ExportOptions, StudentSpec, random_int4_student, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::flash::Target;
use fewstep::flash::fit::fit;
use fewstep::nn::Arch;
use fewstep::picture::write_png;
use fewstep_core::format::bands::BANDS_LEN;
use fewstep_core::format::buffer::BUFFER_LEN;
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::header::{HEADER_LEN, SECTION_LEN, kind};
use fewstep_core::{Backend, Model, Problem, Progress, Request, RequestError, Sampler, Session, Stage};
use fewstep_tests::{Folder, fewstep_command, project, report};
use serde_json::json;

/// A base of 32x8, 16 x 4 cells of details; so wide that bands save memory. Reaches 4 rows.
fn small() -> Arch {
    Arch { middle: 1, widths: vec![64], ..Arch::for_enlarging(32, 8, 1, 5) }
}

fn image(arch: &Arch, arena_limit: Option<u32>) -> AlignedBytes {
    let options = ExportOptions { arena_limit, ..ExportOptions::default() };
    AlignedBytes::from(write_image(&random_student(arch, 4, 7), &options).unwrap().bytes.as_slice())
}

fn enlarged(bytes: &AlignedBytes, request: &Request, base: &[u8], backend: Backend) -> Vec<u8> {
    let model = Model::parse(bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut out = vec![0; model.output_bytes()];
    Session::with_backend(&model, &mut arena, backend).unwrap().enlarge(request, base, &mut out).unwrap();
    out
}

fn picture(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i % 251) as u8).collect()
}

/// Images with every plan of a student, from one window of all rows to the smallest arena.
fn plans(spec: &StudentSpec) -> Vec<AlignedBytes> {
    let (mut images, mut arena_limit) = (Vec::new(), Some(u32::MAX));
    while let Ok(exported) = write_image(spec, &ExportOptions { arena_limit, ..ExportOptions::default() }) {
        arena_limit = Some(exported.plan.arena_bytes - 1);
        images.push(AlignedBytes::from(exported.bytes.as_slice()));
    }
    images
}

fn rows(image: &AlignedBytes) -> u16 {
    Model::parse(image).unwrap().image().bands().unwrap().rows
}

#[test]
fn bands_have_the_bytes_of_the_whole() {
    for spec in [random_student(&small(), 4, 7), random_int4_student(&small(), 4, 7)] {
        let images = plans(&spec);
        println!("{:?}", images.iter().map(rows).collect::<Vec<_>>());
        assert!(images.len() >= 3 && rows(&images[0]) == 16);
        let base = picture(32 * 8);
        for (class, w, steps, sampler) in
            [(0, 0.0, 0, Sampler::Deterministic), (4, 2.5, 2, Sampler::Deterministic), (2, 1.0, 0, Sampler::Stochastic)]
        {
            let request = Request { seed: 11, class, w, steps, sampler };
            let want = enlarged(&images[0], &request, &base, Backend::scalar());
            assert!(want.iter().any(|v| *v != want[0]));
            for image in &images {
                let rows = rows(image);
                // What bands leave is a buffer more.
                assert_eq!(image.len(), images[0].len() + if rows < 16 { BUFFER_LEN } else { 0 });
                for backend in Backend::all() {
                    assert_eq!(enlarged(image, &request, &base, backend), want, "{rows} rows, {}", backend.name());
                }
            }
        }
    }
}

/// A halo of a row less shows: so it is no wider than needed, and the reader refuses it.
#[test]
fn the_halo_is_what_the_operations_reach() {
    let arch = small();
    assert_eq!(arch.reach(), 4);
    let original = plans(&random_student(&arch, 4, 7)).swap_remove(1);
    let found = (0..usize::from(original[12])).find_map(|i| {
        let at = HEADER_LEN + i * SECTION_LEN;
        let word = |at: usize| u32::from_le_bytes(original[at..at + 4].try_into().unwrap());
        (word(at) == kind::BANDS).then(|| (at, word(at + 4) as usize))
    });
    let (record, at) = found.unwrap();
    let with = |field: usize, value: u16| {
        let mut bytes = original.clone();
        bytes[at + field..at + field + 2].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c(&bytes[at..at + BANDS_LEN]);
        bytes[record + 12..record + 16].copy_from_slice(&crc.to_le_bytes());
        let table = HEADER_LEN..HEADER_LEN + usize::from(bytes[12]) * SECTION_LEN;
        let crc = crc32c(&[&bytes[..28], &bytes[table]].concat());
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        Model::parse(&bytes).map(|_| ()).map_err(|e| (e.problem, e.to_string()))
    };
    assert_eq!(with(4, 4), Ok(()));
    let (problem, sentence) = with(4, 3).unwrap_err();
    assert!(matches!(problem, Problem::OutOfRange { .. } | Problem::Mismatch { .. }), "{sentence}");
    // Fields at values that fit nothing: an error each, and no panic.
    for field in (0..BANDS_LEN).step_by(2) {
        for value in [0x7fff, 0xffff, 0x100] {
            with(field, value).unwrap_err();
        }
    }
}

/// The default network whole; a wider one in bands too, where it has to do with less. What docs/colour.md says of plans.
#[test]
fn images_of_128x128x3_stay_within_their_arena() {
    let usual = Arch::for_enlarging(64, 64, 3, 12);
    let wide = Arch { widths: vec![64], middle: 1, ..usual.clone() };
    let request = Request { seed: 3, class: 11, w: 1.0, ..Request::default() };
    let base = picture(64 * 64 * 3);
    for arch in [usual, wide] {
        let spec = random_student(&arch, 4, 7);
        let exported = write_image(&spec, &ExportOptions::default()).unwrap();
        assert!(exported.plan.arena_bytes <= 512 * 1024 && exported.plan.bands.unwrap().rows == 32);
        let images = plans(&spec);
        for bytes in &images {
            let model = Model::parse(bytes).unwrap();
            let (rounds, info) = (model.image().rounds(), model.info());
            println!("{:?}: {rounds} bands, arena {}, {} MACs", arch.widths, info.arena_bytes, info.macs_per_step);
            assert_eq!(model.output_shape(), (128, 128, 3));
        }
        let whole = enlarged(&images[0], &request, &base, Backend::best());
        let lowest = images.last().unwrap();
        assert!(rows(lowest) == 32 || enlarged(lowest, &request, &base, Backend::best()) == whole);
        assert_eq!(images.len() > 1, arch.middle == 1);
        let agreement = consistency((64, 64, 3), &base, &whole, 4, 4).unwrap();
        assert!(agreement.worst_psnr_db >= 30.0, "{agreement:?}");
    }
}

#[test]
fn details_and_base_make_the_picture_again() {
    let arch = Arch::for_enlarging(6, 10, 3, 5);
    let large: Vec<u8> = (0..12 * 20 * 3).map(|i| 100 + (i * i % 57) as u8).collect();
    let (mut base, mut details) = (vec![0.0; 180], vec![0.0; 540]);
    split(&arch, &large, &mut base, &mut details);
    let bytes = halved(&arch, &large);
    let again = join(&arch, &bytes, &details);
    // The base is rounded to bytes, then the picture is.
    assert!(again.iter().zip(&large).all(|(a, b)| a.abs_diff(*b) <= 1));
    let agreement = consistency((6, 10, 3), &bytes, &large, 8, 4).unwrap();
    assert!(agreement.worst_psnr_db > 50.0, "{agreement:?}");
    // Whatever the details, the means are the base's.
    let bases = [bytes, vec![0; 180], vec![255; 180], picture(180)];
    for (base, size) in bases.iter().flat_map(|base| [0.3, 3.0, 1e6, 1e30].map(|size| (base, size))) {
        let wild: Vec<f32> = (0..540).map(|i| ((i * i % 7) as f32 / 3.0 - 1.0) * size).collect();
        let agreement = consistency((6, 10, 3), base, &join(&arch, base, &wild), 8, 4).unwrap();
        assert!(agreement.worst_psnr_db > 50.0, "{size}: {agreement:?}");
    }
    // What is no number leaves bytes.
    join(&arch, &picture(180), &[f32::NAN; 540]);
}

#[test]
fn sessions_refuse_what_an_image_cannot_do() {
    let bytes = plans(&random_student(&small(), 4, 7)).pop().unwrap();
    let model = Model::parse(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let base = picture(32 * 8);
    let mut session = Session::new(&model, &mut arena).unwrap();
    let request = Request { w: 1.0, ..Request::default() };
    assert_eq!(session.begin(&request), Err(RequestError::NeedsBase));
    let have = base.len() - 1;
    let short = RequestError::PictureLength { found: have, expected: base.len() };
    assert_eq!(session.begin_enlarge(&request, &base[..have]), Err(short));
    // One operation a call; every band has its operations.
    session.begin_enlarge(&request, &base).unwrap();
    let (mut embeds, mut updates) = (0, 0);
    loop {
        match session.stage() {
            Some(Stage::Embed) => embeds += 1,
            Some(Stage::Update) => updates += 1,
            _ => {}
        }
        if session.step_op() == Progress::Done {
            break;
        }
    }
    assert!(model.image().rounds() > 1);
    assert_eq!((embeds, updates), (4, 4 * usize::from(model.image().rounds())));

    let plain = write_image(&random_student(&Arch::for_pictures(8, 8, 1, 2), 1, 1), &ExportOptions::default()).unwrap();
    let plain = AlignedBytes::from(plain.bytes.as_slice());
    let model = Model::parse(&plain).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut session = Session::new(&model, &mut arena).unwrap();
    assert_eq!(session.begin_enlarge(&request, &base), Err(RequestError::NoEnlarger));
}

/// What is said to make a student that enlarges fit is done, and then it fits.
#[test]
fn fit_makes_the_plan_that_fits() {
    let arch = Arch { widths: vec![64], middle: 1, ..Arch::for_enlarging(64, 64, 3, 12) };
    let whole = image(&arch, None);
    let mut target = Target::find("stm32h743").unwrap();
    target.ram.size = target.ram.stack + target.ram.firmware + 64 * 64 * 3 + 420_000;
    let refused = fit(&whole, &target, &[]).unwrap();
    assert!(!refused.fits && refused.bands == 1, "{refused:?}");
    let number = |says: &str, word: usize| -> u32 {
        let remedy = refused.remedies.iter().find(|remedy| remedy.contains(says));
        let remedy = remedy.unwrap_or_else(|| panic!("{:?}", refused.remedies));
        remedy.split(' ').nth(word).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{remedy}"))
    };
    let (bands, arena) = (number("bands of rows", 0), number("bands of rows", 10));
    let banded = fit(&image(&arch, Some(arena)), &target, &[]).unwrap();
    assert!(banded.fits && u32::from(banded.bands) == bands && bands > 1, "{banded:?}");
    assert!(banded.macs_per_step.conv3x3 > refused.macs_per_step.conv3x3);
    let width = number("a narrower student", 3) as usize;
    let narrower = fit(&image(&Arch { widths: vec![width], ..arch }, None), &target, &[]).unwrap();
    assert!(narrower.fits && narrower.bands == 1 && width >= 32, "{width}: {narrower:?}");
}

/// Colour pictures of two classes, 32x32: rings and stripes.
fn pictures() -> Dataset {
    let mut pictures = Vec::new();
    let labels: Vec<u16> = (0..40).map(|i| i % 2).collect();
    for i in 0..40usize {
        for y in 0..32usize {
            for x in 0..32usize {
                let ring = (x.abs_diff(16).pow(2) + y.abs_diff(16).pow(2)).abs_diff(80 + 4 * i) < 48;
                let on = if i % 2 == 0 { ring } else { (x + 2 * i) % 10 < 4 };
                pictures.extend(if on { [250, (6 * i) as u8, 20] } else { [255, 255, 255 - y as u8] });
            }
        }
    }
    let class_names = vec!["ring".into(), "stripes".into()];
    Dataset { height: 32, width: 32, channels: 3, class_names, pictures, labels }
}

/// The same pictures at half their size.
fn half(data: &Dataset) -> Dataset {
    let (height, width) = (data.height / 2, data.width / 2);
    let arch = Arch::for_enlarging(height, width, data.channels, data.classes());
    let pictures = (0..data.len()).flat_map(|i| halved(&arch, data.picture(i))).collect();
    Dataset { height, width, pictures, labels: data.labels.clone(), class_names: data.class_names.clone(), ..*data }
}

/// A folder of PNGs a class, for training and the same for testing.
fn write(folder: &std::path::Path, data: &Dataset) {
    for i in 0..data.len() {
        let class = folder.join("train").join(&data.class_names[usize::from(data.labels[i])]);
        std::fs::create_dir_all(&class).unwrap();
        write_png(&class.join(format!("{i}.png")), data.picture(i), data.height, data.width, data.channels).unwrap();
    }
    let (from, to) = (folder.join("train"), folder.join("test"));
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// The lines of docs/colour.md that run the program.
fn page() -> Vec<String> {
    let page = std::fs::read_to_string(project().join("docs/colour.md")).unwrap();
    let shell: String = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let lines = shell.replace("\\\n", " ");
    lines.lines().filter_map(|line| line.strip_prefix("fewstep ")).map(String::from).collect()
}

/// What docs/colour.md shows runs as it stands, but for the data, which are smaller here, and the numbers of pictures.
#[test]
fn the_colour_page_runs_from_data_to_a_picture_of_four_times_the_size() {
    let folder = Folder::new("enlarge");
    let (large, middle) = (pictures(), half(&pictures()));
    for (name, data) in [("data-128", &large), ("data-64", &middle), ("data-32", &half(&middle))] {
        write(&folder.join(name), data);
    }
    for name in ["firmware-sim", "assets"] {
        std::os::unix::fs::symlink(project().join(name), folder.join(name)).unwrap();
    }
    let run = |line: &str| -> Output {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        for i in 1..words.len() {
            if words[i - 1].ends_with("images") {
                words[i] = "64";
            }
        }
        fewstep_command(words).current_dir(folder.path()).output().unwrap()
    };
    let lines = page();
    assert!(lines.len() >= 12, "{lines:?}");
    for line in &lines {
        let output = run(line);
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let refused = |line: &str, why: &str| {
        let output = run(line);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && log.lines().count() == 1 && log.contains(why), "{line}\n{log}");
    };
    let (base, large) = ("student-32/student-4.safetensors", "student-64/student-4.safetensors");
    refused(&format!("export {large} --steps 4 --out x.fsw"), "--on");
    refused(&format!("export {large} --steps 4 --on base.fsw --on upscale-64.fsw --out x.fsw"), "--on upscale-64.fsw");
    refused(&format!("export {base} --steps 4 --on base.fsw --out x.fsw"), "--on");
    refused(&format!("export {base} --steps 4 --arena 100000 --out x.fsw"), "--arena");
    refused("sample upscale-64.fsw --out x.png", "--upscale");
    refused("sample base.fsw --upscale base.fsw --out x.png", "--enlarge");
    refused("sample base.fsw --upscale upscale-128.fsw --out x.png", "8x8x3");
    assert!(!folder.join("x.fsw").exists() && !folder.join("x.png").exists());

    let draw = |files: &str, out: &str| {
        let line = format!("sample {files} --count 8 --guidance 1 --json --npz {out}");
        let output = run(&line);
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let open = |file: &str| npz::open(&folder.join(file)).unwrap().pictures;
    let cascade = "base.fsw --upscale upscale-64.fsw --upscale upscale-128.fsw";
    for (files, side) in [("base.fsw --upscale upscale-64.fsw", 16), (cascade, 32)] {
        let drawn = draw(files, "int8.npz");
        assert_eq!(drawn["shape"], json!([side, side, 3]));
        assert!(drawn["consistency"]["worst_psnr_db"].as_f64().unwrap() > 50.0, "{drawn:#}");
    }
    // The last picture of a cascade has its seed and class.
    let line = format!("sample {cascade} --class 1 --seed 7 --guidance 1 --npz one.npz");
    assert!(run(&line).status.success());
    assert_eq!(open("one.npz"), {
        assert!(run(&format!("sample {cascade} --count 8 --seed 6 --guidance 1 --npz some.npz")).status.success());
        open("some.npz")[32 * 32 * 3..][..32 * 32 * 3].to_vec()
    });
    // Float students draw nearly the same.
    draw("base.fsw --upscale upscale-64.fsw", "int8.npz");
    draw(&format!("{base} --upscale {large}"), "float.npz");
    let (int8, float) = (open("int8.npz"), open("float.npz"));
    let square: f64 = int8.iter().zip(&float).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let psnr = 10.0 * (255.0f64.powi(2) * int8.len() as f64 / square.max(1e-9)).log10();
    println!("int8 against float: {psnr:.1} dB");
    assert!(psnr > 24.0, "{psnr}");
}

/// On the emulated board with the memory of a large part, with the host's bytes: whole and in bands.
#[test]
fn the_emulated_board_enlarges_to_the_hosts_bytes() {
    let folder = Folder::new("enlarge-board");
    let classes = 3;
    let base = Arch {
        widths: vec![8],
        encoder: vec![],
        decoder: vec![],
        middle: 1,
        attention_heads: 0,
        ..Arch::for_pictures(32, 16, 1, classes)
    };
    let large = Arch { middle: 1, widths: vec![64], ..Arch::for_enlarging(32, 16, 1, classes) };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("base.fsw", &image(&base, None));
    let images = plans(&random_student(&large, 1, 3));
    let board = project().join("firmware-sim/boards/an500-1m.toml");
    for (name, image) in [("whole.fsw", &images[0]), ("bands.fsw", images.last().unwrap())] {
        write(name, image);
        let r = report([
            "simulate".as_ref(),
            folder.join("base.fsw").as_os_str(),
            "--upscale".as_ref(),
            folder.join(name).as_os_str(),
            "--board".as_ref(),
            board.as_os_str(),
            "--class".as_ref(),
            "2".as_ref(),
            "--json".as_ref(),
        ]);
        assert_eq!((&r["equal_to_host"], &r["height"], &r["channels"]), (&json!(true), &json!(64), &json!(1)), "{r:#}");
        println!("{name}: {} bytes of arena, {} instructions a step", r["arena_bytes"], r["instructions_per_step"]);
    }
    assert!(images.len() > 1);
}
