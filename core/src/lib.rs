//! Samples a distilled few-step diffusion student from a student image (`.fsw`): no std, no heap, no panic on any
//! input bytes, and the same output bytes on every target.
//!
//! The image is used in place (flash or a mapped file); the only memory written is the caller's arena, whose exact
//! size the image states.
//!
//! ```no_run
//! use fewstep_core::{Arena, Model, Request, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bytes: &[u8] = &[];
//! let model = Model::parse(bytes)?;                       // `bytes` 16-byte aligned
//! let mut arena = Arena::<{ 64 * 1024 }>::new();          // at least model.arena_bytes()
//! let mut session = Session::new(&model, arena.bytes())?;
//! let mut picture = [0u8; 28 * 28];                       // model.output_bytes()
//! session.sample(&Request { seed: 1, class: 3, w: 1.5, ..Request::default() }, &mut picture)?;
//! # Ok(()) }
//! ```
//!
//! - [`format`]: the file, its records (each with `parse` and `emit`) and every check;
//! - [`ops`]: one operation a file, the readable scalar functions that define the arithmetic;
//! - [`arch`]: the function table ([`Backend`]) through which a session calls the operations;
//! - [`sampler`]: noise, angles and picture conversion;
//! - `enlarge` (feature): images that make pictures of twice the size ([`Session::enlarge`]);
//! - `slots` (feature): two places in flash for images, updated safely while the power may fail;
//! - [`math`]: exp, ln, sine, cosine and square root, the same bits everywhere.

#![cfg_attr(not(any(test, all(feature = "std", target_arch = "aarch64"))), no_std)]
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("student images are little endian and used in place: big-endian targets are not supported");

#[cfg(target_pointer_width = "16")]
compile_error!("a student image does not fit a 16-bit address space");

/// Whether images that enlarge pictures are understood: a constant, so that the code behind it goes where it is not.
const ENLARGES: bool = cfg!(feature = "enlarge");

pub mod arch;
mod arena;
mod enlarge;
mod error;
mod execute;
pub mod format;
pub mod math;
mod model;
pub mod ops;
#[allow(dead_code, reason = "no target uses all of it")]
mod part;
mod prepared;
pub mod sampler;
mod session;
#[cfg(feature = "slots")]
pub mod slots;

pub use arch::{Backend, backend};
pub use arena::{Aligned, Arena, IMAGE_ALIGN};
pub use error::{ArenaError, ParseError, Place, Problem, RequestError};
pub use format::info::{Direction, Normalisation, Profile};
pub use model::{Info, Model};
#[cfg(not(target_os = "none"))]
pub use prepared::Prepared;
pub use session::{Inpaint, MAX_PASSES, Morph, Progress, Request, Sampler, Session, Stage};

/// The README's code is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// As the README's.
#[cfg(doctest)]
#[doc = include_str!("../../docs/applications.md")]
struct Applications;
