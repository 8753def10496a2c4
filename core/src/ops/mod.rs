//! The operations of a student.
