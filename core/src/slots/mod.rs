//! Two places in flash for student images: a new image is written beside the running one, checked, and made current by
//! one record. A trial boot confirms it, or the next boot goes back to the one before.
//!
//! ```text
//! begin ── push, push, ... ── finish        boot ── (trial) ── confirm
//!   └─ power cut: resume ──┘                  └─ not confirmed: the next boot goes back
//! ```
//!
//! The flash is anything with `embedded_storage`'s [`NorFlash`]: words written once after an erase, in ascending order, so
//! parts whose flash has error-correcting codes are served too. The power may fail within any operation; what a cut write
//! or erase leaves behind is recognised by checksums.
//!
//! - [`head`]: the records at the start of a slot, `docs/flashing.md` has the bytes;
//! - [`Slots`]: boot, confirm, and the streaming writer.
//!
//! A slot does not interpret its image: the firmware calls [`Model::parse`](crate::Model::parse) on what [`Slots::boot`]
//! names, draws, and confirms.

mod boot;
mod error;
pub mod head;
mod layout;
#[cfg(feature = "signed")]
mod signature;
mod update;
mod verify;

use embedded_storage::nor_flash::NorFlash;

pub use error::{Fault, LayoutProblem, ManifestError, SlotError};
pub use head::{HEAD_BYTES, MANIFEST_BYTES, MAX_WORD, Manifest};
pub use layout::Layout;
#[cfg(feature = "signed")]
pub use signature::signed_prefix;

use update::Update;

/// What an image has to satisfy besides its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Images with a lower version are neither accepted nor booted.
    pub lowest_version: u32,
    /// Whether an update may have a lower version than the running image.
    pub may_go_down: bool,
    /// Ed25519 public key: images must be signed with its secret key.
    #[cfg(feature = "signed")]
    pub public_key: Option<[u8; 32]>,
}

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The slot beside this one.
    pub const fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Slot::A => 0,
            Slot::B => 1,
        }
    }
}

/// The image to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Booted {
    /// Where it is.
    pub slot: Slot,
    /// First byte of the image, from the start of the flash.
    pub offset: u32,
    /// Bytes of the image.
    pub bytes: u32,
    /// The version its maker gave it.
    pub version: u32,
    /// Whether the next boot goes back unless [`Slots::confirm`] is called.
    pub trial: bool,
}

/// The two slots of a flash. One lives as long as the firmware runs.
#[derive(Debug)]
pub struct Slots<F> {
    flash: F,
    layout: Layout,
    rules: Rules,
    running: Option<Booted>,
    /// Whether `running` is known.
    booted: bool,
    update: Option<Update>,
}

impl<F: NorFlash> Slots<F> {
    /// Takes the flash. [`Slots::boot`] comes next.
    ///
    /// # Errors
    /// The layout does not suit the flash.
    pub fn new(flash: F, layout: Layout, rules: Rules) -> Result<Self, SlotError<F::Error>> {
        layout.check::<F>(flash.capacity()).map_err(SlotError::Layout)?;
        Ok(Self { flash, layout, rules, running: None, booted: false, update: None })
    }

    /// What the last [`Slots::boot`] chose, with its state since.
    pub fn running(&self) -> Option<Booted> {
        self.running
    }

    /// Bytes that an image may have.
    pub fn capacity(&self) -> u32 {
        self.layout.capacity()
    }

    /// The flash, for other uses between calls. Slots must not be written.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Gives the flash back.
    pub fn release(self) -> F {
        self.flash
    }
}
