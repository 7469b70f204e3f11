//! The traffic of client connections since the last statistics, for the Admin UI. The metrics have the totals.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one server.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    connections: AtomicU64,
    disconnections: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The counts of one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Sessions that were opened.
    pub(super) connections: u64,
    /// Sessions that ended.
    pub(super) disconnections: u64,
    /// Bytes received from clients, HTTP included, TLS excluded.
    pub(super) received: u64,
    /// Bytes sent to clients, HTTP included, TLS excluded.
    pub(super) sent: u64,
}

impl Traffic {
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.disconnections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the counts since the last call.
    pub(super) fn take(&self) -> Counted {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counted {
            connections: take(&self.connections),
            disconnections: take(&self.disconnections),
            received: take(&self.received),
            sent: take(&self.sent),
        }
    }
}
