//! Finishing in the features of classifiers: what is learnt is the derivative of the Frechet distance, and the distance
//! falls.

use std::f64::consts::FRAC_PI_2;

use candle_core::{Device, Tensor};
use fewstep::data::Dataset;
use fewstep::diffusion::{SampleRequest, Sampler, angle, rotate, sample, to_byte};
use fewstep::evaluate::{Gaussian, Root};
use fewstep::features::{Classifier, Extractor, FeatureArch, Training, train};
use fewstep::matching::{Matched, Running, View};
use fewstep::nn::{AdamWOptions, Engine, Kind, Precision, Query, UNet};
use fewstep::train::{Address, Batch, Live, Objective, Phase, RunDir, Schedule, Widened};
use fewstep_tests::{Folder, largest_difference, normals, random_net, squares, tiny_arch, values};
use ndarray::{Array1, Array2};

const STEPS: usize = 2;

/// A classifier of the squares, and the squares.
fn classifier() -> (Classifier, Dataset) {
    Engine::select(Precision::F32).unwrap();
    let data = squares();
    let arch = FeatureArch { features: 8, ..FeatureArch::for_data(&data).unwrap() };
    let net = train(&data, &arch, &Training { batch: 16, ..Training::for_height(8, 640, 3) }, None).unwrap();
    (Extractor::freeze(&net, &data.pictures, data.class_names.clone()).unwrap().net, data)
}

/// With a companion whose strengths are drawn as 4 u^power.
fn matched(views: Vec<View>, strengths: &[f32], start: &UNet, widen: f64, power: f64) -> Matched {
    let companion = Widened { start: start.clone(), steps: STEPS, widen, power };
    Matched::new(views, strengths.to_vec(), STEPS, Box::new(companion), 7)
}

