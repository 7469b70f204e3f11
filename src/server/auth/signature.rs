//! The signature of a JSON Web Token (RFC 7518 and 8037), verified by OpenSSL.

use jsonwebtoken::Algorithm;
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{Id, PKey, PKeyRef, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};

/// A key that verifies signatures.
pub(super) enum SignatureKey {
    /// A secret that both sides share.
    Secret(Vec<u8>),
    /// A public key.
    Public(PKey<Public>),
}

impl SignatureKey {
    /// Whether the signature of the message is valid. It never is if the key does not fit the algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match (self, Scheme::of(algorithm)) {
            (Self::Secret(secret), Some(Scheme::Hmac(digest))) => {
                verify_hmac(secret, digest, message, signature)
            }
            (Self::Public(key), Some(scheme)) if Some(key.id()) == scheme.key() => {
                verify_public(key, scheme, message, signature)
            }
            _ => Ok(false),
        };
        // OpenSSL returns an error for a malformed signature.
        outcome.unwrap_or(false)
    }
}

/// The signature scheme of an algorithm.
enum Scheme {
    Hmac(MessageDigest),
    Rsa(MessageDigest),
    RsaPss(MessageDigest),
    /// With the size of each of the two numbers of a signature, in bytes.
    Ecdsa(MessageDigest, usize),
    /// The scheme includes its hash function.
    EdDsa,
}

impl Scheme {
    /// `None` for an algorithm that is not supported.
    fn of(algorithm: Algorithm) -> Option<Self> {
        let (sha256, sha384, sha512) = (MessageDigest::sha256, MessageDigest::sha384, MessageDigest::sha512);
        Some(match algorithm {
            Algorithm::HS256 => Self::Hmac(sha256()),
            Algorithm::HS384 => Self::Hmac(sha384()),
            Algorithm::HS512 => Self::Hmac(sha512()),
            Algorithm::RS256 => Self::Rsa(sha256()),
            Algorithm::RS384 => Self::Rsa(sha384()),
            Algorithm::RS512 => Self::Rsa(sha512()),
            Algorithm::PS256 => Self::RsaPss(sha256()),
            Algorithm::PS384 => Self::RsaPss(sha384()),
            Algorithm::PS512 => Self::RsaPss(sha512()),
            Algorithm::ES256 => Self::Ecdsa(sha256(), 32),
            Algorithm::ES384 => Self::Ecdsa(sha384(), 48),
            Algorithm::EdDSA => Self::EdDsa,
            _ => return None,
        })
    }

    /// The kind of public key that the scheme uses.
    fn key(&self) -> Option<Id> {
        match self {
            Self::Hmac(_) => None,
            Self::Rsa(_) | Self::RsaPss(_) => Some(Id::RSA),
            Self::Ecdsa(..) => Some(Id::EC),
            Self::EdDsa => Some(Id::ED25519),
        }
    }
}

fn verify_hmac(
    secret: &[u8],
    digest: MessageDigest,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, ErrorStack> {
    let expected = Signer::new(digest, &*PKey::hmac(secret)?)?.sign_oneshot_to_vec(message)?;
    Ok(expected.len() == signature.len() && memcmp::eq(&expected, signature))
}

fn verify_public(
    key: &PKeyRef<Public>,
    scheme: Scheme,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, ErrorStack> {
    match scheme {
        Scheme::Hmac(_) => Ok(false),
        Scheme::Rsa(digest) => Verifier::new(digest, key)?.verify_oneshot(signature, message),
        Scheme::RsaPss(digest) => {
            let mut verifier = Verifier::new(digest, key)?;
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            verifier.verify_oneshot(signature, message)
        }
        Scheme::Ecdsa(digest, size) => match signature.split_at_checked(size) {
            Some((r, s)) if s.len() == size => {
                // OpenSSL expects the two numbers in DER.
                let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
                let signature = EcdsaSig::from_private_components(r, s)?.to_der()?;
                Verifier::new(digest, key)?.verify_oneshot(&signature, message)
            }
            _ => Ok(false),
        },
        Scheme::EdDsa => Verifier::new_without_digest(key)?.verify_oneshot(signature, message),
    }
}
