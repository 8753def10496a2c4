//! The firmwares of `firmware-sim/examples`, each booted: its pictures are the host's, byte for byte, and what it reports
//! is within bounds.

#[allow(dead_code, reason = "simulators are for the tests of the firmware that draws")]
mod common;
mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fewstep_core::Request;
use fewstep_runner::{Options, Program, Ran};
use text::{draw, number, pictures};

const LIMIT: Duration = Duration::from_secs(240);
/// Bar of the project.
const STACK_BYTES: u32 = 8 << 10;
/// Bar of the project: code of `minimal`, board and start-up included, student left out.
const CODE_BYTES: u64 = 48 << 10;
/// Instructions of the longest call of `step_op`, of the shipped student on a Cortex-M7.
const LONGEST_CALL: u64 = 1_000_000;
/// Ticks of the board's clocks a second, and ticks an instruction takes in the emulator: 32 ns.
const HZ: u32 = 25_000_000;
const TICKS_PER_INSTRUCTION: f64 = 0.8;

const FOUR_STEPS: &str = "assets/fashion-mnist-student-4.fsw";
const ONE_STEP: &str = "assets/fashion-mnist-student-1.fsw";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// An example, built; `None` with a line that says what is missing.
fn built(name: &str, features: &[&str]) -> Option<Program> {
    let options = Options { features: features.iter().map(|&name| name.into()).collect(), ..Options::default() };
    match Program::example(name, &options) {
        Ok(program) => Some(program),
        Err(error) => {
            common::skip(&error);
            None
        }
    }
}

/// An example that cannot panic, whose core writes no static, and that ended well.
fn ran(program: &Program) -> Ran {
    assert_eq!(program.panics().unwrap(), [""; 0]);
    let statics = program.writable().unwrap();
    assert!(statics.iter().any(|name| name.contains("ARENA")), "{statics:?}");
    assert!(!statics.iter().any(|name| name.contains("fewstep_core")), "{statics:?}");
    let ran = program.run(&[], LIMIT).unwrap();
    assert_eq!(ran.code, Some(0), "{}{}", ran.text, ran.stderr);
    let stack = number(&ran.text, "stack");
    assert!((500..=STACK_BYTES).contains(&stack), "{stack} bytes of stack");
    ran
}

fn still(file: &str, seed: u64, class: u16, w: f32) -> Vec<u8> {
    draw(&path(file), Request { seed, class, w, ..Request::default() }, |_, _| w)
}

#[test]
fn minimal_draws_and_does_not_grow() {
    let Some(program) = built("minimal", &[]) else { return };
    let ran = ran(&program);
    assert_eq!(pictures(&ran.text), [still(FOUR_STEPS, 2, 8, 1.0)]);
    let weights = std::fs::metadata(path(FOUR_STEPS)).unwrap().len();
    let size = program.size(weights).unwrap();
    common::say(&format!("minimal: {size:?}, {} bytes of stack", number(&ran.text, "stack")));
    assert!(size.code <= CODE_BYTES, "{size:?}");
}

/// The core's feature for images that enlarge: it costs this much, and nothing in it can panic either.
#[test]
fn what_enlarges_is_small_and_cannot_panic() {
    const ENLARGE_BYTES: u64 = 3_000;
    let Some(program) = built("minimal", &["fewstep-core/enlarge"]) else { return };
    assert_eq!(program.panics().unwrap(), [""; 0]);
    let size = program.size(std::fs::metadata(path(FOUR_STEPS)).unwrap().len()).unwrap();
    common::say(&format!("minimal with enlarge: {size:?}"));
    assert!(size.code <= CODE_BYTES + ENLARGE_BYTES, "{size:?}");
}

