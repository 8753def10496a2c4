//! Whole layers, counted and compared with the scalar function on the board: bars of the project, and odd sizes.

mod common;

use common::{quiet, simulator};
use fewstep_runner::{Layer, LayerOutcome, Options, Simulator};

/// Scratch of every bar.
const SCRATCH: u32 = 24 * 1024 + 512;

fn board(name: &str) -> Option<Simulator> {
    simulator(name, &Options { features: vec!["layer".into()], ..Options::default() })
}

fn measure(board: &Simulator, layer: &str, scratch: u32) -> LayerOutcome {
    let layer: Layer = layer.parse().unwrap();
    let outcome = board.run_layer(&layer, scratch, 7, &mut quiet).unwrap_or_else(|error| panic!("{layer}: {error}"));
    assert!(outcome.equal, "{layer} in {scratch}: {outcome:?}");
    assert!(outcome.scratch_bytes <= scratch, "{layer}: {outcome:?}");
    assert_eq!(outcome.macs, layer.macs());
    outcome
}

/// Instructions per multiply-accumulate where CMSIS-NN needs 0.253, 0.220, 0.206, 0.196 and 0.466.
#[test]
fn helium_keeps_its_bars() {
    let Some(board) = board("an547") else { return };
    for (layer, bar) in [
        ("3x3:16x16x32:32", 0.22),
        ("3x3:14x14x48:48", 0.20),
        ("3x3:8x8x64:64", 0.19),
        ("3x3:7x7x96:96", 0.18),
        ("1x1:14x14x48:96", 0.30),
    ] {
        let outcome = measure(&board, layer, SCRATCH);
        assert_eq!(outcome.method, "helium");
        let Some(instructions) = outcome.instructions else { continue };
        let per_mac = instructions as f64 / outcome.macs as f64;
        common::say(&format!(
            "{layer}: {instructions} instructions, {per_mac:.4} per MAC, {} bytes",
            outcome.scratch_bytes
        ));
        assert!(per_mac <= bar, "{layer}: {per_mac:.4} instructions per MAC");
    }
}

#[test]
fn sizes_and_scratch_without_pattern_are_equal_everywhere() {
    for name in ["an386", "an505", "an547", "riscv32"] {
        let Some(board) = board(name) else { return };
        for (layer, scratch) in [
            ("3x3:5x6x20:7", 9000),
            ("3x3:13x11x33:5", 6000),
            ("1x1:3x3x200:30", 4000),
            ("3x3:1x1x1:1", 500),
            ("3x3:4x4x16:8", 0),
        ] {
            measure(&board, layer, scratch);
        }
    }
}

#[test]
fn a_layer_that_does_not_fit_is_refused() {
    let Some(board) = board("an500") else { return };
    for (layer, says) in [("3x3:8x8x512:512", "the layer has"), ("1x1:256x256x8:8", "bytes of memory")] {
        let layer: Layer = layer.parse().unwrap();
        let error = board.run_layer(&layer, 0, 1, &mut quiet).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
