//! What the exporter writes is what the core reads, and a session draws the same picture however it is driven.

use fewstep::export::{
    ExportOptions, Exported, Graph, NodeKind, StudentSpec, random_int4_student, random_student, write_image,
};
use fewstep::files::AlignedBytes;
use fewstep::nn::Arch;
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::{Element, Layout, OpRepr};
use fewstep_core::ops::Weights;
use fewstep_core::{ArenaError, Model, Progress, Request, RequestError, Sampler, Session, Stage};

fn small() -> Arch {
    Arch {
        height: 8,
        width: 12,
        channels: 3,
        classes: 3,
        patch: 2,
        widths: vec![8, 16],
        encoder: vec![1],
        middle: 2,
        decoder: vec![1],
        attention_heads: 2,
        embed: 16,
        base: 0,
    }
}

/// One level only, no attention, an odd grid, no space-to-depth.
fn flat() -> Arch {
    let none = Vec::new;
    Arch {
        height: 5,
        width: 7,
        patch: 1,
        widths: vec![24],
        encoder: none(),
        decoder: none(),
        attention_heads: 0,
        ..small()
    }
}

fn three_levels() -> Arch {
    Arch { height: 24, width: 16, widths: vec![8, 16, 24], encoder: vec![1, 2], decoder: vec![2, 1], ..small() }
}

fn export(spec: &StudentSpec) -> (Exported, AlignedBytes) {
    let exported = write_image(spec, &ExportOptions::default()).expect("a random student exports");
    let bytes = AlignedBytes::from(exported.bytes.as_slice());
    (exported, bytes)
}

fn request(seed: u64) -> Request {
    Request { seed, class: 2, w: 1.25, ..Request::default() }
}

fn draw(model: &Model<'_>, arena: &mut [u8], request: &Request) -> Vec<u8> {
    let mut out = vec![0; model.output_bytes()];
    Session::new(model, arena).unwrap().sample(request, &mut out).unwrap();
    out
}

#[test]
fn every_number_arrives() {
    for arch in [small(), flat(), three_levels()] {
        let spec = random_student(&arch, 4, 3);
        let (exported, bytes) = export(&spec);
        let model = Model::parse(&bytes).unwrap();
        let (info, image) = (model.info(), model.image());
        assert_eq!(
            (info.height, info.width, info.channels),
            (arch.height as u16, arch.width as u16, arch.channels as u16)
        );
        assert_eq!((info.classes, info.steps, info.w_min, info.w_max), (3, 4, 0.0, 4.0));
        assert_eq!(info.file_bytes as usize, exported.bytes.len());
        assert_eq!(model.arena_bytes(), exported.plan.arena_bytes as usize);
        assert!(model.provenance().eq([("student", "random weights"), ("seed", "3")]));
        for step in 0..4 {
            assert_eq!(image.phi(step), spec.phi[step]);
            assert_eq!(image.time(step), spec.time[step]);
        }
        let e = image.info().embedding;
        assert_eq!(image.f32s(e.class), spec.class);
        assert_eq!(image.f32s(e.guidance), spec.guidance);
        assert_eq!(
            (image.i8s(e.hidden_weights), image.f32s(e.hidden_bias)),
            (&spec.hidden.weights[..], &spec.hidden.bias[..])
        );
        assert_eq!(
            (image.i8s(e.film_weights), image.f32s(e.film_scale)),
            (&spec.film.weights[..], &spec.film.scale[..])
        );

        let graph = Graph::new(&arch);
        assert_eq!(model.op_count(), graph.nodes.len());
        let mut macs = image.embed_macs();
        for (i, node) in graph.nodes.iter().enumerate() {
            assert_eq!(model.op_name(i), Some(node.name.as_str()));
            macs += model.op_macs(i);
            match (model.op(i).unwrap(), node.kind) {
                (OpRepr::Conv { weights, scale, bias, .. }, NodeKind::Conv { .. }) => {
                    let conv = &spec.convs[&node.name];
                    assert_eq!(image.i8s(weights), conv.weights);
                    assert_eq!((image.f32s(scale), image.f32s(bias)), (&conv.scale[..], &conv.bias[..]));
                }
                (OpRepr::NormAct { gamma, beta, .. }, NodeKind::NormAct { .. }) => {
                    let norm = &spec.norms[&node.name];
                    assert_eq!((image.f32s(gamma), image.f32s(beta)), (&norm.gamma[..], &norm.beta[..]));
                }
                (op, kind) => assert!(!matches!(op, OpRepr::Conv { .. }) && !matches!(kind, NodeKind::Conv { .. })),
            }
        }
        assert_eq!(macs, info.macs_per_step);
    }
}

