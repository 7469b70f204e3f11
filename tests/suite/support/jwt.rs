//! Signed JSON Web Tokens.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde_json::{Value, json};

/// The secret of most tests.
pub const SECRET: &str = "a secret of thirty-two characters";

/// The key of the HMAC algorithms.
pub fn secret(text: &str) -> PKey<Private> {
    PKey::hmac(text.as_bytes()).unwrap()
}

/// A token of `HS256`, signed with [`SECRET`].
pub fn with_secret(claims: &Value) -> String {
    sign("HS256", claims, &secret(SECRET))
}

/// A token of an algorithm: `HS256`, `HS512`, `RS256` or `ES256`.
pub fn sign(algorithm: &str, claims: &Value, key: &PKey<Private>) -> String {
    sign_with(json!({ "alg": algorithm, "typ": "JWT" }), claims, key)
}

/// A token with this header.
pub fn sign_with(header: Value, claims: &Value, key: &PKey<Private>) -> String {
    let algorithm = header["alg"].as_str().unwrap();
    let message = format!("{}.{}", part(&header), part(claims));
    let digest = match algorithm {
        "HS512" => MessageDigest::sha512(),
        _ => MessageDigest::sha256(),
    };
    let mut signature = Signer::new(digest, key).unwrap().sign_oneshot_to_vec(message.as_bytes()).unwrap();
    if algorithm == "ES256" {
        let numbers = EcdsaSig::from_der(&signature).unwrap();
        let [r, s] = [numbers.r(), numbers.s()].map(|number| number.to_vec_padded(32).unwrap());
        signature = [r, s].concat();
    }
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A token with any header and any signature.
pub fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", part(header), part(claims))
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}
