//! fewstep-core behind a C interface: what `src/fewstep.h` declares, which has the documentation.
//!
//! Everything that C can get wrong and that can be seen here is an error code: null pointers, memory that is not aligned or
//! too short, a session that was not opened. What cannot be seen is said in the header: how long memory has to live, and
//! that a session is used by one thread at a time.

#![cfg_attr(target_os = "none", no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

mod session;
mod status;

use core::ffi::{CStr, c_char, c_void};
use core::slice;

use fewstep_core::{Model, Progress, Request, Sampler, Session};

use session::{State, image, memory_bytes, open};
use status::Status;

/// `fewstep_info`.
#[repr(C)]
#[derive(Default)]
pub struct Info {
    height: u16,
    width: u16,
    channels: u16,
    classes: u16,
    steps: u16,
    ops: u16,
    w_min: f32,
    w_max: f32,
    image_bytes: u32,
    memory_bytes: u32,
    row_bytes: u32,
    picture_bytes: u32,
}

/// `fewstep_request`.
#[repr(C)]
pub struct CRequest {
    seed: u64,
    image_class: u16,
    steps: u16,
    w: f32,
    stochastic: u32,
}

impl CRequest {
    fn read(&self) -> Result<Request, Status> {
        let sampler = match self.stochastic {
            0 => Sampler::Deterministic,
            1 => Sampler::Stochastic,
            _ => return Err(Status::Sampler),
        };
        Ok(Request { seed: self.seed, class: self.image_class, w: self.w, steps: self.steps, sampler })
    }
}

/// The value that a pointer from C is of.
///
/// # Safety
/// A pointer that is neither null nor misaligned is to a `T` that nothing writes meanwhile.
unsafe fn input<'p, T>(pointer: *const T) -> Result<&'p T, Status> {
    if pointer.is_null() {
        return Err(Status::Null);
    }
    if !pointer.is_aligned() {
        return Err(Status::Misaligned);
    }
    // SAFETY: not null, aligned, and the caller's promise.
    Ok(unsafe { &*pointer })
}

/// Writes a result for C.
///
/// # Safety
/// A pointer that is neither null nor misaligned is to memory for a `T`.
unsafe fn output<T>(pointer: *mut T, value: T) -> Result<(), Status> {
    if pointer.is_null() {
        return Err(Status::Null);
    }
    if !pointer.is_aligned() {
        return Err(Status::Misaligned);
    }
    // SAFETY: not null, aligned, and the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Bytes for C to read.
///
/// # Safety
/// A pointer that is not null is to `length` bytes that nothing else uses meanwhile.
unsafe fn buffer<'p>(pointer: *mut u8, length: usize) -> Result<&'p mut [u8], Status> {
    if pointer.is_null() {
        return Err(Status::Null);
    }
    if length > isize::MAX as usize {
        return Err(Status::Length);
    }
    // SAFETY: not null, of a length that memory can have, and the caller's promise; any byte is a u8.
    Ok(unsafe { slice::from_raw_parts_mut(pointer, length) })
}

/// What C gets for a result.
fn code(result: Result<(), Status>) -> i32 {
    result.err().unwrap_or(Status::Ok) as i32
}

/// What C gets for progress.
fn progress(progress: Progress) -> Status {
    match progress {
        Progress::Running { .. } => Status::Running,
        Progress::Done => Status::Ok,
    }
}

/// # Safety
/// As the header says: `bytes` bytes at `pointer`, and an info at `info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_inspect(pointer: *const c_void, bytes: usize, info: *mut Info) -> i32 {
    let inspect = || {
        // SAFETY: the caller's promise is the same.
        let image = unsafe { image(pointer, bytes) }?;
        let model = Model::parse(image)?;
        let found = model.info();
        let info_found = Info {
            height: found.height,
            width: found.width,
            channels: found.channels,
            classes: found.classes,
            steps: found.steps,
            ops: found.ops,
            w_min: found.w_min,
            w_max: found.w_max,
            image_bytes: found.file_bytes,
            memory_bytes: memory_bytes(&model),
            row_bytes: model.row_bytes() as u32,
            picture_bytes: model.output_bytes() as u32,
        };
        // SAFETY: the caller's promise is the same.
        unsafe { output(info, info_found) }
    };
    code(inspect())
}

