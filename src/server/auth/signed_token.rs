//! A signed JSON Web Token (RFC 7515). Its header can be read before the signature is verified, its claims only after
//! that.
//!
//! The `jsonwebtoken` crate reads the header, and OpenSSL verifies the signature. The crate's `decode` would check the
//! claims as well, but it rejects a `sub` that is an array as broken JSON, and accepts a token for one second after its
//! expiry. The server needs OpenSSL for TLS anyway, and a second cryptographic library would have to be kept up to date
//! as well.

use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value as Json;

use super::Refusal;
use super::keys::VerifyingKey;

/// A token whose signature is not verified yet. Its claims cannot be read.
pub(super) struct SignedToken<'a> {
    pub(super) algorithm: Algorithm,
    /// The id of its key.
    pub(super) key_id: Option<String>,
    token: &'a str,
}

impl<'a> SignedToken<'a> {
    /// Reads the header of a token.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refusal_of_header(token))?;
        // `crit` lists extensions that a reader has to support. This reader supports none.
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        Ok(Self { algorithm: header.alg, key_id: header.kid, token })
    }

    /// The claims, if this key has signed the token with an algorithm of its kind.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<Json, Refusal> {
        if !key.algorithms.contains(&self.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let (message, signature) = self.token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (_, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
        match key.key.verifies(self.algorithm, message.as_bytes(), &decode(signature)?) {
            true => serde_json::from_slice(&decode(claims)?).map_err(|_| Refusal::Malformed),
            false => Err(Refusal::BadSignature),
        }
    }
}

