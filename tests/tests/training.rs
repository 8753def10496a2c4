//! Training small networks: they learn, distillation keeps what they learned, and the same seed gives the same bits.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use fewstep::data::Dataset;
use fewstep::diffusion::{SampleRequest, Sampler, guided_v, sample};
use fewstep::nn::{AdamWOptions, Engine, Kind, Params, Precision, Query, Stage, UNet, native};
use fewstep::train::{
    Angles, Batches, Guidance, Halving, Jump, Live, Moments, Objective, Phase, RunDir, Schedule, Segments, Teacher,
    Weight,
};
use fewstep_core::Direction;
use fewstep_tests::{Folder, normals, random_net, squares, tiny_arch, values};

fn use_f32() {
    Engine::select(Precision::F32).unwrap();
}

/// A phase's settings that tests vary.
#[derive(Clone, Copy)]
struct Settings {
    pictures: u64,
    lr: f64,
    ema: f64,
    seed: u64,
}

/// Trains `net` in a folder of its own; returns it and the losses of the lines of statistics.
fn train(name: &str, net: &UNet, data: &Dataset, objective: &dyn Objective, s: Settings) -> (UNet, Vec<f64>) {
    let folder = Folder::new(&format!("training-{name}"));
    let run = RunDir::open(&folder.join("run"), &serde_json::json!({}), false).unwrap();
    let phase = Phase {
        name,
        net: net.clone(),
        kind: Kind::Guided,
        auxiliary: None,
        schedule: Schedule { pictures: s.pictures, batch: 32, lr: s.lr, constant: 0.4 },
        optimizer: AdamWOptions { ema: s.ema, ..AdamWOptions::default() },
        seed: s.seed,
        data,
        device: &Device::Cpu,
        run: &run,
    };
    let trained = phase.run(objective).unwrap();
    let stats = std::fs::read_to_string(run.path("stats.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
    (trained, stats.lines().map(loss).collect())
}

/// Mean square distance of a network's pictures from the nearest one of the data that is of their class.
fn off_the_data(net: &UNet, data: &Dataset, steps: usize, w: f32) -> f64 {
    let classes: Vec<u16> = (0..64).map(|i| i % 2).collect();
    let request = SampleRequest {
        steps,
        seed: 70,
        classes: classes.clone(),
        w,
        sampler: Sampler::Deterministic,
        bases: Vec::new(),
    };
    let drawn = sample(net, &request, &Device::Cpu, |_| ()).unwrap();
    let len = net.arch.picture_len();
    let nearest = |picture: &[f32], class: u16| {
        let of_class = (0..data.len()).filter(|i| data.labels[*i] == class);
        let distance = |i: usize| -> f64 {
            let real = data.picture(i).iter().map(|v| fewstep::diffusion::to_signed(*v));
            picture.iter().zip(real).map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>() / len as f64
        };
        of_class.map(distance).fold(f64::INFINITY, f64::min)
    };
    drawn.chunks(len).zip(&classes).map(|(p, c)| nearest(p, *c)).sum::<f64>() / classes.len() as f64
}

fn fresh(seed: u64) -> UNet {
    let arch = tiny_arch();
    UNet { params: Params::frozen(UNet::init(&arch, seed, &Device::Cpu).unwrap()), arch }
}

fn guided_start(teacher: &UNet) -> UNet {
    UNet { arch: teacher.arch.clone(), params: Params::frozen(teacher.add_guidance_input().unwrap()) }
}

/// Mean square of the difference of `net` and an objective's targets on batches that training did not see, and the
/// targets' own mean square.
fn held_out(net: &UNet, data: &Dataset, objective: &dyn Objective) -> (f64, f64) {
    let mut batches = Batches::new(data, &net.arch, 999, 256, &Device::Cpu);
    let batch = batches.get(0, 1).unwrap().remove(0);
    let t = objective.targets(&batch, &Live::of(net)).unwrap();
    let v = net.forward(&Query { z: &t.z, phi: &t.phi, class: &t.class, w: t.w.as_deref(), base: None }).unwrap();
    let mean = |t: Tensor| f64::from(t.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap());
    (mean((v - &t.v).unwrap()), mean(t.v))
}

fn bits(net: &UNet) -> BTreeMap<String, Vec<u32>> {
    net.params.tensors().iter().map(|(k, t)| (k.clone(), values(t).iter().map(|v| v.to_bits()).collect())).collect()
}

/// The whole way on a small scale: the teacher learns, stage 1 says in one evaluation what the guided teacher says in
/// two, and a halving round says in one step what its teacher says in two.
#[test]
fn teacher_guidance_and_halving_learn() {
    use_f32();
    let data = squares();
    let objective = Teacher { classes: 2, dropout: 0.1 };
    let settings = Settings { pictures: 12_800, lr: 4e-3, ema: 0.98, seed: 1 };
    let (teacher, losses) = train("teacher", &fresh(1), &data, &objective, settings);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    println!("teacher: {first:.4} to {last:.4}, held out {:.4?}", held_out(&teacher, &data, &objective));
    assert_eq!(losses.len(), 20);
    assert!(last < 0.5 * first, "the teacher's loss went from {first} to {last}");
    let (error, size) = held_out(&teacher, &data, &objective);
    assert!(error < 0.4 * size, "the moving average is off by {error} where v has {size}");

    let objective = Guidance { teacher: Arc::new(teacher.clone()), power: 1.0 };
    let (before, size) = held_out(&guided_start(&teacher), &data, &objective);
    let settings = Settings { pictures: 9_600, lr: 3e-3, ema: 0.98, seed: 2 };
    let (guided, losses) = train("guided", &guided_start(&teacher), &data, &objective, settings);
    let (after, _) = held_out(&guided, &data, &objective);
    println!("guided: {:.4} to {:.4}, held out {before:.4} to {after:.4} of {size:.4}", losses[0], losses[19]);
    assert!(guided.guided());
    assert!(after < 0.1 * size, "stage 1 is off by {after} where v has {size}");
    assert!(after < 0.3 * before, "stage 1 was off by {before} before training and still is by {after}");

    // The strength that is asked for is obeyed.
    let z = Tensor::from_vec(normals(3, 8 * 64), (8, 4, 4, 4), &Device::Cpu).unwrap();
    let (phi, class) = ([1.3; 8], [0, 1, 0, 1, 0, 1, 0, 1]);
    let difference = |a: &UNet, wa: f32, b: &UNet, wb: f32| {
        let v = |net: &UNet, w: f32| {
            guided_v(net, &Query { z: &z, phi: &phi, class: &class, w: Some(&[w; 8]), base: None }).unwrap()
        };
        f64::from((v(a, wa) - v(b, wb)).unwrap().sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap())
    };
    for (w, other) in [(0.0, 4.0), (4.0, 0.0)] {
        let (right, wrong) = (difference(&guided, w, &teacher, w), difference(&guided, w, &teacher, other));
        println!("w {w}: {right:.4} from the teacher's, {wrong:.4} from that of w {other}");
        assert!(
            right < 0.5 * wrong,
            "at w {w} the student is {right} from its teacher and {wrong} from that of w {other}"
        );
    }

    let (steps, previous) = (2, &guided);
    let objective = Halving { teacher: previous.clone(), steps, direction: Direction::ToPicture };
    let (before, size) = held_out(previous, &data, &objective);
    let settings = Settings { pictures: 4_800, lr: 3e-3, ema: 0.0, seed: 3 };
    let (student, losses) = train("student", previous, &data, &objective, settings);
    let (after, _) = held_out(&student, &data, &objective);
    println!("student-{steps}: {:.4} to {:.4}, held out {before:.4} to {after:.4} of {size:.4}", losses[0], losses[19]);
    assert!(after < 0.5 * before && after < 0.1 * size, "round {steps}: {before} to {after} of {size}");

    // Moment matching: one step of an undistilled network draws means of pictures, a finished one draws pictures.
    let finish = Moments {
        teacher: Arc::new(guided.clone()),
        start: guided.clone(),
        anchor: 0.0,
        segments: 1,
        power: 1.0,
        auxiliary_updates: 1,
    };
    let folder = Folder::new("training-moments");
    let run = RunDir::open(&folder.join("run"), &serde_json::json!({}), false).unwrap();
    let phase = Phase {
        name: "moments",
        net: guided.clone(),
        kind: Kind::Guided,
        auxiliary: Some(guided.clone()),
        schedule: Schedule { pictures: 19_200, batch: 32, lr: 1e-3, constant: 0.4 },
        optimizer: AdamWOptions { ema: 0.98, ..AdamWOptions::default() },
        seed: 5,
        data: &data,
        device: &Device::Cpu,
        run: &run,
    };
    let finished = phase.run(&finish).unwrap();
    let stats = std::fs::read_to_string(run.path("stats.jsonl")).unwrap();
    assert!(stats.lines().all(|l| l.contains("\"loss\"") && l.contains("\"auxiliary_loss\"")), "{stats}");
    for w in [0.0, 1.0] {
        let many = off_the_data(&guided, &data, 16, w);
        let (before, after) = (off_the_data(&guided, &data, 1, w), off_the_data(&finished, &data, 1, w));
        println!("moments: w {w}: sixteen steps {many:.4}, one step {before:.4} to {after:.4}");
        assert!(
            after - many < 0.4 * (before - many),
            "w {w}: a finished step is {after} off the data, an undistilled one {before}, sixteen {many}"
        );
    }

    // Multistep consistency: the student's two steps end where its teacher's sixteen do, and not where two of the
    // teacher's do.
    let objective = Segments {
        teacher: Arc::new(guided.clone()),
        jump: Jump::Average,
        segments: 2,
        fine: 8,
        direction: Direction::ToPicture,
        angles: Angles::All,
        weight: Weight::Sine,
        power: 1.0,
    };
    let settings = Settings { pictures: 12_800, lr: 3e-3, ema: 0.98, seed: 4 };
    let (student, losses) = train("multistep", &guided, &data, &objective, settings);
    for w in [0.0, 1.0, 3.0] {
        let draw = |net: &UNet, steps: usize| {
            let classes = (0..32).map(|i| i % 2).collect();
            let request =
                SampleRequest { steps, seed: 50, classes, w, sampler: Sampler::Deterministic, bases: Vec::new() };
            sample(net, &request, &Device::Cpu, |_| ()).unwrap()
        };
        let want = draw(&guided, 16);
        let error = |got: Vec<f32>| -> f64 {
            got.iter().zip(&want).map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>() / want.len() as f64
        };
        let (before, after) = (error(draw(&guided, 2)), error(draw(&student, 2)));
        println!("multistep: {:.4} to {:.4}, w {w}: {before:.4} to {after:.4}", losses[0], losses[losses.len() - 1]);
        assert!(after < 0.6 * before, "w {w}: two steps are off by {after}, undistilled by {before}");
    }
}

#[test]
fn same_seed_gives_the_same_bits_with_any_number_of_threads() {
    use_f32();
    let data = squares();
    let objective = Teacher { classes: 2, dropout: 0.1 };
    let run = |name: &str, threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = Settings { pictures: 640, lr: 2e-3, ema: 0.99, seed };
        pool.install(|| train(name, &fresh(1), &data, &objective, settings))
    };
    let (one, one_losses) = run("one", 1, 7);
    for (name, threads) in [("again", 1), ("two", 2), ("five", 5)] {
        let (other, losses) = run(name, threads, 7);
        assert_eq!(bits(&one), bits(&other), "{threads} threads");
        assert_eq!(one_losses, losses, "{threads} threads");
    }
    let (other, _) = run("other", 2, 8);
    assert_ne!(bits(&one), bits(&other), "the seed must matter");
}

/// Distillation, with its teacher evaluated inside, too.
#[test]
fn distillation_is_the_same_with_any_number_of_threads() {
    use_f32();
    let data = squares();
    let teacher = random_net(&tiny_arch(), false, 3);
    let start = guided_start(&teacher);
    let objective = Guidance { teacher: Arc::new(teacher), power: 1.0 };
    let run = |name: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = Settings { pictures: 320, lr: 2e-3, ema: 0.0, seed: 4 };
        pool.install(|| train(name, &start, &data, &objective, settings).0)
    };
    assert_eq!(bits(&run("guided-one", 1)), bits(&run("guided-two", 2)));
}

