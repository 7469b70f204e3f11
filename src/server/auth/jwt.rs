//! Authentication by JSON Web Tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use globset::GlobBuilder;
use serde_json::Value as Json;

use super::keys::JwtKey;
use super::signed_token::SignedToken;
use super::{Admitted, Credential, Refusal};
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
    /// Accepts every token that is signed with one of these keys, unless it has expired or is not valid yet.
    pub fn new(key: JwtKey) -> Self {
        Self { key, audience: Vec::new(), issuer: Vec::new() }
    }

    /// Accepts only tokens with one of these values in `aud`. An empty list accepts every `aud`.
    #[must_use]
    pub fn audience<S: Into<String>>(mut self, audience: impl IntoIterator<Item = S>) -> Self {
        self.audience = audience.into_iter().map(Into::into).collect();
        self
    }

    /// Accepts only tokens with one of these values in `iss`. An empty list accepts every `iss`.
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
        let (claims, credential) = self.verify(token)?;
        if !claims.is_object() {
            return Err(Refusal::Claims("the token's claims are not an object"));
        }
        let expires = self.check(&claims, now())?;
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
        Ok(Admitted { data: claims.into(), rooms, expires, credential: Some(credential) })
    }

    /// Verifies the signature of a token. Returns its claims, and the key that has signed it.
    fn verify(&self, token: &str) -> Result<(Json, Credential), Refusal> {
        let token = SignedToken::parse(token)?;
        let keys = self.key.keys();
        let id = token.key_id.as_deref();
        let mut candidates = keys.iter().filter(|key| key.may_be(id)).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let mut outcome = Err(Refusal::Algorithm);
        for key in candidates.filter(|key| key.algorithms.contains(&token.algorithm)) {
            outcome = token.verify(key).map(|claims| {
                (claims, Credential::Key { fingerprint: key.fingerprint, id: id.map(Into::into) })
            });
            // If the signature is valid, another key would give the same result.
            if !matches!(outcome, Err(Refusal::BadSignature)) {
                break;
            }
        }
        outcome
    }

    /// Checks the claims `exp`, `nbf`, `iss` and `aud`. Returns the expiry of the token, in seconds since 1970. A token
    /// without `exp` does not expire, as in Node's jsonwebtoken.
    fn check(&self, claims: &Json, now: f64) -> Result<Option<u64>, Refusal> {
        const NO_TIME: Refusal = Refusal::Claims("the token's exp and nbf are not numbers");
        // Seconds, which may have a fraction.
        let time = |name| claims.get(name).map(|time| time.as_f64().ok_or(NO_TIME)).transpose();
        let expires = time("exp")?;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Expired);
        }
        if time("nbf")?.is_some_and(|start| start > now) {
            return Err(Refusal::NotYetValid);
        }
        if !names_one_of(claims.get("iss"), &self.issuer) {
            return Err(Refusal::Issuer);
        }
        if !names_one_of(claims.get("aud"), &self.audience) {
            return Err(Refusal::Audience);
        }
        Ok(expires.map(|seconds| seconds as u64))
    }

    /// Whether the key that admitted a client is still listed.
    pub(super) fn accepts(&self, credential: &Credential) -> bool {
        let Credential::Key { fingerprint, id } = credential else { return false };
        self.key.keys().iter().any(|key| key.fingerprint == *fingerprint && key.may_be(id.as_deref()))
    }
}

/// The seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Whether a claim names one of the accepted values. An empty list accepts every claim.
fn names_one_of(claim: Option<&Json>, accepted: &[String]) -> bool {
    let named = || texts(claim).unwrap_or_default();
    accepted.is_empty() || named().iter().any(|name| accepted.iter().any(|one| one == name))
}

impl From<JwtKey> for Jwt {
    fn from(key: JwtKey) -> Self {
        Self::new(key)
    }
}

