//! Caps on everything a file may ask for. Products of values within them fit the arithmetic that uses them.

/// Bytes of a student image.
pub const MAX_FILE_BYTES: u32 = 64 << 20;
/// Bytes of the arena.
pub const MAX_ARENA_BYTES: u32 = 64 << 20;
/// Sections.
pub const MAX_SECTIONS: u16 = 16;
/// Operations of one network evaluation.
pub const MAX_OPS: u16 = 1024;
/// Buffers of the memory plan.
pub const MAX_BUFFERS: u16 = 1024;
/// Tensors.
pub const MAX_TENSORS: u16 = 4096;
/// Denoising steps.
pub const MAX_STEPS: u16 = 16;
/// Classes.
pub const MAX_CLASSES: u16 = 4096;
/// Height and width of the picture.
pub const MAX_SIDE: u16 = 1024;
/// Channels of the picture that noise becomes, or of the details of one that is enlarged.
pub const MAX_PICTURE_CHANNELS: u16 = 12;
/// Channels of a picture that is enlarged.
pub const MAX_BASE_CHANNELS: u16 = 4;
/// Side of the space-to-depth square.
pub const MAX_PATCH: u16 = 8;
/// Channels of a buffer.
pub const MAX_CHANNELS: u16 = 4096;
/// Embedding width; it is also a multiple of 8.
pub const MAX_EMBED: u16 = crate::ops::embed::MAX_INPUTS as u16;
/// Scales and shifts of all residual blocks together.
pub const MAX_FILM: u16 = u16::MAX;
/// Attention heads.
pub const MAX_HEADS: u8 = 64;
/// Channels of a normalisation group.
pub const MAX_GROUP: u8 = crate::ops::norm_act::MAX_GROUP as u8;
/// Values that one normalisation group covers (height * width * group): its sums stay exact.
pub const MAX_GROUP_VALUES: u64 = 1 << 16;
/// Guidance strength.
pub const MAX_W: f32 = 100.0;
/// Largest magnitude of any f32 in the file.
pub const MAX_MAGNITUDE: f32 = 1e30;
/// Smallest value of a factor that must be positive.
pub const MIN_FACTOR: f32 = 1e-30;
