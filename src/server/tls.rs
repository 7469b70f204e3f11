//! TLS for clients, by OpenSSL: versions 1.2 and 1.3, and only suites with forward secrecy and authenticated encryption.
//!
//! It owns the certificate, and reads it again from its files. A connection keeps the certificate of its handshake.

use std::path::Path;
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use openssl::x509::verify::X509VerifyFlags;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::options::TlsFiles;
use crate::{Error, Result};

/// A connection with TLS.
pub(super) type TlsStream = SslStream<TcpStream>;

/// The only protocol that is served, with its length before it.
const ALPN: &[u8] = b"\x08http/1.1";

/// The suites of TLS 1.2. Those of 1.3 are all safe.
const SUITES: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// The size of the session cache. The server keeps the sessions itself: it would encrypt all tickets with one key, and
/// an attacker with that key could decrypt past connections (no forward secrecy).
const SESSIONS: i32 = 256;

/// The session id context. Without it OpenSSL does not resume a session with a client certificate.
const SESSION_CONTEXT: &[u8] = b"pgio";

/// Accepts connections with TLS.
pub(super) struct TlsAcceptor {
    files: TlsFiles,
    acceptor: RwLock<SslAcceptor>,
}

impl TlsAcceptor {
    /// Reads certificate and key, and the authorities of client certificates.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or used.
    pub(super) fn new(files: TlsFiles) -> Result<Self> {
        let acceptor = RwLock::new(acceptor(&files)?);
        Ok(Self { files, acceptor })
    }

    /// Reads the files again, for new connections. After an error the old certificate stays.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(super) fn reload(&self) -> Result<()> {
        let acceptor = acceptor(&self.files)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    /// The files, for the task that watches them.
    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Performs the TLS handshake of a connection.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::result::Result<TlsStream, openssl::ssl::Error> {
        let ssl = {
            let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner);
            Ssl::new(acceptor.context())?
        };
        let mut stream = SslStream::new(ssl, stream)?;
        Pin::new(&mut stream).accept().await?;
        Ok(stream)
    }
}

fn acceptor(files: &TlsFiles) -> Result<SslAcceptor> {
    let chain = read(&files.certificate)?;
    // An empty passphrase, since OpenSSL would ask for one on the terminal.
    let key = PKey::private_key_from_pem_passphrase(&read(&files.key)?, b"").map_err(|error| {
        tracing::debug!(%error, "invalid private key");
        wrong(&files.key, "holds no private key in PEM, or an encrypted one".into())
    })?;
    let unusable = |error: ErrorStack| {
        let (key, reason) = (files.key.display(), reason(&error));
        wrong(&files.certificate, format!("cannot be used for TLS with the key {key}: {reason}"))
    };
    let mut builder = modern().map_err(unusable)?;
    let mut chain = certificates(&files.certificate, &chain)?.into_iter();
    if let Some(own) = chain.next() {
        builder.set_certificate(&own).map_err(unusable)?;
    }
    for intermediate in chain {
        builder.add_extra_chain_cert(intermediate).map_err(unusable)?;
    }
    builder.set_private_key(&key).map_err(unusable)?;
    builder.check_private_key().map_err(unusable)?;
    if let Some(path) = &files.client_authorities {
        require_certificate(&mut builder, certificates(path, &read(path)?)?).map_err(|error| {
            wrong(path, format!("cannot be used for client certificates: {}", reason(&error)))
        })?;
    }
    Ok(builder.build())
}

/// The TLS settings that every server has.
fn modern() -> std::result::Result<SslAcceptorBuilder, ErrorStack> {
    // This sets SSL_MODE_RELEASE_BUFFERS, which frees the buffers of an idle connection.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(SUITES)?;
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET);
    builder.set_session_cache_mode(SslSessionCacheMode::SERVER);
    builder.set_session_cache_size(SESSIONS);
    builder.set_session_id_context(SESSION_CONTEXT)?;
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    Ok(builder)
}

/// Requires of each client a certificate that one of these authorities has signed. An authority need not be a root.
fn require_certificate(
    builder: &mut SslAcceptorBuilder,
    authorities: Vec<X509>,
) -> std::result::Result<(), ErrorStack> {
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder.verify_param_mut().set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    for authority in authorities {
        builder.add_client_ca(&authority)?;
        builder.cert_store_mut().add_cert(authority)?;
    }
    Ok(())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<X509>> {
    match X509::stack_from_pem(pem) {
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

/// The reason that OpenSSL gives, without its error codes.
fn reason(error: &ErrorStack) -> String {
    let reason = error.errors().iter().find_map(|error| error.reason());
    reason.map_or_else(|| error.to_string(), str::to_owned)
}