/// A batch is the same pictures, noise and numbers however it is split, every pass shows every picture once, and
/// steps can be asked for in any order.
#[test]
fn batches_are_functions_of_seed_and_step() {
    let (data, arch) = (squares(), tiny_arch());
    let new = |seed| Batches::new(&data, &arch, seed, 8, &Device::Cpu);
    let all = |b: Vec<fewstep::train::Batch>| {
        let join = |f: &dyn Fn(&fewstep::train::Batch) -> Vec<f32>| b.iter().flat_map(f).collect::<Vec<f32>>();
        let class: Vec<u16> = b.iter().flat_map(|b| b.class.clone()).collect();
        let scalars = join(&|b| b.t.iter().chain(b.u.iter().flatten()).copied().collect());
        let (mut t, mut u) = (join(&|b| b.t.clone()), join(&|b| b.u.iter().flatten().copied().collect()));
        assert_eq!(scalars.len(), 3 * class.len());
        t.append(&mut u);
        (join(&|b| values(&b.x)), join(&|b| values(&b.eps)), class, t)
    };
    let mut batches = new(5);
    let steps: Vec<_> = (0..6).map(|s| all(batches.get(s, 1).unwrap())).collect();
    for parts in [2, 3, 4, 8, 100] {
        assert_eq!(all(batches.get(3, parts).unwrap()), steps[3], "{parts} parts");
    }
    assert_eq!(all(new(5).get(5, 4).unwrap()), steps[5]);
    assert_ne!(all(new(6).get(5, 4).unwrap()), steps[5]);

    // 16 pictures, 8 a batch: steps 0 and 1 are the first pass, 2 and 3 the second in another order.
    let pass = |a: usize| {
        steps[a]
            .0
            .chunks(64)
            .chain(steps[a + 1].0.chunks(64))
            .map(|p| p.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
    };
    let (first, second): (Vec<_>, Vec<_>) = (pass(0).collect(), pass(2).collect());
    assert_ne!(first, second);
    let sorted = |mut v: Vec<Vec<u32>>| {
        v.sort();
        v
    };
    assert_eq!(sorted(first.clone()), sorted(second));
    assert_eq!(
        {
            let mut v = sorted(first);
            v.dedup();
            v.len()
        },
        16
    );

    for (x, eps, class, scalars) in &steps {
        assert!(x.iter().all(|v| (-1.0..=1.0).contains(v)));
        assert!(eps.iter().all(|v| v.is_finite()) && class.iter().all(|c| *c < 2));
        // One t in each eighth of [0, 1).
        for (i, t) in scalars[..8].iter().enumerate() {
            assert!((i as f32 / 8.0..(i + 1) as f32 / 8.0).contains(t));
        }
        assert!(scalars.iter().all(|v| (0.0..1.0).contains(v)));
    }
    assert_ne!(steps[0].1, steps[2].1, "the second pass has other noise");
}

/// A picture keeps its label.
#[test]
fn classes_stay_with_their_pictures() {
    let (data, arch) = (squares(), tiny_arch());
    let mut batches = Batches::new(&data, &arch, 1, 16, &Device::Cpu);
    for batch in batches.get(0, 4).unwrap() {
        for (picture, class) in values(&batch.x).chunks(64).zip(&batch.class) {
            // The corner outside every square shows the ground: dark in class 0, bright in class 1.
            let ground = picture.iter().filter(|v| **v > 0.0).count();
            assert_eq!(*class, u16::from(ground > 32));
        }
    }
}

#[test]
fn rate_is_constant_then_falls_to_zero() {
    let s = Schedule { pictures: 1000, batch: 10, lr: 2.0, constant: 0.4 };
    assert_eq!(s.steps(), 100);
    assert_eq!((s.rate(0), s.rate(39), s.rate(100)), (2.0, 2.0, 0.0));
    assert!((s.rate(70) - 1.0).abs() < 1e-9);
    let s = Schedule { constant: 0.0, ..s };
    assert!((s.rate(0) - 2.0).abs() < 1e-9 && (s.rate(50) - 1.0).abs() < 1e-9);
    let s = Schedule { constant: 1.0, ..s };
    assert_eq!((s.rate(0), s.rate(99)), (2.0, 2.0));
    assert_eq!(Schedule { pictures: 1001, ..s }.steps(), 101);
}

/// The network in f64, put together from candle's own operations and written from its description.
fn forward_f64(
    arch: &fewstep::nn::Arch,
    p: &dyn Fn(&str) -> Tensor,
    z: &Tensor,
    phi: &[f32],
    class: &[u16],
    w: Option<&[f32]>,
) -> Tensor {
    let n = phi.len();
    let dense = |x: &Tensor, weights: Tensor| x.matmul(&weights.t().unwrap()).unwrap();
    let rows = |rows: Vec<Vec<f64>>| Tensor::new(rows, &Device::Cpu).unwrap();
    // [sin(k a), cos(k a)] for k = 1 ..= n.
    let waves = |a: f64, n: usize| {
        (1..=n).map(|k| (k as f64 * a).sin()).chain((1..=n).map(|k| (k as f64 * a).cos())).collect::<Vec<_>>()
    };
    let time = rows(phi.iter().map(|phi| waves(f64::from(*phi), 8)).collect());
    let table = p("embed.class");
    let class: Vec<Tensor> = class.iter().map(|c| table.narrow(0, usize::from(*c), 1).unwrap()).collect();
    let mut e = (dense(&time, p("embed.time.weight")).broadcast_add(&p("embed.time.bias")).unwrap()
        + Tensor::cat(&class, 0).unwrap())
    .unwrap();
    if let Some(w) = w {
        let features = rows(w.iter().map(|w| waves(std::f64::consts::FRAC_PI_2 * f64::from(*w) / 4.0, 4)).collect());
        e = (e + dense(&features, p("embed.guidance"))).unwrap();
    }
    let silu = |x: &Tensor| (x / (x.neg().unwrap().exp().unwrap() + 1.0).unwrap()).unwrap();
    let e = silu(&dense(&silu(&e), p("embed.hidden.weight")).broadcast_add(&p("embed.hidden.bias")).unwrap());
    let film = dense(&e, p("embed.film.weight")).broadcast_add(&p("embed.film.bias")).unwrap();

    let conv =
        |x: &Tensor, name: &str| native::conv(x, &p(&format!("{name}.weight")), &p(&format!("{name}.bias"))).unwrap();
    let norm = |x: &Tensor, name: &str, scale: Option<(&Tensor, &Tensor)>, act: bool| {
        let of_batch = |t: Tensor| t.unsqueeze(0).unwrap().repeat((n, 1)).unwrap();
        let (mut gamma, mut beta) = (of_batch(p(&format!("{name}.scale"))), of_batch(p(&format!("{name}.shift"))));
        if let Some((s, t)) = scale {
            let s = (s + 1.0).unwrap();
            gamma = (gamma * &s).unwrap();
            beta = ((beta * &s).unwrap() + t).unwrap();
        }
        native::norm_act(x, &gamma, &beta, act).unwrap()
    };
    let mut x = conv(z, "conv_in");
    let mut streams = Vec::new();
    for stage in arch.stages() {
        match stage {
            Stage::Block { name, level, film: at } => {
                let c = arch.widths[level];
                let (s, t) = (film.narrow(1, at, c).unwrap(), film.narrow(1, at + c, c).unwrap());
                let y = conv(&norm(&x, &format!("{name}.norm1"), None, true), &format!("{name}.conv1"));
                let y = conv(&norm(&y, &format!("{name}.norm2"), Some((&s, &t)), true), &format!("{name}.conv2"));
                x = (x + y).unwrap();
            }
            Stage::Attention => {
                let qkv = conv(&norm(&x, "attn.norm", None, false), "attn.qkv");
                let (_, h, wd, c3) = qkv.dims4().unwrap();
                let (c, heads) = (c3 / 3, arch.attention_heads);
                let size = c / heads;
                let qkv = qkv.reshape((n, h * wd, c3)).unwrap();
                let part =
                    |i: usize, head: usize| qkv.narrow(2, i * c + head * size, size).unwrap().contiguous().unwrap();
                let mixed: Vec<Tensor> = (0..heads)
                    .map(|head| {
                        let scores = part(0, head)
                            .matmul(&part(1, head).transpose(1, 2).unwrap().contiguous().unwrap())
                            .unwrap();
                        let e = (scores / (size as f64).sqrt()).unwrap().exp().unwrap();
                        let p = e.broadcast_div(&e.sum_keepdim(2).unwrap()).unwrap();
                        p.matmul(&part(2, head)).unwrap()
                    })
                    .collect();
                let mixed = Tensor::cat(&mixed, 2).unwrap().reshape((n, h, wd, c)).unwrap();
                x = (x + conv(&mixed, "attn.proj")).unwrap();
            }
            Stage::Down { level } => {
                let down = conv(&native::avg_pool2(&x).unwrap(), &format!("down.{level}"));
                streams.push(std::mem::replace(&mut x, down));
            }
            Stage::Up { level } => {
                let stream = streams.pop().unwrap();
                x = native::add_upsampled(&stream, &conv(&x, &format!("up.{level}"))).unwrap();
            }
        }
    }
    conv(&norm(&x, "norm_out", None, true), "conv_out")
}

/// Largest difference relative to the larger one's root mean square.
fn relative(got: &Tensor, want: &Tensor) -> f64 {
    let want: Vec<f64> = want.flatten_all().unwrap().to_vec1().unwrap();
    let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len() as f64).sqrt().max(1e-9);
    assert_eq!(got.elem_count(), want.len());
    values(got)
        .iter()
        .zip(&want)
        .map(|(g, w)| (f64::from(*g) - w).abs() / rms)
        .fold(0.0, |m, d| if d <= m { m } else { d })
}

