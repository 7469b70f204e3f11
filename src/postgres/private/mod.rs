//! A Postgres server of one's own, from the binaries on the machine: for `pgio serve` with nothing configured, and for
//! tests.
//!
//! It runs below a small watchdog process that waits for the end of a pipe. However the owner ends, by
//! [`PrivateServer::stop`], by being dropped or by SIGKILL, the pipe ends with it, and the watchdog stops the server
//! and removes what was temporary.

mod binaries;
mod files;
mod owner;
mod state;
mod user;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::{Error, Result};
use binaries::Binaries;
use files::DataDirectory;
use owner::Watchdog;
use user::ServerUser;

pub use state::{running, state_directory};

/// How often another port is tried when somebody else took the chosen one.
const PORT_ATTEMPTS: usize = 5;

/// What a private server is to be like.
#[derive(Debug, Clone, Default)]
pub struct PrivateServerBuilder {
    directory: Option<PathBuf>,
    binaries: Option<PathBuf>,
    settings: BTreeMap<String, String>,
    access: Vec<String>,
}

impl PrivateServerBuilder {
    /// Keeps the data in this directory, and finds it there at the next start. Without it the data is temporary.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Takes the programs `initdb` and `postgres` from this directory. Without it, from `PGIO_POSTGRES_BIN`, the path,
    /// or where packages put them.
    pub fn binaries(mut self, directory: impl Into<PathBuf>) -> Self {
        self.binaries = Some(directory.into());
        self
    }

    /// A setting of `postgresql.conf`, such as `max_connections`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A line of `pg_hba.conf`, before the one that asks everybody on this machine for a password.
    pub fn access(mut self, line: &str) -> Self {
        self.access.push(line.to_owned());
        self
    }

    /// Starts the server; returns when it takes connections.
    ///
    /// # Errors
    /// [`Error::Private`] where the programs are missing, somebody else uses the directory, or the server does not
    /// start: with the last lines of its log.
    pub async fn start(self) -> Result<PrivateServer> {
        tokio::task::spawn_blocking(move || self.start_blocking())
            .await
            .map_err(|e| Error::Private(e.to_string()))?
    }

    fn start_blocking(self) -> Result<PrivateServer> {
        let binaries = Binaries::find(self.binaries.as_deref())?;
        let user = ServerUser::choose()?;
        let data = DataDirectory::prepare(self.directory.as_deref(), &binaries, &user)?;
        data.write_access(&self.access)?;
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port()?;
            match Watchdog::start(&binaries, &user, &data, port, &self.settings) {
                Ok(watchdog) => {
                    let server = PrivateServer {
                        watchdog: Some(watchdog),
                        binaries,
                        user,
                        data,
                        port,
                        settings: self.settings,
                    };
                    server.announce()?;
                    return Ok(server);
                }
                Err(Error::Private(reason)) if reason.contains("could not create any TCP/IP sockets") => {
                    last = Some(Error::Private(reason));
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Closed))
    }
}

/// A port of 127.0.0.1 that is free now.
fn free_port() -> Result<u16> {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|e| Error::Private(format!("no port is free: {e}")))
}

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct PrivateServer {
    watchdog: Option<Watchdog>,
    binaries: Binaries,
    user: ServerUser,
    data: DataDirectory,
    port: u16,
    settings: BTreeMap<String, String>,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Open sessions are ended, everything is written (`pg_ctl stop -m fast`).
    Fast,
    /// At once, as in a crash (`pg_ctl stop -m immediate`).
    Immediate,
}

impl PrivateServer {
    /// Says what a server is to be like, then starts it.
    pub fn builder() -> PrivateServerBuilder {
        PrivateServerBuilder::default()
    }

    /// The URL with which anybody on this machine who knows it may connect, as superuser.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/postgres", files::SUPERUSER, self.data.password(), self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that is its own: `data`, `log` and the password are in it.
    pub fn directory(&self) -> &Path {
        self.data.root()
    }

    /// Where it writes its log.
    pub fn log_file(&self) -> PathBuf {
        self.data.log_file()
    }

    /// Stops it, orderly, and waits for that.
    ///
    /// # Errors
    /// [`Error::Private`] where it cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        self.end(Shutdown::Fast).await
    }

    /// Ends the server without giving up its data and its port: [`start_again`](Self::start_again) brings it back.
    ///
    /// # Errors
    /// [`Error::Private`] where it cannot be waited for.
    pub async fn take_down(&mut self, how: Shutdown) -> Result<()> {
        self.data.keep(true)?;
        self.end(how).await
    }

    /// Starts the server again on its old port, after [`take_down`](Self::take_down).
    ///
    /// # Errors
    /// [`Error::Private`] where it does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.data.keep(false)?;
        let (binaries, user, data) = (self.binaries.clone(), self.user.clone(), self.data.clone());
        let (port, settings) = (self.port, self.settings.clone());
        let start = move || Watchdog::start(&binaries, &user, &data, port, &settings);
        let started = tokio::task::spawn_blocking(start).await.map_err(|e| Error::Private(e.to_string()))?;
        self.watchdog = Some(started?);
        self.announce()
    }

    async fn end(&mut self, how: Shutdown) -> Result<()> {
        let Some(watchdog) = self.watchdog.take() else { return Ok(()) };
        state::withdraw(&self.data);
        tokio::task::spawn_blocking(move || watchdog.end(how))
            .await
            .map_err(|e| Error::Private(e.to_string()))?
    }

    /// Lets other commands of this user find it.
    fn announce(&self) -> Result<()> {
        if self.data.is_temporary() { Ok(()) } else { state::announce(&self.data, &self.url()) }
    }
}
