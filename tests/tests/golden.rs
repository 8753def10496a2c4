//! Golden vectors of the student's arithmetic: noise, elementary functions, every operation, whole pictures.
//!
//! They pin bits. Images in the field draw by them, so a change here is a decision: it changes every picture and the
//! format's version with it. The tables below were printed by
//!
//! ```text
//! cargo test --release -p fewstep-tests --test golden -- --ignored --nocapture
//! ```

use std::fmt::Write as _;

use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::Arch;
use fewstep_core::format::crc::crc32c;
use fewstep_core::math;
use fewstep_core::ops::{
    Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample, Weights, attention, avg_pool2, conv,
    embed, norm_act, quantize, upsample_add,
};
use fewstep_core::sampler::noise::{normals, philox4x32};
use fewstep_core::sampler::schedule;
use fewstep_core::{Backend, Model, Progress, Request, Sampler, Session};

type Golden = &'static [(&'static str, u32)];

/// CRC-32C of whole pictures of random students.
const PICTURES: Golden = &[
    ("shipped seed 0x0 class 0 w 0 steps 0 Deterministic", 0x5d0a_fc79),
    ("shipped seed 0x1 class 3 w 1.5 steps 0 Deterministic", 0x4df2_1350),
    ("shipped seed 0x123456789abcdef class 2 w 4 steps 0 Deterministic", 0x82fc_3f0b),
    ("shipped seed 0x7 class 1 w 0.3 steps 0 Stochastic", 0x12b1_766b),
    ("shipped seed 0xffffffffffffffff class 3 w 2 steps 1 Deterministic", 0x40cc_dcd8),
    ("shipped seed 0x5 class 1 w 1 from a picture at step 1 Deterministic", 0x4302_e377),
    ("shipped seed 0x5 class 1 w 1 from a picture at step 2 Stochastic", 0xe3a7_e43a),
    ("colour seed 0x0 class 0 w 0 steps 0 Deterministic", 0xb5f5_dc5b),
    ("colour seed 0x1 class 3 w 1.5 steps 0 Deterministic", 0x3eae_5dcb),
    ("colour seed 0x123456789abcdef class 2 w 4 steps 0 Deterministic", 0x8639_4856),
    ("colour seed 0x7 class 1 w 0.3 steps 0 Stochastic", 0x6978_2166),
    ("colour seed 0xffffffffffffffff class 3 w 2 steps 1 Deterministic", 0x0e8d_e3b2),
    ("colour seed 0x9 class 2 w 1 steps 4 Deterministic", 0xb831_a093),
    ("colour seed 0x9 class 2 w 3.7 steps 2 Stochastic", 0x2154_c3ff),
    ("colour seed 0x5 class 1 w 1 from a picture at step 1 Deterministic", 0x175d_40e0),
    ("colour seed 0x5 class 1 w 1 from a picture at step 2 Stochastic", 0x1622_1887),
];

/// CRC-32C of every operation's output.
const OPERATIONS: Golden = &[
    ("conv 3x3 7x5 8 to 12 i8 to i8", 0x5b08_62e9),
    ("conv 3x3 7x5 8 to 12 i8 to i16", 0x1fcf_2f16),
    ("conv 3x3 7x5 8 to 12 i8 added to i16", 0xb7bd_f7da),
    ("conv 3x3 7x5 8 to 12 i16 to i16", 0xccf7_999b),
    ("conv 3x3 7x5 8 to 12 i16 to f32", 0x3721_5f04),
    ("conv 3x3 1x1 4 to 3 i8 to i8", 0x5c55_4e7b),
    ("conv 3x3 1x1 4 to 3 i8 to i16", 0x0d21_fd39),
    ("conv 3x3 1x1 4 to 3 i8 added to i16", 0x9940_95e3),
    ("conv 3x3 1x1 4 to 3 i16 to i16", 0x7495_5beb),
    ("conv 3x3 1x1 4 to 3 i16 to f32", 0xfcb3_2f9c),
    ("conv 1x1 4x6 20 to 5 i8 to i8", 0xe0e8_3ebb),
    ("conv 1x1 4x6 20 to 5 i8 to i16", 0xa250_cc32),
    ("conv 1x1 4x6 20 to 5 i8 added to i16", 0xb2d3_c786),
    ("conv 1x1 4x6 20 to 5 i16 to i16", 0x966d_7dbb),
    ("conv 1x1 4x6 20 to 5 i16 to f32", 0x8c92_ff19),
    ("norm film silu to i8", 0xe946_ed92),
    ("norm to i8", 0x97f5_f07d),
    ("norm silu to i16", 0x1380_fc27),
    ("norm of one value", 0x9ecf_88fe),
    ("average", 0xb289_9dda),
    ("doubling", 0x24f6_7e3d),
    ("quantize", 0x8d9f_a399),
    ("attention 49 tokens 16 channels 1 heads", 0x2aaf_f6fe),
    ("attention 12 tokens 24 channels 3 heads", 0x7851_ecc0),
    ("attention 1 tokens 8 channels 2 heads", 0x361a_12c0),
    ("embed w 0", 0x97e0_bc20),
    ("embed w 0.3", 0xe3b6_383e),
    ("embed w 4", 0x1f20_1c14),
];

