//! Classifies the content of a key file: a public key, or the secret of the HMAC algorithms.
//!
//! Everyone may know a public key, so the server must never use one as a secret. Text that looks like a key in another
//! format is refused with a hint.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// The minimum length of a secret, in bytes: the length of the HS256 hash, as RFC 7518 requires.
const MIN_SECRET_BYTES: usize = 32;

/// The content of a key file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyText {
    /// A public key in PEM.
    Pem(String),
    /// A secret, without the line break at its end.
    Secret(String),
}

impl KeyText {
    /// Reads the content of a file. The error describes content that is not a usable key.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        if let Some(start) = text.find("-----BEGIN") {
            return pem(&text[start..]);
        }
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err("holds no key".into());
        }
        if let Some(form) = other_form(trimmed) {
            return Err(form.into());
        }
        let compact: String = trimmed.split_whitespace().collect();
        if let Some(der) = decode(&compact).filter(|bytes| is_der(bytes)) {
            // Some identity providers show their public key in base64, without the lines of PEM.
            let lines = BASE64_STANDARD_NO_PAD.encode(&der);
            let padding = "=".repeat((4 - lines.len() % 4) % 4);
            return Ok(Self::Pem(format!(
                "-----BEGIN PUBLIC KEY-----\n{lines}{padding}\n-----END PUBLIC KEY-----\n"
            )));
        }
        secret(text.trim_end_matches(['\r', '\n']))
    }
}

fn pem(text: &str) -> Result<KeyText, String> {
    let label = text.lines().next().unwrap_or_default();
    if label.contains("PRIVATE KEY") {
        return Err("holds a private key; use its public key".into());
    }
    if label.contains("CERTIFICATE") {
        return Err("holds a certificate; use its public key (openssl x509 -in FILE -pubkey -noout)".into());
    }
    let end = text.find("-----END").map_or(text.len(), |end| {
        text[end..].find(['\r', '\n']).map_or(text.len(), |line_break| end + line_break)
    });
    Ok(KeyText::Pem(text[..end].to_owned()))
}

fn secret(text: &str) -> Result<KeyText, String> {
    if text.contains(['\r', '\n']) {
        return Err("holds several lines; a secret is one line, and a public key starts with -----BEGIN PUBLIC KEY-----".into());
    }
    if text.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "holds a secret of {} bytes, but needs at least {MIN_SECRET_BYTES} (openssl rand -hex 32)",
            text.len()
        ));
    }
    Ok(KeyText::Secret(text.to_owned()))
}

/// Detects key formats that are not supported. Returns the error with its hint.
fn other_form(text: &str) -> Option<&'static str> {
    const SSH: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    // `{"`, `-----BEGIN` and `---- BEGIN` in base64.
    const ENCODED: [&str; 3] = ["eyJ", "LS0tLS1CRUdJTi", "LS0tLSBCRUdJTi"];
    if text.starts_with(['{', '[']) {
        return Some("holds JSON; pass a JSON Web Key Set with --jwks FILE");
    }
    if SSH.iter().any(|kind| text.starts_with(kind) || text.contains(&format!("\n{kind}"))) {
        return Some("holds an SSH key; convert it to PEM (ssh-keygen -e -m PKCS8 -f FILE)");
    }
    if text.starts_with('<') || text.contains("---- BEGIN") || text.starts_with("PuTTY-User-Key-File") {
        return Some("holds a key in a form that is not PEM; convert it to -----BEGIN PUBLIC KEY-----");
    }
    if ENCODED.iter().any(|start| text.starts_with(start)) {
        return Some("holds a key or a token in base64; decode it first");
    }
    None
}

/// Decodes base64 of both alphabets, or hex.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let hex = || {
        let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        is_hex.then(|| (0..digits.len()).step_by(2).map_while(byte).collect::<Vec<u8>>())
    };
    let base64 =
        || BASE64_STANDARD_NO_PAD.decode(digits).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(digits)).ok();
    hex().filter(|bytes| is_der(bytes)).or_else(base64)
}

/// Whether bytes are one ASN.1 sequence, as every DER key and certificate is.
fn is_der(bytes: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = bytes else { return false };
    match usize::from(*length) {
        short @ 0..0x80 => rest.len() == short,
        long => {
            let count = long & 0x7f;
            let Some((length, content)) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))
            else {
                return false;
            };
            length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)) == content.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key of an Ed25519 key pair, in DER.
    const DER: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

    #[test]
    fn text_that_looks_like_a_key_is_no_secret() {
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{DER}\n-----END PUBLIC KEY-----");
        let url_safe = DER.replace('+', "-").replace('/', "_");
        let hex: String = decode(DER).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        for text in [
            pem.clone(),
            format!("\u{feff}{pem}\n"),
            format!("# the key of the realm\n{pem}\r\nand more"),
            DER.into(),
            format!("\u{feff}{}\n{}\n", &DER[..20], &DER[20..]),
            url_safe.trim_end_matches('=').into(),
            hex.to_uppercase(),
        ] {
            assert!(matches!(KeyText::read(&text), Ok(KeyText::Pem(_))), "{text}");
        }
        let base64_of_pem = BASE64_STANDARD_NO_PAD.encode(&pem);
        for text in [
            "",
            " \n",
            &format!("# a comment\n{DER}"),
            &format!("-----BEGIN CERTIFICATE-----\n{DER}\n-----END CERTIFICATE-----"),
            &format!("-----BEGIN PRIVATE KEY-----\n{DER}\n-----END PRIVATE KEY-----"),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE me@host",
            "---- BEGIN SSH2 PUBLIC KEY ----\nAAAAC3NzaC1lZDI1NTE5\n---- END SSH2 PUBLIC KEY ----",
            "<RSAKeyValue><Modulus>AQAB</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>",
            &base64_of_pem,
            "short",
            "thirty-one bytes are too few...",
        ] {
            assert!(KeyText::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_used_unchanged() {
        for secret in [
            "a secret of thirty-two characters",
            "6f9d1c1e1f4f4c0e8b5a3d2c7b6a59483726150f1e2d3c4b5a69788796a5b4c3",
            "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=",
        ] {
            assert_eq!(KeyText::read(&format!("{secret}\n")), Ok(KeyText::Secret(secret.into())));
        }
    }
}
