//! TLS for clients.

use std::path::Path;

use native_tls::Identity;
use tokio_native_tls::TlsAcceptor;

use super::options::TlsFiles;
use crate::{Error, Result};

/// Reads certificate and key.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificate = read(&files.certificate)?;
    let key = pkcs8(&read(&files.key)?).map_err(|reason| wrong(&files.key, reason))?;
    let identity = Identity::from_pkcs8(&certificate, &key).map_err(|error| {
        // OpenSSL's own words are pages long.
        tracing::debug!(%error, "no identity");
        wrong(
            &files.certificate,
            format!("is no certificate in PEM, or not that of the key {}", files.key.display()),
        )
    })?;
    let acceptor = native_tls::TlsAcceptor::new(identity)
        .map_err(|error| wrong(&files.certificate, format!("cannot be used for TLS: {error}")))?;
    Ok(acceptor.into())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(path, error.to_string()))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::File { path: path.into(), reason }
}

/// The one form of keys that every platform's TLS takes, from all those that there are.
#[cfg(target_os = "linux")]
fn pkcs8(pem: &[u8]) -> Result<Vec<u8>, String> {
    let key = openssl::pkey::PKey::private_key_from_pem_callback(pem, |_| Ok(0))
        .map_err(|_| "holds no private key in PEM, or one that is encrypted".to_owned())?;
    key.private_key_to_pem_pkcs8().map_err(|error| format!("cannot be used as a key: {error}"))
}

#[cfg(not(target_os = "linux"))]
fn pkcs8(pem: &[u8]) -> Result<Vec<u8>, String> {
    Ok(pem.to_owned())
}