/// Bits of f32, or CRC-32C where there are many.
const NUMBERS: Golden = &[
    ("normal seed 0x0 stream 0 block 0 lane 0", 0x3f7d_bb33),
    ("normal seed 0x0 stream 0 block 0 lane 1", 0xbf6c_b6b0),
    ("normal seed 0x0 stream 0 block 0 lane 2", 0xbf1e_1b9d),
    ("normal seed 0x0 stream 0 block 0 lane 3", 0xbef6_d1af),
    ("normal seed 0x1 stream 0 block 195 lane 0", 0xbee2_0706),
    ("normal seed 0x1 stream 0 block 195 lane 1", 0xbec1_5382),
    ("normal seed 0x1 stream 0 block 195 lane 2", 0xbe74_047e),
    ("normal seed 0x1 stream 0 block 195 lane 3", 0x3fa9_97e4),
    ("normal seed 0x100000005 stream 3 block 0 lane 0", 0xbfd1_9638),
    ("normal seed 0x100000005 stream 3 block 0 lane 1", 0x3ded_2b72),
    ("normal seed 0x100000005 stream 3 block 0 lane 2", 0x3fa6_226d),
    ("normal seed 0x100000005 stream 3 block 0 lane 3", 0xbfb5_b543),
    ("40000 normals", 0x9f07_cf97),
    ("exp", 0xf50d_fd05),
    ("sigmoid", 0x75fc_805e),
    ("silu", 0xde10_5751),
    ("ln", 0x748e_8cb0),
    ("sqrt", 0x1361_9efe),
    ("sincos", 0x7c39_14ef),
    ("rne", 0x4d68_f145),
    ("inv_std", 0x621a_5787),
    ("straight move from 90 to 45 degrees", 0xa1d8_4c9a),
    ("renoised move from 90 to 45 degrees", 0x6dcf_996f),
];

/// 16x16 colour pictures, two levels, two heads.
fn colour() -> Arch {
    Arch {
        widths: vec![16, 24],
        encoder: vec![1],
        middle: 3,
        decoder: vec![2],
        attention_heads: 2,
        embed: 32,
        ..Arch::for_pictures(16, 16, 3, 4)
    }
}

/// Draws `request`; from `start`, a picture and the step to go on at, where given.
fn draw(model: &Model<'_>, backend: Backend, request: &Request, start: Option<(&[u8], u16)>) -> Vec<u8> {
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut out = vec![0; model.output_bytes()];
    let mut session = Session::with_backend(model, &mut arena, backend).unwrap();
    match start {
        Some((picture, step)) => session.begin_from(request, picture, step).unwrap(),
        None => session.begin(request).unwrap(),
    }
    while session.step() != Progress::Done {}
    session.finish(&mut out).unwrap();
    out
}

