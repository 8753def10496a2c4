//! Little-endian fields of fixed-size records.

pub(super) fn u16_at<const N: usize>(record: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

pub(super) fn u32_at<const N: usize>(record: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

pub(super) fn f32_at<const N: usize>(record: &[u8; N], at: usize) -> f32 {
    f32::from_bits(u32_at(record, at))
}

pub(super) fn put<const N: usize>(record: &mut [u8; N], at: usize, value: &[u8]) {
    record[at..at + value.len()].copy_from_slice(value);
}
