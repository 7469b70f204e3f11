//! The TLS settings.

use std::fs::Metadata;
use std::path::PathBuf;

use native_tls::Protocol;

use super::raw::{Choice, RawSettings};
use super::{Environment, SslMode, choice};
use crate::Result;

/// The resolved TLS settings.
#[derive(Clone)]
pub(in crate::postgres) struct TlsSettings {
    pub(in crate::postgres) mode: SslMode,
    pub(in crate::postgres) roots: Roots,
    /// Certificate and key of the client.
    pub(in crate::postgres) client: Option<(PathBuf, PathBuf)>,
    pub(in crate::postgres) key_password: Option<String>,
    pub(in crate::postgres) send_server_name: bool,
    /// Direct TLS without a negotiation, as PostgreSQL 17 supports.
    pub(in crate::postgres) direct: bool,
    pub(in crate::postgres) oldest: Option<Protocol>,
    pub(in crate::postgres) newest: Option<Protocol>,
}

/// The root certificates that the server's certificate is verified with.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::postgres) enum Roots {
    /// The system's root certificates.
    System,
    /// Only the root certificates in a file.
    File(PathBuf),
}

/// Older versions are insecure and not supported.
const PROTOCOL: Choice<Protocol> = &[("TLSv1.2", Protocol::Tlsv12), ("TLSv1.3", Protocol::Tlsv13)];
/// The error if the certificate has to be verified, and no root certificates are configured.
const NO_ROOTS: &str = "verifying the server's certificate needs sslrootcert=FILE or ~/.postgresql/root.crt, or \
     sslrootcert=system with sslmode=verify-full";

const SWITCH: Choice<bool> = &[("1", true), ("0", false)];
const DIRECT: Choice<bool> = &[("postgres", false), ("direct", true)];

impl TlsSettings {
    /// Resolves them. `any_by_tcp` says whether a host is reached by TCP.
    pub(super) fn resolve(raw: &RawSettings, environment: &Environment, any_by_tcp: bool) -> Result<Self> {
        let existing = |name: &str| environment.at_home(name).filter(|path| path.exists());
        let roots = match raw.text("sslrootcert") {
            Some("system") => Some(Roots::System),
            Some(file) => Some(Roots::File(file.into())),
            None => existing(".postgresql/root.crt").map(Roots::File),
        };
        let certificate = raw.path("sslcert").or_else(|| existing(".postgresql/postgresql.crt"));
        let client = certificate.and_then(|certificate| {
            let key = raw.path("sslkey").or_else(|| environment.at_home(".postgresql/postgresql.key"))?;
            Some((certificate, key))
        });
        let asks_for_system = raw.text("sslrootcert") == Some("system");
        let mode = raw.choice("sslmode", choice::SSL_MODE)?;
        let mode = match mode {
            // Any attacker can get a certificate signed by the system's roots, so the host name has to be verified.
            Some(mode) if asks_for_system && mode != SslMode::VerifyFull => {
                return Err(raw.wrong("sslmode", "sslrootcert=system needs sslmode=verify-full".into()));
            }
            None if asks_for_system => SslMode::VerifyFull,
            // As in libpq: an existing root file is used.
            Some(SslMode::Require) if matches!(roots, Some(Roots::File(_))) => SslMode::VerifyCa,
            // As in libpq: the system's roots sign certificates for any host, so they are used only if configured.
            Some(SslMode::VerifyCa | SslMode::VerifyFull) if roots.is_none() && any_by_tcp => {
                return Err(raw.wrong("sslmode", NO_ROOTS.into()));
            }
            Some(mode) => mode,
            None => SslMode::Prefer,
        };
        let direct = raw.choice("sslnegotiation", DIRECT)?.unwrap_or(false);
        if direct && matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer) {
            return Err(raw.wrong("sslnegotiation", "direct needs sslmode=require or stronger".into()));
        }
        Ok(Self {
            mode,
            roots: roots.unwrap_or(Roots::System),
            client,
            key_password: raw.text("sslpassword").map(str::to_owned),
            send_server_name: raw.choice("sslsni", SWITCH)?.unwrap_or(true),
            direct,
            oldest: Some(raw.choice("ssl_min_protocol_version", PROTOCOL)?.unwrap_or(Protocol::Tlsv12)),
            newest: raw.choice("ssl_max_protocol_version", PROTOCOL)?,
        })
    }
}

/// Whether other users can read a file with a secret. A group may read a file of root.
#[cfg(unix)]
pub(in crate::postgres) fn is_readable_by_others(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    metadata.mode() & forbidden != 0
}

/// On other systems the home directory protects the file.
#[cfg(not(unix))]
pub(in crate::postgres) fn is_readable_by_others(_: &Metadata) -> bool {
    false
}