#[test]
fn a_watchdog_is_fed_while_pictures_are_drawn_on_a_timer() {
    let Some(program) = built("watchdog", &[]) else { return };
    let ran = ran(&program);
    assert_eq!(pictures(&ran.text), [10, 11].map(|seed| still(FOUR_STEPS, seed, 3, 1.5)));
    let Some(regions) = &ran.regions else { return common::say("SKIPPED: this emulator counts no instructions") };
    let longest = *regions.iter().max().unwrap();
    common::say(&format!("longest call of step_op: {longest} instructions, of {} calls", regions.len()));
    assert!(longest <= LONGEST_CALL, "{longest} instructions");
    // What the board's own clock says.
    let ticks = f64::from(number(&ran.text, "longest call, ticks"));
    assert!((ticks / TICKS_PER_INSTRUCTION / longest as f64 - 1.0).abs() < 0.01, "{ticks} ticks");
}

#[test]
fn a_watchdog_that_is_not_fed_bites() {
    let Some(program) = built("watchdog", &["impatient"]) else { return };
    let ran = program.run(&[], LIMIT).unwrap();
    assert_eq!((ran.code, ran.text.as_str()), (Some(1), "error: the watchdog was not fed\n"), "{}", ran.stderr);
}

#[test]
fn a_knob_moves_the_picture_that_is_being_drawn() {
    let Some(program) = built("knob", &[]) else { return };
    let ran = ran(&program);
    let knob: Vec<f32> =
        ran.text.lines().filter_map(|line| line.strip_prefix("knob ")).map(|value| value.parse().unwrap()).collect();
    assert_eq!(knob.len(), 8);
    let request = Request { seed: 4, class: 7, ..Request::default() };
    let drawn = pictures(&ran.text);
    for (picture, knob) in drawn.iter().zip(knob.chunks(4)) {
        let expected = draw(&path(FOUR_STEPS), request, |model, step| {
            let info = model.info();
            info.w_min + (info.w_max - info.w_min) * (knob[step] / 4095.0)
        });
        assert_eq!(*picture, expected, "{knob:?}");
    }
    assert_ne!(drawn[0], drawn[1]);
}

#[test]
fn an_update_arrives_while_the_old_student_draws() {
    let Some(program) = built("update", &[]) else { return };
    let ran = ran(&program);
    let data = |name: &str| format!("firmware-sim/runner/tests/data/{name}");
    let (old, new) = (still(&data("gray-4.fsw"), 8, 2, 1.5), still(&data("colour-2.fsw"), 8, 2, 1.5));
    let drawn = pictures(&ran.text);
    let (last, during) = drawn.split_last().unwrap();
    assert!(*last == new && !during.is_empty() && during.iter().all(|picture| *picture == old));
    assert_eq!(number(&ran.text, "pictures during the update") as usize, during.len());
    assert_eq!((number(&ran.text, "on trial"), number(&ran.text, "version")), (1, 2));
}

#[test]
fn a_battery_rests_between_steps() {
    let Some(program) = built("battery", &[]) else { return };
    let ran = ran(&program);
    assert_eq!(pictures(&ran.text), [still(FOUR_STEPS, 6, 1, 0.5)]);
    let (sleeps, asleep, awake) =
        (number(&ran.text, "sleeps"), number(&ran.text, "ticks asleep"), number(&ran.text, "ticks awake"));
    let seconds = |ticks: u32| f64::from(ticks) / f64::from(HZ);
    common::say(&format!("awake for {:.2} s, asleep for {:.2} s", seconds(awake), seconds(asleep)));
    assert_eq!(sleeps, 3);
    assert!(asleep >= sleeps * HZ / 2, "{asleep} ticks");
    // Drawing the same without rest takes as long as it is awake: 4 evaluations.
    assert!((50_000_000..100_000_000).contains(&awake), "{awake} ticks");
}

#[test]
fn two_students_share_an_arena() {
    let Some(program) = built("two_models", &[]) else { return };
    let ran = ran(&program);
    assert_eq!(pictures(&ran.text), [ONE_STEP, FOUR_STEPS].map(|file| still(file, 12, 9, 1.0)));
}
