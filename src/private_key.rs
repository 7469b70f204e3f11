//! Private keys, in the one form that every platform's TLS takes.

/// From all forms in PEM that there are; `None` where it holds none, or the password does not open it. OpenSSL reads
/// PKCS#1, SEC1 and encrypted keys, of which native-tls takes none.
#[cfg(target_os = "linux")]
pub(crate) fn in_pkcs8(pem: &[u8], password: Option<&str>) -> Option<Vec<u8>> {
    let password = password.unwrap_or_default().as_bytes();
    let key = openssl::pkey::PKey::private_key_from_pem_passphrase(pem, password).ok()?;
    key.private_key_to_pem_pkcs8().ok()
}

/// What the platform does not take it says itself.
#[cfg(not(target_os = "linux"))]
pub(crate) fn in_pkcs8(pem: &[u8], password: Option<&str>) -> Option<Vec<u8>> {
    password.is_none().then(|| pem.to_owned())
}
