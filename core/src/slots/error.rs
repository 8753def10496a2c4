//! Everything that can go wrong with slots, typed.

use core::fmt;

/// Why an operation on the slots was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SlotError<E> {
    /// The flash driver's own error; the update can be resumed.
    Flash(E),
    /// The places given do not suit the flash.
    Layout(LayoutProblem),
    /// An update or a confirmation before [`boot`](super::Slots::boot).
    NotBooted,
    /// An update would overwrite the only confirmed image: confirm the running one first.
    NotConfirmed,
    /// More bytes than a slot holds, or none.
    Length {
        /// Bytes of the image.
        bytes: u32,
        /// Bytes a slot holds.
        capacity: u32,
    },
    /// The version is lower than the rules allow.
    Version {
        /// Version of the image.
        found: u32,
        /// Lowest version allowed.
        lowest: u32,
    },
    /// The rules ask for a signature and the manifest has none.
    Unsigned,
    /// No update was begun, or an error ended it: begin or resume.
    NoUpdate,
    /// More bytes were pushed than the manifest says; none of them was taken.
    TooMany {
        /// Bytes pushed.
        pushed: usize,
        /// Bytes missing.
        missing: u32,
    },
    /// Not all bytes were pushed.
    Incomplete {
        /// Bytes missing.
        missing: u32,
    },
    /// The image in flash is not the one the manifest speaks of. The update is dropped.
    Damaged(Fault),
    /// The flash does not keep what is written to it.
    Worn,
}

/// Why an image in a slot is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// Its length is not within the slot.
    Length,
    /// Its version is too low.
    Version,
    /// The flash could not be read.
    Unreadable,
    /// The checksum does not fit.
    Crc {
        /// CRC-32C in the manifest.
        stated: u32,
        /// CRC-32C of the bytes in flash.
        computed: u32,
    },
    /// The signature is missing or not of this image by this key.
    Signature,
}

/// Why a layout does not suit a flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LayoutProblem {
    /// The write size does not divide 64, or the read size does not divide 16.
    Word,
    /// The erase size is neither a multiple nor a divisor of the head.
    Block,
    /// A slot does not start or end at the edge of an erase block.
    Alignment,
    /// A slot has no room for an image.
    TooSmall,
    /// A slot ends after the flash.
    Outside,
    /// The slots share bytes.
    Overlap,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ManifestError {
    /// Fewer bytes than a manifest has.
    TooShort,
    /// It does not start with the magic.
    Magic,
    /// The checksum does not fit.
    Crc,
    /// A reserved field is not 0.
    Reserved,
}

impl<E: fmt::Debug> fmt::Display for SlotError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlotError::Flash(e) => write!(f, "the flash refused: {e:?}; resume the update"),
            SlotError::Layout(problem) => write!(f, "slots: {problem}"),
            SlotError::NotBooted => f.write_str("no image was booted yet; call boot first"),
            SlotError::NotConfirmed => f.write_str("the running image is on trial; confirm it first"),
            SlotError::Length { bytes, capacity } => write!(f, "image of {bytes} bytes, a slot holds 1 to {capacity}"),
            SlotError::Version { found, lowest } => write!(f, "version {found} is below {lowest}, the lowest allowed"),
            SlotError::Unsigned => f.write_str("the image is not signed; this firmware takes signed images only"),
            SlotError::NoUpdate => f.write_str("no update is under way; begin or resume one"),
            SlotError::TooMany { pushed, missing } => write!(f, "{pushed} bytes pushed, {missing} are missing"),
            SlotError::Incomplete { missing } => write!(f, "{missing} bytes are missing"),
            SlotError::Damaged(fault) => write!(f, "the image written {fault}; send it again"),
            SlotError::Worn => f.write_str("the flash does not keep what is written to it"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for SlotError<E> {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Length => f.write_str("has a length outside its slot"),
            Fault::Version => f.write_str("has too low a version"),
            Fault::Unreadable => f.write_str("cannot be read"),
            Fault::Crc { stated, computed } => {
                write!(f, "is damaged: checksum {stated:08x} stated, {computed:08x} computed")
            }
            Fault::Signature => f.write_str("is not signed with the right key"),
        }
    }
}

impl core::error::Error for Fault {}

impl fmt::Display for LayoutProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LayoutProblem::Word => "the write size must divide 64 and the read size 16",
            LayoutProblem::Block => "the erase size must be a multiple or a divisor of the head's 1024 bytes",
            LayoutProblem::Alignment => "a slot must start and end at erase blocks",
            LayoutProblem::TooSmall => "a slot has no room for an image",
            LayoutProblem::Outside => "a slot ends after the flash",
            LayoutProblem::Overlap => "the slots share bytes",
        })
    }
}

impl core::error::Error for LayoutProblem {}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ManifestError::TooShort => "fewer bytes than a manifest has",
            ManifestError::Magic => "not a manifest",
            ManifestError::Crc => "the manifest is damaged",
            ManifestError::Reserved => "the manifest has fields that this firmware does not know",
        })
    }
}

impl core::error::Error for ManifestError {}
