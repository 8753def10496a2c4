//! What an instruction is, coarsely.

/// Number of counters: all instructions, then the classes.
pub const COUNTERS: usize = 10;
/// Names of the counters in a line. `ldm_words` and `stm_words` count the words of instructions that move several.
pub const NAMES: [&str; COUNTERS] = ["insns", "ld", "ldm_words", "st", "stm_words", "mac", "dsp", "br", "fp", "other"];

const LOAD: usize = 1;
const LOAD_WORDS: usize = 2;
const STORE: usize = 3;
const STORE_WORDS: usize = 4;
const MULTIPLY: usize = 5;
const DSP: usize = 6;
const BRANCH: usize = 7;
const FLOAT: usize = 8;
const OTHER: usize = 9;

/// Class and weight of an instruction by its halfwords; the second is 0 for a 16-bit one.
pub fn classify(first: u16, second: u16) -> (usize, u64) {
    let registers = |mask: u16| u64::from(mask.count_ones());
    if !is_wide(first) {
        return match first >> 8 {
            0x48..=0x4f | 0x56..=0x5f => (LOAD, 1),
            0x50..=0x55 => (STORE, 1),
            0x60..=0x9f => (if first & 0x0800 != 0 { LOAD } else { STORE }, 1),
            0xb4 | 0xb5 => (STORE_WORDS, registers(first & 0x1ff)), // PUSH
            0xbc | 0xbd => (LOAD_WORDS, registers(first & 0x1ff)),  // POP
            0xc0..=0xc7 => (STORE_WORDS, registers(first & 0xff)),
            0xc8..=0xcf => (LOAD_WORDS, registers(first & 0xff)),
            0xd0..=0xdd | 0xe0..=0xe7 | 0x47 | 0xb1 | 0xb3 | 0xb9 | 0xbb => (BRANCH, 1),
            0x43 if first & 0xffc0 == 0x4340 => (MULTIPLY, 1),
            _ => (OTHER, 1),
        };
    }
    let multiple = first & 0x0180 != 0;
    match first {
        _ if first & 0xfe50 == 0xe810 && multiple => (LOAD_WORDS, registers(second)), // LDM
        _ if first & 0xfe50 == 0xe800 && multiple => (STORE_WORDS, registers(second)), // STM
        _ if first & 0xfe50 == 0xe850 => (LOAD_WORDS, 2),                             // LDRD; exclusives, TBB: rare
        _ if first & 0xfe50 == 0xe840 => (STORE_WORDS, 2),                            // STRD
        _ if first & 0xfe10 == 0xf810 => (LOAD, 1),
        _ if first & 0xff10 == 0xf800 => (STORE, 1),
        _ if first & 0xff00 == 0xfb00 => (MULTIPLY, 1), // MUL, MLA, SMLAD, SMULL, SMLALD, divisions
        _ if first & 0xff00 == 0xfa00 => (DSP, 1),      // SXTB16, parallel add, CLZ, shifts by register
        _ if first & 0xec00 == 0xec00 => (FLOAT, 1),    // coprocessor, floating point
        _ if first & 0xf800 == 0xf000 && second & 0x8000 != 0 => (BRANCH, 1),
        _ if first & 0xfbe0 == 0xeac0 => (DSP, 1), // PKHBT, PKHTB
        _ => (OTHER, 1),
    }
}

/// Whether an instruction that starts so has 32 bits (Armv7-M, A5.1).
pub fn is_wide(first: u16) -> bool {
    first >> 11 >= 0x1d
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings as `llvm-mc -triple=thumbv7em -show-encoding` gives them (`ldm` as `ldm.w`), with the class that a reader of the manual gives them.
    #[test]
    fn classes_of_known_encodings() {
        for (first, second, class, what) in [
            (0x4801, 0, (LOAD, 1), "ldr r0, [pc, #4]"),
            (0x6808, 0, (LOAD, 1), "ldr r0, [r1]"),
            (0x6008, 0, (STORE, 1), "str r0, [r1]"),
            (0x5608, 0, (LOAD, 1), "ldrsb r0, [r1, r0]"),
            (0xb510, 0, (STORE_WORDS, 2), "push {r4, lr}"),
            (0xbd10, 0, (LOAD_WORDS, 2), "pop {r4, pc}"),
            (0x4770, 0, (BRANCH, 1), "bx lr"),
            (0x4348, 0, (MULTIPLY, 1), "muls r0, r1, r0"),
            (0x1840, 0, (OTHER, 1), "adds r0, r0, r1"),
            (0xfb21, 0x2003, (MULTIPLY, 1), "smlad r0, r1, r3, r2"),
            (0xfb81, 0x0102, (MULTIPLY, 1), "smull r0, r1, r1, r2"),
            (0xfa2f, 0xf081, (DSP, 1), "sxtb16 r0, r1"),
            (0xe8b0, 0x001e, (LOAD_WORDS, 4), "ldm r0!, {r1-r4}"),
            (0xe9d0, 0x1200, (LOAD_WORDS, 2), "ldrd r1, r2, [r0]"),
            (0xf8d0, 0x1004, (LOAD, 1), "ldr.w r1, [r0, #4]"),
            (0xf8c0, 0x1004, (STORE, 1), "str.w r1, [r0, #4]"),
            (0xee30, 0x0a20, (FLOAT, 1), "vadd.f32 s0, s0, s1"),
            (0xf000, 0xf800, (BRANCH, 1), "bl"),
            (0xeac1, 0x0002, (DSP, 1), "pkhbt r0, r1, r2"),
        ] {
            assert_eq!(classify(first, second), class, "{what}");
            assert_eq!(is_wide(first), second != 0, "{what}");
        }
    }
}
