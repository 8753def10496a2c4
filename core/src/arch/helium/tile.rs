//! The products: a strip of neighbouring cells of a row times one output channel.
//!
//! VMLADAVA takes sixteen int8 products (eight of int16) into one of the eight even core registers, so a strip has up to
//! eight cells, one accumulator each. A *body* covers one kernel row and one slice of sixteen (eight) input channels: the
//! weights of its three taps stay in q0 to q2 while the columns pass, and each column is loaded once for the three cells
//! that it is a tap of. For eight cells that is 13 loads and 24 VMLADAVA for 384 products. Loads stand between the
//! products, because a Cortex-M55 overlaps the two.
//!
//! Input: slices, [rows][slices][cells] of 16 bytes, so that neighbouring columns are 16 bytes apart and neighbouring
//! slices `stride` bytes. Weights: [kernel rows][slices][kernel columns] of 16 bytes. Everything wraps.

use core::arch::naked_asm;

/// What a run over strips reads: the assembly knows the offsets.
#[repr(C)]
pub struct Run {
    /// 0: what every accumulator starts from.
    pub start: [i32; 8],
    /// 32: the weights of the channel.
    pub weights: *const u8,
    /// 36: bodies of a strip, in groups of three for 3x3 kernels.
    pub bodies: u32,
    /// 40: the next strip; the last entry is zeros. A run moves it to the end.
    pub strips: *const Strip,
    /// 44: bytes from a body's input to the next one's.
    pub stride: u32,
}

/// A strip of cells.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Strip {
    /// Its first input: the slice of the first column of the first kernel row.
    pub input: *const u8,
    /// Its accumulators.
    pub acc: *mut i32,
}

/// Adds up all strips of a run.
///
/// # Safety
/// `strips` points to at least one strip and zeros after the last; every strip's inputs, weights and accumulators, as the
/// module states them, may be read and written; all are aligned to four bytes.
pub type Tile = unsafe extern "C" fn(&mut Run);

/// A kernel: r11 is the [`Run`], r1 walks over the weights, r3 over the input, r5 is the stride, r7 or lr counts bodies, r9
/// points to the accumulators.
macro_rules! tile {
    ($name:ident, $type:literal, $acc:literal, $begin:literal, $end:literal, $body:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(run: &mut Run) {
            naked_asm!(
                cpu!(),
                concat!(".macro products acc, q, w\nvmladava.", $type, " \\acc, \\q, \\w\n.endm"),
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "mov r11, r0",
                "ldr r5, [r11, #44]",
                "ldr r1, [r11, #40]",
                "ldrd r3, r9, [r1], #8",
                "str r1, [r11, #40]",
                ".p2align 2",
                "1:",
                "ldrd r1, r7, [r11, #32]",
                concat!("ldm r11, {{", $acc, "}}"),
                $begin,
                ".p2align 2",
                "2:",
                $body,
                $end,
                concat!("stm r9, {{", $acc, "}}"),
                "ldr r1, [r11, #40]",
                "ldrd r3, r9, [r1], #8",
                "str r1, [r11, #40]",
                "cmp r3, #0",
                "bne.w 1b",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
                ".purgem products",
            )
        }
    };
}

/// A body for both types of input. Bodies are counted in lr where it is no accumulator.
macro_rules! both {
    (8, $bytes:ident, $words:ident, $body:literal) => {
        both!($bytes, $words, "r0, r2, r4, r6, r8, r10, r12, lr", "", "subs r7, #1\nbne.w 2b", $body);
    };
    (7, $bytes:ident, $words:ident, $body:literal) => {
        both!($bytes, $words, "r0, r2, r4, r6, r8, r10, r12", "dls lr, r7", "le lr, 2b", $body);
    };
    (4, $bytes:ident, $words:ident, $body:literal) => {
        both!($bytes, $words, "r0, r2, r4, r6", "dls lr, r7", "le lr, 2b", $body);
    };
    ($bytes:ident, $words:ident, $acc:literal, $begin:literal, $end:literal, $body:literal) => {
        tile!($bytes, "s8", $acc, $begin, $end, $body);
        tile!($words, "s16", $acc, $begin, $end, $body);
    };
}

/// Cells of the strips that there are kernels for, and the instructions of a body.
const STRIPS: [(usize, u64); 3] = [(8, 39), (7, 35), (4, 23)];

/// Instructions of a strip beside its bodies.
const STRIP_COST: u64 = 8;

/// Most cells of a strip.
pub const LONGEST: usize = 8;

/// Cells of the strips, and how many strips, that cost least for a row of `width` cells and `bodies` bodies a strip.
pub fn best_strip(width: usize, bodies: usize) -> (usize, u64) {
    let cost =
        |&(cells, body): &(usize, u64)| width.div_ceil(cells.max(1)) as u64 * (body * bodies as u64 + STRIP_COST);
    STRIPS.iter().map(|strip| (strip.0, cost(strip))).min_by_key(|&(_, cost)| cost).unwrap_or((LONGEST, u64::MAX))
}

/// The kernel for strips of `cells` cells.
pub fn kernel(side: usize, cells: usize, bytes: bool) -> Tile {
    match (side, cells, bytes) {
        (3, 8, true) => bytes_3x3_8,
        (3, 7, true) => bytes_3x3_7,
        (3, _, true) => bytes_3x3_4,
        (3, 8, false) => words_3x3_8,
        (3, 7, false) => words_3x3_7,
        (3, _, false) => words_3x3_4,
        (_, 8, true) => bytes_1x1_8,
        (_, 7, true) => bytes_1x1_7,
        (_, _, true) => bytes_1x1_4,
        (_, 8, false) => words_1x1_8,
        (_, 7, false) => words_1x1_7,
        (_, _, false) => words_1x1_4,
    }
}

