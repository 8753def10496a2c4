//! Noise, angles, pictures.

pub mod noise;
