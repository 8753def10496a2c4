//! Buffers that start on a cache line.

/// One cache line, so that tile rows start on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

// SAFETY: plain bytes.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: plain bytes without padding (64 bytes, alignment 64).
unsafe impl bytemuck::Pod for Line {}

/// A buffer that starts on a cache line.
#[derive(Default)]
pub struct Lines(pub Vec<Line>);

impl Lines {
    /// Room for `len` values, which are whatever they were: for those who write every one.
    pub fn sized<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        let lines = (len * size_of::<T>()).div_ceil(64);
        if self.0.len() < lines {
            self.0.resize(lines, bytemuck::Zeroable::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
    pub fn zeroed<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        self.0.clear();
        self.0.resize((len * size_of::<T>()).div_ceil(64), bytemuck::Zeroable::zeroed());
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
    pub fn get<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.0)
    }
    pub fn get_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
