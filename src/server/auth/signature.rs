//! The signatures of JSON Web Tokens (RFC 7518, RFC 8037), verified with OpenSSL.
//!
//! A key and an algorithm go in, and whether they made a signature comes out. A key never verifies an algorithm of another kind.

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// The accepted algorithms, by the names of the `alg` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// What a key does to make a signature.
enum Method {
    Hmac(MessageDigest),
    Rsa(MessageDigest, Padding),
    /// With the size of the curve, in bytes.
    Ecdsa(MessageDigest, usize),
    EdDsa,
}

impl Algorithm {
    /// The algorithm of an `alg` header; `None` for `none` and for what is not accepted.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
    }

    fn method(self) -> Method {
        let (sha256, sha384, sha512) =
            (MessageDigest::sha256(), MessageDigest::sha384(), MessageDigest::sha512());
        match self {
            Self::HS256 => Method::Hmac(sha256),
            Self::HS384 => Method::Hmac(sha384),
            Self::HS512 => Method::Hmac(sha512),
            Self::RS256 => Method::Rsa(sha256, Padding::PKCS1),
            Self::RS384 => Method::Rsa(sha384, Padding::PKCS1),
            Self::RS512 => Method::Rsa(sha512, Padding::PKCS1),
            Self::PS256 => Method::Rsa(sha256, Padding::PKCS1_PSS),
            Self::PS384 => Method::Rsa(sha384, Padding::PKCS1_PSS),
            Self::PS512 => Method::Rsa(sha512, Padding::PKCS1_PSS),
            Self::ES256 => Method::Ecdsa(sha256, 32),
            Self::ES384 => Method::Ecdsa(sha384, 48),
            Self::EdDSA => Method::EdDsa,
        }
    }
}

/// A key that verifies signatures.
pub(super) enum Key {
    /// The secret of the HMAC algorithms.
    Secret(PKey<Private>),
    Public(PKey<Public>),
}

impl Key {
    /// Whether this key made a signature of a message. What OpenSSL cannot read is no signature.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.check(algorithm, message, signature).unwrap_or(false)
    }

    fn check(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
        match (self, algorithm.method()) {
            (Self::Secret(secret), Method::Hmac(digest)) => {
                let code = Signer::new(digest, secret)?.sign_oneshot_to_vec(message)?;
                Ok(code.ct_eq(signature).into())
            }
            (Self::Public(key), Method::Rsa(digest, padding)) => {
                let mut verifier = Verifier::new(digest, key)?;
                verifier.set_rsa_padding(padding)?;
                if padding == Padding::PKCS1_PSS {
                    verifier.set_rsa_mgf1_md(digest)?;
                    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                }
                verifier.verify_oneshot(signature, message)
            }
            (Self::Public(key), Method::Ecdsa(digest, size)) => {
                if signature.len() != 2 * size {
                    return Ok(false);
                }
                let (r, s) = signature.split_at(size);
                let signature =
                    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
                Verifier::new(digest, key)?.verify_oneshot(&signature.to_der()?, message)
            }
            (Self::Public(key), Method::EdDsa) => {
                Verifier::new_without_digest(key)?.verify_oneshot(signature, message)
            }
            (Self::Secret(_), _) | (Self::Public(_), Method::Hmac(_)) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::Id;
    use openssl::rsa::Rsa;

    use super::*;

    fn decode(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn number(text: &str) -> BigNum {
        BigNum::from_slice(&decode(text)).unwrap()
    }

    /// A token of an RFC is verified by its key, and no longer once a bit of it has changed.
    fn assert_verifies(key: &Key, algorithm: Algorithm, token: &str) {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut signature = decode(signature);
        assert!(key.verifies(algorithm, message.as_bytes(), &signature), "{algorithm:?}");
        assert!(!key.verifies(algorithm, &message.as_bytes()[1..], &signature), "{algorithm:?}");
        assert!(!key.verifies(algorithm, message.as_bytes(), &signature[1..]), "{algorithm:?}");
        assert!(!key.verifies(algorithm, message.as_bytes(), b""), "{algorithm:?}");
        signature[7] ^= 1;
        assert!(!key.verifies(algorithm, message.as_bytes(), &signature), "{algorithm:?}");
    }

    /// RFC 7515, appendix A.1.
    #[test]
    fn hs256_of_the_rfc() {
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = Key::Secret(PKey::hmac(&decode(secret)).unwrap());
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_verifies(&key, Algorithm::HS256, token);
    }

    /// RFC 7515, appendix A.3.
    #[test]
    fn es256_of_the_rfc() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let (x, y) = (
            number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        );
        let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y).unwrap();
        let key = Key::Public(PKey::from_ec_key(key).unwrap());
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert_verifies(&key, Algorithm::ES256, token);
        // A curve has one hash.
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(!key.verifies(Algorithm::ES384, message.as_bytes(), &decode(signature)));
    }

    /// RFC 8037, appendix A.4.
    #[test]
    fn eddsa_of_the_rfc() {
        let key = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let key = Key::Public(PKey::public_key_from_raw_bytes(&key, Id::ED25519).unwrap());
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_verifies(&key, Algorithm::EdDSA, token);
    }

    #[test]
    fn a_signature_of_rsa_has_the_padding_of_its_algorithm() {
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let public = PKey::public_key_from_der(&private.public_key_to_der().unwrap()).unwrap();
        let key = Key::Public(public);
        let all = [
            (Algorithm::RS256, MessageDigest::sha256(), Padding::PKCS1),
            (Algorithm::RS512, MessageDigest::sha512(), Padding::PKCS1),
            (Algorithm::PS256, MessageDigest::sha256(), Padding::PKCS1_PSS),
            (Algorithm::PS384, MessageDigest::sha384(), Padding::PKCS1_PSS),
        ];
        for (algorithm, digest, padding) in all {
            let mut signer = Signer::new(digest, &private).unwrap();
            signer.set_rsa_padding(padding).unwrap();
            if padding == Padding::PKCS1_PSS {
                signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
            }
            let signature = signer.sign_oneshot_to_vec(b"message").unwrap();
            for (other, ..) in all {
                assert_eq!(key.verifies(other, b"message", &signature), other == algorithm, "{other:?}");
            }
        }
    }

    #[test]
    fn a_key_verifies_nothing_of_another_kind() {
        let secret = Key::Secret(PKey::hmac(b"a secret of thirty-two characters").unwrap());
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let der = private.public_key_to_der().unwrap();
        let public = Key::Public(PKey::public_key_from_der(&der).unwrap());
        let forged = Signer::new(MessageDigest::sha256(), &PKey::hmac(&der).unwrap())
            .unwrap()
            .sign_oneshot_to_vec(b"m")
            .unwrap();
        assert!(!public.verifies(Algorithm::HS256, b"m", &forged));
        assert!(!public.verifies(Algorithm::ES256, b"m", &[0; 64]));
        assert!(!public.verifies(Algorithm::EdDSA, b"m", &[0; 64]));
        assert!(!secret.verifies(Algorithm::RS256, b"m", &forged));
    }

    #[test]
    fn algorithms_have_the_names_of_the_header() {
        assert_eq!(Algorithm::named("PS384"), Some(Algorithm::PS384));
        for name in ["none", "None", "hs256", "HS256 ", "ES512", ""] {
            assert_eq!(Algorithm::named(name), None, "{name}");
        }
    }
}
