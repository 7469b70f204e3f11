//! TLS for clients: versions 1.2 and 1.3, with the suites that rustls considers safe.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
pub(super) use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, RootCertStore, ServerConfig};
use tokio_rustls::server;

use super::options::TlsFiles;
use crate::{Error, Result};

/// A connection with TLS.
pub(super) type TlsStream = server::TlsStream<TcpStream>;

/// The only protocol that is served.
const ALPN: &[u8] = b"http/1.1";

/// Reads certificate and key, and the authorities of client certificates.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificate = read(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| {
        tracing::debug!(%error, "invalid private key");
        wrong(&files.key, "holds no private key in PEM, or an encrypted one".into())
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |error: tokio_rustls::rustls::Error| {
        let (key, reason) = (files.key.display(), error);
        wrong(&files.certificate, format!("cannot be used for TLS with the key {key}: {reason}"))
    };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(DEFAULT_VERSIONS).map_err(unusable)?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
    };
    let chain = certificates(&files.certificate, &certificate)?;
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config).into())
}

fn client_verifier(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        let unusable =
            |error| wrong(path, format!("holds a certificate that cannot be an authority: {error}"));
        roots.add(certificate).map_err(unusable)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
    verifier.map_err(|error| wrong(path, format!("cannot be used for client certificates: {error}")))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(path, "holds no certificate in PEM".into())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::file(path, &error))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::File { path: path.into(), reason }
}
