//! A running private server, as its owner sees it.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::builder::PrivateServerBuilder;
use super::home::Home;
use super::log::Log;
use super::state::url;
use super::watchdog::{Event, Watchdog};
use crate::{Error, Result};

/// The interval between checks whether a starting server accepts connections.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The timeout of a fast shutdown, before an immediate one follows.
const FAST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of ports to try if another process takes the chosen one first.
const PORT_ATTEMPTS: usize = 10;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends open sessions and writes a checkpoint (`pg_ctl stop -m fast`).
    Fast,
    /// Stops at once, as after a crash (`pg_ctl stop -m immediate`).
    Immediate,
}

impl Shutdown {
    fn signal(self) -> &'static str {
        match self {
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// A running server. Dropping it stops the server without waiting; [`stop`](Self::stop) waits.
pub struct PrivateServer {
    home: Home,
    watchdog: Watchdog,
    log: Log,
    password: String,
    port: u16,
    /// The server's process id while it runs.
    pid: Option<u32>,
}

impl fmt::Debug for PrivateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("PrivateServer")
            .field("directory", &self.directory())
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl PrivateServer {
    /// A builder, which configures and starts a server.
    pub fn builder() -> PrivateServerBuilder {
        PrivateServerBuilder::default()
    }

    /// Starts the server of an initialised home, on `port` if it is free.
    pub(super) async fn start(
        home: Home,
        watchdog: Watchdog,
        log: Log,
        password: String,
        port: Option<u16>,
    ) -> Result<Self> {
        let mut server = Self { home, watchdog, log, password, port: 0, pid: None };
        let mut wanted = port.filter(|port| *port != 0 && is_free(*port));
        for attempt in 1.. {
            server.port = wanted.take().map_or_else(free_port, Ok)?;
            match server.start_again().await {
                Ok(()) => break,
                Err(_) if attempt < PORT_ATTEMPTS && !is_free(server.port) => {}
                Err(error) => return Err(error),
            }
        }
        server.home.save_state(&server.password, server.port, Some(std::process::id()))?;
        Ok(server)
    }

    /// The URL. Every local process that knows it may connect as superuser. It stays the same for a persistent directory,
    /// unless the port is in use at the next start.
    pub fn url(&self) -> String {
        url(&self.password, self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's directory, with `data` and `log`.
    pub fn directory(&self) -> &Path {
        self.home.cluster()
    }

    /// Its log file.
    pub fn log_file(&self) -> &Path {
        self.log.path()
    }

    /// Waits until the server ends unexpectedly, and returns the reason. Pending forever after
    /// [`take_down`](Self::take_down). Cancel safe.
    pub async fn died(&mut self) -> Error {
        match self.ended().await {
            Ok(status) => self.exit_error(status),
            Err(error) => error,
        }
    }

    /// Stops it with a fast shutdown, and waits for its end.
    ///
    /// # Errors
    /// [`Error::File`] if the state in a persistent directory cannot be written; the server stops nevertheless.
    pub async fn stop(mut self) -> Result<()> {
        let how = if self.home.is_temporary() { Shutdown::Immediate } else { Shutdown::Fast };
        if timeout(FAST_SHUTDOWN_TIMEOUT, self.take_down(how)).await.is_err() {
            self.watchdog.order(Shutdown::Immediate.signal())?;
        }
        self.watchdog.finish().await;
        self.home.save_state(&self.password, self.port, None)
    }

    /// Stops the server, and keeps its data and its port for [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// [`Error::Private`] where its watchdog was killed.
    pub async fn take_down(&mut self, how: Shutdown) -> Result<()> {
        if self.pid.is_some() {
            self.watchdog.order(how.signal())?;
            self.ended().await?;
        }
        Ok(())
    }

    /// Starts the server again on its old port, after [`take_down`](Self::take_down) or after it [`died`](Self::died).
    ///
    /// # Errors
    /// [`Error::Private`] where it does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.pid.is_some() {
            return Ok(());
        }
        self.log.mark();
        self.watchdog.order(&format!("start {}", self.port))?;
        loop {
            tokio::select! {
                event = self.watchdog.event() => match event? {
                    Event::Started(pid) => self.pid = Some(pid),
                    Event::Exited(status) => {
                        self.pid = None;
                        return Err(self.exit_error(status));
                    }
                    Event::Ready | Event::Failed(_) => {}
                },
                () = sleep(POLL_INTERVAL) => if self.is_ready() {
                    return Ok(());
                }
            }
        }
    }

    /// Waits until the server has ended; its status.
    async fn ended(&mut self) -> Result<i32> {
        loop {
            if let Event::Exited(status) = self.watchdog.event().await? {
                self.pid = None;
                return Ok(status);
            }
        }
    }

    /// The server writes its pid into the first line of `postmaster.pid`, and its state into the eighth. The check of the
    /// pid excludes a stale file of a crashed server.
    fn is_ready(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        let text = fs::read_to_string(self.home.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
    }

    fn exit_error(&self, status: i32) -> Error {
        Error::Private(format!("the server ended with status {status}: {}", self.log.tail()))
    }
}

/// A free port of 127.0.0.1 below the ephemeral range, so it is still free when the server restarts.
fn free_port() -> Result<u16> {
    (0..1000)
        .map(|_| fastrand::u16(15_000..32_000))
        .find(|port| is_free(*port))
        .ok_or_else(|| Error::Private("no port of 127.0.0.1 is free".into()))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
