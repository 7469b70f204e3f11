//! The traffic of client connections, for the metrics and for the Admin UI.
//!
//! Every write to a client counts here once. The metrics get the difference when they are read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one server.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    connections: AtomicU64,
    disconnections: AtomicU64,
    received: Bytes,
    sent: Bytes,
}

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Bytes {
    total: AtomicU64,
    /// The total that the Admin UI knows.
    shown: AtomicU64,
    /// The total that the metrics know.
    published: AtomicU64,
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

impl Bytes {
    fn add(&self, bytes: usize) {
        self.total.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes since the last call for the same reader.
    fn since(&self, known: &AtomicU64) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        // Another call may have read a later total.
        total.saturating_sub(known.fetch_max(total, Ordering::Relaxed))
    }
}

impl Traffic {
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.disconnections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.add(bytes);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.add(bytes);
    }

    /// Returns the counts since the last call, for the Admin UI.
    pub(super) fn take(&self) -> Counted {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counted {
            connections: take(&self.connections),
            disconnections: take(&self.disconnections),
            received: self.received.since(&self.received.shown),
            sent: self.sent.since(&self.sent.shown),
        }
    }

    /// Adds the bytes since the last call to the metrics.
    pub(super) fn publish(&self) {
        let received = self.received.since(&self.received.published);
        metrics::counter!("pgio_bytes_received_total").increment(received);
        metrics::counter!("pgio_bytes_sent_total").increment(self.sent.since(&self.sent.published));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_the_bytes_since_its_own_last_call() {
        let traffic = Traffic::default();
        traffic.connected();
        traffic.sent(3);
        traffic.received(5);
        assert_eq!(traffic.take(), Counted { connections: 1, disconnections: 0, received: 5, sent: 3 });
        traffic.sent(4);
        assert_eq!(traffic.sent.since(&traffic.sent.published), 7);
        assert_eq!(traffic.take(), Counted { sent: 4, ..Counted::default() });
        assert_eq!(traffic.sent.since(&traffic.sent.published), 0);
    }
}
