//! Authentication by JSON Web Tokens.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value as Json;

use super::{Admitted, Refusal};
use crate::{Error, Result};

/// A key that verifies JSON Web Tokens. The accepted algorithms follow from the kind of the key, never from the token.
#[derive(Clone)]
pub struct JwtKey(Arc<Inner>);

struct Inner {
    key: DecodingKey,
    validation: Validation,
}

impl JwtKey {
    /// Reads a key: the PEM file of a public RSA key (RS and PS algorithms) or EC key (ES); any other text is the
    /// secret of the HS algorithms, without the line break at its end.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read or holds no usable key.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&super::read(path)?).map_err(|reason| Error::File { path: path.into(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        use Algorithm::*;
        let text = text.trim_end_matches(['\r', '\n']);
        let pem = text.trim_start().as_bytes();
        let (key, algorithms) = if !pem.starts_with(b"-----BEGIN") {
            if text.trim().is_empty() {
                return Err("holds no key".into());
            }
            (DecodingKey::from_secret(text.as_bytes()), vec![HS256, HS384, HS512])
        } else if text.contains("PRIVATE KEY-----") {
            return Err("holds a private key; use the public key that belongs to it".into());
        } else if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            (key, vec![RS256, RS384, RS512, PS256, PS384, PS512])
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            (key, vec![ES256, ES384])
        } else {
            return Err("holds no public RSA or EC key that can be read (-----BEGIN PUBLIC KEY-----)".into());
        };
        let mut validation = Validation::new(algorithms[0]);
        validation.algorithms = algorithms;
        validation.leeway = 0;
        validation.validate_nbf = true;
        // The server has no configured audience, so it accepts every `aud`.
        validation.validate_aud = false;
        // A token without `exp` does not expire, as in Node's jsonwebtoken.
        validation.required_spec_claims.clear();
        Ok(Self(Arc::new(Inner { key, validation })))
    }

    /// Verifies a token and reads its claims.
    pub(super) fn admit(&self, token: &str) -> Result<Admitted, Refusal> {
        let Inner { key, validation } = &*self.0;
        let token = jsonwebtoken::decode::<Json>(token, key, validation).map_err(|e| refusal(e.kind()))?;
        let claims = token.claims;
        if !claims.is_object() {
            return Err(Refusal::Claims("the token's claims are not an object"));
        }
        let rooms = rooms(claims.get("rooms"))
            .ok_or(Refusal::Claims("the token's rooms are neither a string nor an array of strings"))?;
        Ok(Admitted { data: claims.into(), rooms })
    }
}

fn rooms(claim: Option<&Json>) -> Option<Vec<String>> {
    match claim {
        None | Some(Json::Null) => Some(Vec::new()),
        Some(Json::String(room)) => Some(vec![room.clone()]),
        Some(Json::Array(rooms)) => rooms.iter().map(|room| room.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}

fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidSignature => Refusal::BadSignature,
        // An unknown algorithm, such as `none`, is a JSON error in the header and falls under `Malformed`.
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => {
            Refusal::Algorithm
        }
        _ => Refusal::Malformed,
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({:?})", self.0.validation.algorithms)
    }
}
