//! Operands of the products: cells and weights in slices of sixteen bytes, zeros where a slice has no channel.

use core::arch::asm;

/// Bytes of a slice.
pub const SLICE: usize = 16;

/// Copies `cells` neighbouring cells of the input, the slice of `bytes` (1 to 16) bytes at `from` of each, to `to`: [cells] of
/// 16 bytes.
///
/// # Safety
/// Cells lie `stride` bytes apart; those bytes may be read, `to` written.
#[inline(always)]
pub unsafe fn slice_of_cells(from: *const u8, stride: usize, bytes: usize, to: *mut u8, cells: usize) {
    if cells == 0 {
        return;
    }
    // SAFETY: the caller allows it; no lane beyond `bytes` is read.
    unsafe {
        asm!(
            cpu!(),
            "vctp.8 {bytes}",
            "2:",
            "vpst",
            "vldrbt.u8 q0, [{from}]",
            "add {from}, {stride}",
            "vstrb.8 q0, [{to}], #16",
            "le lr, 2b",
            bytes = in(reg) bytes, stride = in(reg) stride, from = inout(reg) from => _, to = inout(reg) to => _,
            inout("lr") cells => _, out("d0") _, out("d1") _, options(nostack),
        );
    }
}

/// Fills `count` slices with the byte `value`.
///
/// # Safety
/// `to` may be written.
#[inline(always)]
pub unsafe fn fill(to: *mut u8, value: i8, count: usize) {
    // SAFETY: the caller allows it.
    unsafe {
        core::ptr::write_bytes(to, value as u8, count * SLICE);
    }
}

/// Writes the int8 weights [taps][channels] of one output channel, as slices of sixteen of them or of eight words, and
/// returns their sum. `to` is [kernel rows][slices][kernel columns] of 16 bytes; only existing channels are written.
///
/// # Safety
/// `side` * `side` * `channels` weights may be read, `to` written; `side` is 1 or 3, `channels` not 0.
pub unsafe fn weights<const BYTES: bool>(
    from: *const i8,
    channels: usize,
    side: usize,
    slices: usize,
    to: *mut u8,
) -> i32 {
    let mut sum = 0i32;
    // Not 0, which the compiler does not see.
    let side = side.max(1);
    for tap in 0..side * side {
        let (row, column) = (tap / side, tap % side);
        // SAFETY: both stay within what the caller allows.
        unsafe {
            let from = from.add(tap * channels);
            let to = to.add((row * slices * side + column) * SLICE);
            let step = side * SLICE;
            if BYTES {
                asm!(
                    cpu!(),
                    "dlstp.8 lr, {channels}",
                    "2:",
                    "vldrb.u8 q0, [{from}], #16",
                    "vaddva.s8 r0, q0",
                    "vstrb.8 q0, [{to}]",
                    "add {to}, {step}",
                    "letp lr, 2b",
                    channels = in(reg) channels, step = in(reg) step, from = inout(reg) from => _,
                    to = inout(reg) to => _, inout("r0") sum, out("lr") _, out("d0") _, out("d1") _,
                    options(nostack),
                );
            } else {
                asm!(
                    cpu!(),
                    "dlstp.16 lr, {channels}",
                    "2:",
                    "vldrb.s16 q0, [r1], #8",
                    "vaddva.s16 r0, q0",
                    "vstrh.16 q0, [{to}]",
                    "add {to}, {step}",
                    "letp lr, 2b",
                    channels = in(reg) channels, step = in(reg) step, inout("r1") from => _,
                    to = inout(reg) to => _, inout("r0") sum, out("lr") _, out("d0") _, out("d1") _,
                    options(nostack),
                );
            }
        }
    }
    sum
}