/// The whole network and the gradient of every parameter against double precision.
#[test]
fn network_and_gradients_match_double_precision() {
    use_f32();
    let wide = fewstep::nn::Arch {
        height: 16,
        width: 8,
        channels: 3,
        classes: 3,
        widths: vec![8, 16, 24],
        encoder: vec![1, 2],
        decoder: vec![2, 1],
        middle: 3,
        attention_heads: 2,
        ..tiny_arch()
    };
    let alone = fewstep::nn::Arch {
        widths: vec![16],
        encoder: vec![],
        decoder: vec![],
        attention_heads: 0,
        middle: 1,
        ..tiny_arch()
    };
    for (seed, (arch, guided)) in
        [(tiny_arch(), false), (tiny_arch(), true), (wide, true), (alone, true)].into_iter().enumerate()
    {
        let net = random_net(&arch, guided, 20 + seed as u64);
        let net = UNet { arch: arch.clone(), params: Params::trainable(net.params.tensors().clone()).unwrap() };
        let (h, w) = arch.level_size(0);
        let shape = (3, h, w, arch.patch_channels());
        let z = Tensor::from_vec(normals(9, 3 * arch.picture_len()), shape, &Device::Cpu).unwrap();
        let goal = Tensor::from_vec(normals(10, 3 * arch.picture_len()), shape, &Device::Cpu).unwrap();
        let (phi, class, w) = ([0.05, 0.8, 1.5], [0, 1, arch.classes as u16], [0.0, 1.3, 4.0]);
        let w = guided.then_some(&w[..]);

        let v = net.forward(&Query { z: &z, phi: &phi, class: &class, w, base: None }).unwrap();
        let observed =
            net.forward_observed(&Query { z: &z, phi: &phi, class: &class, w, base: None }, &mut |_, t| Ok(t)).unwrap();
        let grads = (&v - &goal).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();

        let double = |t: &Tensor| t.detach().to_dtype(DType::F64).unwrap();
        let tensors = net.params.tensors().iter().map(|(k, t)| (k.clone(), double(t))).collect();
        let params = Params::trainable(tensors).unwrap();
        let want = forward_f64(&arch, &|name| params.get(name).unwrap().clone(), &double(&z), &phi, &class, w);
        let wanted = (&want - &double(&goal)).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();

        let d = relative(&v, &want);
        assert!(d < 2e-5, "network {seed}: values differ by {d}");
        let d = relative(&observed, &want);
        assert!(d < 2e-5, "network {seed}: observed values differ by {d}");
        for (name, var) in net.params.vars() {
            let got = grads.get(var).unwrap_or_else(|| panic!("network {seed}: {name} has no gradient"));
            let d = relative(got, wanted.get(&params.vars()[name]).unwrap());
            assert!(d < 5e-4, "network {seed}: gradients of {name} differ by {d}");
        }
    }
}

