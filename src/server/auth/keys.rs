//! The keys that verify JSON Web Tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use serde_json::Value as Json;

use super::fingerprint::Fingerprint;
use super::key_text::KeyText;
use super::signature::SignatureKey;
use crate::{Error, Result};

/// The maximum number of keys in a set. The server tries a token without a key id with each key that fits its
/// algorithm.
const MAX_KEYS: usize = 100;

/// The accepted sizes of an RSA key, in bits. RFC 7518 requires the minimum. The maximum bounds the cost of a
/// verification.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// The keys that verify JSON Web Tokens, with the file that they come from. The accepted algorithms follow from the
/// kind of the key, never from the token. Clones share the keys.
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
    pub(super) key: SignatureKey,
    /// The algorithms that the key may verify. Never empty.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) fingerprint: Fingerprint,
    id: Option<String>,
}

impl JwtKey {
    /// Reads a key: the PEM file of a public RSA key (RS and PS algorithms), EC key (ES) or Ed25519 key (EdDSA); or a
    /// secret of at least 32 bytes in one line (HS), without the line break at its end. Text that looks like a key in
    /// another format is not accepted as a secret.
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
    /// Whether a token with this key id may be signed with this key. A key or token without an id fits all.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        }
    }

    pub(super) fn secret(secret: &[u8]) -> Self {
        use Algorithm::{HS256, HS384, HS512};
        Self {
            key: SignatureKey::Secret(secret.to_owned()),
            algorithms: vec![HS256, HS384, HS512],
            fingerprint: Fingerprint::of(secret),
            id: None,
        }
    }

    /// `None` for a key of a kind that is not supported.
    fn public(key: PKey<Public>) -> Result<Option<Self>, String> {
        let bits = key.bits();
        if key.id() == Id::RSA && !RSA_BITS.contains(&bits) {
            let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
            return Err(format!("holds an RSA key of {bits} bits; {least} to {most} are accepted"));
        }
        Self::usable(key).map_err(|error| format!("holds a key that cannot be used: {error}"))
    }

    fn usable(key: PKey<Public>) -> Result<Option<Self>, ErrorStack> {
        let algorithms = match key.id() {
            Id::RSA => RSA.to_vec(),
            Id::EC => match key.ec_key()?.group().curve_name() {
                Some(Nid::X9_62_PRIME256V1) => vec![Algorithm::ES256],
                Some(Nid::SECP384R1) => vec![Algorithm::ES384],
                _ => return Ok(None),
            },
            Id::ED25519 => vec![Algorithm::EdDSA],
            _ => return Ok(None),
        };
        let fingerprint = Fingerprint::of(&key.public_key_to_der()?);
        Ok(Some(Self { key: SignatureKey::Public(key), algorithms, fingerprint, id: None }))
    }

    pub(super) fn single(text: &str) -> Result<Self, String> {
        let pem = match KeyText::read(text)? {
            KeyText::Secret(secret) => return Ok(Self::secret(secret.as_bytes())),
            KeyText::Pem(pem) => pem,
        };
        let pem = pem.as_bytes();
        let pkcs1 = || Rsa::public_key_from_pem_pkcs1(pem).and_then(PKey::from_rsa);
        let key = PKey::public_key_from_pem(pem).or_else(|_| pkcs1()).ok();
        let key = key.map(Self::public).transpose()?.flatten();
        key.ok_or_else(|| {
            "holds no public RSA or EC key that can be read (-----BEGIN PUBLIC KEY-----)".into()
        })
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

/// Reads a key of a set (RFC 7517). `None` if the key is not for signatures, or if its kind is not supported.
fn key_of_set(jwk: Jwk) -> Result<Option<VerifyingKey>, String> {
    if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
        return Ok(None);
    }
    let Some(key) = public_key(&jwk.algorithm) else { return Ok(None) };
    let Some(mut key) = VerifyingKey::public(key)? else { return Ok(None) };
    if let Some(own) = jwk.common.key_algorithm {
        // No algorithm is left if `alg` belongs to another kind of key.
        let own = Algorithm::try_from(own).ok();
        key.algorithms.retain(|algorithm| Some(*algorithm) == own);
    }
    key.id = jwk.common.key_id;
    Ok((!key.algorithms.is_empty()).then_some(key))
}

