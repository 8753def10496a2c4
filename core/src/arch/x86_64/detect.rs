//! What the CPU and the operating system can do. Found out once.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets, each with everything that its backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    /// AVX2.
    Avx2 = 1,
    /// AVX2 and AVX-VNNI.
    Avx2Vnni = 2,
    /// AVX-512 F, BW, DQ, VL and VNNI; AVX2.
    Avx512Vnni = 4,
}

/// Set once the others are.
const KNOWN: u8 = 0x80;
static FOUND: AtomicU8 = AtomicU8::new(0);

/// Whether `isa` can be used.
pub(super) fn has(isa: Isa) -> bool {
    let mut found = FOUND.load(Ordering::Relaxed);
    if found & KNOWN == 0 {
        // Every thread finds the same: it does not matter who stores it.
        found = detect() | KNOWN;
        FOUND.store(found, Ordering::Relaxed);
    }
    found & isa as u8 != 0
}

/// Bits of leaf 1, ecx.
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;
/// Of leaf 7, ebx.
const AVX2: u32 = 1 << 5;
const AVX512_F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
/// Of leaf 7, ecx.
const AVX512_VNNI: u32 = 1 << 11;
/// Of leaf 7, subleaf 1, eax.
const AVX_VNNI: u32 = 1 << 4;
/// Registers that the operating system keeps: xmm and ymm; masks and zmm too.
const YMM: u64 = 0x06;
const ZMM: u64 = 0xe6;

fn detect() -> u8 {
    let all = |value: u32, bits: u32| value & bits == bits;
    if __cpuid(0).eax < 7 || !all(__cpuid(1).ecx, OSXSAVE | AVX) {
        return 0;
    }
    // SAFETY: the processor has XGETBV, as OSXSAVE says.
    let kept = unsafe { xgetbv() };
    let features = __cpuid_count(7, 0);
    if kept & YMM != YMM || !all(features.ebx, AVX2) {
        return 0;
    }
    let mut found = Isa::Avx2 as u8;
    if features.eax >= 1 && all(__cpuid_count(7, 1).eax, AVX_VNNI) {
        found |= Isa::Avx2Vnni as u8;
    }
    if kept & ZMM == ZMM && all(features.ebx, AVX512_F_DQ_BW_VL) && all(features.ecx, AVX512_VNNI) {
        found |= Isa::Avx512Vnni as u8;
    }
    found
}

/// # Safety
///
/// The CPU has XGETBV and the operating system allows it.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: as the caller says.
    unsafe { _xgetbv(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        assert_eq!(has(Isa::Avx2), is_x86_feature_detected!("avx2"));
        assert_eq!(has(Isa::Avx2Vnni), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"));
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        assert_eq!(has(Isa::Avx512Vnni), avx512);
    }
}
