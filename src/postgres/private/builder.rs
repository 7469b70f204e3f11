//! The builder of a private Postgres server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::account::Account;
use super::binaries::Binaries;
use super::home::Home;
use super::log::Log;
use super::origin::{Origin, Template};
use super::random_hex;
use super::server::PrivateServer;
use super::watchdog::{Event, Watchdog, WatchedServer};
use crate::{Error, Result};

/// The configuration of a private server.
#[derive(Debug, Clone, Default)]
pub struct PrivateServerBuilder {
    directory: Option<PathBuf>,
    binaries: Option<PathBuf>,
    settings: BTreeMap<String, String>,
    access: Vec<String>,
    template: Option<Template>,
}

impl PrivateServerBuilder {
    /// Keeps the data in this directory, also for the next start. Without it the data is temporary.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Uses the programs `initdb` and `postgres` in this directory. Default: those in `PGIO_POSTGRES_BIN`, on the PATH, or
    /// in the directories of packages.
    pub fn binaries(mut self, directory: impl Into<PathBuf>) -> Self {
        self.binaries = Some(directory.into());
        self
    }

    /// A setting of `postgresql.conf`, such as `max_connections`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A line of `pg_hba.conf`, before the line that requires a password from every local user.
    pub fn access(mut self, line: &str) -> Self {
        self.access.push(line.to_owned());
        self
    }

    /// Copies this data directory instead of running `initdb`, which is much faster.
    ///
    /// The directory must hold the data of a private server of the same Postgres version after a
    /// [`Fast`](super::Shutdown::Fast) shutdown, and the server's user must be able to read it. `password` is the one
    /// in that server's URL. A persistent directory that already has data keeps its own.
    pub fn template(mut self, data: impl Into<PathBuf>, password: &str) -> Self {
        self.template = Some(Template { data: data.into(), password: password.to_owned() });
        self
    }

    /// Starts the server. Returns when it accepts connections. Dropping the future stops the server.
    ///
    /// # Errors
    /// [`Error::Private`] if the programs are missing, another process uses the directory, or the server does not
    /// start: with the last lines of its log. [`Error::File`] where a directory or file cannot be used.
    pub async fn start(mut self) -> Result<PrivateServer> {
        let binaries = Binaries::find(self.binaries.as_deref())?;
        let home = match &self.directory {
            Some(directory) => Home::persistent(directory).await?,
            None => Home::temporary()?,
        };
        let account = Account::choose(home.cluster())?;
        let is_initialised = home.data().is_dir();
        let known = home.state()?;
        let port = known.as_ref().map(|state| state.port);
        let origin = match (known, self.template.take()) {
            (None, _) if is_initialised => {
                let cluster = home.cluster().display();
                let reason = format!("the password of {cluster} is missing; remove that directory");
                return Err(Error::Private(reason));
            }
            (Some(state), _) if is_initialised => Origin::Existing { password: state.password },
            (_, Some(template)) => Origin::Copy(template),
            (_, None) => Origin::Initdb { password: random_hex::<16>()? },
        };
        let watched = WatchedServer {
            binaries: binaries.directory(),
            directory: home.cluster(),
            temporary: home.is_temporary(),
            server_arguments: self.server_arguments(&home),
            lock: home.lock_for_child()?,
        };
        let mut watchdog = Watchdog::spawn(&account, watched)?;
        if let Event::Failed(reason) = watchdog.event().await? {
            return Err(Error::Private(reason));
        }
        let log = Log::new(home.cluster().join("log"));
        if let Some(order) = origin.order()? {
            // Before the data exists, so that a crash in between cannot lose the password.
            home.save_state(origin.password(), port.unwrap_or(0), None)?;
            watchdog.order(&order)?;
            if watchdog.event().await? != Event::Exited(0) {
                return Err(Error::Private(format!("{} failed: {}", origin.action(), log.tail())));
            }
        }
        account.write(&home.data().join("pg_hba.conf"), &self.access_file())?;
        PrivateServer::start(home, watchdog, log, origin.password().to_owned(), port).await
    }

    /// The lines of `pg_hba.conf`: the requested ones, then every local user with a password.
    fn access_file(&self) -> String {
        let rest = "host all,replication all 127.0.0.1/32 scram-sha-256";
        self.access.iter().map(String::as_str).chain([rest]).map(|line| format!("{line}\n")).collect()
    }

    fn server_arguments(&self, home: &Home) -> Vec<String> {
        let all = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("cluster_name", "pgio"),
            ("max_connections", "200"),
        ];
        // Temporary data does not have to survive a power failure.
        let temporary = [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("max_wal_size", "64MB"),
            ("min_wal_size", "32MB"),
            ("shared_buffers", "16MB"),
        ];
        let temporary = if home.is_temporary() { &temporary[..] } else { &[] };
        let requested = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // The last setting of a name wins.
        let settings = all.iter().chain(temporary).copied().chain(requested);
        settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
    }
}
