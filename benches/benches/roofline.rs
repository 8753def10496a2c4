//! How close the kernels come to what the machine can do: `cargo bench --bench roofline` prints, for every operation of
//! a student's step, its median time and its share of the peak measured in the same run. The peak of
//! int8 products is that of `vpdpbusd` (or `vpmaddwd` where there is none), of f32 that of fused multiply-adds; what is
//! no multiply-accumulate has its time alone.
//!
//! A report, not a criterion group: peak and operations take turns, so that a busy machine slows both. `--test` runs
//! each once. `FEWSTEP_STUDENT` names another image than the shipped one.

use std::time::Instant;

use fewstep::files::{AlignedBytes, read_aligned};
use fewstep_core::format::Image;
use fewstep_core::{Backend, Model, Request, Session};

/// Steps measured for a backend.
const STEPS: usize = 400;
/// Instructions of one measurement of a peak.
const PEAK_INSTRUCTIONS: u64 = 1 << 16;

/// A unit's name, multiply-accumulates an instruction, and a function that runs at least this many instructions without
/// waiting for memory or for each other and returns their number.
struct Unit {
    name: &'static str,
    macs: u64,
    run: fn(u64) -> u64,
}

#[cfg(target_arch = "x86_64")]
mod units {
    use super::Unit;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Independent accumulators: more than latency times issue width of any unit.
    const LANES: usize = 12;

    /// A loop over `LANES` accumulators.
    macro_rules! unit {
        ($name:ident, $features:literal, $zero:expr, |$acc:ident, $x:ident, $y:ident| $step:expr) => {
            pub fn $name(instructions: u64) -> u64 {
                #[target_feature(enable = $features)]
                unsafe fn run(rounds: u64) {
                    let ($x, $y) = (black_box($zero), black_box($zero));
                    let mut lanes = black_box([$zero; LANES]);
                    for _ in 0..rounds {
                        for $acc in &mut lanes {
                            *$acc = $step;
                        }
                    }
                    black_box(lanes);
                }
                let rounds = instructions.div_ceil(LANES as u64);
                // SAFETY: `int8` and `f32` hand this function out only where the CPU has the features.
                unsafe { run(rounds) };
                rounds * LANES as u64
            }
        };
    }

    unit!(vnni_512, "avx512f,avx512vnni", _mm512_setzero_si512(), |acc, x, y| _mm512_dpbusd_epi32(*acc, x, y));
    unit!(vnni_256, "avx2,avxvnni", _mm256_setzero_si256(), |acc, x, y| _mm256_dpbusd_avx_epi32(*acc, x, y));
    unit!(madd_256, "avx2", _mm256_setzero_si256(), |acc, x, y| _mm256_add_epi32(
        *acc,
        _mm256_madd_epi16(_mm256_xor_si256(*acc, x), y)
    ));
    unit!(fma_512, "avx512f", _mm512_setzero_ps(), |acc, x, y| _mm512_fmadd_ps(x, y, *acc));
    unit!(fma_256, "avx2,fma", _mm256_setzero_ps(), |acc, x, y| _mm256_fmadd_ps(x, y, *acc));

    /// The widest unit for int8 products.
    pub fn int8() -> Option<Unit> {
        if is_x86_feature_detected!("avx512vnni") {
            Some(Unit { name: "vpdpbusd, 512 bits", macs: 64, run: vnni_512 })
        } else if is_x86_feature_detected!("avxvnni") {
            Some(Unit { name: "vpdpbusd, 256 bits", macs: 32, run: vnni_256 })
        } else if is_x86_feature_detected!("avx2") {
            Some(Unit { name: "vpmaddwd and vpaddd, 256 bits", macs: 16, run: madd_256 })
        } else {
            None
        }
    }

