//! The CPU's timer as a watchdog: its interrupt is not handled but reported, and the run ends. The emulator's clock counts
//! instructions in a scenario, so that the same firmware is starved at the same place on a slow machine as on a fast one.

use core::ptr::{read_volatile, write_volatile};

/// A watchdog that has to be fed within a number of ticks.
pub struct Watchdog {
    ticks: u32,
    /// Most ticks between two feedings.
    longest: u32,
}

impl Watchdog {
    /// Starts it; one of 0 ticks never comes.
    pub fn start(ticks: u32) -> Self {
        if ticks > 0 {
            timer::start(ticks);
        }
        Self { ticks, longest: 0 }
    }

    /// Begins the time anew.
    pub fn feed(&mut self) {
        if self.ticks > 0 {
            self.longest = self.longest.max(timer::passed(self.ticks));
            timer::restart(self.ticks);
        }
    }

    /// Most ticks between two feedings since this was asked last.
    pub fn take_longest(&mut self) -> u32 {
        core::mem::take(&mut self.longest)
    }
}

/// A register.
fn register<T>(address: usize) -> T {
    // SAFETY: callers name registers of the timer, whose reading changes nothing; they are integers.
    unsafe { read_volatile(address as *const T) }
}

fn set_register<T>(address: usize, value: T) {
    // SAFETY: callers name registers of the timer, which no memory that Rust knows depends on.
    unsafe { write_volatile(address as *mut T, value) }
}

/// SysTick (Armv7-M, B3.3): counts down from 24 bits with the CPU's clock.
#[cfg(target_arch = "arm")]
mod timer {
    use super::{register, set_register};

    const CONTROL: usize = 0xe000_e010;
    const RELOAD: usize = 0xe000_e014;
    const CURRENT: usize = 0xe000_e018;
    const CPU_CLOCK_INTERRUPT_ENABLE: u32 = 0b111;
    const MOST: u32 = (1 << 24) - 1;

    pub fn start(ticks: u32) {
        set_register(RELOAD, ticks.min(MOST));
        set_register(CURRENT, 0u32);
        set_register(CONTROL, CPU_CLOCK_INTERRUPT_ENABLE);
    }

    /// Ticks since the last restart.
    pub fn passed(ticks: u32) -> u32 {
        // After a restart the counter shows 0 until its next tick.
        match register::<u32>(CURRENT) {
            0 => 0,
            left => ticks.min(MOST) - left,
        }
    }

    pub fn restart(_: u32) {
        // Any write clears the counter, which then starts from RELOAD.
        set_register(CURRENT, 0u32);
    }
}

/// The machine timer of the CLINT (RISC-V privileged architecture, 3.2.1).
#[cfg(target_arch = "riscv32")]
mod timer {
    use core::arch::asm;

    use super::{register, set_register};
    use crate::board::storage::TIMER_BASE;

    const COMPARE: usize = TIMER_BASE + 0x4000;
    const TIME: usize = TIMER_BASE + 0xbff8;
    const MACHINE_TIMER: u32 = 1 << 7;
    const INTERRUPTS_ENABLE: u32 = 1 << 3;

    pub fn start(ticks: u32) {
        restart(ticks);
        // SAFETY: the interrupt's handler ends the run, so nothing that Rust knows is interrupted and gone on with.
        unsafe {
            asm!("csrs mie, {}", in(reg) MACHINE_TIMER);
            asm!("csrs mstatus, {}", in(reg) INTERRUPTS_ENABLE);
        }
    }

    fn now() -> u64 {
        loop {
            let (high, low) = (register::<u32>(TIME + 4), register::<u32>(TIME));
            if high == register::<u32>(TIME + 4) {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    /// Ticks since the last restart.
    pub fn passed(ticks: u32) -> u32 {
        let compare = u64::from(register::<u32>(COMPARE + 4)) << 32 | u64::from(register::<u32>(COMPARE));
        (now() + u64::from(ticks)).saturating_sub(compare) as u32
    }

    pub fn restart(ticks: u32) {
        let compare = now() + u64::from(ticks);
        // The high word last time it is right: never a time that has passed in between.
        set_register(COMPARE, u32::MAX);
        set_register(COMPARE + 4, (compare >> 32) as u32);
        set_register(COMPARE, compare as u32);
    }
}
