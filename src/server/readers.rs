//! The connection that each task reads.
//!
//! socketioxide calls the adapter for a client's connect request on the task that has read the request, but does not pass
//! the client. The server finds the client by the id of the task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::task;

use super::connection_handle::ConnectionHandle;

/// The connections by the task that reads them.
#[derive(Default)]
pub(super) struct Readers(Mutex<HashMap<task::Id, Weak<ConnectionHandle>>>);

impl Readers {
    /// Another task reads a connection from now on.
    pub(super) fn replace(
        &self,
        before: Option<task::Id>,
        now: Option<task::Id>,
        handle: &Arc<ConnectionHandle>,
    ) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before {
            connections.remove(&before);
        }
        if let Some(now) = now {
            connections.insert(now, Arc::downgrade(handle));
        }
    }

    /// The connection that the current task reads.
    pub(super) fn current(&self) -> Option<Arc<ConnectionHandle>> {
        let connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connections.get(&task::try_id()?)?.upgrade()
    }
}
