//! What the firmware's build script writes.

use crate::{Board, FAULT_STACK_BYTES, IMAGE_ALIGN, UartKind};

impl Board {
    /// `memory.x`, for the linker script of the start-up code (cortex-m-rt's, or the firmware's `riscv.x`): the firmware's part of the flash, the stack at the bottom of the RAM,
    /// and everything else above it. The linker fails when a part is too small. `firmware_bytes`: as
    /// [`Board::firmware_bytes`] says.
    pub fn linker_script(&self, firmware_bytes: u32) -> String {
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
            firmware_bytes,
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
            ("usize", "PICTURE_BYTES", self.ram.picture.to_string()),
            ("crate::uart::Uart", "UART", format!("crate::uart::Uart::{uart}")),
            ("usize", "UART_BASE", format!("{:#x}", self.uart.base)),
        ];
        constants.map(|(kind, name, value)| format!("pub const {name}: {kind} = {value};\n")).concat()
            + &format!("const _: () = assert!(IMAGE_ADDRESS.is_multiple_of({IMAGE_ALIGN}));\n")
            + &self.storage_constants()
    }

    /// Of the second flash and the timer, for the firmware of a scenario.
    fn storage_constants(&self) -> String {
        let (Some(storage), Some(timer)) = (&self.storage, &self.timer) else { return String::new() };
        let constants = [
            ("REQUEST", self.flash.request),
            ("ADDRESS", storage.origin),
            ("SLOT", storage.slot),
            ("ERASE", storage.erase),
            ("WRITE", storage.write),
            ("MAIL", storage.mail),
        ];
        let constants = constants.map(|(name, value)| format!("    pub const {name}: usize = {value:#x};\n")).concat();
        let timer =
            format!("    #[cfg(target_arch = \"riscv32\")]\n    pub const TIMER_BASE: usize = {:#x};\n", timer.base);
        format!("#[cfg(feature = \"scenario\")]\npub mod storage {{\n{constants}{timer}}}\n")
    }
}
