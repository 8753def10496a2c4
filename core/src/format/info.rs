//! The info section.

/// The machine for which an image's weights are laid out. Every core runs every profile with the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Profile {
    /// Weights in the specification's order.
    Canonical = 0,
    /// x86-64 with VNNI.
    X86Vnni = 1,
    /// Armv7E-M and Armv8-M with the DSP extension.
    ArmDsp = 2,
    /// AArch64 with the dot product extension.
    NeonDot = 3,
    /// AArch64 with the int8 matrix multiply extension.
    NeonI8mm = 4,
}

impl Profile {
    /// The name as the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Canonical => "canonical",
            Profile::X86Vnni => "x86-vnni",
            Profile::ArmDsp => "arm-dsp",
            Profile::NeonDot => "neon-dot",
            Profile::NeonI8mm => "neon-i8mm",
        }
    }
}
