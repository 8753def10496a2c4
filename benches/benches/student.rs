//! A student of the shipped architecture with random weights, of eight bits and of four: parsing, one step, whole
//! pictures, for every backend.
//!
//! Throughput of steps and pictures is multiply-accumulates a second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fewstep::export::{ExportOptions, StudentSpec, random_int4_student, random_student, write_image};
use fewstep::nn::Arch;
use fewstep_core::{Aligned, Arena, Backend, Model, Request, Sampler, Session};

const STEPS: u16 = 4;
/// More than the image of the shipped architecture needs; both are checked.
const FILE_BYTES: usize = 1 << 20;
const ARENA_BYTES: usize = 1 << 17;

fn students(c: &mut Criterion) {
    let arch = Arch::for_pictures(28, 28, 1, 10);
    student(c, "student", &random_student(&arch, STEPS.into(), 1));
    student(c, "student, int4", &random_int4_student(&arch, STEPS.into(), 1));
}

fn student(c: &mut Criterion, name: &str, spec: &StudentSpec) {
    let exported = write_image(spec, &ExportOptions::default()).expect("a random student fits the format").bytes;
    let mut image = Box::new(Aligned([0u8; FILE_BYTES]));
    image.0[..exported.len()].copy_from_slice(&exported);
    let image = &image.0[..exported.len()];

    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(image.len() as u64));
    group.bench_function("parse", |b| b.iter(|| Model::parse(black_box(image))));

    let model = Model::parse(image).expect("an exported image parses");
    let mut arena = Box::new(Arena::<ARENA_BYTES>::new());
    let mut picture = vec![0u8; model.output_bytes()];
    let macs = model.info().macs_per_step;
    let request = Request { seed: 1, class: 3, w: 1.5, ..Request::default() };
    for backend in Backend::all() {
        let mut session = Session::with_backend(&model, arena.bytes(), backend).expect("the arena is large enough");

        // A request of one step: its noise and conversion to bytes are in the figure.
        group.throughput(Throughput::Elements(macs));
        let one = Request { steps: 1, ..request };
        group.bench_function(BenchmarkId::new("one step", backend.name()), |b| {
            b.iter(|| session.sample(black_box(&one), &mut picture))
        });

        group.throughput(Throughput::Elements(macs * u64::from(STEPS)));
        for (name, sampler) in [("deterministic", Sampler::Deterministic), ("stochastic", Sampler::Stochastic)] {
            let request = Request { sampler, ..request };
            session.sample(&request, &mut picture).expect("the request fits the image");
            group.bench_function(BenchmarkId::new(format!("picture, {STEPS} steps, {name}"), backend.name()), |b| {
                b.iter(|| session.sample(black_box(&request), &mut picture))
            });
        }
    }
    group.finish();
}

/// Short runs: the whole set takes minutes, not tens of them.
fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = config(); targets = students);
criterion_main!(benches);
