//! A shared handle to socketioxide, for tasks that may outlive the server.

use std::sync::{Arc, Mutex, PoisonError};

use super::ClusterIo;

/// A handle to socketioxide that is empty once the server ends. Handlers that socketioxide owns hold this handle, since
/// a strong reference would be a cycle that keeps both alive.
#[derive(Clone)]
pub(super) struct SharedIo(Arc<Mutex<Option<ClusterIo>>>);

/// Empties the shared handle when it is dropped.
pub(super) struct IoOwner(SharedIo);

impl IoOwner {
    pub(super) fn new(io: ClusterIo) -> Self {
        Self(SharedIo(Arc::new(Mutex::new(Some(io)))))
    }

    pub(super) fn share(&self) -> SharedIo {
        self.0.clone()
    }

    /// The handle, while the server runs.
    pub(super) fn get(&self) -> Option<ClusterIo> {
        self.0.get()
    }

    /// Empties the handle.
    pub(super) fn take(&self) -> Option<ClusterIo> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for IoOwner {
    fn drop(&mut self) {
        self.take();
    }
}

impl SharedIo {
    /// The handle, while the server runs.
    pub(super) fn get(&self) -> Option<ClusterIo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
