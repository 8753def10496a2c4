//! The board's watchdog (CMSDK APB watchdog, which is Arm's SP805).

use cortex_m_rt::exception;

use crate::end::end;
use crate::register::Registers;

// SAFETY: the board's watchdog.
const WATCHDOG: Registers = unsafe { Registers::at(0x4000_8000) };
const LOAD: usize = 0x000;
const CONTROL: usize = 0x008;
const INTERRUPT_CLEAR: usize = 0x00c;
const LOCK: usize = 0xc00;
const UNLOCKED: u32 = 0x1acc_e551;
const INTERRUPT_AND_RESET: u32 = 0b11;

/// Wants to be fed; the first time that it is not, it sends an interrupt that cannot be masked, the second time it resets.
pub struct Watchdog(());

impl Watchdog {
    /// Starts it: it is to be fed within `ticks` of 25 MHz.
    pub fn start(ticks: u32) -> Self {
        WATCHDOG.write(LOCK, UNLOCKED);
        WATCHDOG.write(LOAD, ticks);
        WATCHDOG.write(CONTROL, INTERRUPT_AND_RESET);
        Self(())
    }

    /// Feeds it.
    pub fn feed(&mut self) {
        WATCHDOG.write(INTERRUPT_CLEAR, 1);
    }
}

/// The watchdog was not fed.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    end(Err("the watchdog was not fed"))
}