fn pictures(backend: Backend) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let shapes = [("shipped", Arch::for_pictures(28, 28, 1, 10), 4), ("colour", colour(), 8)];
    for (name, arch, steps) in shapes {
        let exported = write_image(&random_student(&arch, steps, 1), &ExportOptions::default()).unwrap();
        let image = AlignedBytes::from(exported.bytes.as_slice());
        let model = Model::parse(&image).unwrap();
        let mut requests = vec![
            Request { seed: 0, class: 0, w: 0.0, ..Request::default() },
            Request { seed: 1, class: 3, w: 1.5, ..Request::default() },
            Request { seed: 0x0123_4567_89ab_cdef, class: 2, w: 4.0, ..Request::default() },
            Request { seed: 7, class: 1, w: 0.3, sampler: Sampler::Stochastic, ..Request::default() },
            Request { seed: u64::MAX, class: 3, w: 2.0, steps: 1, ..Request::default() },
        ];
        if name == "colour" {
            requests.push(Request { seed: 9, class: 2, w: 1.0, steps: 4, ..Request::default() });
            requests.push(Request { seed: 9, class: 2, w: 3.7, steps: 2, sampler: Sampler::Stochastic });
        }
        for r in &requests {
            let row =
                format!("{name} seed {:#x} class {} w {} steps {} {:?}", r.seed, r.class, r.w, r.steps, r.sampler);
            found.push((row, crc32c(&draw(&model, backend, r, None))));
        }
        let ramp: Vec<u8> = (0..model.output_bytes()).map(|i| (i * 37 % 256) as u8).collect();
        for (start, sampler) in [(1, Sampler::Deterministic), (2, Sampler::Stochastic)] {
            let r = Request { seed: 5, class: 1, w: 1.0, sampler, ..Request::default() };
            let row = format!("{name} seed 0x5 class 1 w 1 from a picture at step {start} {sampler:?}");
            found.push((row, crc32c(&draw(&model, backend, &r, Some((&ramp, start))))));
        }
    }
    found
}

/// Repeatable values, the extremes frequent.
struct Numbers(u32);

impl Numbers {
    fn words(&mut self, n: usize) -> Vec<u32> {
        self.0 += 1;
        (0..n as u32).map(|i| philox4x32([i, 0, 0, self.0], [0x676f_6c64, 0])[0]).collect()
    }

    fn i8s(&mut self, n: usize) -> Vec<i8> {
        self.words(n)
            .into_iter()
            .map(|x| if x.is_multiple_of(16) { [-128, 127][(x >> 8) as usize % 2] } else { (x >> 8) as i8 })
            .collect()
    }

    fn i16s(&mut self, n: usize) -> Vec<i16> {
        self.words(n)
            .into_iter()
            .map(|x| if x.is_multiple_of(16) { [-32768, 32767][(x >> 8) as usize % 2] } else { (x >> 8) as i16 })
            .collect()
    }

    /// Uniform in -bound ..= bound.
    fn f32s(&mut self, n: usize, bound: f32) -> Vec<f32> {
        self.words(n).into_iter().map(|x| x as i32 as f32 / 2_147_483_648.0 * bound).collect()
    }
}

fn crc_i8(values: &[i8]) -> u32 {
    assert!(values.iter().filter(|v| [-128, 127].contains(*v)).count() * 2 <= values.len(), "mostly saturated");
    crc32c(&values.iter().map(|v| *v as u8).collect::<Vec<_>>())
}