/// The reason why a header cannot be read: an unsupported algorithm such as `none`, or a malformed header.
fn refusal_of_header(token: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let header = token.split('.').next().and_then(|header| decode(header).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Header>(&header).ok());
    match header {
        Some(Header { alg }) if Algorithm::from_str(&alg).is_err() => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::{Padding, Rsa};
    use openssl::sign::{RsaPssSaltlen, Signer};
    use serde_json::json;

    use super::super::keys::read_set;
    use super::*;

    fn parse(header: &str) -> Result<Algorithm, Refusal> {
        let token = format!("{}.e30.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header));
        SignedToken::parse(&token).map(|token| token.algorithm)
    }

    fn verify(token: &str, key: &VerifyingKey) -> Result<Json, Refusal> {
        SignedToken::parse(token)?.verify(key)
    }

    #[test]
    fn a_header_names_a_known_algorithm_and_no_extension() {
        assert_eq!(parse(r#"{"alg":"HS256","typ":"JWT"}"#), Ok(Algorithm::HS256));
        for unknown in ["none", "None", "hs256", "HS256 ", "ES512", ""] {
            assert_eq!(parse(&json!({ "alg": unknown }).to_string()), Err(Refusal::Algorithm), "{unknown}");
        }
        for malformed in [
            "{}",
            "",
            "[]",
            r#"{"alg":7}"#,
            r#"{"alg":"HS256","kid":7}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":"b64"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        ] {
            assert_eq!(parse(malformed), Err(Refusal::Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_token_has_three_parts_in_base64() {
        let key = VerifyingKey::secret(b"a secret of thirty-two characters");
        for malformed in [
            "",
            ".",
            "..",
            "a.b",
            "e30.e30",
            "eyJhbGciOiJIUzI1NiJ9.e30.AA==",
            "eyJhbGciOiJIUzI1NiJ9.e30.A+/A",
            "eyJhbGciOiJIUzI1NiJ9.e30.AAAA ",
            "eyJhbGciOiJIUzI1NiJ9.e30",
            "eyJhbGciOiJIUzI1NiJ9.e30.AAAA.AAAA",
            "a.b.c.d.e",
        ] {
            assert_eq!(verify(malformed, &key), Err(Refusal::Malformed), "{malformed}");
        }
    }

    /// Asserts that a key verifies a token, and rejects it after a change of its header, its claims or its signature.
    fn assert_verifies(key: &VerifyingKey, token: &str, claims: Result<Json, Refusal>) {
        assert_eq!(verify(token, key), claims, "{token}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let mut flipped = decode(signature).unwrap();
        flipped[7] ^= 1;
        let flipped = BASE64_URL_SAFE_NO_PAD.encode(flipped);
        let shorter = BASE64_URL_SAFE_NO_PAD.encode(&decode(signature).unwrap()[1..]);
        let zeros = BASE64_URL_SAFE_NO_PAD.encode(vec![0; decode(signature).unwrap().len()]);
        let longer_header = BASE64_URL_SAFE_NO_PAD.encode([&decode(header).unwrap()[..], b" "].concat());
        for changed in [
            format!("{longer_header}.{claims}.{signature}"),
            format!("{header}.e30.{signature}"),
            format!("{message}.{flipped}"),
            format!("{message}.{shorter}"),
            format!("{message}.{zeros}"),
            format!("{message}."),
        ] {
            assert_eq!(verify(&changed, key), Err(Refusal::BadSignature), "{changed}");
        }
    }

    fn key_of(jwk: &Json) -> VerifyingKey {
        read_set(&json!({ "keys": [jwk] }).to_string()).unwrap().remove(0)
    }

    fn claims_of_the_rfc() -> Json {
        json!({ "iss": "joe", "exp": 1300819380, "http://example.com/is_root": true })
    }

    /// RFC 7515, appendix A.1.
    #[test]
    fn hs256_of_the_rfc() {
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = VerifyingKey::secret(&decode(secret).unwrap());
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_verifies(&key, token, Ok(claims_of_the_rfc()));
    }

    /// RFC 7515, appendix A.3.
    #[test]
    fn es256_of_the_rfc() {
        let key = key_of(&json!({
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }));
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert_verifies(&key, token, Ok(claims_of_the_rfc()));
    }

    /// RFC 8037, appendix A.4. Its signed payload is not JSON.
    #[test]
    fn eddsa_of_the_rfc() {
        let key = key_of(&json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }));
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_verifies(&key, token, Err(Refusal::Malformed));
    }

    #[test]
    fn a_signature_of_rsa_has_the_padding_of_its_algorithm() {
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let pem = String::from_utf8(private.public_key_to_pem().unwrap()).unwrap();
        let key = VerifyingKey::single(&pem).unwrap();
        let all = [
            ("RS256", MessageDigest::sha256(), Padding::PKCS1),
            ("RS384", MessageDigest::sha384(), Padding::PKCS1),
            ("RS512", MessageDigest::sha512(), Padding::PKCS1),
            ("PS256", MessageDigest::sha256(), Padding::PKCS1_PSS),
            ("PS384", MessageDigest::sha384(), Padding::PKCS1_PSS),
            ("PS512", MessageDigest::sha512(), Padding::PKCS1_PSS),
        ];
        for (signed, digest, padding) in all {
            for (named, ..) in all {
                let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": named }).to_string());
                let message = format!("{header}.e30");
                let mut signer = Signer::new(digest, &private).unwrap();
                signer.set_rsa_padding(padding).unwrap();
                if padding == Padding::PKCS1_PSS {
                    signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
                }
                let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
                let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
                let expected = if signed == named { Ok(json!({})) } else { Err(Refusal::BadSignature) };
                assert_eq!(verify(&token, &key), expected, "{signed} as {named}");
            }
        }
    }

    #[test]
    fn a_key_verifies_nothing_of_another_kind() {
        let text = "a secret of thirty-two characters";
        let secret = VerifyingKey::secret(text.as_bytes());
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let pem = private.public_key_to_pem().unwrap();
        let public = VerifyingKey::single(std::str::from_utf8(&pem).unwrap()).unwrap();
        // The kind of a key is checked twice.
        let mut mistaken = VerifyingKey::secret(text.as_bytes());
        mistaken.algorithms = vec![Algorithm::RS256, Algorithm::HS256];
        let forge = |algorithm: &str, secret: &[u8]| {
            let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm }).to_string());
            let message = format!("{header}.e30");
            let mut signer = Signer::new(MessageDigest::sha256(), &PKey::hmac(secret).unwrap()).unwrap();
            let code = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
            format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(code))
        };
        let ders = [
            pem.clone(),
            private.public_key_to_der().unwrap(),
            private.rsa().unwrap().public_key_to_der_pkcs1().unwrap(),
        ];
        for known in ders {
            assert_eq!(verify(&forge("HS256", &known), &public), Err(Refusal::Algorithm));
        }
        for algorithm in ["ES256", "ES384", "EdDSA"] {
            assert_eq!(verify(&forge(algorithm, &pem), &public), Err(Refusal::Algorithm), "{algorithm}");
        }
        for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
            let forged = forge(algorithm, text.as_bytes());
            assert_eq!(verify(&forged, &secret), Err(Refusal::Algorithm), "{algorithm}");
        }
        assert_eq!(verify(&forge("HS256", text.as_bytes()), &secret), Ok(json!({})));
        assert!(verify(&forge("RS256", text.as_bytes()), &mistaken).is_err());
    }
}
