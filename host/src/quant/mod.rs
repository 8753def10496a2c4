//! Post-training quantization of a student: calibrated static scales per step and tensor, weights of 8 bits per output
//! channel or of 4 by groups, and the description that the exporter writes as an image. Fine-tuning through the rounding: the core's own
//! kernels forward, straight through backward.

mod compensate;
mod finetune;
mod groups;
mod learned;
mod observe;
mod range;
mod simulator;
mod straight_through;
mod student;

pub use finetune::{Finetune, prepare};
pub use groups::{GroupedRow, quantize_groups};
pub use observe::{Calibration, calibration_classes, observe};
pub use range::{Seen, quantize_row};
pub use simulator::{Activation, Simulator, Trace};
pub(crate) use student::time_row;
pub use student::{WeightForm, quantize, quantize_from};
