//! When to end: SIGTERM, SIGINT, Ctrl-C.

use super::super::exit::Failure;

/// The signals that end a server. Each of these sees them all.
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

    /// Waits for one.
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

    /// Waits for somebody who has lost patience: the second Ctrl-C.
    pub(super) async fn insistent(&mut self) {
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
