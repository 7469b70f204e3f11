//! The watchdog: a small process that stops the private server and cleans up when pgio ends.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;

use tokio::sync::mpsc;

use super::account::Account;
use crate::{Error, Result};

const SCRIPT: &str = include_str!("watchdog.sh");

/// The arguments of the watchdog.
pub(super) struct WatchedServer<'a> {
    pub binaries: &'a Path,
    /// The directory of the server. A temporary directory must not exist yet.
    pub directory: &'a Path,
    /// Remove the directory at the end.
    pub temporary: bool,
    pub server_arguments: Vec<String>,
    /// Kept open by the watchdog and the server: the lock of a persistent directory.
    pub lock: Stdio,
}

/// An event of the watchdog.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The directory exists and is usable.
    Ready,
    /// The server has this process id.
    Started(u32),
    /// `initdb` or the server ended with this status, as a shell counts (128 + signal).
    Exited(i32),
    /// The error message of a failed program.
    Failed(String),
}

impl Event {
    fn parse(line: String) -> Self {
        let known = match line.split_once(' ') {
            None if line == "ready" => Some(Self::Ready),
            Some(("started", pid)) => pid.parse().ok().map(Self::Started),
            Some(("exited", status)) => status.parse().ok().map(Self::Exited),
            _ => None,
        };
        known.unwrap_or(Self::Failed(line))
    }
}

/// A running watchdog. Dropping it stops the server, without waiting.
#[derive(Debug)]
pub(super) struct Watchdog {
    orders: ChildStdin,
    events: mpsc::Receiver<Event>,
}

impl Watchdog {
    pub(super) fn spawn(account: &Account, watched: WatchedServer<'_>) -> Result<Self> {
        Self::try_spawn(account, watched)
            .map_err(|error| Error::Private(format!("no watchdog process: {error}")))
    }

    fn try_spawn(account: &Account, watched: WatchedServer<'_>) -> io::Result<Self> {
        let mut child = account
            .command("sh")
            .args(["-c", SCRIPT, "pgio-watchdog"])
            .args([watched.binaries, watched.directory])
            .arg(if watched.temporary { "remove" } else { "keep" })
            .args(watched.server_arguments)
            // In its own process group, so Ctrl-C in the terminal does not stop the server before our last statements.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(watched.lock)
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipe"));
        };
        let (sender, events) = mpsc::channel(16);
        // A thread instead of a task: a server may outlive the runtime that started it.
        thread::Builder::new().name("pgio-watchdog".into()).spawn(move || listen(child, answers, &sender))?;
        Ok(Self { orders, events })
    }

    /// Sends an order, one line.
    pub(super) fn order(&mut self, order: &str) -> Result<()> {
        // Far below a pipe's capacity, so this never blocks.
        self.orders.write_all(format!("{order}\n").as_bytes()).map_err(|_| watchdog_ended())
    }

    /// The next event of the watchdog; an error if it has ended. Cancel safe.
    pub(super) async fn event(&mut self) -> Result<Event> {
        self.events.recv().await.ok_or_else(watchdog_ended)
    }

    /// Closes the pipe, and waits until the watchdog has cleaned up.
    pub(super) async fn finish(self) {
        let Self { orders, mut events } = self;
        drop(orders);
        while events.recv().await.is_some() {}
    }
}

fn watchdog_ended() -> Error {
    Error::Private("its watchdog process was killed".into())
}

/// Forwards the events of the watchdog until it ends, and reaps it.
fn listen(mut child: Child, answers: ChildStdout, sender: &mpsc::Sender<Event>) {
    for line in BufReader::new(answers).lines().map_while(io::Result::ok) {
        // Fails if the receiver is dropped; the process still has to be reaped.
        sender.blocking_send(Event::parse(line)).ok();
    }
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "cannot await the watchdog of the private Postgres");
    }
}
