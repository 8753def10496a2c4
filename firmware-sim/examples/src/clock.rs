//! Time: a clock, a pace and a sleep.

use core::arch::asm;

use crate::register::Registers;

/// Ticks a second, of all three.
pub const HZ: u32 = 25_000_000;

// SAFETY: the board's two timers (CMSDK timer).
const TIMER0: Registers = unsafe { Registers::at(0x4000_0000) };
// SAFETY: as above.
const TIMER1: Registers = unsafe { Registers::at(0x4000_1000) };
const CONTROL: usize = 0x00;
const VALUE: usize = 0x04;
const RELOAD: usize = 0x08;
const INTERRUPT: usize = 0x0c;
const ENABLE: u32 = 1;
const INTERRUPT_ENABLE: u32 = 1 << 3;

/// Counts ticks since its start; wraps after 171 seconds.
pub struct Clock(());

impl Clock {
    /// Starts the clock, on timer 0.
    pub fn start() -> Self {
        TIMER0.write(RELOAD, u32::MAX);
        TIMER0.write(VALUE, u32::MAX);
        TIMER0.write(CONTROL, ENABLE);
        Self(())
    }

    /// Ticks since the start.
    pub fn now(&self) -> u32 {
        !TIMER0.read(VALUE)
    }
}

/// Says again and again that some time has passed.
pub struct Pace(());

impl Pace {
    /// Every `ticks`, on timer 1.
    pub fn every(ticks: u32) -> Self {
        TIMER1.write(RELOAD, ticks);
        TIMER1.write(VALUE, ticks);
        TIMER1.write(CONTROL, ENABLE | INTERRUPT_ENABLE);
        Self(())
    }

    /// Whether the time has passed since the last yes.
    pub fn due(&mut self) -> bool {
        let due = TIMER1.read(INTERRUPT) & 1 != 0;
        if due {
            TIMER1.write(INTERRUPT, 1);
        }
        due
    }
}

/// Stops the CPU for `ticks`, at most 2^24: SysTick wakes it.
pub fn sleep(ticks: u32) {
    // SAFETY: the system timer and the system control block (Armv7-M, B3.3 and B3.2).
    let (timer, control) = unsafe { (Registers::at(0xe000_e010), Registers::at(0xe000_ed00)) };
    const ICSR: usize = 0x04;
    const CLEAR_PENDING_SYSTICK: u32 = 1 << 25;
    // The CPU's clock, an interrupt at zero, enabled.
    const RUN: u32 = 0b111;
    // SAFETY: the interrupt stays pending while interrupts are masked: it wakes the CPU, and no handler is needed.
    unsafe { asm!("cpsid i") };
    timer.write(0x04, ticks.saturating_sub(1) & 0x00ff_ffff);
    timer.write(0x00, RUN);
    timer.write(0x08, 0);
    // SAFETY: waits for an interrupt, and changes nothing else.
    unsafe { asm!("dsb", "wfi") };
    timer.write(0x00, 0);
    control.write(ICSR, CLEAR_PENDING_SYSTICK);
    // SAFETY: interrupts are as they were.
    unsafe { asm!("cpsie i") };
}