both!(
    8,
    bytes_3x3_8,
    words_3x3_8,
    ".rept 3
    vldrw.u32 q3, [r3]
    vldrw.u32 q0, [r1], #48
    products r0, q3, q0
    vldrw.u32 q1, [r1, #-32]
    vldrw.u32 q4, [r3, #16]
    products r2, q4, q0
    vldrw.u32 q2, [r1, #-16]
    products r0, q4, q1
    vldrw.u32 q5, [r3, #32]
    products r4, q5, q0
    vldrw.u32 q6, [r3, #48]
    products r2, q5, q1
    products r0, q5, q2
    products r6, q6, q0
    vldrw.u32 q7, [r3, #64]
    products r4, q6, q1
    products r2, q6, q2
    products r8, q7, q0
    vldrw.u32 q3, [r3, #80]
    products r6, q7, q1
    products r4, q7, q2
    products r10, q3, q0
    vldrw.u32 q4, [r3, #96]
    products r8, q3, q1
    products r6, q3, q2
    products r12, q4, q0
    vldrw.u32 q5, [r3, #112]
    products r10, q4, q1
    products r8, q4, q2
    products lr, q5, q0
    vldrw.u32 q6, [r3, #128]
    products r12, q5, q1
    products r10, q5, q2
    products lr, q6, q1
    vldrw.u32 q7, [r3, #144]
    products r12, q6, q2
    products lr, q7, q2
    add r3, r5
    .endr"
);

both!(
    7,
    bytes_3x3_7,
    words_3x3_7,
    ".rept 3
    vldrw.u32 q3, [r3]
    vldrw.u32 q0, [r1], #48
    products r0, q3, q0
    vldrw.u32 q1, [r1, #-32]
    vldrw.u32 q4, [r3, #16]
    products r2, q4, q0
    vldrw.u32 q2, [r1, #-16]
    products r0, q4, q1
    vldrw.u32 q5, [r3, #32]
    products r4, q5, q0
    vldrw.u32 q6, [r3, #48]
    products r2, q5, q1
    products r0, q5, q2
    products r6, q6, q0
    vldrw.u32 q7, [r3, #64]
    products r4, q6, q1
    products r2, q6, q2
    products r8, q7, q0
    vldrw.u32 q3, [r3, #80]
    products r6, q7, q1
    products r4, q7, q2
    products r10, q3, q0
    vldrw.u32 q4, [r3, #96]
    products r8, q3, q1
    products r6, q3, q2
    products r12, q4, q0
    vldrw.u32 q5, [r3, #112]
    products r10, q4, q1
    products r8, q4, q2
    products r12, q5, q1
    vldrw.u32 q6, [r3, #128]
    products r10, q5, q2
    products r12, q6, q2
    add r3, r5
    .endr"
);

both!(
    4,
    bytes_3x3_4,
    words_3x3_4,
    ".rept 3
    vldrw.u32 q3, [r3]
    vldrw.u32 q0, [r1], #48
    products r0, q3, q0
    vldrw.u32 q1, [r1, #-32]
    vldrw.u32 q4, [r3, #16]
    products r2, q4, q0
    vldrw.u32 q2, [r1, #-16]
    products r0, q4, q1
    vldrw.u32 q5, [r3, #32]
    products r4, q5, q0
    vldrw.u32 q6, [r3, #48]
    products r2, q5, q1
    products r0, q5, q2
    products r6, q6, q0
    vldrw.u32 q7, [r3, #64]
    products r4, q6, q1
    products r2, q6, q2
    products r6, q7, q1
    vldrw.u32 q3, [r3, #80]
    products r4, q7, q2
    products r6, q3, q2
    add r3, r5
    .endr"
);

both!(
    8,
    bytes_1x1_8,
    words_1x1_8,
    "vldrw.u32 q0, [r1], #16
    vldrw.u32 q1, [r3]
    products r0, q1, q0
    vldrw.u32 q2, [r3, #16]
    products r2, q2, q0
    vldrw.u32 q3, [r3, #32]
    products r4, q3, q0
    vldrw.u32 q4, [r3, #48]
    products r6, q4, q0
    vldrw.u32 q5, [r3, #64]
    products r8, q5, q0
    vldrw.u32 q6, [r3, #80]
    products r10, q6, q0
    vldrw.u32 q1, [r3, #96]
    products r12, q1, q0
    vldrw.u32 q2, [r3, #112]
    products lr, q2, q0
    add r3, r5"
);

both!(
    7,
    bytes_1x1_7,
    words_1x1_7,
    "vldrw.u32 q0, [r1], #16
    vldrw.u32 q1, [r3]
    products r0, q1, q0
    vldrw.u32 q2, [r3, #16]
    products r2, q2, q0
    vldrw.u32 q3, [r3, #32]
    products r4, q3, q0
    vldrw.u32 q4, [r3, #48]
    products r6, q4, q0
    vldrw.u32 q5, [r3, #64]
    products r8, q5, q0
    vldrw.u32 q6, [r3, #80]
    products r10, q6, q0
    vldrw.u32 q1, [r3, #96]
    products r12, q1, q0
    add r3, r5"
);

both!(
    4,
    bytes_1x1_4,
    words_1x1_4,
    "vldrw.u32 q0, [r1], #16
    vldrw.u32 q1, [r3]
    products r0, q1, q0
    vldrw.u32 q2, [r3, #16]
    products r2, q2, q0
    vldrw.u32 q3, [r3, #32]
    products r4, q3, q0
    vldrw.u32 q4, [r3, #48]
    products r6, q4, q0
    add r3, r5"
);
