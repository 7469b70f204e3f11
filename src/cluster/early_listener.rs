//! A listening session that is opened before the first subscription, so that the two sessions of a server connect side by
//! side.

use std::sync::{Mutex, PoisonError};

use tokio_util::task::AbortOnDropHandle;

use crate::postgres::{ListeningConnection, Settings};
use crate::{Error, Result};

/// The listening session of a cluster handle, until the first subscription takes it.
#[derive(Default)]
pub(super) struct EarlyListener(Mutex<Option<AbortOnDropHandle<Result<ListeningConnection>>>>);

impl EarlyListener {
    /// Starts to connect.
    #[cfg(feature = "cli")]
    pub(super) fn start(settings: Settings) -> Self {
        let opening = tokio::spawn(async move { ListeningConnection::open(&settings, Vec::new()).await });
        Self(Mutex::new(Some(AbortOnDropHandle::new(opening))))
    }

    /// The session that was opened early. Without one, connects.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn take_or_connect(&self, settings: &Settings) -> Result<ListeningConnection> {
        let early = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match early {
            Some(opening) => opening.await.unwrap_or(Err(Error::Closed)),
            None => ListeningConnection::open(settings, Vec::new()).await,
        }
    }
}
