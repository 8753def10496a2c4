//! Post-training quantization of a student: calibrated static scales per step and tensor, 8-bit weights per output
//! channel, and the description that the exporter writes as an image. Fine-tuning through the rounding: the core's own
//! kernels forward, straight through backward.

mod finetune;
mod learned;
mod observe;
mod range;
mod simulator;
mod straight_through;
mod student;

pub use finetune::{Finetune, prepare};
pub use observe::{calibration_classes, observe};
pub use range::{Seen, quantize_row};
pub use simulator::{Activation, Simulator, Trace};
pub(crate) use student::time_row;
pub use student::{quantize, quantize_on};
