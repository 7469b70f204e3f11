//! The readiness of a namespace: whether it listens on its channel yet. Connect handlers wait for it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::{Error, Result};

#[derive(Debug, Clone)]
enum State {
    /// No client was admitted yet, so the namespace exists only in this process.
    Dormant,
    Starting,
    Listening,
    Failed(Error),
}

/// The state of a namespace's subscription. It leaves `Dormant` and `Starting` once.
pub(super) struct Readiness(watch::Sender<State>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(State::Starting))
    }
}

impl Readiness {
    /// Makes the namespace dormant until [`wake`](Self::wake).
    pub(super) fn set_dormant(&self) {
        self.0.send_replace(State::Dormant);
    }

    pub(super) fn is_dormant(&self) -> bool {
        matches!(*self.0.borrow(), State::Dormant)
    }

    /// Ends the dormancy. Returns true for the one caller that has to start the namespace.
    pub(super) fn wake(&self) -> bool {
        self.0.send_if_modified(|state| {
            let is_dormant = matches!(state, State::Dormant);
            if is_dormant {
                *state = State::Starting;
            }
            is_dormant
        })
    }

    /// The namespace listens.
    pub(super) fn succeed(&self) {
        self.0.send_replace(State::Listening);
    }

    /// The namespace can never listen, for instance because its name is too long for a channel.
    pub(super) fn fail(&self, error: Error) {
        self.0.send_replace(State::Failed(error));
    }

    /// Waits until the namespace listens, for at most `patience`.
    ///
    /// # Errors
    /// The error of a namespace that can never listen. A namespace that does not listen in time is no error: it serves its
    /// own clients, as all namespaces do while Postgres is unreachable.
    pub(super) async fn wait(&self, patience: Duration) -> Result<()> {
        let mut states = self.0.subscribe();
        let settled =
            timeout(patience, states.wait_for(|state| matches!(state, State::Listening | State::Failed(_))))
                .await;
        match settled.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Failed(error))) => Err(error),
            _ => Ok(()),
        }
    }
}