/// Weights of four bits come back as the integers that they stand for, in half the bytes.
#[test]
fn weights_of_four_bits_arrive() {
    for arch in [small(), flat(), three_levels()] {
        let spec = random_int4_student(&arch, 2, 3);
        let (_, bytes) = export(&spec);
        let model = Model::parse(&bytes).unwrap();
        let image = model.image();
        let mut int4 = 0;
        let mut check = |index: u16, weights: &[i8], multipliers: &Option<Vec<u8>>, outputs: usize| {
            let row = weights.len() / outputs;
            let mut room = vec![0; weights.len()];
            assert_eq!(image.weights(index).rows(0, outputs, row, &mut room), weights);
            assert_eq!(image.i8s(index).is_empty(), multipliers.is_some());
            if let (Weights::Int4(matrix), Some(multipliers)) = (image.weights(index), multipliers) {
                let tensor = image.tensor(index).unwrap();
                assert_eq!((tensor.layout, tensor.bytes()), (Layout::Int4, matrix.len() as u64));
                assert!(multipliers.len() == outputs * row.div_ceil(32));
                assert!(!row.is_multiple_of(64) || matrix.len() == weights.len() / 2 + weights.len() / 64);
                int4 += 1;
            }
        };
        let e = image.info().embedding;
        check(e.hidden_weights, &spec.hidden.weights, &spec.hidden.multipliers, arch.embed);
        check(e.film_weights, &spec.film.weights, &spec.film.multipliers, arch.film_len());
        let graph = Graph::new(&arch);
        for (i, node) in graph.nodes.iter().enumerate() {
            if let OpRepr::Conv { weights, .. } = model.op(i).unwrap() {
                let conv = &spec.convs[&node.name];
                check(weights, &conv.weights, &conv.multipliers, node.channels);
            }
        }
        assert_eq!(int4, spec.convs.len() - 1, "all but the first and the last convolution, and the film layer");
    }
}

#[test]
fn parameters_are_the_ratios_of_scales() {
    let spec = random_student(&small(), 2, 9);
    let (exported, bytes) = export(&spec);
    let model = Model::parse(&bytes).unwrap();
    let index = |name: &str| exported.graph.nodes.iter().position(|node| node.name == name).unwrap();
    let close = |found: f32, want: f32| assert!((found / want - 1.0).abs() < 1e-6, "{found} {want}");
    for (step, scales) in spec.activations.iter().enumerate() {
        let params = |name: &str| model.image().params(step, index(name));
        let scale = |name: &str| scales[name].scale;

        let p = params("enc.0.0.conv2");
        close(p.a, scale("enc.0.0.norm2") / scale("enc.0.0.conv2"));
        close(p.b, 1.0 / scale("enc.0.0.conv2"));
        close(p.c, scale("conv_in") / scale("enc.0.0.conv2"));
        assert_eq!(p.zp, scales["enc.0.0.norm2"].zero_point);

        let p = params("enc.0.0.norm2");
        close(p.a, 1.0 / scale("enc.0.0.norm2"));
        close(p.b, 1e-5 / scale("enc.0.0.conv1").powi(2));
        assert_eq!(p.zp, scales["enc.0.0.norm2"].zero_point);

        // The pool keeps the stream's scale.
        close(params("down.0").a, scale("enc.0.0.conv2") / scale("down.0"));
        let p = params("up.0.add");
        close(p.a, scale("up.0") / scale("up.0.add"));
        close(p.c, scale("enc.0.0.conv2") / scale("up.0.add"));
        let p = params("attn.mix");
        close(p.a, scale("attn.qkv").powi(2) / 8f32.sqrt());
        close(p.b, scale("attn.qkv") / scale("attn.mix"));
        close(params("conv_out").a, scale("norm_out"));
        close(params("z").a, 1.0 / scale("z"));
    }
}

