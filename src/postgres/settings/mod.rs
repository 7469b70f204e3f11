//! Connection settings, as in libpq: URL or keywords, then the environment, a service file and a password file.
//!
//! Source of every rule here: PostgreSQL's documentation, "Connection Strings", "The Password File" and "The Connection
//! Service File" of the chapter on libpq.

mod choice;
mod environment;
mod host;
mod keywords;
mod password_file;
mod raw;
mod service_file;
mod tls;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

pub(super) use choice::{SslMode, TargetSession};
pub use environment::Environment;
pub(super) use host::{Address, Host};
pub(super) use tls::{Roots, TlsSettings, is_readable_by_others};

use crate::{Error, Result};
use raw::RawSettings;

/// The default of `connect_timeout` for one host. libpq would wait forever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a session that is replaced.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// In which order the hosts of a list are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostOrder {
    /// Each after the failure of the one before it, as in libpq.
    Sequential,
    /// All of them, each shortly after the one before it: a host that does not answer delays no other one.
    Staggered,
}

/// The settings of a connection to Postgres.
///
/// With several hosts, it connects to the first primary, since a standby accepts no notifications. With
/// `target_session_attrs=any` it connects to the first host that answers, as libpq does by default.
///
/// ```
/// # fn main() -> pgio::Result<()> {
/// let settings = pgio::Settings::parse("postgres://app:secret@db1,db2/chat")?;
/// assert_eq!(settings.target(), "db1:5432, db2:5432");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Settings(Arc<Parameters>);

/// The resolved settings.
#[derive(Clone)]
pub(super) struct Parameters {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) dbname: String,
    pub(super) tls: TlsSettings,
    pub(super) channel_binding: ChannelBinding,
    pub(super) target_session: TargetSession,
    pub(super) shuffle_hosts: bool,
    pub(super) host_order: HostOrder,
    /// The timeout of one attempt at one host; `None` waits forever.
    pub(super) connect_timeout: Option<Duration>,
    /// `None` if they are switched off.
    pub(super) keepalives: Option<Keepalives>,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) options: Option<String>,
    application_name: Option<String>,
    default_application_name: Option<String>,
}

/// TCP keepalives, by which the system detects a dead peer.
#[derive(Clone)]
pub(super) struct Keepalives {
    pub(super) idle: Duration,
    pub(super) interval: Duration,
    pub(super) count: u32,
}

impl std::str::FromStr for Settings {
    type Err = Error;

    /// The same as [`parse`](Self::parse).
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl Settings {
    /// Reads a URL (`postgres://user:password@host:port/database?sslmode=...`) or keywords (`host=... dbname=...`).
    ///
    /// Missing settings come from libpq's variables (`PGUSER`, `PGSSLMODE`, ...), the service file and the password file,
    /// as in libpq.
    ///
    /// # Errors
    /// [`Error::Setting`] names an invalid setting or variable, [`Error::File`] an unusable file.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_in(text, &Environment::of_process())
    }

