//! What the examples have in common: the board. Replace it by your part's HAL; what stays is in `src/bin`.
//!
//! The board is Arm's MPS2 with FPGA image AN500 (Cortex-M7), as QEMU emulates it. Addresses are those of Arm DAI0500,
//! "Application Note AN500"; the peripherals are described in Arm DDI0479, "Cortex-M System Design Kit".

#![no_std]

mod clock;
mod end;
mod memory;
mod nor;
mod register;
mod screen;
mod session;
pub mod uart;
mod watchdog;

pub use clock::{Clock, HZ, Pace, sleep};
pub use end::{counted, end, stack_used};
pub use memory::Once;
pub use nor::Nor;
pub use screen::show;
pub use session::with_session;
pub use watchdog::Watchdog;

/// Why an example ended early, in words.
pub type Reason = &'static str;

/// Start-up of an example: the UART, then `$run`, then the end.
#[macro_export]
macro_rules! main {
    ($run:expr) => {
        #[cortex_m_rt::entry]
        fn main() -> ! {
            fewstep_examples::uart::start();
            fewstep_examples::end($run)
        }
    };
}

/// One of the student images in this repository, 16-byte aligned in flash.
#[macro_export]
macro_rules! student {
    ($file:literal) => {
        &fewstep_core::Aligned(*include_bytes!(concat!("../../../../", $file)))
    };
}
