//! TLS to the server, set up only after the server has agreed to it.

use std::fs;
use std::path::Path;
use std::pin::Pin;

use native_tls::{Certificate, Identity, TlsConnector, TlsConnectorBuilder};
use postgres_native_tls::{TlsStream, set_postgresql_alpn};
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::settings::{Roots, SslMode, TlsSettings};
use crate::private_key::in_pkcs8;
use crate::{Error, Result};

/// Sets up TLS lazily: reading a hundred root certificates would cost each start milliseconds.
#[derive(Clone)]
pub(super) struct LazyTls(pub(super) TlsSettings);

/// The same for one server.
pub(super) struct LazyConnect {
    settings: TlsSettings,
    name: String,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl MakeTlsConnect<Socket> for LazyTls {
    type Stream = TlsStream<Socket>;
    type TlsConnect = LazyConnect;
    type Error = AnyError;

    fn make_tls_connect(&mut self, name: &str) -> Result<LazyConnect, AnyError> {
        Ok(LazyConnect { settings: self.0.clone(), name: name.to_owned() })
    }
}

impl TlsConnect<Socket> for LazyConnect {
    type Stream = TlsStream<Socket>;
    type Error = AnyError;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream<Socket>, AnyError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = connector(&self.settings)?;
            let connector = postgres_native_tls::TlsConnector::new(connector, &self.name);
            Ok(connector.connect(socket).await?)
        })
    }
}

/// Checks the certificate and key files before connecting.
pub(super) fn check_files(settings: &TlsSettings) -> Result<()> {
    if let Roots::File(path) = &settings.roots
        && verifies(settings.mode)
    {
        roots(path)?;
    }
    identity(settings).map(drop)
}

fn connector(settings: &TlsSettings) -> Result<TlsConnector> {
    let mut builder = TlsConnector::builder();
    builder
        .min_protocol_version(settings.oldest)
        .max_protocol_version(settings.newest)
        .use_sni(settings.send_server_name)
        .danger_accept_invalid_certs(!verifies(settings.mode))
        .danger_accept_invalid_hostnames(settings.mode != SslMode::VerifyFull);
    if settings.direct {
        set_postgresql_alpn(&mut builder);
    }
    if verifies(settings.mode) {
        add_roots(&mut builder, &settings.roots)?;
    }
    if let Some(identity) = identity(settings)? {
        builder.identity(identity);
    }
    builder.build().map_err(|error| Error::Setting { setting: "TLS".into(), reason: error.to_string() })
}

fn verifies(mode: SslMode) -> bool {
    matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull)
}

fn add_roots(builder: &mut TlsConnectorBuilder, from: &Roots) -> Result<()> {
    if let Roots::File(path) = from {
        builder.disable_built_in_roots(true);
        for root in roots(path)? {
            builder.add_root_certificate(root);
        }
    }
    Ok(())
}

fn roots(path: &Path) -> Result<Vec<Certificate>> {
    let roots = Certificate::stack_from_pem(&read(path)?).map_err(|error| wrong(path, &error.to_string()))?;
    if roots.is_empty() { Err(wrong(path, "no certificate in PEM form")) } else { Ok(roots) }
}

/// The client's certificate with its key, in any PEM form.
fn identity(settings: &TlsSettings) -> Result<Option<Identity>> {
    let Some((certificate, key)) = &settings.client else { return Ok(None) };
    let chain = read(certificate)?;
    let metadata = fs::metadata(key).map_err(|error| Error::file(key, &error))?;
    if super::settings::is_readable_by_others(&metadata) {
        return Err(wrong(key, "this key is readable by other users; use chmod 600"));
    }
    let key_pem = in_pkcs8(&read(key)?, settings.key_password.as_deref())
        .ok_or_else(|| wrong(key, "no private key in PEM form, or sslpassword does not open it"))?;
    Identity::from_pkcs8(&chain, &key_pem)
        .map(Some)
        .map_err(|error| wrong(certificate, &format!("not usable with its key: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file(path, &error))
}

fn wrong(path: &Path, reason: &str) -> Error {
    Error::File { path: path.to_owned(), reason: reason.to_owned() }
}
