//! The signals that end a server: SIGTERM, SIGINT, Ctrl-C.

use super::super::exit::Failure;

/// The signals that end a server. Every instance receives every signal.
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
