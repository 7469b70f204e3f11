//! Pending namespaces of a connection: created for clients whose authentication has not finished.
//!
//! socketioxide creates a dynamic namespace before the client is authenticated. A connection that requests too many at
//! once is closed before they use up memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The count for one connection.
#[derive(Default)]
pub(super) struct PendingNamespaces {
    count: Arc<AtomicUsize>,
    is_over: AtomicBool,
}

/// Counts a namespace until it is dropped.
pub(super) struct PendingNamespace(Arc<AtomicUsize>);

/// The limit of pending namespaces is exceeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    /// Whether this is the first time, so that the connection has to be closed.
    pub(super) is_first: bool,
}

impl PendingNamespaces {
    /// Counts one more namespace, up to `max`.
    pub(super) fn add(&self, max: usize) -> Result<PendingNamespace, TooMany> {
        let permit = PendingNamespace(self.count.clone());
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before < max {
            return Ok(permit);
        }
        Err(TooMany { is_first: !self.is_over.swap(true, Ordering::Relaxed) })
    }

    /// Another request on the connection starts, possibly of another client (keep-alive proxy).
    pub(super) fn restart(&self) {
        self.is_over.store(false, Ordering::Relaxed);
    }
}

impl Drop for PendingNamespace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_too_many_closes_the_connection() {
        let namespaces = PendingNamespaces::default();
        let (first, second) = (namespaces.add(2), namespaces.add(2));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(namespaces.add(2).err(), Some(TooMany { is_first: true }));
        assert_eq!(namespaces.add(2).err(), Some(TooMany { is_first: false }));
        drop(first);
        assert!(namespaces.add(2).is_ok());
    }
}
