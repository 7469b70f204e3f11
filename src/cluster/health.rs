//! The health of the sessions of a cluster handle.

use std::sync::{Arc, Mutex, PoisonError};

use crate::postgres::{PublishFault, Publishing};

/// The health of listening and publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the listening session answers, and listens to every channel that it listened to before.
    pub is_listening: bool,
    /// Why publishing fails; `None` if the last attempt succeeded, or before the first attempt.
    pub publishing: Option<String>,
    /// Whether the last loopback probe arrived; `None` before the first probe.
    pub loopback: Option<bool>,
}

impl Health {
    pub(super) fn of(is_listening: bool, publishing: Publishing, loopback: &Loopback) -> Self {
        let publishing = publishing.fault.map(|fault| match fault {
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

/// The outcome of the last loopback probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Loopback(Arc<Mutex<Option<bool>>>);

impl Loopback {
    fn last(&self) -> Option<bool> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "server")]
    pub(super) fn record(&self, is_delivered: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_delivered);
    }
}