/// One update by the formulas of Loshchilov & Hutter, with clipping and the moving average, in plain numbers.
#[test]
fn optimizer_follows_its_formulas() {
    let start = [0.5f64, -1.0, 2.0];
    let tensor =
        |v: &[f64]| Tensor::from_vec(v.iter().map(|v| *v as f32).collect::<Vec<_>>(), v.len(), &Device::Cpu).unwrap();
    let params = Params::trainable(BTreeMap::from([("a".to_string(), tensor(&start))])).unwrap();
    let options = AdamWOptions { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, clip: 1.0, ema: 0.999 };
    let mut optimizer = fewstep::nn::AdamW::new(&params, options).unwrap();
    let (mut p, mut m, mut v, mut ema) = (start, [0.0; 3], [0.0; 3], start);
    for (step, grad) in [[3.0, -4.0, 0.0], [0.1, 0.2, -0.3], [0.0, 0.0, 1.0]].iter().enumerate() {
        let step = step as i32 + 1;
        let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
        let clip = if norm > 1.0 { 1.0 / norm } else { 1.0 };
        let decay = (0.999f64).min(f64::from(1 + step) / f64::from(10 + step));
        for i in 0..3 {
            let g = grad[i] * clip;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.99 * v[i] + 0.01 * g * g;
            let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(step)), v[i] / (1.0 - 0.99f64.powi(step)));
            p[i] -= 0.01 * (0.1 * p[i] + mh / (vh.sqrt() + 1e-8));
            ema[i] = decay * ema[i] + (1.0 - decay) * p[i];
        }
        let reported = optimizer.step(&params, &BTreeMap::from([("a".to_string(), tensor(grad))]), 0.01).unwrap();
        assert!((reported - norm).abs() < 1e-5);
        for i in 0..3 {
            assert!((f64::from(values(params.get("a").unwrap())[i]) - p[i]).abs() < 1e-5, "step {step} value {i}");
            assert!((f64::from(values(&optimizer.ema()["a"])[i]) - ema[i]).abs() < 1e-5, "step {step} average {i}");
        }
    }
}
