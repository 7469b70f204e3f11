//! The compact form of a JSON Web Token (RFC 7515): what may be read of it before its signature is verified.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::Refusal;
use super::keys::VerifyingKey;
use super::signature::Algorithm;

/// A token whose signature is not verified yet. Its claims cannot be read.
pub(super) struct SignedToken<'a> {
    pub(super) algorithm: Algorithm,
    /// The id of its key.
    pub(super) key_id: Option<String>,
    /// Header and claims, as they are signed.
    message: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that a reader has to know.
    crit: Option<IgnoredAny>,
}

impl<'a> SignedToken<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // An encrypted token has five parts.
        if claims.contains('.') {
            return Err(Refusal::Malformed);
        }
        let signature = decode(signature)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?;
        Ok(Self { algorithm, key_id: header.kid, message, claims, signature })
    }

    /// The claims, if this key has signed the token.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<Json, Refusal> {
        if !key.key.verifies(self.algorithm, self.message.as_bytes(), &self.signature) {
            return Err(Refusal::BadSignature);
        }
        serde_json::from_slice(&decode(self.claims)?).map_err(|_| Refusal::Malformed)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Result<Algorithm, Refusal> {
        let token = format!("{}.e30.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header));
        SignedToken::parse(&token).map(|token| token.algorithm)
    }

    #[test]
    fn a_header_names_a_known_algorithm_and_no_extension() {
        assert_eq!(parse(r#"{"alg":"HS256","typ":"JWT"}"#), Ok(Algorithm::HS256));
        assert_eq!(parse(r#"{"alg":"none"}"#), Err(Refusal::Algorithm));
        for malformed in [
            "{}",
            "",
            "[]",
            r#"{"alg":7}"#,
            r#"{"alg":"HS256","kid":7}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        ] {
            assert_eq!(parse(malformed), Err(Refusal::Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_token_has_three_parts_in_base64() {
        for malformed in ["", ".", "..", "a.b", "e30.e30", "eyJhbGciOiJIUzI1NiJ9.e30.AA==", "a.b.c.d.e"] {
            assert_eq!(SignedToken::parse(malformed).err(), Some(Refusal::Malformed), "{malformed}");
        }
    }
}