/// Reads a string or an array of strings. A missing claim gives an empty list.
fn texts(claim: Option<&Json>) -> Option<Vec<&str>> {
    match claim {
        None | Some(Json::Null) => Some(Vec::new()),
        Some(Json::String(text)) => Some(vec![text]),
        Some(Json::Array(items)) => items.iter().map(Json::as_str).collect(),
        Some(_) => None,
    }
}

/// Whether a name or a pattern of the `namespaces` claim matches a namespace. A `*` stands for one segment, `**` for
/// any number of segments.
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

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::sign::Signer;
    use serde_json::json;

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
    #[test]
    fn a_token_is_valid_from_nbf_until_exp() {
        let jwt = jwt(&[], &[]);
        let check = |claims| jwt.check(&claims, 100.5);
        assert_eq!(check(json!({})), Ok(None));
        assert_eq!(check(json!({ "exp": 101, "nbf": 100 })), Ok(Some(101)));
        assert_eq!(check(json!({ "exp": 100.6, "nbf": 100.5 })), Ok(Some(100)));
        assert_eq!(check(json!({ "exp": 1e300 })), Ok(Some(u64::MAX)));
        assert_eq!(check(json!({ "exp": 100 })), Err(Refusal::Expired));
        assert_eq!(check(json!({ "exp": -1 })), Err(Refusal::Expired));
        assert_eq!(check(json!({ "nbf": 101 })), Err(Refusal::NotYetValid));
        for wrong in [json!("101"), json!(null), json!([101]), json!(true)] {
            for name in ["exp", "nbf"] {
                assert!(matches!(check(json!({ name: wrong })), Err(Refusal::Claims(_))), "{name} {wrong}");
            }
        }
    }

    #[test]
    fn a_token_names_an_accepted_audience_and_issuer() {
        let jwt = jwt(&["chat"], &["https://id", "https://old"]);
        let check = |aud: Json, iss: Json| jwt.check(&json!({ "aud": aud, "iss": iss }), 0.0);
        assert_eq!(check(json!(["other", "chat"]), json!("https://old")), Ok(None));
        for aud in [json!("other"), json!([]), json!(null), json!(7), json!(["chat", 7]), json!("")] {
            assert_eq!(check(aud.clone(), json!("https://id")), Err(Refusal::Audience), "{aud}");
        }
        for iss in [json!("https://evil"), json!(null), json!("https://id/")] {
            assert_eq!(check(json!("chat"), iss.clone()), Err(Refusal::Issuer), "{iss}");
        }
        assert_eq!(jwt.check(&json!({}), 0.0), Err(Refusal::Issuer));
    }

    #[test]
    fn claims_of_any_form_are_read() {
        let jwt = jwt(&[], &[]);
        let admit = |claims: &str| {
            let message = format!("eyJhbGciOiJIUzI1NiJ9.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
            let secret = PKey::hmac(b"a secret of thirty-two characters").unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &secret).unwrap();
            let code = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
            let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(code));
            jwt.admit(&token, "/").map(|admitted| admitted.data)
        };
        let sub = json!({ "sub": ["ada", { "team": 7 }] });
        assert_eq!(admit(&sub.to_string()), Ok(sub.into()));
        for (claims, refusal) in [
            ("[]", "the token's claims are not an object"),
            ("7", "the token's claims are not an object"),
            (r#"{"exp":[101]}"#, "the token's exp and nbf are not numbers"),
            (r#"{"nbf":{"a":1}}"#, "the token's exp and nbf are not numbers"),
        ] {
            assert_eq!(admit(claims), Err(Refusal::Claims(refusal)), "{claims}");
        }
        assert_eq!(admit("{"), Err(Refusal::Malformed));
    }

    fn jwt(audience: &[&str], issuer: &[&str]) -> Jwt {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "a secret of thirty-two characters").unwrap();
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Jwt::new(JwtKey::read(&file).unwrap()).audience(own(audience)).issuer(own(issuer))
    }
}
