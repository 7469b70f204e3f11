//! The health of the sessions of a cluster handle.

use std::sync::{Arc, Mutex, PoisonError};

use crate::postgres::{PublishFault, Publishing};

/// What stands in the way of hearing the other servers and of being heard by them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the listening session answers and listens to every channel that was listened to before.
    pub is_listening: bool,
    /// Why publishing does not work; `None` while it does, as far as it was tried.
    pub publishing: Option<String>,
    /// Whether the last notification of the loopback probe arrived; `None` where none was sent.
    pub loopback: Option<bool>,
}

impl Health {
    pub(super) fn of(is_listening: bool, publishing: Publishing, loopback: &Loopback) -> Self {
        let publishing = publishing.trouble.map(|trouble| match trouble {
            PublishFault::NoAnswer => "Postgres does not answer".to_owned(),
            PublishFault::Disconnected(error) => error.to_string(),
            PublishFault::QueueFull => "the notification queue of Postgres is full".to_owned(),
        });
        Self { is_listening, publishing, loopback: loopback.last() }
    }

    /// Whether all of it works.
    pub fn is_good(&self) -> bool {
        self.is_listening && self.publishing.is_none() && self.loopback != Some(false)
    }
}

/// What became of the last loopback probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Loopback(Arc<Mutex<Option<bool>>>);

impl Loopback {
    fn last(&self) -> Option<bool> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "server")]
    pub(super) fn note(&self, came_back: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(came_back);
    }
}
