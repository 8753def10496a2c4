//! Post-training quantization of a student: calibrated static scales per step and tensor, 8-bit weights per output
//! channel, and the description that the exporter writes as an image.

mod observe;
mod range;
mod student;

pub use observe::observe;
pub use range::{Seen, quantize_row};
pub use student::quantize;
