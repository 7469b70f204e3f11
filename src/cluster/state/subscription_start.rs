//! Whether a durable event was published before or after the start of a subscription.
//!
//! Pure decisions. In: the snapshot that the server took in the transaction of LISTEN, and the transaction of a row. Ages
//! are inexact by the latency of the query that reads them, so a snapshot decides where the server has taken one.
//!
//! Invariant: no event of a transaction that began after the start counts as one from before it. A snapshot therefore
//! excludes a row only if the server has not restarted since LISTEN, the snapshot includes the transaction, and the
//! transaction began before the snapshot by the server's clock. A server that loses its last transactions in a crash may
//! assign their ids again, and a clock may be set back; only both at once would break the invariant.

use std::sync::Arc;
use std::time::Instant;

/// A transaction id with its epoch.
type TransactionId = u64;

/// The lowest id of a normal transaction. Lower ids have special meanings, such as a frozen row.
const FIRST_NORMAL_ID: u32 = 3;

/// The snapshot that a server took in the transaction of LISTEN, before LISTEN took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSnapshot {
    /// The server: when its postmaster started, in microseconds since 1970.
    pub server: i64,
    /// The server's clock, in microseconds since 1970.
    pub clock: i64,
    /// All transactions with this id or a higher one had not ended.
    pub next: TransactionId,
    /// The lower ids of the transactions that had not ended.
    pub running: Vec<TransactionId>,
}

impl ListenSnapshot {
    /// Reads the texts of the server. The last one is a `txid_snapshot`, such as `10:20:10,14`. `None` if one is not readable.
    pub(crate) fn of_texts([server, clock, snapshot]: [Option<&str>; 3]) -> Option<Self> {
        let mut parts = snapshot?.split(':').skip(1);
        let next = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter(|id| !id.is_empty());
        let running = running.map(|id| id.parse().ok()).collect::<Option<_>>()?;
        Some(Self { server: server?.parse().ok()?, clock: clock?.parse().ok()?, next, running })
    }

    /// Whether the row was committed before the snapshot. `None` if the server has changed or restarted since.
    fn includes(&self, row: &RowOrigin) -> Option<bool> {
        let has_ended = row.transaction < self.next && !self.running.contains(&row.transaction);
        (row.server == self.server).then_some(has_ended && row.began < self.clock)
    }
}

/// The transaction that has inserted a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowOrigin {
    /// The server that has listed the row: when its postmaster started, in microseconds since 1970.
    pub server: i64,
    /// When the transaction began by the server's clock, in microseconds since 1970.
    pub began: i64,
    /// Its id.
    pub transaction: TransactionId,
}

impl RowOrigin {
    /// Adds the epoch to the id of a committed transaction (`xmin`). `next` is the next id of the same moment. `None` for
    /// a special id.
    pub(crate) fn with_epoch(id: u32, next: TransactionId) -> Option<TransactionId> {
        const EPOCH: u64 = 1 << 32;
        let in_this_epoch = (next - next % EPOCH) + u64::from(id);
        let transaction =
            if in_this_epoch < next { in_this_epoch } else { in_this_epoch.checked_sub(EPOCH)? };
        (id >= FIRST_NORMAL_ID).then_some(transaction)
    }
}

/// When a durable event was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentAt {
    /// When its transaction began, or later by up to the latency of the listing.
    pub(super) at: Instant,
    pub(super) row: Option<RowOrigin>,
}

/// When a subscription started.
#[derive(Debug, Clone)]
pub(super) struct SubscriptionStart {
    /// When the server confirmed the subscription.
    pub(super) at: Instant,
    /// `None` if the session already listened to the channels.
    pub(super) snapshot: Option<Arc<ListenSnapshot>>,
}

impl SubscriptionStart {
    /// Whether the subscription started before the event was sent.
    pub(super) fn precedes(&self, event: &SentAt) -> bool {
        let is_included =
            self.snapshot.as_ref().zip(event.row).and_then(|(snapshot, row)| snapshot.includes(&row));
        match is_included {
            Some(is_included) => !is_included,
            None => self.at <= event.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ROW: RowOrigin = RowOrigin { server: 7, began: 999, transaction: 15 };

    fn snapshot() -> ListenSnapshot {
        ListenSnapshot::of_texts([Some("7"), Some("1000"), Some("10:20:10,14")]).unwrap()
    }

    #[test]
    fn a_snapshot_includes_transactions_that_had_ended() {
        let snapshot = snapshot();
        assert_eq!(snapshot, ListenSnapshot { server: 7, clock: 1000, next: 20, running: vec![10, 14] });
        let is_included = |transaction| snapshot.includes(&RowOrigin { transaction, ..ROW });
        for (transaction, is_expected) in
            [(9, true), (10, false), (13, true), (14, false), (19, true), (20, false)]
        {
            assert_eq!(is_included(transaction), Some(is_expected), "{transaction}");
        }
        assert_eq!(ListenSnapshot::of_texts([Some("7"), Some("1"), Some("10:10:")]).unwrap().running, [0; 0]);
        for text in ["", "10", "10:20", "10:20:x", "10:x:"] {
            assert_eq!(ListenSnapshot::of_texts([Some("7"), Some("1"), Some(text)]), None, "{text}");
        }
    }

    #[test]
    fn an_id_that_is_assigned_again_after_a_crash_is_not_included() {
        assert_eq!(snapshot().includes(&RowOrigin { began: 1000, ..ROW }), Some(false));
    }

    #[test]
    fn a_snapshot_decides_before_the_age_does_unless_the_server_has_changed() {
        let now = Instant::now();
        let start = SubscriptionStart { at: now, snapshot: Some(snapshot().into()) };
        let (before, after) = (now.checked_sub(Duration::from_secs(1)).unwrap(), now);
        let precedes = |at, row| start.precedes(&SentAt { at, row });
        assert!(!precedes(after, Some(ROW)));
        let late = RowOrigin { transaction: 14, ..ROW };
        assert!(precedes(before, Some(late)), "it was committed after LISTEN");
        for row in [None, Some(RowOrigin { server: 8, ..ROW })] {
            assert!(precedes(after, row));
            assert!(!precedes(before, row));
        }
        let start = SubscriptionStart { at: now, snapshot: None };
        assert!(start.precedes(&SentAt { at: after, row: Some(ROW) }));
    }

    #[test]
    fn a_short_transaction_id_gets_the_epoch_that_makes_it_older_than_the_next_one() {
        const EPOCH: u64 = 1 << 32;
        assert_eq!(RowOrigin::with_epoch(900, 1000), Some(900));
        assert_eq!(RowOrigin::with_epoch(900, 3 * EPOCH + 1000), Some(3 * EPOCH + 900));
        assert_eq!(RowOrigin::with_epoch(u32::MAX, 3 * EPOCH + 1000), Some(3 * EPOCH - 1));
        assert_eq!(RowOrigin::with_epoch(1000, 1000), None, "no epoch before the first");
        assert_eq!(RowOrigin::with_epoch(2, 1000), None, "a frozen row");
    }
}
