//! Records over the UART, and the end of the run.

use core::ptr::{read_volatile, write_volatile};

use fewstep_wire::{Crc32c, Kind, MAGIC, MAX_PAYLOAD, Status};

use crate::board::UART_BASE;

/// The UART of Arm's Cortex-M System Design Kit (DDI 0479, 4.3).
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

fn write(register: usize, value: u32) {
    // SAFETY: the board file says that a UART's registers are at UART_BASE; `register` is one of them, and a write to
    // it has no effect on memory that Rust knows.
    unsafe { write_volatile((UART_BASE + register) as *mut u32, value) }
}

fn read(register: usize) -> u32 {
    // SAFETY: as in `write`.
    unsafe { read_volatile((UART_BASE + register) as *const u32) }
}

/// Switches the UART on.
pub fn start() {
    write(cmsdk::BAUD_DIVIDER, cmsdk::FASTEST);
    write(cmsdk::CONTROL, cmsdk::CONTROL_TX_ENABLE);
}

fn flush() {
    while read(cmsdk::STATE) & cmsdk::STATE_TX_FULL != 0 {}
}

fn put(bytes: &[u8]) {
    for &byte in bytes {
        flush();
        write(cmsdk::DATA, u32::from(byte));
    }
}

/// Sends a record whose payload is `parts`, one after the other. More than [`MAX_PAYLOAD`] is cut off.
pub fn send(kind: Kind, parts: &[&[u8]]) {
    let fitting = |room: &mut usize, part: &[u8]| {
        let taken = part.len().min(*room);
        *room -= taken;
        taken
    };
    let mut room = MAX_PAYLOAD;
    let length = parts.iter().map(|part| fitting(&mut room, part)).sum::<usize>();
    let [low, high] = (length as u16).to_le_bytes();
    let head = [kind as u8, low, high];
    put(&[MAGIC]);
    put(&head);
    let mut crc = Crc32c::new().update(&head);
    let mut room = MAX_PAYLOAD;
    for part in parts {
        let part = &part[..fitting(&mut room, part)];
        put(part);
        crc = crc.update(part);
    }
    put(&crc.value().to_le_bytes());
}

/// Ends the emulator with the status as its exit code, after the last byte has left.
pub fn exit(status: Status) -> ! {
    flush();
    semihosting::process::exit(status.code())
}

/// Sends a head without its payload, and bytes that are no record.
#[cfg(feature = "drills")]
pub fn garble() {
    put(&[MAGIC, Kind::Picture as u8, 200, 0, 1, 2, 3]);
}