fn crc_i16(values: &[i16]) -> u32 {
    assert!(values.iter().filter(|v| [-32768, 32767].contains(*v)).count() * 2 <= values.len(), "mostly saturated");
    crc32c(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn crc_f32(values: &[f32]) -> u32 {
    crc32c(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn convolutions(found: &mut Vec<(String, u32)>) {
    let mut n = Numbers(100);
    for (height, width, cin, cout, kernel) in [(7, 5, 8, 12, 3), (1, 1, 4, 3, 3), (4, 6, 20, 5, 1)] {
        let (inputs, outputs, taps) = (height * width * cin, height * width * cout, kernel * kernel * cin);
        let (weights, bias) = (n.i8s(cout * taps), n.f32s(cout, 0.5));
        let scale: Vec<f32> = n.f32s(cout, 0.002).iter().map(|s| 0.004 + s).collect();
        let p = Conv {
            height,
            width,
            cin,
            cout,
            kernel,
            weights: Weights::Int8(&weights),
            scale: &scale,
            bias: &bias,
            a: 1.0,
            b: 1.0,
            c: 0.75,
            zp: 0,
        };
        let (bytes, words, old) = (n.i8s(inputs), n.i16s(inputs), n.i16s(outputs));
        // Factors that spread the results over the output's range without leaving much of it.
        let root = (taps as f32).sqrt();
        let to_i8 = Conv { a: 1.5 / root, b: 40.0, zp: -9, ..p };
        let to_i16 = Conv { a: 400.0 / root, b: 9000.0, zp: 17, ..p };
        let from_i16 = Conv { a: 1.5 / root, b: 9000.0, ..p };
        let to_f32 = Conv { a: 0.000_03, ..p };
        let shape = format!("{kernel}x{kernel} {height}x{width} {cin} to {cout}");
        let mut out8 = vec![0; outputs];
        conv(&to_i8, ConvIn::I8(&bytes), ConvOut::I8(&mut out8));
        found.push((format!("conv {shape} i8 to i8"), crc_i8(&out8)));
        let mut out16 = vec![0; outputs];
        conv(&to_i16, ConvIn::I8(&bytes), ConvOut::I16(&mut out16));
        found.push((format!("conv {shape} i8 to i16"), crc_i16(&out16)));
        let mut added = old.clone();
        conv(&to_i16, ConvIn::I8(&bytes), ConvOut::I16Add(&mut added));
        found.push((format!("conv {shape} i8 added to i16"), crc_i16(&added)));
        conv(&from_i16, ConvIn::I16(&words), ConvOut::I16(&mut out16));
        found.push((format!("conv {shape} i16 to i16"), crc_i16(&out16)));
        let mut reals = vec![0.0; outputs];
        conv(&to_f32, ConvIn::I16(&words), ConvOut::F32(&mut reals));
        found.push((format!("conv {shape} i16 to f32"), crc_f32(&reals)));
    }
}

fn operations() -> Vec<(String, u32)> {
    let mut found = Vec::new();
    convolutions(&mut found);
    let mut n = Numbers(200);

    let (cells, channels, group) = (35, 24, 8);
    let (gamma, beta, film) = (n.f32s(channels, 2.0), n.f32s(channels, 1.0), n.f32s(2 * channels, 0.8));
    let input = n.i16s(cells * channels);
    let p = NormAct {
        cells,
        channels,
        group,
        gamma: &gamma,
        beta: &beta,
        film: None,
        silu: false,
        a: 30.0,
        b: 250.0,
        zp: 0,
    };
    let mut out8 = vec![0; cells * channels];
    norm_act(&NormAct { film: Some(&film), silu: true, zp: -100, ..p }, &input, NormOut::I8(&mut out8));
    found.push(("norm film silu to i8".into(), crc_i8(&out8)));
    norm_act(&p, &input, NormOut::I8(&mut out8));
    found.push(("norm to i8".into(), crc_i8(&out8)));
    let mut out16 = vec![0; cells * channels];
    norm_act(&NormAct { silu: true, a: 7000.0, ..p }, &input, NormOut::I16(&mut out16));
    found.push(("norm silu to i16".into(), crc_i16(&out16)));
    // Nothing varies: eps alone keeps the root from 0.
    norm_act(&p, &vec![1234; cells * channels], NormOut::I8(&mut out8));
    found.push(("norm of one value".into(), crc_i8(&out8)));

    let (height, width, channels) = (6, 10, 3);
    let mut pooled = vec![0; height * width * channels / 4];
    avg_pool2(&Pool { height, width, channels }, &n.i16s(height * width * channels), &mut pooled);
    found.push(("average".into(), crc_i16(&pooled)));

    let mut doubled = n.i16s(height * width * channels);
    let p = Upsample { height, width, channels, a: 0.6, c: 0.55 };
    upsample_add(&p, &n.i16s(height * width * channels / 4), &mut doubled);
    found.push(("doubling".into(), crc_i16(&doubled)));

    let mut quantized = vec![0; 1001];
    quantize(9000.0, &n.f32s(1001, 4.0), &mut quantized);
    found.push(("quantize".into(), crc_i16(&quantized)));

    for (tokens, channels, heads) in [(49, 16, 1), (12, 24, 3), (1, 8, 2)] {
        let (mut scores, mut out) = (vec![0.0; tokens], vec![0; tokens * channels]);
        let p = Attention { tokens, channels, heads, a: 0.000_3, b: 1.3 };
        attention(&p, &n.i8s(3 * tokens * channels), &mut scores, &mut out);
        found.push((format!("attention {tokens} tokens {channels} channels {heads} heads"), crc_i8(&out)));
    }

    let (e, f) = (24, 56);
    let (time, class, guidance) = (n.f32s(e, 1.0), n.f32s(e, 1.5), n.f32s(e * 8, 0.5));
    let (hidden, film) = (n.i8s(e * e), n.i8s(f * e));
    let (scale, bias) = (n.f32s(f, 0.004), n.f32s(f, 0.2));
    for w in [0.0, 0.3, 4.0] {
        let p = Embed {
            time: &time,
            class: &class,
            guidance: &guidance,
            hidden: fewstep_core::ops::embed::Dense {
                weights: Weights::Int8(&hidden),
                scale: &scale[..e],
                bias: &bias[..e],
            },
            film: fewstep_core::ops::embed::Dense { weights: Weights::Int8(&film), scale: &scale, bias: &bias },
            w,
        };
        let (mut first, mut second, mut out) = (vec![0.0; e], vec![0.0; e], vec![0.0; f]);
        embed(&p, &mut first, &mut second, &mut out);
        found.push((format!("embed w {w}"), crc_f32(&out)));
    }
    found
}

fn numbers() -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for (seed, stream, block) in [(0u64, 0, 0), (1, 0, 195), (1 << 32 | 5, 3, 0)] {
        for (lane, value) in normals(seed, stream, block).into_iter().enumerate() {
            found.push((format!("normal seed {seed:#x} stream {stream} block {block} lane {lane}"), value.to_bits()));
        }
    }
    let all: Vec<f32> = (0..10_000).flat_map(|block| normals(42, 1, block)).collect();
    found.push(("40000 normals".into(), crc_f32(&all)));

    let grid = |from: f32, to: f32| (0..=10_000).map(move |i| from + (to - from) * (i as f32 / 10_000.0));
    let mut function = |name: &str, values: Vec<f32>| found.push((name.into(), crc_f32(&values)));
    function("exp", grid(-110.0, 90.0).map(math::exp).collect());
    function("sigmoid", grid(-30.0, 30.0).map(math::sigmoid).collect());
    function("silu", grid(-30.0, 30.0).map(math::silu).collect());
    function("ln", grid(1e-7, 3.0).map(math::ln).collect());
    function("sqrt", grid(0.0, 50.0).map(math::sqrt).collect());
    function("sincos", grid(-7.0, 7.0).flat_map(|x| <[f32; 2]>::from(math::sincos(x))).collect());
    function("rne", grid(-300.0, 300.0).map(|x| math::rne(x) as f32).collect());
    function(
        "inv_std",
        (1..2000u32).map(|i| math::inv_std(64, i as i32, u64::from(i) * u64::from(i) * 3, 2.5)).collect(),
    );

    let eighth = std::f32::consts::FRAC_PI_4;
    for (name, m) in [
        ("straight", schedule::deterministic(2.0 * eighth, eighth)),
        ("renoised", schedule::stochastic(2.0 * eighth, eighth)),
    ] {
        let renoise = m.renoise.map_or([0.0; 2], |r| [r.rescale, r.noise]);
        found.push((format!("{name} move from 90 to 45 degrees"), crc_f32(&[m.keep, m.turn, renoise[0], renoise[1]])));
    }
    found
}

/// Compares with a table, and names every row that differs.
fn check(what: &str, found: &[(String, u32)], want: Golden) {
    let mut wrong = String::new();
    for (i, (name, value)) in found.iter().enumerate() {
        match want.get(i) {
            Some((n, v)) if n == name && v == value => {}
            other => writeln!(wrong, "{name}: {value:#010x} where the table has {other:x?}").unwrap(),
        }
    }
    assert!(wrong.is_empty() && found.len() == want.len(), "{what}, {} rows of {}:\n{wrong}", found.len(), want.len());
}

#[test]
fn pictures_keep_their_bits() {
    for backend in Backend::all() {
        check(backend.name(), &pictures(backend), PICTURES);
    }
}

#[test]
fn operations_keep_their_bits() {
    check("operations", &operations(), OPERATIONS);
}

#[test]
fn noise_and_functions_keep_their_bits() {
    check("numbers", &numbers(), NUMBERS);
}

/// Prints the three tables, to be pasted above.
#[test]
#[ignore = "prints the tables"]
fn print() {
    for (name, rows) in
        [("PICTURES", pictures(Backend::scalar())), ("OPERATIONS", operations()), ("NUMBERS", numbers())]
    {
        println!("const {name}: Golden = &[");
        for (row, value) in rows {
            println!("    ({row:?}, 0x{:04x}_{:04x}),", value >> 16, value & 0xffff);
        }
        println!("];");
    }
}
