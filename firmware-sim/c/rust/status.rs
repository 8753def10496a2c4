//! Error codes.

use core::ffi::CStr;

use fewstep_core::{ArenaError, ParseError, Problem, RequestError};

/// `fewstep_status`; the header says what each means.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    Running = 1,
    Null = -1,
    Misaligned = -2,
    Memory = -3,
    Image = -4,
    NotOpen = -5,
    Class = -6,
    Guidance = -7,
    Steps = -8,
    Sampler = -9,
    StartStep = -10,
    Length = -11,
    Row = -12,
    NotFinished = -13,
}

impl Status {
    pub fn message(status: i32) -> &'static CStr {
        match status {
            0 => c"done",
            1 => c"running",
            -1 => c"a pointer is null",
            -2 => c"memory is not aligned: image and memory to 16 bytes, structures as C aligns them",
            -3 => c"too little memory: fewstep_inspect says how much",
            -4 => c"the student image is damaged, incomplete or of another version",
            -5 => c"the session is not open",
            -6 => c"the student has no such class",
            -7 => c"the student was not trained for this guidance strength",
            -8 => c"the steps do not divide the student's own",
            -9 => c"the sampler is neither deterministic (0) nor stochastic (1)",
            -10 => c"the first step is not below the number of steps",
            -11 => c"a buffer has another length than the picture or the row",
            -12 => c"the picture has no such row",
            -13 => c"steps are left",
            _ => c"no status of this library",
        }
    }
}

impl From<ParseError> for Status {
    fn from(error: ParseError) -> Self {
        match error.problem {
            Problem::NotAligned { .. } => Self::Misaligned,
            _ => Self::Image,
        }
    }
}

impl From<ArenaError> for Status {
    fn from(error: ArenaError) -> Self {
        match error {
            ArenaError::NotAligned { .. } => Self::Misaligned,
            ArenaError::TooSmall { .. } => Self::Memory,
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Class { .. } => Self::Class,
            RequestError::Guidance { .. } => Self::Guidance,
            RequestError::Steps { .. } => Self::Steps,
            RequestError::StartStep { .. } => Self::StartStep,
            RequestError::Row { .. } => Self::Row,
            RequestError::NotFinished { .. } => Self::NotFinished,
            // An encoder, or an image that enlarges: neither draws.
            RequestError::Direction { .. } | RequestError::NeedsBase => Self::Image,
            _ => Self::Length,
        }
    }
}
