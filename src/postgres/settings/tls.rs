//! The TLS settings.

use std::fs::Metadata;
use std::path::PathBuf;

use native_tls::Protocol;

use super::given::{Choice, Given};
use super::{Environment, SslMode, choice};
use crate::Result;

/// What the settings say of TLS.
#[derive(Clone)]
pub(in crate::postgres) struct TlsSettings {
    pub(in crate::postgres) mode: SslMode,
    pub(in crate::postgres) roots: Roots,
    /// Certificate and key of the client.
    pub(in crate::postgres) client: Option<(PathBuf, PathBuf)>,
    pub(in crate::postgres) key_password: Option<String>,
    pub(in crate::postgres) send_server_name: bool,
    /// Without asking the server first, as PostgreSQL 17 can.
    pub(in crate::postgres) direct: bool,
    pub(in crate::postgres) oldest: Option<Protocol>,
    pub(in crate::postgres) newest: Option<Protocol>,
}

/// Who vouches for the server's certificate.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::postgres) enum Roots {
    /// Those that the machine trusts.
    System,
    /// Those of a file, and no others.
    File(PathBuf),
}

/// Older versions are broken, and are not spoken.
const PROTOCOL: Choice<Protocol> = &[("TLSv1.2", Protocol::Tlsv12), ("TLSv1.3", Protocol::Tlsv13)];
/// The error if the certificate has to be verified, and no root certificates are configured.
const NO_ROOTS: &str = "verifying the server's certificate needs sslrootcert=FILE or ~/.postgresql/root.crt, or \
     sslrootcert=system with sslmode=verify-full";

const SWITCH: Choice<bool> = &[("1", true), ("0", false)];
const DIRECT: Choice<bool> = &[("postgres", false), ("direct", true)];

impl TlsSettings {
    /// Reads them for hosts of which some are reached by TCP, or none.
    pub(super) fn resolve(given: &Given, environment: &Environment, any_by_tcp: bool) -> Result<Self> {
        let existing = |name: &str| environment.at_home(name).filter(|path| path.exists());
        let roots = match given.text("sslrootcert") {
            Some("system") => Some(Roots::System),
            Some(file) => Some(Roots::File(file.into())),
            None => existing(".postgresql/root.crt").map(Roots::File),
        };
        let certificate = given.path("sslcert").or_else(|| existing(".postgresql/postgresql.crt"));
        let client = certificate.and_then(|certificate| {
            let key = given.path("sslkey").or_else(|| environment.at_home(".postgresql/postgresql.key"))?;
            Some((certificate, key))
        });
        let asks_for_system = given.text("sslrootcert") == Some("system");
        let mode = given.choice("sslmode", choice::SSL_MODE)?;
        let mode = match mode {
            // Any attacker can get a certificate signed by the system's roots, so the host name has to be verified.
            Some(mode) if asks_for_system && mode != SslMode::VerifyFull => {
                return Err(given.wrong("sslmode", "sslrootcert=system needs sslmode=verify-full".into()));
            }
            None if asks_for_system => SslMode::VerifyFull,
            // As in libpq: a file of roots is there to be used.
            Some(SslMode::Require) if matches!(roots, Some(Roots::File(_))) => SslMode::VerifyCa,
            // As in libpq: the system's roots sign certificates for any host, so they are used only if configured.
            Some(SslMode::VerifyCa | SslMode::VerifyFull) if roots.is_none() && any_by_tcp => {
                return Err(given.wrong("sslmode", NO_ROOTS.into()));
            }
            Some(mode) => mode,
            None => SslMode::Prefer,
        };
        let direct = given.choice("sslnegotiation", DIRECT)?.unwrap_or(false);
        if direct && matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer) {
            return Err(given.wrong("sslnegotiation", "direct needs sslmode=require or stronger".into()));
        }
        Ok(Self {
            mode,
            roots: roots.unwrap_or(Roots::System),
            client,
            key_password: given.text("sslpassword").map(str::to_owned),
            send_server_name: given.choice("sslsni", SWITCH)?.unwrap_or(true),
            direct,
            oldest: Some(given.choice("ssl_min_protocol_version", PROTOCOL)?.unwrap_or(Protocol::Tlsv12)),
            newest: given.choice("ssl_max_protocol_version", PROTOCOL)?,
        })
    }
}

/// Whether a file with a secret in it is open to others than its owner. A file of root's may be read by its group.
#[cfg(unix)]
pub(in crate::postgres) fn is_readable_by_others(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    metadata.mode() & forbidden != 0
}

/// Elsewhere the home directory protects it.
#[cfg(not(unix))]
pub(in crate::postgres) fn is_readable_by_others(_: &Metadata) -> bool {
    false
}
