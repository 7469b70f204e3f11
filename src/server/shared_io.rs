//! The namespaces of a server, for what outlives them.

use std::sync::{Arc, Mutex, PoisonError};

use super::ClusterIo;

/// A handle to socketioxide that is empty once the server ends. Handlers that socketioxide itself keeps hold this one, since
/// with another one they would keep themselves alive.
#[derive(Clone)]
pub(super) struct SharedIo(Arc<Mutex<Option<ClusterIo>>>);

impl SharedIo {
    pub(super) fn new(io: ClusterIo) -> Self {
        Self(Arc::new(Mutex::new(Some(io))))
    }

    /// The handle, while the server runs.
    pub(super) fn get(&self) -> Option<ClusterIo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Empties it.
    pub(super) fn take(&self) -> Option<ClusterIo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
