//! Fine-tuning through the rounding: what it computes with is what a device computes, bit for bit, and it brings the
//! student in integers closer to the float one.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use fewstep::diffusion::{SampleRequest, Sampler, from_batch, sample, start, to_byte};
use fewstep::export::{ExportOptions, StudentSpec, random_int4_student, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::{AdamWOptions, Arch, Checkpoint, Engine, Kind, Params, Precision, Query, UNet};
use fewstep::quant::{Finetune, Simulator, WeightForm, prepare, quantize};
use fewstep::sampling::draw_one;
use fewstep::train::{Batches, Live, Objective, Phase, RunDir, Schedule};
use fewstep_core::{Backend, Model, Request};
use fewstep_tests::{Folder, normals, random_net, squares, tiny_arch, values};

/// A picture of the student in integers, by the simulator and by the core.
fn both(spec: &StudentSpec, seed: u64, class: u16, w: f32) -> (Vec<u8>, Vec<u8>) {
    let simulator = Simulator::new(spec.clone()).unwrap();
    let mut z = values(&start(&spec.arch, seed, 1, &Device::Cpu).unwrap());
    for step in 0..spec.steps() {
        simulator.advance(step, class, w, &mut z).unwrap();
    }
    let (h, c) = (spec.arch.level_size(0), spec.arch.patch_channels());
    let z = Tensor::from_vec(z, (1, h.0, h.1, c), &Device::Cpu).unwrap();
    let simulated = from_batch(&spec.arch, &z).unwrap().into_iter().map(to_byte).collect();
    let image = AlignedBytes::from(write_image(spec, &ExportOptions::default()).unwrap().bytes.as_slice());
    let model = Model::parse(&image).unwrap();
    let request = Request { seed, class, w, ..Request::default() };
    (simulated, draw_one(&model, &request, &[], Backend::scalar()).unwrap())
}

#[test]
fn simulator_draws_the_devices_pictures() {
    let colour = Arch { widths: vec![16, 24], ..Arch::for_pictures(16, 24, 3, 5) };
    let deep = Arch { widths: vec![8, 16, 24], encoder: vec![1, 1], decoder: vec![2, 1], ..tiny_arch() };
    let plain = Arch { attention_heads: 0, patch: 1, ..tiny_arch() };
    for (i, arch) in [tiny_arch(), colour, deep, plain].iter().enumerate() {
        for (steps, random) in [(1, random_student as fn(&_, _, _) -> _), (4, random_student), (2, random_int4_student)]
        {
            let spec = random(arch, steps, 40 + i as u64);
            for (seed, w) in [(1, 0.0), (2, 1.3), (u64::MAX, 4.0)] {
                let (simulated, drawn) = both(&spec, seed, (seed % 2) as u16, w);
                assert!(simulated == drawn, "architecture {i}, {steps} steps, seed {seed}, w {w}");
            }
        }
    }
}

/// Forward through the rounding in the training graph: v to the last bit, and a gradient for everything that rounds
/// or is rounded.
#[test]
fn training_computes_what_the_device_does() {
    Engine::select(Precision::F32).unwrap();
    for form in [WeightForm::Int8, WeightForm::Int4] {
        trains_what_is_computed(form);
    }
}

fn trains_what_is_computed(form: WeightForm) {
    let (data, steps) = (squares(), 4);
    let student = random_net(&tiny_arch(), true, 21);
    let net = prepare(&student, steps, form, |_, _| ()).unwrap();
    let net = UNet { arch: net.arch.clone(), params: Params::trainable(net.params.tensors().clone()).unwrap() };
    let objective = Finetune::new(student, steps, form);
    let live = Live::of(&net);
    objective.begin(&live).unwrap();
    let checkpoint = Checkpoint {
        kind: Kind::Student(steps),
        net: live.student.clone(),
        class_names: Vec::new(),
        provenance: BTreeMap::new(),
    };
    let simulator = Simulator::new(quantize(&checkpoint, steps, form, |_, _| ()).unwrap()).unwrap();
    let mut batches = Batches::new(&data, &net.arch, 5, 32, &Device::Cpu);
    let batch = batches.get(0, 1).unwrap().remove(0);
    let t = objective.targets(&batch, &live).unwrap();
    let w = t.w.clone().unwrap();
    let v = objective.predict(&net, &Query { z: &t.z, phi: &t.phi, class: &t.class, w: Some(&w), base: None }).unwrap();
    let (z, got) = (values(&t.z), values(&v));
    let len = z.len() / t.phi.len();
    let mut seen = [0; 4];
    for i in 0..t.phi.len() {
        let step = (0..steps).find(|s| (simulator.spec.phi[*s] - t.phi[i]).abs() < 1e-6).unwrap();
        seen[step] += 1;
        let trace = simulator.evaluate(step, t.class[i], w[i], &z[i * len..][..len]).unwrap();
        assert!(got[i * len..][..len] == *trace.v().unwrap(), "picture {i} at step {step}");
    }
    assert_eq!(seen, [8; 4], "every step as often");
    let grads = (v - t.v).unwrap().sqr().unwrap().mean_all().unwrap().backward().unwrap();
    for (name, var) in net.params.vars() {
        // The null class is nobody's; zero points and the time path of other angles have none of their own.
        let grad = grads.get(var).map(|g| values(g).iter().map(|v| v.abs()).sum::<f32>());
        if name.starts_with("zero.") {
            assert!(grad.is_none(), "{name}");
        } else {
            assert!(grad.is_some_and(|g| g.is_finite() && g > 0.0), "{name}: {grad:?}");
        }
    }
}

/// Mean square difference of pictures in integers and in float from the same noise.
fn distance(student: &UNet, spec: &StudentSpec) -> f64 {
    let simulator = Simulator::new(spec.clone()).unwrap();
    let mut total = 0.0;
    for w in [0.0, 2.0] {
        let classes: Vec<u16> = (0..24).map(|i| i % 2).collect();
        let request = SampleRequest {
            steps: spec.steps(),
            seed: 900,
            classes: classes.clone(),
            w,
            sampler: Sampler::Deterministic,
            bases: Vec::new(),
        };
        let want = sample(student, &request, &Device::Cpu, |_| ()).unwrap();
        let noise = values(&start(&spec.arch, 900, 24, &Device::Cpu).unwrap());
        let len = spec.arch.picture_len();
        for (i, z) in noise.chunks(len).enumerate() {
            let mut z = z.to_vec();
            for step in 0..spec.steps() {
                simulator.advance(step, classes[i], w, &mut z).unwrap();
            }
            let (h, c) = (spec.arch.level_size(0), spec.arch.patch_channels());
            let z = Tensor::from_vec(z, (1, h.0, h.1, c), &Device::Cpu).unwrap();
            let got = from_batch(&spec.arch, &z).unwrap();
            total += got.iter().zip(&want[i * len..]).map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>();
        }
    }
    total / (48 * spec.arch.picture_len()) as f64
}

/// A student whose scales are too coarse and whose weights are off learns, through its integers, to draw what the float
/// student draws; and the file it ends in draws the simulated pictures.
#[test]
fn fine_tuning_follows_the_float_student() {
    Engine::select(Precision::F32).unwrap();
    let (data, steps) = (squares(), 2);
    let student = random_net(&tiny_arch(), true, 22);
    let as_checkpoint = |net: &UNet| Checkpoint {
        kind: Kind::Student(steps),
        net: net.clone(),
        class_names: vec!["a".into(), "b".into()],
        provenance: BTreeMap::new(),
    };
    let calibrated = prepare(&student, steps, WeightForm::Int8, |_, _| ()).unwrap();
    let damage = |(i, (name, t)): (usize, (&String, &Tensor))| {
        let noise = Tensor::from_vec(normals(500 + i as u64, t.elem_count()), t.dims(), &Device::Cpu).unwrap();
        let damaged = match name {
            name if name.starts_with("zero.") => t.clone(),
            name if name.starts_with("quant.") => (t + 1.5f64.ln()).unwrap(),
            _ => (t + (noise * 0.01).unwrap()).unwrap(),
        };
        (name.clone(), damaged)
    };
    let damaged = Params::frozen(calibrated.params.tensors().iter().enumerate().map(damage).collect());
    let damaged = UNet { arch: calibrated.arch.clone(), params: damaged };
    let before = distance(&student, &spec_of(&damaged, steps));
    let folder = Folder::new("finetuning");
    let run = RunDir::open(&folder.join("run"), &serde_json::json!({}), false).unwrap();
    let phase = Phase {
        name: "int8",
        net: damaged,
        kind: Kind::Student(steps),
        auxiliary: None,
        schedule: Schedule { pictures: 6400, batch: 32, lr: 1e-3, constant: 0.0 },
        optimizer: AdamWOptions { ema: 0.99, ..AdamWOptions::default() },
        seed: 3,
        data: &data,
        device: &Device::Cpu,
        run: &run,
    };
    let tuned = phase.run(&Finetune::new(student.clone(), steps, WeightForm::Int8)).unwrap();
    let after = distance(&student, &spec_of(&tuned, steps));
    println!("damaged {before:.6}, after fine-tuning {after:.6}");
    assert!(after < 0.5 * before, "{before} became {after}");

    let file = folder.join("tuned.safetensors");
    as_checkpoint(&tuned).save(&file, DType::F32).unwrap();
    let opened = Checkpoint::open(&file, &Device::Cpu).unwrap();
    let spec = quantize(&opened, steps, WeightForm::Int8, |_, _| panic!("learned scales need no calibration")).unwrap();
    for (table, learned) in spec.activations.iter().zip(&spec_of(&tuned, steps).activations) {
        assert_eq!(table, learned);
    }
    for seed in 0..4 {
        let (simulated, drawn) = both(&spec, seed, (seed % 2) as u16, seed as f32);
        assert!(simulated == drawn, "seed {seed}");
    }
    // A student is fine-tuned once, and for its own steps.
    assert!(prepare(&opened.net, steps, WeightForm::Int8, |_, _| ()).is_err());
    let other = Checkpoint { kind: Kind::Guided, ..opened };
    assert!(quantize(&other, 1, WeightForm::Int8, |_, _| ()).is_err());
}

fn spec_of(net: &UNet, steps: usize) -> StudentSpec {
    let checkpoint = Checkpoint {
        kind: Kind::Student(steps),
        net: net.clone(),
        class_names: Vec::new(),
        provenance: BTreeMap::new(),
    };
    quantize(&checkpoint, steps, WeightForm::Int8, |_, _| ()).unwrap()
}
