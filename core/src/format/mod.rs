//! The student image `.fsw`: see `docs/format.md` for the byte diagram.

pub mod info;
pub mod step;
