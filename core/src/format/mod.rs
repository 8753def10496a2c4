//! The student image `.fsw`. The byte diagram and the compatibility rule are in `docs/format.md`.
//!
//! Every record has a `Repr` with `parse` (checks what can be checked in the record alone) and `emit`; the exporter
//! writes with the same code that reads. [`Image`] finds the sections and verifies the checksums, [`check`] verifies
//! that everything fits together. A [`Model`](crate::Model) has passed both.

pub mod bands;
pub mod buffer;
mod bytes;
pub mod check;
pub mod crc;
pub mod header;
mod image;
pub mod info;
pub mod limits;
pub mod op;
pub mod step;
pub mod tensor;
pub mod text;

pub use bands::BandsRepr;
pub use buffer::{BufferRepr, Element};
pub use header::{HeaderRepr, SectionRepr};
pub use image::Image;
pub use info::InfoRepr;
pub use op::OpRepr;
pub use step::Params;
pub use tensor::{Layout, TensorRepr};