#[test]
fn all_ways_to_drive_a_session_agree() {
    for arch in [small(), flat(), three_levels()] {
        let (_, bytes) = export(&random_student(&arch, 4, 5));
        let model = Model::parse(&bytes).unwrap();
        let mut arena = AlignedBytes::zeroed(model.arena_bytes());
        for sampler in [Sampler::Deterministic, Sampler::Stochastic] {
            for steps in [0, 1, 2, 4] {
                let request = Request { steps, sampler, ..request(77) };
                let whole = draw(&model, &mut arena, &request);
                let effective = if steps == 0 { 4 } else { steps };

                // What lay in the arena before does not matter.
                arena.fill(0xa5);
                let mut session = Session::new(&model, &mut arena).unwrap();
                session.begin(&request).unwrap();
                for step in 1..effective {
                    assert_eq!(session.step(), Progress::Running { step, steps: effective });
                }
                assert_eq!(session.step(), Progress::Done);
                let mut out = vec![0; whole.len()];
                session.finish(&mut out).unwrap();
                assert_eq!(out, whole);

                arena.fill(0x3c);
                let mut session = Session::new(&model, &mut arena).unwrap();
                session.begin(&request).unwrap();
                let mut stages = 0;
                assert_eq!(session.stage(), Some(Stage::Embed));
                while session.step_op() != Progress::Done {
                    stages += 1;
                }
                assert_eq!(stages + 1, usize::from(effective) * (model.op_count() + 2));
                assert_eq!(session.stage(), None);
                assert_eq!(session.step_op(), Progress::Done);
                session.finish(&mut out).unwrap();
                session.finish(&mut out).unwrap();
                assert_eq!(out, whole);
            }
        }
    }
}

