//! The steps section: per step an angle, a row of the time table, and a parameter row per operation.
