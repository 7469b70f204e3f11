//! TLS for clients.

use std::path::Path;

use native_tls::Identity;
use tokio_native_tls::TlsAcceptor;

use super::options::TlsFiles;
use crate::private_key::in_pkcs8;
use crate::{Error, Result};

/// Reads certificate and key.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificate = read(&files.certificate)?;
    let key = in_pkcs8(&read(&files.key)?, None)
        .ok_or_else(|| wrong(&files.key, "holds no private key in PEM, or an encrypted one".into()))?;
    let identity = Identity::from_pkcs8(&certificate, &key).map_err(|error| {
        // OpenSSL's message is several lines long.
        tracing::debug!(%error, "invalid TLS identity");
        wrong(
            &files.certificate,
            format!("is not a certificate in PEM, or does not belong to the key {}", files.key.display()),
        )
    })?;
    let acceptor = native_tls::TlsAcceptor::new(identity)
        .map_err(|error| wrong(&files.certificate, format!("cannot be used for TLS: {error}")))?;
    Ok(acceptor.into())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::file(path, &error))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::File { path: path.into(), reason }
}
