//! What the CPU can do: asked once, by the standard library, where there is one; the target's features otherwise.

/// Instruction sets on top of NEON, which every AArch64 target of this module has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    /// SDOT.
    Dotprod,
    /// SDOT and SMMLA.
    I8mm,
}

/// Whether `isa` can be used.
#[cfg(any(feature = "std", test))]
pub(super) fn has(isa: Isa) -> bool {
    use std::arch::is_aarch64_feature_detected as detected;
    match isa {
        Isa::Dotprod => detected!("dotprod"),
        Isa::I8mm => detected!("dotprod") && detected!("i8mm"),
    }
}

/// Whether `isa` can be used.
#[cfg(not(any(feature = "std", test)))]
pub(super) fn has(isa: Isa) -> bool {
    match isa {
        Isa::Dotprod => cfg!(target_feature = "dotprod"),
        Isa::I8mm => cfg!(all(target_feature = "dotprod", target_feature = "i8mm")),
    }
}