/// Builds a key from its numbers. OpenSSL checks that a point is on its curve.
fn public_key(parameters: &AlgorithmParameters) -> Option<PKey<Public>> {
    let bytes = |part: &String| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let number = |part| BigNum::from_slice(&bytes(part)?).ok();
    match parameters {
        AlgorithmParameters::RSA(key) => {
            let key = Rsa::from_public_components(number(&key.n)?, number(&key.e)?).ok()?;
            PKey::from_rsa(key).ok()
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let group = EcGroup::from_curve_name(match key.curve {
                EllipticCurve::P256 => Nid::X9_62_PRIME256V1,
                EllipticCurve::P384 => Nid::SECP384R1,
                _ => return None,
            });
            let (x, y) = (number(&key.x)?, number(&key.y)?);
            let key = EcKey::from_public_key_affine_coordinates(group.ok()?.as_ref(), &x, &y).ok()?;
            PKey::from_ec_key(key).ok()
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            PKey::public_key_from_raw_bytes(&bytes(&key.x)?, Id::ED25519).ok()
        }
        _ => None,
    }
}

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

pub(super) fn read_set(text: &str) -> Result<Vec<VerifyingKey>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let no_set = |error: serde_json::Error| format!("holds no JSON Web Key Set: {error}");
    let mut set: BTreeMap<String, Json> = serde_json::from_str(text).map_err(no_set)?;
    let Some(Json::Array(raw_keys)) = set.remove("keys") else {
        return Err("holds no JSON Web Key Set: keys is missing".into());
    };
    if raw_keys.iter().any(|key| key["kty"] == "oct") {
        return Err("holds a secret; a key set is for public keys (pass a secret with --jwt-key-file)".into());
    }
    if raw_keys.iter().any(|key| key.get("d").is_some()) {
        return Err("holds a private key; use the public keys".into());
    }
    if raw_keys.len() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    let mut keys = Vec::new();
    for raw in raw_keys {
        keys.extend(key_of_set(serde_json::from_value(raw).map_err(no_set)?)?);
    }
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

#[cfg(test)]
mod tests {
    use openssl::bn::BigNumContext;
    use openssl::ec::PointConversionForm;
    use serde_json::json;

    use super::*;

    fn pem_of_rsa(bits: u32) -> String {
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
    }

    #[test]
    fn a_key_has_the_algorithms_of_its_kind() {
        let rsa = Rsa::generate(2048).unwrap();
        let pkcs1 = String::from_utf8(rsa.public_key_to_pem_pkcs1().unwrap()).unwrap();
        let ed = String::from_utf8(PKey::generate_ed25519().unwrap().public_key_to_pem().unwrap()).unwrap();
        assert_eq!(VerifyingKey::single(&pkcs1).unwrap().algorithms, RSA);
        assert_eq!(VerifyingKey::single(&pem_of_rsa(2048)).unwrap().algorithms, RSA);
        assert_eq!(VerifyingKey::single(&ed).unwrap().algorithms, [Algorithm::EdDSA]);
        assert!(VerifyingKey::single(&pem_of_rsa(1024)).err().unwrap().contains("of 1024 bits"));
        let x25519 = PKey::generate_x25519().unwrap().public_key_to_pem().unwrap();
        assert!(VerifyingKey::single(std::str::from_utf8(&x25519).unwrap()).is_err());
    }

    #[test]
    fn a_set_has_the_keys_for_signatures() {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let group = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
        let ec = EcKey::generate(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let point =
            ec.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
        let (x, y) = (part(&point[1..49]), part(&point[49..]));
        let rsa = Rsa::generate(2048).unwrap();
        let (n, e) = (part(&rsa.n().to_vec()), part(&rsa.e().to_vec()));
        let ed = part(&PKey::generate_ed25519().unwrap().raw_public_key().unwrap());
        let set = json!({ "keys": [
            { "kty": "EC", "crv": "P-384", "x": x, "y": y, "kid": "ec" },
            { "kty": "RSA", "n": n, "e": e, "alg": "PS256" },
            { "kty": "RSA", "n": n, "e": e, "use": "enc" },
            { "kty": "RSA", "n": n, "e": e, "alg": "RSA-OAEP" },
            { "kty": "RSA", "n": n, "e": e, "alg": "ES256" },
            { "kty": "OKP", "crv": "Ed25519", "x": ed },
            { "kty": "OKP", "crv": "Ed448", "x": ed },
            { "kty": "EC", "crv": "P-384", "x": x, "y": x },
            { "kty": "EC", "crv": "P-521", "x": x, "y": y },
        ] });
        let keys = read_set(&set.to_string()).unwrap();
        let algorithms: Vec<_> = keys.iter().map(|key| key.algorithms.clone()).collect();
        assert_eq!(algorithms, [[Algorithm::ES384], [Algorithm::PS256], [Algorithm::EdDSA]]);
        assert!(keys[0].may_be(Some("ec")) && !keys[0].may_be(Some("rsa")) && keys[1].may_be(Some("rsa")));
        let weak = Rsa::generate(1024).unwrap();
        let weak = json!({ "keys": [{ "kty": "RSA", "n": part(&weak.n().to_vec()), "e": "AQAB" }] });
        assert!(read_set(&weak.to_string()).err().unwrap().contains("of 1024 bits"));
    }
}
