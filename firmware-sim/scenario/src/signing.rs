//! Keys as files, and manifests signed with them (Ed25519, RFC 8032) as `fewstep_core::slots` checks them.
//!
//! Files are those of `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`: PEM (RFC 7468) around PKCS #8
//! (RFC 8410) and SubjectPublicKeyInfo.

use ed25519_compact::{KeyPair, PublicKey, Seed};
use fewstep_core::slots::{Manifest, signed_prefix};

use crate::base64;

/// Largest key file in bytes.
pub const MAX_KEY_FILE: u64 = 4096;

/// What stands before the 32 bytes of a private key (RFC 8410, section 7): version 0, the algorithm 1.3.101.112, a string
/// within a string.
const PRIVATE_HEAD: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
/// What stands before the 32 bytes of a public key (RFC 8410, section 4).
const PUBLIC_HEAD: [u8; 12] = [0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0];
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// How an encrypted key begins.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such block.
    #[error("holds no PEM block \"{0}\"; make a key with `fewstep key` or `openssl genpkey -algorithm ed25519`")]
    NoBlock(&'static str),
    /// The block is a private key under a password.
    #[error(
        "holds an encrypted private key, which is not taken; `openssl pkey -in KEY -out PLAIN` asks for its password and \
         writes it unencrypted: keep that file secret"
    )]
    Encrypted,
    /// The block is damaged.
    #[error("the PEM block \"{0}\" is damaged: it is not base 64")]
    Base64(&'static str),
    /// The block is another key.
    #[error("the PEM block \"{0}\" is not a plain Ed25519 key; RSA and other curves are not taken")]
    NotEd25519(&'static str),
    /// A seed of zeros, no point of the curve, or one under which anything can pass for signed.
    #[error("the PEM block \"{0}\" holds a key that protects nothing; make another one")]
    Weak(&'static str),
}

/// A private key.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// A new one, from the system's random numbers.
    pub fn generate() -> Self {
        Self(KeyPair::generate())
    }

    /// Reads the text of a private key file.
    ///
    /// # Errors
    /// It holds no plain Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        // PKCS #8, and what OpenSSL wrote before.
        if text.contains(ENCRYPTED) || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let seed = unwrap(text, PRIVATE, &PRIVATE_HEAD)?;
        let pair = KeyPair::try_from_seed(Seed::new(seed)).map_err(|_| KeyError::Weak(PRIVATE))?;
        Ok(Self(pair))
    }

    /// The text of a private key file.
    pub fn to_pem(&self) -> String {
        wrap(PRIVATE, &PRIVATE_HEAD, &*self.0.sk.seed())
    }

    /// The text of the public key's file.
    pub fn public_pem(&self) -> String {
        wrap(PUBLIC, &PUBLIC_HEAD, &self.public())
    }

    /// The public key, for `fewstep_core::slots::Rules`.
    pub fn public(&self) -> [u8; 32] {
        *self.0.pk
    }

    /// A manifest of `image` that is signed.
    pub fn manifest(&self, image: &[u8], version: u32) -> Manifest {
        let manifest = Manifest::of(image, version);
        let message = [&signed_prefix(version, manifest.bytes)[..], image].concat();
        Manifest { signature: Some(*self.0.sk.sign(message, None)), ..manifest }
    }
}

/// Reads a public key out of the text of its file, or of the private key's.
///
/// # Errors
/// It holds neither.
pub fn public_key(text: &str) -> Result<[u8; 32], KeyError> {
    if let Ok(key) = SigningKey::from_pem(text) {
        return Ok(key.public());
    }
    let key = unwrap(text, PUBLIC, &PUBLIC_HEAD)?;
    PublicKey::new(key).validate().map_err(|_| KeyError::Weak(PUBLIC))?;
    Ok(key)
}

fn wrap(label: &str, head: &[u8], key: &[u8]) -> String {
    let code = base64::encode(&[head, key].concat());
    format!("-----BEGIN {label}-----\n{code}\n-----END {label}-----\n")
}

/// The key in the first block of a label.
fn unwrap(text: &str, label: &'static str, head: &[u8]) -> Result<[u8; 32], KeyError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let block = text.split_once(&begin).and_then(|(_, rest)| Some(rest.split_once(&end)?.0));
    let code: String = block.ok_or(KeyError::NoBlock(label))?.split_ascii_whitespace().collect();
    let bytes = base64::decode(&code).ok_or(KeyError::Base64(label))?;
    let key = bytes.strip_prefix(head).and_then(|key| key.try_into().ok());
    key.ok_or(KeyError::NotEd25519(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3 and 10.1.
    const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_of_the_rfc() {
        let key = SigningKey::from_pem(RFC_PRIVATE).unwrap();
        assert_eq!(Ok(key.public()), public_key(RFC_PUBLIC));
        assert_eq!(Ok(key.public()), public_key(RFC_PRIVATE));
        assert_eq!((key.to_pem().as_str(), key.public_pem().as_str()), (RFC_PRIVATE, RFC_PUBLIC));
    }

    #[test]
    fn new_keys_differ_and_come_back() {
        let (a, b) = (SigningKey::generate(), SigningKey::generate());
        assert_ne!(a.public(), b.public());
        assert_eq!(SigningKey::from_pem(&a.to_pem()).unwrap().public(), a.public());
    }

    #[test]
    fn malformed_files_are_refused() {
        let from = |text: &str| SigningKey::from_pem(text).err();
        assert_eq!(from(""), Some(KeyError::NoBlock(PRIVATE)));
        assert_eq!(from(RFC_PUBLIC), Some(KeyError::NoBlock(PRIVATE)));
        assert_eq!(from(&RFC_PRIVATE.replace("PRIVATE", "ENCRYPTED PRIVATE")), Some(KeyError::Encrypted));
        assert_eq!(from(&RFC_PRIVATE.replace("-----END", "----END")), Some(KeyError::NoBlock(PRIVATE)));
        assert_eq!(from(&RFC_PRIVATE.replace("MC4C", "MC4*")), Some(KeyError::Base64(PRIVATE)));
        // An X25519 key differs in its algorithm; a longer one and a shorter one in their length.
        assert_eq!(
            from(&RFC_PRIVATE.replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vu")),
            Some(KeyError::NotEd25519(PRIVATE))
        );
        assert_eq!(from(&RFC_PRIVATE.replace("EdVhC", "EdVhCAAAA")), Some(KeyError::NotEd25519(PRIVATE)));
        assert_eq!(public_key(&wrap(PUBLIC, &PUBLIC_HEAD, &[0; 32])), Err(KeyError::Weak(PUBLIC)));
        assert_eq!(from(&wrap(PRIVATE, &PRIVATE_HEAD, &[0; 32])), Some(KeyError::Weak(PRIVATE)));
        assert_eq!(
            public_key("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"),
            Err(KeyError::NotEd25519(PUBLIC))
        );
    }

    #[test]
    fn a_signature_is_of_version_length_and_image() {
        let key = SigningKey::from_pem(RFC_PRIVATE).unwrap();
        let manifest = key.manifest(b"image", 7);
        let signature = ed25519_compact::Signature::new(manifest.signature.unwrap());
        let holds = |version: u32, image: &[u8]| {
            let message = [&signed_prefix(version, image.len() as u32)[..], image].concat();
            PublicKey::new(key.public()).verify(message, &signature).is_ok()
        };
        assert!(holds(7, b"image") && !holds(8, b"image") && !holds(7, b"imagf") && !holds(7, b"imag"));
    }
}
