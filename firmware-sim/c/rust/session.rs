//! A model and its session in memory that C owns.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};
use core::slice;

use fewstep_core::{IMAGE_ALIGN, Model, Session};

use crate::status::Status;

/// Says that a session was opened here, with its own address in it, so that a copy is none.
const MARK: usize = 0x5753_4653;

/// What lies at the start of the memory, before the arena.
#[repr(C, align(16))]
pub struct State {
    mark: usize,
    session: Session<'static>,
    model: Model<'static>,
}

/// Bytes of the memory before the arena.
const STATE_BYTES: usize = size_of::<State>();

/// Bytes of memory that a session of `model` needs.
pub fn memory_bytes(model: &Model<'_>) -> u32 {
    (STATE_BYTES + model.arena_bytes()) as u32
}

/// The bytes of an image.
///
/// # Safety
/// A pointer that is not null is to `bytes` bytes that nothing writes as long as the image is used.
pub unsafe fn image(pointer: *const c_void, bytes: usize) -> Result<&'static [u8], Status> {
    if pointer.is_null() {
        return Err(Status::Null);
    }
    if bytes > isize::MAX as usize {
        return Err(Status::Image);
    }
    // SAFETY: not null, of a length that memory can have; any byte is a u8. That it stays is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(pointer.cast(), bytes) })
}

/// Puts a model and its session into `memory`.
///
/// # Safety
/// A pointer that is not null is to `bytes` bytes that belong to the session until it is used no more.
pub unsafe fn open(image: &'static [u8], memory: *mut u8, bytes: usize) -> Result<*mut State, Status> {
    if memory.is_null() {
        return Err(Status::Null);
    }
    if !(memory as usize).is_multiple_of(IMAGE_ALIGN) {
        return Err(Status::Misaligned);
    }
    let arena_bytes = bytes.checked_sub(STATE_BYTES).filter(|_| bytes <= isize::MAX as usize).ok_or(Status::Memory)?;
    let state = memory.cast::<State>();
    // SAFETY: STATE_BYTES bytes are there, aligned to 16, and a word is any bits. A session that was here is open no more.
    unsafe { addr_of_mut!((*state).mark).write(0) };
    let parsed = Model::parse(image)?;
    // SAFETY: as above. Nothing is dropped: neither has a destructor.
    unsafe { addr_of_mut!((*state).model).write(parsed) };
    // SAFETY: it was just written, and nothing writes it again while the session is used.
    let model: &'static Model<'static> = unsafe { &*addr_of!((*state).model) };
    // SAFETY: the bytes behind the state are the caller's gift; they overlap neither model nor session.
    let arena = unsafe { slice::from_raw_parts_mut(memory.add(STATE_BYTES), arena_bytes) };
    let session = Session::new(model, arena)?;
    // SAFETY: as for the model.
    unsafe {
        addr_of_mut!((*state).session).write(session);
        addr_of_mut!((*state).mark).write(MARK ^ memory as usize);
    }
    Ok(state)
}

impl State {
    /// The session behind a pointer.
    ///
    /// # Safety
    /// A pointer that is neither null nor misaligned is to memory that [`open`] was given, or to as many bytes of other
    /// memory; no other reference to it is in use.
    pub unsafe fn session<'s>(state: *mut Self) -> Result<&'s mut Session<'static>, Status> {
        if state.is_null() {
            return Err(Status::Null);
        }
        if !state.is_aligned() {
            return Err(Status::Misaligned);
        }
        // SAFETY: the first word of the memory, any bits.
        if unsafe { addr_of!((*state).mark).read() } != MARK ^ state as usize {
            return Err(Status::NotOpen);
        }
        // SAFETY: the mark says that `open` wrote it; the caller's promise says that nobody else uses it.
        Ok(unsafe { &mut *addr_of_mut!((*state).session) })
    }
}
