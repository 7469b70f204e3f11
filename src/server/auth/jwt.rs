//! Authentication by JSON Web Tokens.

use globset::GlobBuilder;
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::{Algorithm, TokenData, Validation};
use serde_json::Value as Json;

use super::keys::{JwtKey, VerifyingKey};
use super::{Admitted, Refusal};
use crate::Result;
use crate::protocol::Namespace;

/// Which JSON Web Tokens admit a client.
///
/// ```no_run
/// # use pgio::server::{Authentication, Jwt, JwtKey};
/// let key = JwtKey::read("key.pem".as_ref())?;
/// let authentication = Authentication::Jwt(Jwt::new(key).audience(["chat"]).issuer(["https://id.example.com"]));
/// # Ok::<_, pgio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Jwt {
    key: JwtKey,
    audience: Vec<String>,
    issuer: Vec<String>,
}

impl Jwt {
    /// Every token that is signed with one of these keys, unless it has expired or is not valid yet.
    pub fn new(key: JwtKey) -> Self {
        Self { key, audience: Vec::new(), issuer: Vec::new() }
    }

    /// A token has to name one of these in `aud`. With none, every `aud` is accepted.
    #[must_use]
    pub fn audience<S: Into<String>>(mut self, audience: impl IntoIterator<Item = S>) -> Self {
        self.audience = audience.into_iter().map(Into::into).collect();
        self
    }

    /// A token has to name one of these in `iss`. With none, every `iss` is accepted.
    #[must_use]
    pub fn issuer<S: Into<String>>(mut self, issuer: impl IntoIterator<Item = S>) -> Self {
        self.issuer = issuer.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn key(&self) -> &JwtKey {
        &self.key
    }

    /// Verifies a token for a namespace, and reads its claims.
    pub(super) fn admit(&self, token: &str, nsp: &str) -> Result<Admitted, Refusal> {
        let claims = self.verify(token)?;
        if !claims.is_object() {
            return Err(Refusal::Claims("the token's claims are not an object"));
        }
        let rooms = texts(claims.get("rooms"))
            .map(|rooms| rooms.into_iter().map(str::to_owned).collect())
            .ok_or(Refusal::Claims("the token's rooms are neither a string nor an array of strings"))?;
        if let Some(claim) = claims.get("namespaces") {
            let namespaces = texts(Some(claim)).ok_or(Refusal::Claims(
                "the token's namespaces are neither a string nor an array of strings",
            ))?;
            if !namespaces.iter().any(|pattern| matches_namespace(pattern, nsp)) {
                return Err(Refusal::OtherNamespace);
            }
        }
        // A number of seconds that may have a fraction. The verification has read it already.
        let expires = claims.get("exp").and_then(Json::as_f64).map(|seconds| seconds.max(0.0) as u64);
        Ok(Admitted { data: claims.into(), rooms, expires })
    }

    fn verify(&self, token: &str) -> Result<Json, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| refusal(&error))?;
        let keys = self.key.keys();
        let mut candidates = keys.iter().filter(|key| key.may_be(header.kid.as_deref())).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let mut outcome = Err(Refusal::Algorithm);
        for key in candidates.filter(|key| key.algorithms.contains(&header.alg)) {
            match self.decode(token, header.alg, key) {
                Ok(token) => return Ok(token.claims),
                Err(error) => outcome = Err(refusal(&error)),
            }
            // The signature was right, so another key would not change anything.
            if outcome != Err(Refusal::BadSignature) {
                break;
            }
        }
        outcome
    }

    fn decode(
        &self,
        token: &str,
        header_algorithm: Algorithm,
        key: &VerifyingKey,
    ) -> Result<TokenData<Json>, JwtError> {
        let mut validation = Validation::new(header_algorithm);
        validation.algorithms = key.algorithms.clone();
        validation.leeway = 0;
        // The library would accept a token for one more second.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_nbf = true;
        // A token without `exp` does not expire, as in Node's jsonwebtoken.
        let mut required = Vec::new();
        validation.validate_aud = !self.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&self.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        jsonwebtoken::decode(token, &key.key, &validation)
    }
}

impl From<JwtKey> for Jwt {
    fn from(key: JwtKey) -> Self {
        Self::new(key)
    }
}

/// A string, or an array of strings. Nothing where the claim is missing.
fn texts(claim: Option<&Json>) -> Option<Vec<&str>> {
    match claim {
        None | Some(Json::Null) => Some(Vec::new()),
        Some(Json::String(text)) => Some(vec![text]),
        Some(Json::Array(items)) => items.iter().map(Json::as_str).collect(),
        Some(_) => None,
    }
}

/// Whether a name or a pattern of the `namespaces` claim stands for a namespace. A `*` stands for one segment, `**` for any number.
fn matches_namespace(pattern: &str, nsp: &str) -> bool {
    let pattern = Namespace::new(pattern);
    if pattern.as_str() == nsp {
        return true;
    }
    let is_pattern = pattern.as_str().contains(['*', '?', '[', '{']);
    is_pattern
        && GlobBuilder::new(pattern.as_str())
            .literal_separator(true)
            .build()
            .is_ok_and(|glob| glob.compile_matcher().is_match(nsp))
}

fn refusal(error: &JwtError) -> Refusal {
    match error.kind() {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYetValid,
        ErrorKind::InvalidSignature => Refusal::BadSignature,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Refusal::Issuer,
        // An unknown algorithm, such as `none`, is a JSON error in the header and falls under `Malformed`.
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => {
            Refusal::Algorithm
        }
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_a_claim() {
        for (pattern, nsp, is_match) in [
            ("/", "/", true),
            ("org", "/org", true),
            ("/org/*", "/org/1", true),
            ("/org/*", "/org/1/2", false),
            ("/org/**", "/org/1/2", true),
            ("/org/1", "/org/10", false),
            ("/org", "/", false),
            ("[", "/[", true),
            ("*", "/org", true),
        ] {
            assert_eq!(matches_namespace(pattern, nsp), is_match, "{pattern} {nsp}");
        }
    }
}
