//! Noise, angles and pictures: everything of sampling that is not the network.

pub mod noise;
pub mod picture;
pub mod schedule;