    /// The widest unit for f32.
    pub fn f32() -> Option<Unit> {
        if is_x86_feature_detected!("avx512f") {
            Some(Unit { name: "vfmadd, 512 bits", macs: 16, run: fma_512 })
        } else if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            Some(Unit { name: "vfmadd, 256 bits", macs: 8, run: fma_256 })
        } else {
            None
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod units {
    use super::Unit;

    /// No unit of this architecture is measured.
    pub fn int8() -> Option<Unit> {
        None
    }

    /// No unit of this architecture is measured.
    pub fn f32() -> Option<Unit> {
        None
    }
}

/// A unit with the fastest of its measurements, in multiply-accumulates a nanosecond.
struct Peak {
    unit: Option<Unit>,
    best: f64,
}

impl Peak {
    fn of(unit: Option<Unit>) -> Peak {
        Peak { unit, best: 0.0 }
    }

    fn measure(&mut self) {
        let Some(unit) = &self.unit else { return };
        let began = Instant::now();
        let macs = (unit.run)(PEAK_INSTRUCTIONS) * unit.macs;
        self.best = self.best.max(macs as f64 / began.elapsed().as_nanos().max(1) as f64);
    }

    fn print(&self, what: &str) {
        match &self.unit {
            Some(unit) => println!("peak of {what}: {:.1} GMAC/s ({})", self.best, unit.name),
            None => println!("peak of {what}: not measured on this architecture"),
        }
    }

    fn share(&self, macs: u64, ns: f64) -> String {
        match self.best > 0.0 && macs > 0 {
            true => format!("{:.1} %", macs as f64 / ns / self.best * 100.0),
            false => "-".into(),
        }
    }
}

/// Median nanoseconds of every stage of a step; the peaks are measured between steps.
fn stages(model: &Model, arena: &mut [u8], backend: Backend, steps: usize, peaks: &mut [&mut Peak]) -> Vec<f64> {
    let count = usize::from(model.info().ops) + 2;
    let mut times = vec![Vec::with_capacity(steps); count];
    let mut session = Session::with_backend(model, arena, backend).expect("the arena has the image's size");
    for step in 0..steps {
        if session.stage().is_none() {
            let request = Request { seed: step as u64, w: model.info().w_max / 4.0, ..Request::default() };
            session.begin(&request).expect("the request fits the image");
        }
        for times in &mut times {
            let began = Instant::now();
            session.step_op();
            times.push(began.elapsed().as_nanos() as f64);
        }
        peaks.iter_mut().for_each(|peak| peak.measure());
    }
    times
        .into_iter()
        .map(|mut list| {
            list.sort_unstable_by(f64::total_cmp);
            list[list.len() / 2]
        })
        .collect()
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/fashion-mnist-student-4.fsw");
    let path = std::env::var("FEWSTEP_STUDENT").unwrap_or_else(|_| shipped.into());
    let bytes = read_aligned(path.as_ref()).expect("the image can be read");
    let model = Model::parse(&bytes).expect("the image is whole");
    let image = Image::parse(&bytes).expect("the image is whole");
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let (mut int8, mut f32) = (Peak::of(units::int8()), Peak::of(units::f32()));
    for backend in Backend::all() {
        let steps = if test { 1 } else { STEPS };
        let times = stages(&model, &mut arena, backend, steps, &mut [&mut int8, &mut f32]);
        println!("\n{path}, {}, median of {steps} steps", backend.name());
        int8.print("int8");
        f32.print("f32");
        println!(
            "{:<18} {:>10} {:>10} {:>10} {:>12} {:>12}",
            "operation", "us", "kMAC", "GMAC/s", "int8 share", "f32 share"
        );
        let ops = usize::from(model.info().ops);
        for (stage, ns) in times.iter().enumerate() {
            let (name, macs, float) = match stage {
                0 => ("embedding", image.embed_macs(), true),
                _ if stage == ops + 1 => ("update", 0, true),
                _ => (image.op_name(stage - 1).unwrap_or("?"), image.op_macs(stage - 1), false),
            };
            let share = |peak: &Peak, mine: bool| if mine { peak.share(macs, *ns) } else { "-".into() };
            println!(
                "{name:<18} {:>10.2} {:>10.1} {:>10.1} {:>12} {:>12}",
                ns / 1e3,
                macs as f64 / 1e3,
                macs as f64 / ns,
                share(&int8, !float),
                share(&f32, float)
            );
        }
        let (whole, macs) = (times.iter().sum::<f64>(), model.info().macs_per_step);
        println!(
            "{:<18} {:>10.2} {:>10.1} {:>10.1} {:>12}",
            "a step",
            whole / 1e3,
            macs as f64 / 1e3,
            macs as f64 / whole,
            int8.share(macs, whole)
        );
    }
}
