//! Teachers of diffusers, and the project's for it: the same values as diffusers itself, which made the golden files
//! beside the teachers (`tests/diffusers/make.py`); refusals by name; a student distilled from one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use fewstep::apps::augment::{Form, write};
use fewstep::data::Dataset;
use fewstep::diffusers::{Imported, import};
use fewstep::diffusion::{Denoise, SampleRequest, Sampler, depth_to_space, guided_v, rotate, space_to_depth, walk};
use fewstep::nn::{Arch, Checkpoint, Engine, Kind, Precision, Query};
use fewstep_core::Direction;
use fewstep_tests::{Folder, fewstep, largest_difference, normals, project, refusal, report, tiny_arch, values};
use serde_json::{Value, json};

type Tensors = BTreeMap<String, Tensor>;

/// How far from diffusers' values ours may be.
const PARITY: f32 = 1e-4;

fn fixtures() -> PathBuf {
    project().join("tests/diffusers")
}

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap().into_iter().collect()
}

/// Name, null class.
const TEACHERS: [(&str, Option<usize>); 3] =
    [("random-unconditional", None), ("random-conditional", None), ("trained", Some(10))];

fn open(name: &str, null: Option<usize>) -> (Imported, Tensors) {
    let folder = fixtures().join(name);
    (import(&folder, null).unwrap(), tensors(&folder.join("golden.safetensors")))
}

/// Classes of the golden pictures.
fn classes(teacher: &Imported, count: usize) -> Vec<u16> {
    (0..count).map(|i| if teacher.conditional() { (i % 3) as u16 } else { 0 }).collect()
}

#[test]
fn networks_say_what_diffusers_says() {
    for (name, null) in TEACHERS {
        let (teacher, golden) = open(name, null);
        let z = &golden["noise"];
        let class: Vec<u32> = classes(&teacher, z.dim(0).unwrap()).iter().map(|c| (*c).into()).collect();
        for t in ["0", "1", "371.5", "998", "999"] {
            let out = teacher.net.forward(z, &vec![t.parse().unwrap(); class.len()], &class).unwrap();
            let apart = largest_difference(&values(&out), &values(&golden[&format!("out.{t}")]));
            println!("{name}, timestep {t}: {apart:e}");
            assert!(apart < PARITY, "{name}, timestep {t}: {apart}");
        }
    }
}

#[test]
fn ddim_draws_what_diffusers_draws() {
    for (name, null) in TEACHERS {
        let (teacher, golden) = open(name, null);
        let z = &golden["noise"];
        let class = classes(&teacher, z.dim(0).unwrap());
        let mut compared = 0;
        for (key, want) in &golden {
            let Some((steps, w)) = key.strip_prefix("ddim.").and_then(|rest| rest.split_once('.')) else { continue };
            let x = teacher.ddim(z.clone(), steps.parse().unwrap(), &class, w.parse().unwrap()).unwrap();
            let apart = largest_difference(&values(&x), &values(want));
            println!("{name}, {key}: {apart:e}");
            assert!(apart < PARITY, "{name}, {key}: {apart}");
            compared += 1;
        }
        // The random network of epsilon has no 50 steps: it multiplies rounding.
        assert_eq!(
            compared,
            if null.is_some() {
                6
            } else if name == "random-unconditional" {
                2
            } else {
                3
            }
        );
    }
}