fn batch(first: usize, n: usize) -> Batch {
    let tensor = |seed| Tensor::from_vec(normals(seed, n * 64), (n, 4, 4, 4), &Device::Cpu).unwrap();
    Batch {
        x: tensor(60),
        eps: tensor(61),
        base: None,
        class: (0..n as u16).map(|i| i / 2 % 2).collect(),
        t: (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect(),
        u: (0..n).map(|i| [i as f32 / n as f32, 0.0]).collect(),
        address: Address { first, ..Address::default() },
    }
}

/// Where the optimal transport takes a row, twice the way there is the distance's derivative (shares of mean and covariance
/// differ by n and n - 1).
#[test]
fn the_transport_is_the_derivative_of_the_distance() {
    let (n, d) = (40, 5);
    let rows = |seed, scale: f32, shift: f32| {
        let mut v = Array2::from_shape_vec((n, d), normals(seed, n * d)).unwrap();
        let other = v.column(0).to_owned();
        v.column_mut(1).scaled_add(0.7, &other);
        v.mapv(|v| scale * v + shift)
    };
    let (drawn, real) = (rows(1, 1.3, 0.2), rows(2, 1.0, 0.0));
    let root = Root::new(Gaussian::of(real.view()));
    let gaussian = Gaussian::of(drawn.view());
    let transport = root.transport(&gaussian);
    // It leads one covariance to the other.
    let led = transport.dot(&gaussian.covariance).dot(&transport);
    let wanted = Gaussian::of(real.view());
    assert!((&led - &wanted.covariance).iter().all(|e| e.abs() < 1e-9));

    let (mean, to) = (Array1::from(gaussian.mean.clone()), Array1::from(wanted.mean));
    for (i, k) in [(0, 0), (7, 1), (23, 4)] {
        let at = |by: f32| {
            let mut moved = drawn.clone();
            moved[[i, k]] += by;
            root.distance(&Gaussian::of(moved.view()))
        };
        let numeric = (at(0.05) - at(-0.05)) / 0.1;
        let row = drawn.row(i).mapv(f64::from) - &mean;
        let covariance = (&row - &transport.dot(&row))[k] / (n - 1) as f64;
        let exact = 2.0 * ((&mean - &to)[k] / n as f64 + covariance);
        assert!((numeric - exact).abs() < 2e-3 * exact.abs().max(0.05), "{numeric} {exact}");
    }
}

/// The target of every step is away from what it says by half the loss's gradient, here against differences.
#[test]
fn targets_are_the_gradient_of_the_distance_in_features() {
    let (net, data) = classifier();
    let student = random_net(&tiny_arch(), true, 31);
    let live = Live::of(&student);
    let view = || View::new(&net, &[&data], &tiny_arch(), &Device::Cpu).unwrap();
    let one = matched(vec![view()], &[0.0], &student, 0.0, 1.0);
    one.begin(&live).unwrap();
    let batch = batch(0, 8);
    let got = one.targets(&batch, &live).unwrap();
    // Four pictures without guidance by two steps, then the companion's four.
    let (w, weight) = (got.w.clone().unwrap(), got.weight.clone().unwrap());
    assert_eq!((w.len(), &w[..8]), (12, &[0.0; 8][..]));
    for (w, weight) in w[8..].iter().zip(&weight[8..]) {
        assert!((weight - w / (w + 0.3)).abs() < 1e-6);
    }
    assert_eq!(&weight[..8], [1.0; 8]);

    let class: Vec<u16> = (0..4).map(|i| batch.class[2 * i]).collect();
    let d = vec![(FRAC_PI_2 / STEPS as f64) as f32; 4];
    let say = |z: &Tensor, step: usize| {
        let phi = vec![angle(step, STEPS) as f32; 4];
        student.forward(&Query { z, phi: &phi, class: &class, w: Some(&[0.0; 4]), base: None }).unwrap()
    };
    let noise = batch.eps.index_select(&Tensor::new(&[0u32, 2, 4, 6], &Device::Cpu).unwrap(), 0).unwrap();
    assert!(largest_difference(&values(&got.z.narrow(0, 0, 4).unwrap()), &values(&noise)) < 1e-6);
    // The rows' own goals: with the moments as they stand.
    let saved = |o: &Matched| {
        let mut tensors = Default::default();
        o.save(&mut tensors).unwrap();
        tensors
    };
    let fresh = matched(vec![view()], &[0.0], &student, 0.0, 1.0);
    fresh.begin(&live).unwrap();
    let running = Running::load("drawn.0.0", view().width(), &saved(&fresh)).unwrap();
    let (view, transports) = (view(), view().transports(&[running]));
    let features = |moved: &[Tensor; STEPS]| {
        let mut z = noise.clone();
        for (step, moved) in moved.iter().enumerate() {
            let v = (say(&z, step) + moved).unwrap();
            z = rotate(&z, &v, &d).unwrap();
        }
        view.features(&z, &class).unwrap()
    };
    let zeros = noise.zeros_like().unwrap();
    let still = features(&[zeros.clone(), zeros.clone()]);
    let goals = view.led(&transports, &[0; 4], &view.rows(&values(&still), &class), &Device::Cpu).unwrap();
    let loss = |moved: &[Tensor; STEPS]| -> f64 {
        values(&(features(moved) - &goals).unwrap()).iter().map(|v| f64::from(*v).powi(2)).sum()
    };
    for step in 0..STEPS {
        let said = say(&got.z.narrow(0, 4 * step, 4).unwrap(), step);
        let target = got.v.narrow(0, 4 * step, 4).unwrap();
        // The gradient that training sees, divided by the loss's weight.
        let gradient: Vec<f64> = values(&said).iter().zip(values(&target)).map(|(a, b)| f64::from(a - b)).collect();
        let gradient: Vec<f64> = gradient.iter().map(|g| 2.0 * g / 64.0 / 3e-4).collect();
        let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(length > 0.0);
        for part in [0, 1] {
            // Along the gradient, and along random directions.
            let along: Vec<f64> = match part {
                0 => gradient.iter().map(|g| g / length).collect(),
                _ => normals(77 + step as u64, gradient.len()).iter().map(|v| f64::from(*v) / 16.0).collect(),
            };
            let at = |by: f64| {
                let mut moved = [zeros.clone(), zeros.clone()];
                let values: Vec<f32> = along.iter().map(|a| (a * by) as f32).collect();
                moved[step] = Tensor::from_vec(values, noise.shape(), &Device::Cpu).unwrap();
                loss(&moved)
            };
            let numeric = (at(0.02) - at(-0.02)) / 0.04;
            let exact: f64 = gradient.iter().zip(&along).map(|(g, a)| g * a).sum();
            assert!((numeric - exact).abs() < 0.03 * length, "step {step}: {numeric} {exact} of {length}");
        }
    }

    // Two views of one classifier ask for the same.
    let again = View::new(&net, &[&data], &tiny_arch(), &Device::Cpu).unwrap();
    let twice = matched(vec![again, view], &[0.0], &student, 0.0, 1.0);
    twice.begin(&live).unwrap();
    let again = twice.targets(&batch, &live).unwrap();
    assert!(largest_difference(&values(&again.v), &values(&got.v)) < 1e-5);
}

/// Goals take turns: each picture is drawn with its goal's strength, and its features count in that goal's moments.
#[test]
fn each_goal_has_its_strength_and_its_moments() {
    let (net, data) = classifier();
    let other = Dataset { pictures: data.pictures.iter().map(|v| 255 - v).collect(), ..data.clone() };
    let student = random_net(&tiny_arch(), true, 31);
    let live = Live::of(&student);
    let view = View::new(&net, &[&data, &other], &tiny_arch(), &Device::Cpu).unwrap();
    let strengths = [0.0, 1.5];
    let objective = matched(vec![view], &strengths, &student, 0.0, 1.0);
    let moments = || {
        let mut tensors = Default::default();
        objective.save(&mut tensors).unwrap();
        let width = objective.views[0].width();
        [0, 1].map(|goal| Running::load(&format!("drawn.0.{goal}"), width, &tensors).unwrap())
    };
    objective.begin(&live).unwrap();
    let before = moments();
    assert_ne!(before[0], before[1]);

    // Pictures 2, 4, 6, 8, 10, 12 of a whole batch, in two parts that come in the other order.
    let batches = [batch(6, 7), batch(2, 4)];
    let asked: Vec<_> = batches.iter().map(|batch| objective.targets(batch, &live).unwrap()).collect();
    assert_eq!(asked[0].w.as_ref().unwrap()[..4 * STEPS], [[1.5, 0.0, 1.5, 0.0], [1.5, 0.0, 1.5, 0.0]].concat());
    assert_eq!(asked[1].w.as_ref().unwrap()[..2 * STEPS], [[1.5, 0.0], [1.5, 0.0]].concat());
    for asked in &asked {
        let rows = asked.w.iter().flatten().zip(asked.weight.iter().flatten());
        for (w, weight) in rows.filter(|(w, _)| !strengths.contains(w)) {
            let nearest = w.abs().min((w - 1.5).abs());
            assert!((weight - nearest / (nearest + 0.3)).abs() < 1e-6, "{w}: {weight}");
        }
    }

    objective.begin(&live).unwrap();
    let after = moments();
    for (goal, w) in strengths.into_iter().enumerate() {
        let of = |batch: &Batch| -> Vec<u32> {
            let number = |i: &u32| batch.address.first + *i as usize;
            (0..batch.class.len() as u32).filter(|i| number(i) % 2 == 0 && number(i) / 2 % 2 == goal).collect()
        };
        let rows: Vec<Array2<f64>> = batches
            .iter()
            .rev()
            .map(|batch| {
                let part = batch.part(&of(batch)).unwrap();
                let n = part.class.len();
                let mut z = part.eps.clone();
                for step in 0..STEPS {
                    let (phi, w) = (vec![angle(step, STEPS) as f32; n], vec![w; n]);
                    let v = student.forward(&part.query(&z, &phi, &w)).unwrap();
                    z = rotate(&z, &v, &vec![(FRAC_PI_2 / STEPS as f64) as f32; n]).unwrap();
                }
                let view = &objective.views[0];
                view.rows(&values(&view.features(&z, &part.class).unwrap()), &part.class)
            })
            .collect();
        let rows = ndarray::concatenate(ndarray::Axis(0), &[rows[0].view(), rows[1].view()]).unwrap();
        assert_eq!(rows.nrows(), 3);
        let mut followed = before[goal].clone();
        followed.follow(rows.view());
        let (a, b) = (followed.gaussian(), after[goal].gaussian());
        assert!(a.mean.iter().zip(&b.mean).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(a.covariance.iter().zip(&b.covariance).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

/// Parts of a batch that hold one kind of picture alone, and the order of parts.
#[test]
fn every_second_picture_of_a_batch_is_matched() {
    let (net, data) = classifier();
    let student = random_net(&tiny_arch(), true, 31);
    let live = Live::of(&student);
    let view = View::new(&net, &[&data], &tiny_arch(), &Device::Cpu).unwrap();
    let objective = matched(vec![view], &[0.0], &student, 0.1, 1.0);
    objective.begin(&live).unwrap();
    let rows = |first, n| objective.targets(&batch(first, n), &live).unwrap().phi.len();
    assert_eq!((rows(0, 1), rows(1, 1), rows(0, 2), rows(1, 3)), (STEPS, 1, STEPS + 1, STEPS + 2));
}

/// From pictures of noise a random student comes nearer to what is wanted, at the goal's strength.
#[test]
fn the_distance_falls() {
    let (net, data) = classifier();
    let folder = Folder::new("matching");
    let start = random_net(&tiny_arch(), true, 51);
    let distance = |student: &UNet, w: f32| {
        let classes = (0..256).map(|i| i % 2).collect();
        let request =
            SampleRequest { steps: STEPS, seed: 900, classes, w, sampler: Sampler::Deterministic, bases: vec![] };
        let drawn = sample(student, &request, &Device::Cpu, |_| ()).unwrap();
        let bytes: Vec<u8> = drawn.into_iter().map(to_byte).collect();
        let seen = net.extract(&bytes).unwrap();
        let features = Array2::from_shape_vec((256, seen.width), seen.features).unwrap();
        let real = net.extract(&data.pictures).unwrap();
        let real = Array2::from_shape_vec((data.len(), real.width), real.features).unwrap();
        Root::new(Gaussian::of(real.view())).distance(&Gaussian::of(features.view()))
    };
    for w in [0.0, 3.0] {
        let run = RunDir::open(&folder.join(&format!("{w}")), &serde_json::json!({}), false).unwrap();
        let phase = Phase {
            name: "student-2-finished",
            net: start.clone(),
            kind: Kind::Student(STEPS),
            auxiliary: None,
            schedule: Schedule { pictures: 12_800, batch: 32, lr: 3e-3, constant: 0.0 },
            optimizer: AdamWOptions { ema: 0.9, ..AdamWOptions::default() },
            seed: 3,
            data: &data,
            device: &Device::Cpu,
            run: &run,
        };
        let view = View::new(&net, &[&data], &tiny_arch(), &Device::Cpu).unwrap();
        // Of the companion's strengths, few are near the higher goal's.
        let objective = matched(vec![view], &[w], &start, 0.0, if w > 0.0 { 8.0 } else { 1.0 });
        let finished = phase.run(&objective).unwrap();
        let (before, after) = (distance(&start, w), distance(&finished, w));
        assert!(after < 0.7 * before, "{w}: {before} to {after}");
    }
}
