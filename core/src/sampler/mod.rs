//! Noise, angles, pictures.
