//! Ctrl-C for verbs that have other programs at work: the first asks to stop, so that they end and clean up.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell expects of a program that an interrupt ended: 128 and the number of SIGINT.
pub const EXIT_CODE: i32 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt or a request to terminate sets the flag that is returned. A second one ends the program.
pub fn catch() -> &'static AtomicBool {
    #[cfg(unix)]
    {
        extern "C" fn note(signal: libc::c_int) {
            STOP.store(true, Ordering::Relaxed);
            // SAFETY: resets the handler of the signal that is being handled, which is allowed in a handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the handler stores to an atomic and calls `signal`, both async-signal-safe.
            unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
        }
    }
    &STOP
}

/// Whether the program was asked to stop.
pub fn asked() -> bool {
    STOP.load(Ordering::Relaxed)
}
