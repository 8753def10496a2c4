//! defmt's global logger: a frame is a record of kind [`Kind::Log`], which delimits it, so the encoding is raw.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use fewstep_wire::{Kind, Status};

use crate::console;

/// Longest frame; longer ones are cut.
const FRAME_BYTES: usize = 512;

#[defmt::global_logger]
struct Logger;

struct State {
    encoder: defmt::Encoder,
    gathered: Gathered,
}

/// A frame until it is complete.
struct Gathered {
    bytes: [u8; FRAME_BYTES],
    length: usize,
}

impl Gathered {
    /// Takes what fits; the reader marks a line that ends early.
    fn put(&mut self, bytes: &[u8]) {
        let free = self.bytes.get_mut(self.length..).unwrap_or_default();
        self.length += bytes.len().min(free.len());
        free.iter_mut().zip(bytes).for_each(|(free, &byte)| *free = byte);
    }

    fn send(&mut self) {
        console::send(Kind::Log, &[self.bytes.get(..self.length).unwrap_or_default()]);
        self.length = 0;
    }
}

struct Shared {
    taken: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: `state` is only reached between `acquire` and `release`, and `taken` lets one caller at a time through.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    taken: AtomicBool::new(false),
    state: UnsafeCell::new(State {
        encoder: defmt::Encoder::new(),
        gathered: Gathered { bytes: [0; FRAME_BYTES], length: 0 },
    }),
};

impl State {
    fn encode(&mut self, encode: impl FnOnce(&mut defmt::Encoder, &mut dyn FnMut(&[u8]))) {
        let gathered = &mut self.gathered;
        encode(&mut self.encoder, &mut |bytes| gathered.put(bytes));
    }
}

/// # Safety
/// The caller is between `acquire` and `release`, and holds no other reference from here.
unsafe fn state() -> &'static mut State {
    // SAFETY: the caller is the only one, as this function demands.
    unsafe { &mut *SHARED.state.get() }
}

// SAFETY: `acquire` admits one caller until `release`; no interrupt is enabled, and the fault handler does not log.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        if SHARED.taken.swap(true, Ordering::Acquire) {
            // Something logs while it is being logged. There is no way to say so by logging.
            console::exit(Status::Panicked);
        }
        // SAFETY: `taken` was free, so nobody else is between acquire and release.
        unsafe { state() }.encode(|encoder, write| encoder.start_frame(write));
    }

    unsafe fn flush() {
        // Every record has left when `release` returns.
    }

    unsafe fn release() {
        // SAFETY: defmt calls this after `acquire`.
        let state = unsafe { state() };
        state.encode(|encoder, write| encoder.end_frame(write));
        state.gathered.send();
        SHARED.taken.store(false, Ordering::Release);
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: defmt calls this between `acquire` and `release`.
        unsafe { state() }.encode(|encoder, write| encoder.write(bytes, write));
    }
}