#[test]
fn every_part_of_a_request_matters() {
    let (_, bytes) = export(&random_student(&small(), 4, 5));
    let model = Model::parse(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let base = draw(&model, &mut arena, &request(1));
    let others = [
        Request { seed: 2, ..request(1) },
        Request { seed: 1 << 40 | 1, ..request(1) },
        Request { class: 1, ..request(1) },
        Request { w: 3.0, ..request(1) },
        Request { steps: 2, ..request(1) },
        Request { sampler: Sampler::Stochastic, ..request(1) },
    ];
    for other in others {
        assert_ne!(draw(&model, &mut arena, &other), base, "{other:?}");
    }
    // One step leaves nothing to renoise.
    let one = Request { steps: 1, ..request(1) };
    assert_eq!(
        draw(&model, &mut arena, &one),
        draw(&model, &mut arena, &Request { sampler: Sampler::Stochastic, ..one })
    );
}

#[test]
fn image_to_image_keeps_more_the_later_it_starts() {
    let (_, bytes) = export(&random_student(&small(), 4, 6));
    let model = Model::parse(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let picture: Vec<u8> = (0..model.output_bytes()).map(|i| (i * 37 % 256) as u8).collect();
    let plain = draw(&model, &mut arena, &request(8));
    let mut session = Session::new(&model, &mut arena).unwrap();
    let mut out = vec![0; plain.len()];
    let mut distances = Vec::new();
    for start in 0..4 {
        session.begin_from(&request(8), &picture, start).unwrap();
        let mut left = 1;
        while session.step() != Progress::Done {
            left += 1;
        }
        assert_eq!(left, 4 - start);
        session.finish(&mut out).unwrap();
        if start == 0 {
            // All noise: the picture is forgotten.
            assert_eq!(out, plain);
        }
        let distance: u64 = out.iter().zip(&picture).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        distances.push(distance);
    }
    assert!(distances[3] < distances[0], "{distances:?}");
}

#[test]
fn requests_that_cannot_be_served_are_typed() {
    let (_, bytes) = export(&random_student(&small(), 4, 5));
    let model = Model::parse(&bytes).unwrap();
    let need = model.arena_bytes();
    let mut arena = AlignedBytes::zeroed(need + 16);
    assert_eq!(
        Session::new(&model, &mut arena[..need - 1]).unwrap_err(),
        ArenaError::TooSmall { need, have: need - 1 }
    );
    assert_eq!(Session::new(&model, &mut arena[1..]).unwrap_err(), ArenaError::NotAligned { need: 16 });

    let mut session = Session::new(&model, &mut arena).unwrap();
    let mut out = vec![0; model.output_bytes()];
    let length = out.len();
    let mut fails = |request: Request| session.sample(&request, &mut out).unwrap_err();
    assert_eq!(fails(Request { class: 3, ..request(0) }), RequestError::Class { found: 3, classes: 3 });
    for w in [-0.1, 4.1, f32::INFINITY] {
        assert_eq!(fails(Request { w, ..request(0) }), RequestError::Guidance { found: w, min: 0.0, max: 4.0 });
    }
    assert!(matches!(fails(Request { w: f32::NAN, ..request(0) }), RequestError::Guidance { .. }));
    for steps in [3, 5, 8, u16::MAX] {
        assert_eq!(fails(Request { steps, ..request(0) }), RequestError::Steps { found: steps, image: 4 });
    }
    let wrong = RequestError::OutputLength { found: length - 1, expected: length };
    assert_eq!(session.sample(&request(0), &mut out[1..]), Err(wrong));
    assert_eq!(session.finish(&mut out), Err(RequestError::NotFinished { step: 0, steps: 0 }));
    assert_eq!(session.step(), Progress::Done);
    session.begin(&Request { steps: 2, ..request(0) }).unwrap();
    session.step();
    assert_eq!(session.finish(&mut out), Err(RequestError::NotFinished { step: 1, steps: 2 }));
    let picture = out.clone();
    let start = RequestError::StartStep { found: 2, steps: 2 };
    assert_eq!(session.begin_from(&Request { steps: 2, ..request(0) }, &picture, 2), Err(start));
    let short = RequestError::PictureLength { found: length - 1, expected: length };
    assert_eq!(session.begin_from(&request(0), &picture[1..], 0), Err(short));
    assert!(wrong.to_string().contains(&format!("{length}")), "{wrong}");
}

/// Sizes that the project promises for its default network, and bytes that no change may alter unnoticed.
#[test]
fn the_default_network_keeps_its_promises() {
    let (exported, bytes) = export(&random_student(&Arch::for_pictures(28, 28, 1, 10), 4, 1));
    let model = Model::parse(&bytes).unwrap();
    assert!(exported.bytes.len() <= 600_000, "{} bytes", exported.bytes.len());
    assert!(model.arena_bytes() <= 64 * 1024, "{} bytes of arena", model.arena_bytes());
    assert!(model.info().macs_per_step <= 40_000_000, "{} MACs", model.info().macs_per_step);
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let picture = draw(&model, &mut arena, &Request { seed: 1, class: 3, w: 1.5, steps: 1, ..Request::default() });
    assert_eq!(crc32c(&picture), 0x989b_7f90);
    // A picture, not a flat or saturated area.
    let extremes = picture.iter().filter(|&&b| b == 0 || b == 255).count();
    assert!(extremes < picture.len() / 4, "{extremes} of {} saturated", picture.len());
}

/// With random weights too, activations use their ranges: a mix-up of scales would saturate or vanish.
#[test]
fn conv_inputs_use_their_range() {
    let (exported, bytes) = export(&random_student(&small(), 1, 5));
    let model = Model::parse(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    for (i, node) in exported.graph.nodes.iter().enumerate() {
        if node.element != Element::I8 {
            continue;
        }
        let buffer = model.image().buffer(exported.plan.output[i]).unwrap();
        {
            let mut session = Session::new(&model, &mut arena).unwrap();
            session.begin(&request(4)).unwrap();
            while session.stage() != Some(Stage::Op(i as u16)) {
                session.step_op();
            }
            session.step_op();
        }
        let values = &arena[buffer.offset as usize..buffer.end() as usize];
        let clipped = values.iter().filter(|&&b| b as i8 == 127).count();
        let (min, max) = values.iter().fold((127i8, -128i8), |(lo, hi), &b| (lo.min(b as i8), hi.max(b as i8)));
        assert!(clipped * 20 < values.len(), "{}: {clipped} of {} saturated", node.name, values.len());
        // Attention averages, so its range is the smallest.
        assert!(i32::from(max) - i32::from(min) > 48, "{}: {min} to {max}", node.name);
    }
}
