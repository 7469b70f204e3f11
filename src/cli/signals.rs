//! The signals that end a command: Ctrl-C and SIGTERM.

use std::io::IsTerminal;

use super::exit::Failure;
use super::output::notes;

/// The signals that end a command. From its creation on it receives each signal, even while no task waits for one.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Like `next`, but ends the line with the terminal's `^C`.
    pub(super) async fn next_on_terminal(&mut self) {
        self.next().await;
        if std::io::stderr().is_terminal() {
            notes::end_line();
        }
    }

    /// Waits for the second Ctrl-C.
    pub(super) async fn second_interrupt(&mut self) {
        #[cfg(unix)]
        for _ in 0..2 {
            self.interrupt.recv().await;
        }
        #[cfg(not(unix))]
        for _ in 0..2 {
            self.next().await;
        }
    }
}

/// The signal SIGHUP, which makes a server read its files again.
pub(super) struct Hangup {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangup {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { signal: signal(SignalKind::hangup())? })
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Calls the function for each signal. Never returns.
    pub(super) async fn each(&mut self, reload: impl Fn()) {
        #[cfg(unix)]
        while self.signal.recv().await.is_some() {
            reload();
        }
        #[cfg(not(unix))]
        drop(reload);
        std::future::pending::<()>().await;
    }
}
