//! Ed25519 over an image that is read from flash piece by piece.

use ed25519_compact::{PublicKey, Signature, VerifyingState};

use super::error::Fault;
use super::head::Manifest;

/// What is signed before the bytes of the image: a name for the purpose, version and length. So neither can be changed
/// under a valid signature.
pub fn signed_prefix(version: u32, bytes: u32) -> [u8; 24] {
    let mut prefix = *b"fewstep image 1\0________";
    prefix[16..20].copy_from_slice(&version.to_le_bytes());
    prefix[20..].copy_from_slice(&bytes.to_le_bytes());
    prefix
}

/// Takes the image in pieces, then says whether the signature holds.
///
/// None of its functions is inlined: points of the curve are large, and those of one must not lie on the stack beside those
/// of another.
pub(super) struct Verifier(VerifyingState);

impl Verifier {
    /// Makes one at `place`, so that it lies there alone.
    #[inline(never)]
    pub(super) fn begin(place: &mut Option<Self>, key: &[u8; 32], manifest: &Manifest) -> Result<(), Fault> {
        let signature = Signature::new(manifest.signature.ok_or(Fault::Signature)?);
        let mut state = PublicKey::new(*key).verify_incremental(&signature).map_err(|_| Fault::Signature)?;
        state.absorb(signed_prefix(manifest.version, manifest.bytes));
        *place = Some(Self(state));
        Ok(())
    }

    #[inline(never)]
    pub(super) fn absorb(&mut self, piece: &[u8]) {
        self.0.absorb(piece);
    }

    #[inline(never)]
    pub(super) fn finish(&self) -> Result<(), Fault> {
        self.0.verify().map_err(|_| Fault::Signature)
    }
}
