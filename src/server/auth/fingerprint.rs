//! The fingerprint of a token or key: a part of its hash. It identifies the token or key that admitted a client.

use openssl::sha::sha256;

/// The first half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&sha256(bytes)[..16]);
        Self(half)
    }
}
