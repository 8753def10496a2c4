//! UARTs: two registers are all that a firmware needs that only sends.

use core::ptr::{read_volatile, write_volatile};

use crate::board::{UART, UART_BASE};

/// What drives the board's UART; the board's constants name one.
#[derive(Clone, Copy)]
#[expect(dead_code, reason = "a board has one of them")]
pub enum Uart {
    /// Arm's Cortex-M System Design Kit (DDI 0479, 4.3): registers of a word.
    Cmsdk,
    /// The 16550: registers of a byte; it needs no set-up to be heard in an emulator, and 8N1 from its boot loader on a
    /// board.
    Ns16550,
}

mod cmsdk {
    pub const DATA: usize = 0x00;
    pub const STATE: usize = 0x04;
    pub const CONTROL: usize = 0x08;
    pub const BAUD_DIVIDER: usize = 0x10;

    pub const STATE_TX_FULL: u32 = 1;
    pub const CONTROL_TX_ENABLE: u32 = 1;
    /// Smallest divider the UART accepts.
    pub const FASTEST: u32 = 16;
}

mod ns16550 {
    pub const DATA: usize = 0;
    pub const LINE_STATUS: usize = 5;

    pub const TX_EMPTY: u8 = 1 << 5;
}

fn write<T>(register: usize, value: T) {
    // SAFETY: the board file says that a UART's registers are at UART_BASE; `register` is one of them and T its type, and
    // a write to it has no effect on memory that Rust knows.
    unsafe { write_volatile((UART_BASE + register) as *mut T, value) }
}

fn read<T>(register: usize) -> T {
    // SAFETY: as in `write`; registers are integers, for which any bits will do.
    unsafe { read_volatile((UART_BASE + register) as *const T) }
}

/// Switches the UART on.
pub fn start() {
    match UART {
        Uart::Cmsdk => {
            write::<u32>(cmsdk::BAUD_DIVIDER, cmsdk::FASTEST);
            write::<u32>(cmsdk::CONTROL, cmsdk::CONTROL_TX_ENABLE);
        }
        Uart::Ns16550 => {}
    }
}

/// Waits until another byte can be taken.
pub fn flush() {
    match UART {
        Uart::Cmsdk => while read::<u32>(cmsdk::STATE) & cmsdk::STATE_TX_FULL != 0 {},
        Uart::Ns16550 => while read::<u8>(ns16550::LINE_STATUS) & ns16550::TX_EMPTY == 0 {},
    }
}

/// Sends bytes.
pub fn put(bytes: &[u8]) {
    for &byte in bytes {
        flush();
        match UART {
            Uart::Cmsdk => write(cmsdk::DATA, u32::from(byte)),
            Uart::Ns16550 => write(ns16550::DATA, byte),
        }
    }
}
