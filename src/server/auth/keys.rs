//! The keys that verify JSON Web Tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value as Json;

use super::key_text::KeyText;
use crate::{Error, Result};

/// The largest number of keys in a set. A token without a key id is tried with each that fits its algorithm.
const MAX_KEYS: usize = 100;

/// The keys that verify JSON Web Tokens, with the file that they come from. The accepted algorithms follow from the kind of the
/// key, never from the token. Clones share the keys.
#[derive(Clone)]
pub struct JwtKey(Arc<Source>);

struct Source {
    path: PathBuf,
    form: Form,
    keys: RwLock<Arc<[VerifyingKey]>>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// One key in PEM, or a secret.
    Single,
    /// A JSON Web Key Set.
    Set,
}

/// One key.
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    /// Never empty.
    pub(super) algorithms: Vec<Algorithm>,
    id: Option<String>,
}

impl JwtKey {
    /// Reads a key: the PEM file of a public RSA key (RS and PS algorithms), EC key (ES) or Ed25519 key (EdDSA); or a secret of at
    /// least 32 bytes in one line (HS), without the line break at its end. What looks like a key in another form is no secret.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or holds no usable key.
    pub fn read(path: &Path) -> Result<Self> {
        Self::open(path, Form::Single)
    }

    /// Reads a JSON Web Key Set of public keys. A token names its key with `kid`.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, or holds no usable key, a private one or a secret.
    pub fn read_jwks(path: &Path) -> Result<Self> {
        Self::open(path, Form::Set)
    }

    fn open(path: &Path, form: Form) -> Result<Self> {
        let keys = RwLock::new(form.read(path)?);
        Ok(Self(Arc::new(Source { path: path.into(), form, keys })))
    }

    /// Reads the file again. After an error the keys stay as they are.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn reload(&self) -> Result<()> {
        let keys = self.0.form.read(&self.0.path)?;
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The keys as they are now.
    pub(super) fn keys(&self) -> Arc<[VerifyingKey]> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl VerifyingKey {
    /// Whether a token with this key id may be signed with this key. A key or a token without an id excludes none.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        }
    }

    fn single(text: &str) -> Result<Self, String> {
        use Algorithm::*;
        let (key, algorithms) = match KeyText::read(text)? {
            KeyText::Secret(secret) => {
                (DecodingKey::from_secret(secret.as_bytes()), vec![HS256, HS384, HS512])
            }
            KeyText::Pem(pem) => {
                let pem = pem.as_bytes();
                if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
                    (key, RSA.to_vec())
                } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
                    (key, vec![ES256, ES384])
                } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
                    (key, vec![EdDSA])
                } else {
                    return Err(
                        "holds no public RSA or EC key that can be read (-----BEGIN PUBLIC KEY-----)".into(),
                    );
                }
            }
        };
        Ok(Self { key, algorithms, id: None })
    }

    /// `None` for a key that is not for signatures, or of a kind that is not supported.
    fn of_set(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        if matches!(common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return None,
        };
        let algorithms = match common.key_algorithm {
            None => kind,
            // An algorithm of another kind of key leaves none.
            Some(own) => {
                let own = Algorithm::try_from(own).ok()?;
                kind.into_iter().filter(|algorithm| *algorithm == own).collect()
            }
        };
        if algorithms.is_empty() {
            return None;
        }
        Some(Self { key: DecodingKey::from_jwk(jwk).ok()?, algorithms, id: common.key_id.clone() })
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

impl Form {
    fn read(self, path: &Path) -> Result<Arc<[VerifyingKey]>> {
        let text = super::read(path)?;
        let keys = match self {
            Self::Single => VerifyingKey::single(&text).map(|key| vec![key]),
            Self::Set => read_set(&text),
        };
        keys.map(Into::into).map_err(|reason| Error::File { path: path.into(), reason })
    }
}

fn read_set(text: &str) -> Result<Vec<VerifyingKey>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let no_set = |error: serde_json::Error| format!("holds no JSON Web Key Set: {error}");
    let raw: BTreeMap<String, Json> = serde_json::from_str(text).map_err(no_set)?;
    let raw_keys =
        raw.get("keys").and_then(Json::as_array).ok_or("holds no JSON Web Key Set: keys is missing")?;
    if raw_keys.iter().any(|key| key["kty"] == "oct") {
        return Err(
            "holds a secret; a key set is for public keys (a secret is given as --jwt-key-file)".into()
        );
    }
    if raw_keys.iter().any(|key| key.get("d").is_some()) {
        return Err("holds a private key; use the public keys".into());
    }
    if raw_keys.len() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    let set: JwkSet = serde_json::from_str(text).map_err(no_set)?;
    let keys: Vec<_> = set.keys.iter().filter_map(VerifyingKey::of_set).collect();
    if keys.is_empty() {
        return Err("holds no public RSA, EC or Ed25519 key for signatures".into());
    }
    Ok(keys)
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({}, {} keys)", self.0.path.display(), self.keys().len())
    }
}
