//! What the tests with an emulator share.

use std::io::Write;

use fewstep_runner::{Error, Event, Options, Simulator};

/// A simulator, or `None` with a line that says what is missing. Where `FEWSTEP_REQUIRE_QEMU` is set, as in `check`,
/// nothing may be missing.
#[allow(dead_code, reason = "not every file of tests needs it")]
pub fn simulator(board: &str, options: &Options) -> Option<Simulator> {
    match Simulator::new(board, options, &mut quiet) {
        Ok(simulator) => Some(simulator),
        Err(error) => {
            skip(&error);
            None
        }
    }
}

/// Says that a test is skipped because of `error`; fails for an error that is not a missing tool.
pub fn skip(error: &Error) {
    assert!(error.is_missing_tool(), "{error}");
    assert!(std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(), "FEWSTEP_REQUIRE_QEMU is set, but {error}");
    say(&format!("SKIPPED: {error}"));
}

/// Says something that is seen: the test harness keeps what `eprintln!` says to itself.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An observer that looks away.
pub fn quiet(_: Event<'_>) {}
