//! Text over the UART. Numbers are written without `core::fmt`, which would be as large as a small firmware.

use crate::register::Registers;

// SAFETY: UART0 of the board (CMSDK UART).
const UART0: Registers = unsafe { Registers::at(0x4000_4000) };
const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CONTROL: usize = 0x08;
const BAUD_DIVIDER: usize = 0x10;

const STATE_TX_FULL: u32 = 1;
const CONTROL_TX_ENABLE: u32 = 1;
/// 25 MHz / 217 is 115,200 baud.
const DIVIDER_115200: u32 = 217;

/// Switches the UART on.
pub fn start() {
    UART0.write(BAUD_DIVIDER, DIVIDER_115200);
    UART0.write(CONTROL, CONTROL_TX_ENABLE);
}

/// Waits until everything but the last byte has left.
pub fn flush() {
    while UART0.read(STATE) & STATE_TX_FULL != 0 {}
}

/// Sends text.
pub fn text(text: &str) {
    for byte in text.bytes() {
        flush();
        UART0.write(DATA, byte.into());
    }
}

/// Sends a number in decimal digits.
pub fn number(value: u32) {
    let mut place = 1_000_000_000;
    while place > value && place > 1 {
        place /= 10;
    }
    while place > 0 {
        flush();
        UART0.write(DATA, u32::from(b'0') + value / place % 10);
        place /= 10;
    }
}

/// Sends a line: a word and a number.
pub fn line(word: &str, value: u32) {
    text(word);
    text(" ");
    number(value);
    text("\n");
}