    /// The same with an explicit environment.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn parse_in(text: &str, environment: &Environment) -> Result<Self> {
        let raw = if url::is_url(text) { url::parse(text)? } else { keywords::parse(text)? };
        Self::resolve(raw, environment)
    }

    /// The settings of libpq's variables. `None` if none of these is set: `PGHOST`, `PGHOSTADDR`, `PGPORT`, `PGDATABASE`,
    /// `PGUSER` or `PGSERVICE`.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn from_env() -> Result<Option<Self>> {
        Self::from_env_in(&Environment::of_process())
    }

    /// The same in another environment than the one of the process.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn from_env_in(environment: &Environment) -> Result<Option<Self>> {
        let names = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"];
        if !names.iter().any(|name| environment.variable(name).is_some()) {
            return Ok(None);
        }
        Self::resolve(RawSettings::default(), environment).map(Some)
    }

    /// Sets `application_name`, unless the settings contain one.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.0).default_application_name = Some(name.to_owned());
        self
    }

    /// The target: `host:port` or the path of a socket, or a list of them. It never contains a password.
    pub fn target(&self) -> String {
        self.0.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The same for the replacement of a session: the hosts are tried side by side, each with a short timeout, so that a
    /// host that does not answer delays no other one. An explicit `connect_timeout` stays.
    #[must_use]
    pub(super) fn for_replacement(mut self) -> Self {
        let parameters = Arc::make_mut(&mut self.0);
        parameters.host_order = HostOrder::Staggered;
        if parameters.connect_timeout == Some(CONNECT_TIMEOUT) {
            parameters.connect_timeout = Some(RECONNECT_TIMEOUT);
        }
        self
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.0.dbname
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.0
    }

    fn resolve(mut raw: RawSettings, environment: &Environment) -> Result<Self> {
        // The service file overrides the variables.
        service_file::apply(&mut raw, environment)?;
        raw.add_environment(environment);
        raw.refuse_unsupported()?;

        let user = match raw.text("user") {
            Some(user) => user.to_owned(),
            None => whoami::username()
                .map_err(|error| Error::Setting { setting: "user".into(), reason: error.to_string() })?,
        };
        let dbname = raw.text("dbname").unwrap_or(&user).to_owned();
        let mut hosts = host::hosts(&raw)?;
        let any_by_tcp = hosts.iter().any(|host| matches!(host.address, Address::Tcp { .. }));
        let several_hosts = hosts.len() > 1;
        match raw.text("password") {
            Some(password) => hosts.iter_mut().for_each(|host| host.password = Some(password.to_owned())),
            None => password_file::apply(&mut hosts, &raw, &dbname, &user, environment)?,
        }
        let channel_binding =
            raw.choice("channel_binding", choice::CHANNEL_BINDING)?.unwrap_or(ChannelBinding::Prefer);
        raw.check_require_auth(channel_binding)?;
        let seconds = |keyword| Ok::<_, Error>(raw.number::<u32>(keyword)?.map(u64::from));
        let parameters = Parameters {
            hosts,
            user,
            dbname,
            tls: TlsSettings::resolve(&raw, environment, any_by_tcp)?,
            channel_binding,
            target_session: raw
                .choice("target_session_attrs", choice::TARGET_SESSION)?
                .unwrap_or_else(|| TargetSession::default_for(several_hosts)),
            host_order: HostOrder::Sequential,
            shuffle_hosts: raw.choice("load_balance_hosts", choice::SHUFFLE_HOSTS)?.unwrap_or_default(),
            connect_timeout: match raw.number::<i32>("connect_timeout")? {
                None => Some(CONNECT_TIMEOUT),
                // As in libpq: zero or less waits forever.
                Some(seconds) => u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs),
            },
            keepalives: match raw.number::<i32>("keepalives")? {
                Some(0) => None,
                _ => Some(Keepalives {
                    idle: Duration::from_secs(seconds("keepalives_idle")?.filter(|s| *s > 0).unwrap_or(30)),
                    interval: Duration::from_secs(
                        seconds("keepalives_interval")?.filter(|s| *s > 0).unwrap_or(10),
                    ),
                    count: raw.number("keepalives_count")?.filter(|count| *count > 0).unwrap_or(3),
                }),
            },
            tcp_user_timeout: seconds("tcp_user_timeout")?.filter(|ms| *ms > 0).map(Duration::from_millis),
            options: raw.text("options").map(str::to_owned),
            application_name: raw.text("application_name").map(str::to_owned),
            default_application_name: raw.text("fallback_application_name").map(str::to_owned),
        };
        Ok(Self(Arc::new(parameters)))
    }
}

impl Parameters {
    pub(super) fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref().or(self.default_application_name.as_deref())
    }
}

impl fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({} at {})", self.0.dbname, self.target())
    }
}

#[cfg(test)]
mod tests;
