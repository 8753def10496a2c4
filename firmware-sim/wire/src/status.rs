//! Exit codes.

use core::fmt;

/// How the firmware ended: the exit code of the emulator. 0 to 9 are the emulator's own, except for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The picture was sent.
    Done = 0,
    /// The request's bytes are damaged or of another version.
    BadRequest = 10,
    /// The student image is not usable.
    BadImage = 11,
    /// The student image needs more arena than the board grants.
    ArenaTooSmall = 12,
    /// The student image cannot serve the request.
    RequestRefused = 13,
    /// The picture is larger than the firmware's buffer.
    PictureTooLarge = 14,
    /// A panic, which is a defect of the firmware.
    Panicked = 20,
    /// The CPU raised a fault.
    Fault = 21,
    /// The power failed, as a scenario asks for.
    PowerCut = 22,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::BadRequest,
        Self::BadImage,
        Self::ArenaTooSmall,
        Self::RequestRefused,
        Self::PictureTooLarge,
        Self::Panicked,
        Self::Fault,
        Self::PowerCut,
    ];

    /// The exit code.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The status of an exit code; `None` for one that no firmware gives.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::BadRequest => "the request in flash is damaged or of another version",
            Self::BadImage => "the student image is not usable",
            Self::ArenaTooSmall => "the student image needs more memory than the board grants",
            Self::RequestRefused => "the student image cannot serve this request",
            Self::PictureTooLarge => "the picture is larger than the firmware's buffer",
            Self::Panicked => "the firmware panicked",
            Self::Fault => "the CPU raised a fault",
            Self::PowerCut => "the power failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn codes_are_distinct_and_come_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        assert_eq!(Status::from_code(1), None, "QEMU's own failures exit with 1");
    }
}