/// v at an angle of the scheduler is the picture and the noise that its own step moves between, and does not depend on
/// how pictures are arranged; between timesteps it changes little, and at the ends it stays finite.
#[test]
fn v_is_what_the_scheduler_steps_along() {
    let (teacher, golden) = open("random-conditional", None);
    let z = &golden["noise"];
    let (n, c, h, w) = z.dims4().unwrap();
    let class = classes(&teacher, n);
    // Patches of 1: the channels last.
    let flat = z.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let ask = |z: &Tensor, phi: f64| {
        teacher.v(&Query { z, phi: &vec![phi as f32; n], class: &class, w: None, base: None }).unwrap()
    };
    // 50 steps trailing: 20 timesteps a step.
    let (t, before) = (599, 579);
    let angle = |t: usize| {
        let (mut low, mut high) = teacher.scheduler.range();
        while high - low > 1e-12 {
            let middle = (low + high) / 2.0;
            if teacher.scheduler.timestep(middle) < t as f64 { low = middle } else { high = middle }
        }
        low
    };
    let rows: Vec<u32> = class.iter().map(|c| (*c).into()).collect();
    let out = teacher.net.forward(z, &vec![t as f32; n], &rows).unwrap();
    let stepped = teacher.scheduler.step(z, &out, t, 50).unwrap();
    let v = ask(&flat, angle(t));
    let rotated = rotate(&flat, &v, &vec![(angle(t) - angle(before)) as f32; n]).unwrap();
    let stepped = stepped.permute((0, 2, 3, 1)).unwrap();
    assert!(largest_difference(&values(&rotated), &values(&stepped)) < 1e-5);

    let arch = Arch { height: h, width: w, channels: c, ..tiny_arch() };
    let arranged = |values: &[f32], there: bool| -> Vec<f32> {
        let mut out = vec![0.0; values.len()];
        for (from, to) in values.chunks(h * w * c).zip(out.chunks_mut(h * w * c)) {
            if there { space_to_depth(&arch, from, to) } else { depth_to_space(&arch, from, to) }
        }
        out
    };
    let patched = Tensor::from_vec(arranged(&values(&flat), true), (n, h / 2, w / 2, 4 * c), &Device::Cpu).unwrap();
    assert_eq!(arranged(&values(&ask(&patched, 1.0)), false), values(&ask(&flat, 1.0)));
    let near = largest_difference(&values(&ask(&flat, 1.0)), &values(&ask(&flat, 1.0001)));
    assert!(near > 0.0 && near < 0.01, "{near}");

    // Also where a network of epsilon would divide by nearly nothing.
    let (teacher, golden) = open("trained", Some(10));
    let noise = golden["noise"].permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    for phi in [0.0, 1e-3, 0.3, 1.57, std::f32::consts::FRAC_PI_2] {
        // A picture within the bound, noised: at the least angles z is hardly beyond it.
        let x = (noise.clamp(-1f32, 1f32).unwrap() * f64::from(phi.cos())).unwrap();
        let z = (x + (&noise * f64::from(phi.sin())).unwrap()).unwrap();
        let v = teacher.v(&Query { z: &z, phi: &[phi; 4], class: &[0, 1, 2, 9], w: None, base: None }).unwrap();
        assert!(values(&v).iter().all(|v| v.abs() < 30.0), "{phi}");
        // From the most noise a whole rotation is the predicted picture, within its bound.
        if phi > 1.5 {
            let x = rotate(&z, &v, &[phi; 4]).unwrap();
            assert!(values(&x).iter().all(|x| x.abs() < 1.001), "{phi}");
        }
    }
}

#[test]
fn guidance_is_there_where_a_null_class_is() {
    let (with, golden) = open("trained", Some(10));
    let z = golden["noise"].permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let (phi, class) = ([0.9f32; 4], [0u16, 3, 5, 9]);
    let v = |class: &[u16]| values(&with.v(&Query { z: &z, phi: &phi, class, w: None, base: None }).unwrap());
    let (classy, null) = (v(&class), v(&[10; 4]));
    let guided =
        values(&guided_v(&with, &Query { z: &z, phi: &phi, class: &class, w: Some(&[2.0; 4]), base: None }).unwrap());
    let want: Vec<f32> = classy.iter().zip(&null).map(|(c, n)| 3.0 * c - 2.0 * n).collect();
    assert!(largest_difference(&guided, &want) < 1e-4);
    assert!(largest_difference(&classy, &null) > 0.01);
    // Every row but the null class's is a class.
    let (first, _) = open("trained", Some(0));
    assert_eq!((with.classes(), first.classes(), first.null_class()), (10, 10, Some(10)));
    let shifted = values(
        &first
            .v(&Query { z: &z, phi: &phi, class: &class.map(|c| c - u16::from(c > 0)), w: None, base: None })
            .unwrap(),
    );
    assert_eq!(shifted[64..], classy[64..], "classes 2, 4, 8 are rows 3, 5, 9");

    let (without, golden) = open("random-conditional", None);
    let z = golden["noise"].permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let plain = values(&without.v(&Query { z: &z, phi: &phi, class: &[0, 1, 2, 0], w: None, base: None }).unwrap());
    let query = Query { z: &z, phi: &phi, class: &[0, 1, 2, 0], w: Some(&[2.0; 4]), base: None };
    assert_eq!(values(&guided_v(&without, &query).unwrap()), plain, "w changes nothing");
    let request = SampleRequest {
        steps: 5,
        seed: 1,
        classes: vec![0],
        w: 1.0,
        sampler: Sampler::Deterministic,
        bases: Vec::new(),
    };
    let error = without.sample(&request, |_| {}).unwrap_err().to_string();
    assert!(error.contains("--guidance 1") && error.contains("no null class"), "{error}");
}

