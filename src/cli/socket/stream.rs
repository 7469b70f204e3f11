//! The connection below HTTP: TCP, with TLS for https and wss.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Target, Trouble};
use crate::error::without_os_code;

/// A connection, encrypted or not.
pub(in crate::cli) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether the certificate of a server is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Certificates {
    /// Against the system's authorities, and those of `SSL_CERT_FILE`.
    Checked,
    /// Any certificate is accepted: for a connection that carries no secret.
    Unchecked,
}

/// Connects.
pub(in crate::cli) async fn connect(
    target: &Target,
    certificates: Certificates,
) -> Result<Box<dyn Stream>, Trouble> {
    let away = |error: &dyn std::fmt::Display| Trouble::Transient(without_os_code(error));
    let stream = TcpStream::connect((target.host(), target.port())).await.map_err(|error| away(&error))?;
    // Sends small packets without delay. A connection that does not support this option works without it.
    stream.set_nodelay(true).ok();
    if !target.is_tls() {
        return Ok(Box::new(stream));
    }
    let is_unchecked = certificates == Certificates::Unchecked;
    let connector = native_tls::TlsConnector::builder()
        .danger_accept_invalid_certs(is_unchecked)
        .danger_accept_invalid_hostnames(is_unchecked)
        .build()
        .map_err(|error| away(&error))?;
    let connector = tokio_native_tls::TlsConnector::from(connector);
    match connector.connect(target.host(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        // OpenSSL's error for an answer that is not TLS.
        Err(error) if error.to_string().contains("wrong version number") => {
            Err(Trouble::Transient("the server does not speak TLS on this port; use http://".into()))
        }
        Err(error) => Err(Trouble::Transient(format!("TLS: {}", without_os_code(&error)))),
    }
}