/// # Safety
/// As the header says: `image_bytes` bytes at `image` and `memory_bytes` at `memory`, which stay as long as the session is
/// used, and a pointer at `session`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_open(
    pointer: *const c_void,
    image_bytes: usize,
    memory: *mut c_void,
    memory_bytes: usize,
    session: *mut *mut State,
) -> i32 {
    let open = || {
        // SAFETY: a place for a pointer, as the caller promises.
        unsafe { output(session, core::ptr::null_mut()) }?;
        // SAFETY: the caller's promise is the same.
        let image = unsafe { image(pointer, image_bytes) }?;
        // SAFETY: the caller's promise is the same.
        let opened = unsafe { open(image, memory.cast(), memory_bytes) }?;
        // SAFETY: as above.
        unsafe { output(session, opened) }
    };
    code(open())
}

/// Runs `work` with the session behind a pointer from C.
///
/// # Safety
/// A pointer that is neither null nor misaligned is to memory that [`fewstep_open`] was given, or to as many bytes of
/// other memory, and no other call uses it meanwhile.
unsafe fn with(state: *mut State, work: impl FnOnce(&mut Session<'static>) -> Result<(), Status>) -> i32 {
    // SAFETY: the caller's promise is the same.
    code(unsafe { State::session(state) }.and_then(work))
}

/// # Safety
/// As the header says: an open session, and a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_begin(state: *mut State, request: *const CRequest) -> i32 {
    // SAFETY: the caller's promise is the same.
    let request = unsafe { input(request) };
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Ok(session.begin(&request?.read()?)?)) }
}

/// # Safety
/// As the header says: an open session, a request, and `bytes` bytes at `picture`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_begin_from(
    state: *mut State,
    request: *const CRequest,
    picture: *const u8,
    bytes: usize,
    start_step: u16,
) -> i32 {
    // SAFETY: the caller's promise is the same.
    let request = unsafe { input(request) };
    // SAFETY: bytes at `picture`, as the caller promises; they are not written.
    let picture = unsafe { buffer(picture.cast_mut(), bytes) };
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Ok(session.begin_from(&request?.read()?, picture?, start_step)?)) }
}

/// # Safety
/// As the header says: an open session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_step_op(state: *mut State) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Err(progress(session.step_op()))) }
}

/// # Safety
/// As the header says: an open session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_step(state: *mut State) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Err(progress(session.step()))) }
}

/// # Safety
/// As the header says: an open session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_set_guidance(state: *mut State, w: f32) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Ok(session.set_guidance(w)?)) }
}

/// # Safety
/// As the header says: an open session, and `bytes` bytes at `row`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_row(state: *mut State, y: u16, row: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    let row = unsafe { buffer(row, bytes) };
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Ok(session.finish_row(y, row?)?)) }
}

/// # Safety
/// As the header says: an open session, and `bytes` bytes at `picture`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fewstep_finish(state: *mut State, picture: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    let picture = unsafe { buffer(picture, bytes) };
    // SAFETY: the caller's promise is the same.
    unsafe { with(state, |session| Ok(session.finish(picture?)?)) }
}

/// A sentence for a status.
#[unsafe(no_mangle)]
pub extern "C" fn fewstep_message(status: i32) -> *const c_char {
    Status::message(status).as_ptr()
}

/// Name of the kernels.
#[unsafe(no_mangle)]
pub extern "C" fn fewstep_kernels() -> *const c_char {
    let name: &'static CStr = match fewstep_core::backend() {
        "arm-dsp" => c"arm-dsp",
        "helium" => c"helium",
        "riscv32" => c"riscv32",
        _ => c"scalar",
    };
    name.as_ptr()
}

/// Never reached: nothing in the library panics, and a test finds no call of this in a firmware.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
