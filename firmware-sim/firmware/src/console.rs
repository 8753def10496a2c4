//! Records over the UART, and the end of the run.

use fewstep_wire::{Crc32c, Kind, MAGIC, MAX_PAYLOAD, Status};

pub use crate::uart::start;
use crate::uart::{flush, put};

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
