//! Host side of fewstep: reads pictures, trains a guided teacher, distils it to a few-step student, quantizes and
//! exports it, and samples, inspects and simulates the result. One command-line verb a file in [`cli`].

pub mod apps;
pub mod cli;
pub mod data;
pub mod diffusers;
pub mod diffusion;
pub mod distill;
pub mod enlarge;
pub mod evaluate;
pub mod export;
pub mod features;
pub mod files;
pub mod flash;
pub mod matching;
pub mod nn;
pub mod noise;
pub mod onnx;
pub mod page;
pub mod picture;
pub mod progress;
pub mod quant;
pub mod sampling;
pub mod train;
