//! The plugin's face to QEMU (include/qemu/qemu-plugin.h of QEMU 7.2).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::classes::{COUNTERS, is_wide};
use crate::counts::{Counts, Mark, Regions, count, count_other, line};

type Id = u64;

#[repr(C)]
struct Block {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Instruction {
    _opaque: [u8; 0],
}

type OnExecution = extern "C" fn(c_uint, *mut c_void);
/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, call: extern "C" fn(Id, *mut Block));
    fn qemu_plugin_register_vcpu_tb_exec_cb(block: *mut Block, call: OnExecution, flags: c_int, data: *mut c_void);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        call: OnExecution,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_atexit_cb(id: Id, call: extern "C" fn(Id, *mut c_void), data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const u8;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
}

/// The API version that this plugin is written for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// Everything executed so far. The boards have one CPU, so loads and stores suffice; atomics keep it safe.
static EXECUTED: [AtomicU64; COUNTERS] = [const { AtomicU64::new(0) }; COUNTERS];

/// Adds an executed block.
fn add(block: &Counts) {
    for (counter, &count) in EXECUTED.iter().zip(block) {
        counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
    }
}

/// Everything executed so far.
fn executed() -> Counts {
    std::array::from_fn(|i| EXECUTED[i].load(Relaxed))
}

/// Whether the instructions are RISC-V's, or AArch64's, which have no marks; Thumb otherwise.
static RISCV: AtomicBool = AtomicBool::new(false);
static AARCH64: AtomicBool = AtomicBool::new(false);

struct Output {
    file: Option<File>,
    regions: Regions,
}

static OUTPUT: Mutex<Output> = Mutex::new(Output { file: None, regions: Regions::new() });

fn with_output(write: impl FnOnce(&mut Output) -> Option<String>) {
    // A poisoned lock means a panic in here, which must not unwind into QEMU: go on with what there is.
    let mut output = OUTPUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let (Some(line), Some(file)) = (write(&mut output), output.file.as_mut()) {
        // The runner notices missing lines; there is nobody else to tell.
        let _ = writeln!(file, "{line}");
    }
}

/// A mark in a block, and what follows it there.
struct Marked {
    mark: Mark,
    rest: Counts,
}

extern "C" fn on_block(_cpu: c_uint, data: *mut c_void) {
    // SAFETY: `data` is the leaked `Counts` that `on_translation` registered.
    add(unsafe { &*data.cast::<Counts>() });
}

extern "C" fn on_mark(_cpu: c_uint, data: *mut c_void) {
    // SAFETY: `data` is the leaked `Marked` that `on_translation` registered.
    let marked = unsafe { &*data.cast::<Marked>() };
    let all = executed();
    let now = std::array::from_fn(|i| all[i] - marked.rest[i]);
    with_output(|output| output.regions.mark(marked.mark, now));
}

extern "C" fn on_translation(_id: Id, block: *mut Block) {
    let mut all: Counts = [0; COUNTERS];
    let mut marks = Vec::new();
    // SAFETY: QEMU gives a block that is valid during this call, and so are its instructions and their bytes. Thumb
    // instructions have at least two bytes, wide ones four. What is leaked lives as long as the translation may.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            let bytes =
                std::slice::from_raw_parts(qemu_plugin_insn_data(instruction), qemu_plugin_insn_size(instruction));
            let halfword = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            // QEMU 7.2 appends the next halfword to a 16-bit instruction at a page's end: do not trust the length.
            let first = halfword(0);
            let riscv = RISCV.load(Relaxed);
            if AARCH64.load(Relaxed) {
                count_other(&mut all);
                continue;
            }
            match if riscv { Mark::of_riscv(first) } else { Mark::of(first) } {
                Some(mark) => marks.push((instruction, mark, all)),
                None if riscv => count_other(&mut all),
                None => count(&mut all, first, if is_wide(first) && bytes.len() >= 4 { halfword(2) } else { 0 }),
            }
        }
        for (instruction, mark, before) in marks {
            let rest = std::array::from_fn(|i| all[i] - before[i]);
            let marked = Box::into_raw(Box::new(Marked { mark, rest }));
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_mark, NO_REGISTERS, marked.cast());
        }
        let all = Box::into_raw(Box::new(all));
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, NO_REGISTERS, all.cast());
    }
}

extern "C" fn on_exit(_id: Id, _data: *mut c_void) {
    with_output(|_| Some(format!("total {}", line(&executed()))));
}

/// The start of `qemu_info_t`.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
}

/// QEMU calls this once.
///
/// # Safety
/// `arguments` are `count` strings, `info` is QEMU's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    info: *const Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU gives the name of its target as a string.
    let target = unsafe { CStr::from_ptr((*info).target_name) };
    RISCV.store(target.to_bytes().starts_with(b"riscv"), Relaxed);
    AARCH64.store(target.to_bytes().starts_with(b"aarch64"), Relaxed);
    let arguments = (0..usize::try_from(count).unwrap_or(0))
        // SAFETY: QEMU gives `count` strings.
        .map(|index| unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy().into_owned());
    for argument in arguments {
        let Some(path) = argument.strip_prefix("out=") else {
            eprintln!("instruction counter: unknown argument {argument}, only out=FILE is known");
            return 1;
        };
        match File::create(path) {
            Ok(file) => with_output(|output| {
                output.file = Some(file);
                None
            }),
            Err(error) => {
                eprintln!("instruction counter: {path}: {error}");
                return 1;
            }
        }
    }
    // SAFETY: the callbacks have the types that QEMU calls, and live as long as the library.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
        qemu_plugin_register_atexit_cb(id, on_exit, std::ptr::null_mut());
    }
    0
}
