//! Elementary functions in pure f32 and integers.
