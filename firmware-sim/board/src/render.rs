//! What the firmware's build script writes.

use crate::{Board, FAULT_STACK_BYTES, IMAGE_ALIGN, UartKind};

impl Board {
    /// `memory.x`, for the linker script of the start-up code (cortex-m-rt's, or the firmware's `riscv.x`): the firmware's part of the flash, the stack at the bottom of the RAM,
    /// and everything else above it. The linker fails when a part is too small.
    pub fn linker_script(&self) -> String {
        let Board { name, flash, ram, .. } = self;
        format!(
            "/* Written by the build script from the board file of {name}. */\n\
             MEMORY\n{{\n  \
               FLASH : ORIGIN = {:#010x}, LENGTH = {:#x}\n  \
               STACK : ORIGIN = {:#010x}, LENGTH = {:#x}\n  \
               RAM : ORIGIN = {:#010x}, LENGTH = {:#x}\n}}\n\
             _stack_end = ORIGIN(STACK);\n\
             _stack_start = ORIGIN(STACK) + LENGTH(STACK);\n\
             _fault_stack_start = ORIGIN(RAM) + LENGTH(RAM) + {FAULT_STACK_BYTES};\n",
            flash.origin,
            flash.firmware,
            ram.origin,
            ram.stack,
            ram.origin + ram.stack,
            ram.size - ram.stack - FAULT_STACK_BYTES,
        )
    }

    /// Constants for the firmware, as Rust source.
    pub fn rust_constants(&self) -> String {
        let slot = self.image_slot();
        let uart = match self.uart.kind {
            UartKind::Cmsdk => "Cmsdk",
            UartKind::Ns16550 => "Ns16550",
        };
        let constants = [
            ("&str", "NAME", format!("{:?}", self.name)),
            ("usize", "IMAGE_ADDRESS", format!("{:#x}", slot.start)),
            ("usize", "IMAGE_BYTES", (slot.end - slot.start).to_string()),
            ("usize", "REQUEST_ADDRESS", format!("{:#x}", self.request_address())),
            ("usize", "ARENA_BYTES", self.ram.arena.to_string()),
            ("crate::uart::Uart", "UART", format!("crate::uart::Uart::{uart}")),
            ("usize", "UART_BASE", format!("{:#x}", self.uart.base)),
        ];
        constants.map(|(kind, name, value)| format!("pub const {name}: {kind} = {value};\n")).concat()
            + &format!("const _: () = assert!(IMAGE_ADDRESS.is_multiple_of({IMAGE_ALIGN}));\n")
    }
}