/// A fixture's folder that a test may change.
fn copy(name: &str, to: &Folder) -> PathBuf {
    let (from, to) = (fixtures().join(name), to.join(name));
    for part in ["unet", "scheduler"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for file in fs::read_dir(from.join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(part).join(file.file_name())).unwrap();
        }
    }
    to
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let place = Folder::new("diffusers-refused");
    let folder = copy("trained", &place);
    let refused = |file: &str, key: &str, value: Value| {
        let path = folder.join(file);
        let whole = fs::read(&path).unwrap();
        let mut config: Value = serde_json::from_slice(&whole).unwrap();
        config[key] = value.clone();
        fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        let error = format!("{:#}", import(&folder, Some(10)).err().unwrap_or_else(|| panic!("{key}: {value} passes")));
        fs::write(&path, whole).unwrap();
        assert!(error.contains(key) && error.contains(file), "{key}: {value}: {error}");
        error
    };
    let (unet, scheduler) = ("unet/config.json", "scheduler/scheduler_config.json");
    for (key, value) in [
        ("_class_name", json!("UNet2DConditionModel")),
        ("time_embedding_type", json!("fourier")),
        ("down_block_types", json!(["DownBlock2D", "KDownBlock2D"])),
        ("up_block_types", json!(["SkipUpBlock2D", "UpBlock2D"])),
        ("downsample_type", json!("resnet")),
        ("upsample_type", json!("resnet")),
        ("act_fn", json!("gelu")),
        ("resnet_time_scale_shift", json!("spatial")),
        ("class_embed_type", json!("timestep")),
        ("out_channels", json!(2)),
        ("sample_size", json!(7)),
        ("sample_size", json!(null)),
        ("sample_size", json!(1u64 << 40)),
        ("norm_num_groups", json!(5)),
        ("norm_num_groups", json!(0)),
        ("attention_head_dim", json!(7)),
        ("layers_per_block", json!(1000)),
        ("block_out_channels", json!([12, 24, 24])),
        ("block_out_channels", json!([1u64 << 30, 24])),
        ("num_class_embeds", json!(1u64 << 30)),
        ("something_new", json!("on")),
    ] {
        let error = refused(unet, key, value.clone());
        if let Some(text) = value.as_str() {
            assert!(error.contains(text), "{error}");
        }
    }
    for (key, value) in [
        ("_class_name", json!("EulerDiscreteScheduler")),
        ("beta_schedule", json!("sigmoid")),
        ("prediction_type", json!("sample")),
        ("timestep_spacing", json!("other")),
        ("thresholding", json!(true)),
        ("rescale_betas_zero_snr", json!(true)),
        ("trained_betas", json!([0.1, 0.2])),
        ("variance_type", json!("learned_range")),
        ("num_train_timesteps", json!(1)),
        ("num_train_timesteps", json!(1u64 << 60)),
        ("beta_end", json!(1.5)),
        ("steps_offset", json!(1000)),
        ("something_new", json!(3)),
    ] {
        refused(scheduler, key, value);
    }

    for (null, reason) in [(Some(11), "null class 11"), (None, "")] {
        match import(&folder, null) {
            Ok(_) => assert!(null.is_none()),
            Err(e) => assert!(format!("{e:#}").contains(reason), "{e:#}"),
        }
    }
    let unconditional = copy("random-unconditional", &place);
    assert!(format!("{:#}", import(&unconditional, Some(0)).err().unwrap()).contains("unconditional"));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let place = Folder::new("diffusers-weights");
    let folder = copy("trained", &place);
    let path = folder.join("unet/diffusion_pytorch_model.safetensors");
    let whole = tensors(&path);
    let attempt = |changed: &Tensors| {
        let map = changed.iter().map(|(k, t)| (k.clone(), t.clone())).collect();
        candle_core::safetensors::save(&map, &path).unwrap();
        import(&folder, Some(10)).map_err(|e| format!("{e:#}"))
    };
    let mut changed = whole.clone();
    changed.remove("mid_block.attentions.0.to_k.bias");
    assert!(attempt(&changed).err().unwrap().contains("tensor mid_block.attentions.0.to_k.bias is missing"));
    changed = whole.clone();
    changed.insert("conv_out.bias".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert!(attempt(&changed).err().unwrap().contains("conv_out.bias has shape [2]"));
    changed = whole.clone();
    changed.insert("extra".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert!(attempt(&changed).err().unwrap().contains("tensor extra is not supported"));
    // Names of attention's projections before diffusers 0.17.
    let old = |name: &str| {
        let name = name.replace(".to_q.", ".query.").replace(".to_k.", ".key.");
        name.replace(".to_v.", ".value.").replace(".to_out.0.", ".proj_attn.")
    };
    changed = whole.iter().map(|(k, t)| (old(k), t.clone())).collect();
    assert!(changed.keys().any(|k| k.contains("proj_attn")));
    assert!(attempt(&changed).is_ok());
    for bytes in [&b""[..], &[0xff; 64]] {
        fs::write(&path, bytes).unwrap();
        assert!(format!("{:#}", import(&folder, None).err().unwrap()).contains("safetensors"));
    }
    fs::remove_file(&path).unwrap();
    assert!(format!("{:#}", import(&folder, None).err().unwrap()).contains("is missing"));
    assert!(format!("{:#}", import(place.path(), None).err().unwrap()).contains("save_pretrained"));
}

/// 8x8 grey pictures in ten classes.
fn pictures() -> Dataset {
    let labels: Vec<u16> = (0..60).map(|i| i % 10).collect();
    let pictures = labels.iter().enumerate().flat_map(|(i, label)| {
        let noise = normals(i as u64, 64);
        (0..64).map(move |p| ((p * (usize::from(*label) + 1)) % 200) as u8 / 2 + (noise[p].abs() * 20.0) as u8)
    });
    Dataset {
        height: 8,
        width: 8,
        channels: 1,
        class_names: (0..10).map(|c| format!("class {c}")).collect(),
        pictures: pictures.collect(),
        labels: labels.clone(),
    }
}

/// The whole way by the command line: import, look, sample, distil, export, draw.
#[test]
fn an_imported_teacher_is_sampled_and_distilled() {
    let place = Folder::new("diffusers-distilled");
    let at = |name: &str| place.join(name).display().to_string();
    let from = |name: &str| fixtures().join(name).display().to_string();
    write(&place.join("data.npz"), Form::Npz, &pictures()).unwrap();
    let imported = report([
        "import",
        "--from",
        "diffusers",
        &from("trained"),
        "--null-class",
        "10",
        "--out",
        &at("t.safetensors"),
        "--json",
    ]);
    assert_eq!((&imported["classes"], &imported["guidance"]), (&json!(10), &json!(true)));
    let read = Imported::open(&place.join("t.safetensors"), &Device::Cpu).unwrap().unwrap();
    let (teacher, golden) = open("trained", Some(10));
    let draw = |t: &Imported| values(&t.ddim(golden["noise"].clone(), 5, &[0, 1, 2, 0], 1.5).unwrap());
    assert_eq!(draw(&read), draw(&teacher), "the file holds the same teacher");
    assert_eq!(report(["inspect", &at("t.safetensors"), "--json"])["kind"], "imported teacher");
    report([
        "sample",
        &at("t.safetensors"),
        "--class",
        "3",
        "--steps",
        "5",
        "--guidance",
        "1",
        "--npz",
        &at("s.npz"),
        "--json",
    ]);
    for (arguments, reason) in [
        (vec!["sample", "T", "--class", "3"], "--steps"),
        (vec!["sample", "T", "--class", "3", "--steps", "1001"], "1 to 1000 steps"),
        (vec!["sample", "T", "--class", "3", "--steps", "5", "--sampler", "stochastic"], "--sampler"),
        (vec!["export", "T", "--steps", "4", "--out", "x.fsw"], "imported"),
    ] {
        let arguments: Vec<String> =
            arguments.into_iter().map(|a| if a == "T" { at("t.safetensors") } else { a.into() }).collect();
        let line = refusal(&arguments);
        assert!(line.contains(reason), "{arguments:?}: {line}");
    }

    let distil = |teacher: &str, out: &str| {
        fewstep([
            "distill",
            "--teacher",
            &at(teacher),
            "--data",
            &at("data.npz"),
            "--out",
            &at(out),
            "--method",
            "mcd",
            "--steps",
            "2",
            "--target",
            "teacher",
            "--guided-images",
            "64",
            "--images",
            "64",
            "--batch",
            "16",
            "--segment-steps",
            "2",
            "--width",
            "8",
            "--blocks",
            "1,1,1",
            "--precision",
            "f32",
        ])
    };
    let output = distil("t.safetensors", "run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let student = Checkpoint::open(&place.join("run/student-2.safetensors"), &Device::Cpu).unwrap();
    assert_eq!((student.kind, student.net.arch.classes), (Kind::Student(2), 10));
    assert_eq!(student.provenance["imported"], "diffusers UNet2DModel");
    report(["export", &at("run/student-2.safetensors"), "--steps", "2", "--out", &at("s.fsw"), "--json"]);
    report(["sample", &at("s.fsw"), "--class", "9", "--npz", &at("d.npz"), "--json"]);

    // An unconditional teacher takes pictures of any classes, and draws colour ones here.
    report(["import", "--from", "diffusers", &from("random-unconditional"), "--out", &at("u.safetensors"), "--json"]);
    let output = distil("u.safetensors", "other");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && log.contains("8x8x3 pictures of 1 classes"), "{log}");
    let grey = pictures();
    let colour =
        Dataset { channels: 3, pictures: grey.pictures.iter().flat_map(|v| [*v, v / 2, 255 - v]).collect(), ..grey };
    fs::remove_file(place.join("data.npz")).unwrap();
    write(&place.join("data.npz"), Form::Npz, &colour).unwrap();
    let output = distil("u.safetensors", "other");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let student = Checkpoint::open(&place.join("other/student-2.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(student.net.arch.classes, 1);
}

/// The exported folder holds the parameters in PyTorch's order, and its code, run by diffusers, gave the golden values.
#[test]
fn exported_networks_draw_the_same_in_diffusers() {
    Engine::select(Precision::F32).unwrap();
    let place = Folder::new("diffusers-exported");
    let golden = tensors(&fixtures().join("exported.safetensors"));
    for (name, steps, w) in [("teacher", 8, 1.5), ("student-2", 2, 1.5)] {
        let file = fixtures().join(format!("{name}.safetensors")).display().to_string();
        let out = place.join(name).display().to_string();
        report(["export", &file, "--to", "diffusers", "--out", &out, "--json"]);
        let checkpoint = Checkpoint::open(Path::new(&file), &Device::Cpu).unwrap();
        let exported = tensors(&place.join(name).join("unet/diffusion_pytorch_model.safetensors"));
        assert_eq!(exported.len(), checkpoint.net.params.tensors().len());
        let weights = &exported["conv_in.weight"];
        let own = checkpoint.net.params.get("conv_in.weight").unwrap();
        assert_eq!(values(weights), values(&own.permute((0, 3, 1, 2)).unwrap()));

        let z = golden["noise"].permute((0, 2, 3, 1)).unwrap();
        let arch = &checkpoint.net.arch;
        let z = fewstep::diffusion::to_batch(arch, &values(&z), &Device::Cpu).unwrap();
        let x = walk(&checkpoint.net, Direction::ToPicture, steps, z, &[0, 7], w).unwrap();
        let x = fewstep::diffusion::from_batch(arch, &x).unwrap();
        let want = values(&golden[name].permute((0, 2, 3, 1)).unwrap());
        let apart = largest_difference(&x, &want);
        println!("{name}: {apart:e}");
        assert!(apart < PARITY, "{name}: {apart}");
        // A second export would mix with the first.
        assert!(refusal(["export", &file, "--to", "diffusers", "--out", &out]).contains("files in it"));
    }
}
