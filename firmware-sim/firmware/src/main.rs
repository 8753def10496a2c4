//! Draws one picture: finds the student image and the request at their places in flash, samples with fewstep-core one
//! operation per call, as a main loop beside a watchdog and a display would, and sends picture and measurements over the
//! UART. Ends with an exit code ([`fewstep_wire::Status`]) in every case.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board {
    //! The board's constants, written by the build script.
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}
#[cfg(all(target_os = "none", feature = "drills"))]
mod compare;
#[cfg(all(target_os = "none", feature = "drills"))]
mod compare_ops;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod draw;
#[cfg(all(target_os = "none", feature = "drills"))]
mod drill;
#[cfg(target_os = "none")]
mod fault;
#[cfg(target_os = "none")]
mod flash;
#[cfg(all(target_os = "none", feature = "layer"))]
mod layer;
#[cfg(target_os = "none")]
mod logger;
#[cfg(all(target_os = "none", feature = "scenario"))]
mod scenario;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod uart;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a firmware: fewstep-runner builds it for a board and boots it");
}
