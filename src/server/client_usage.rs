//! The resource usage of one client: the namespaces that it has joined, its refusals, and the rate of its events.
//!
//! A client is an Engine.IO session. The request that opens the session carries the account, so the account lives as long
//! as the session, independently of its sockets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::namespace_gc::EMPTY_FOR;
use super::rate::{Meter, RateLimits, RateStatus};

/// The time for which a namespace still counts for a client that has left it: until the garbage collection has deleted
/// it.
const LEFT_COUNTS_FOR: Duration = EMPTY_FOR.saturating_mul(2);

/// The minimum number of refusals before a client is disconnected.
const MIN_REFUSALS: usize = 100;

/// The account of one client.
#[derive(Default)]
pub(super) struct ClientUsage {
    namespaces: Mutex<Joined>,
    refusals: AtomicUsize,
    emitted: Mutex<Emitted>,
}

#[derive(Default)]
struct Joined {
    now: usize,
    /// The times at which the client left other namespaces, oldest first.
    left: VecDeque<Instant>,
}

#[derive(Default)]
struct Emitted {
    events: Meter,
    bytes: Meter,
}

/// The refusals of a client, compared with the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusals {
    /// Within the limit.
    Few,
    /// The first refusal beyond the limit, so the client has to be disconnected.
    TooMany,
    /// Further beyond the limit.
    More,
}

/// A namespace that a client has joined, until it is dropped.
pub(super) struct NamespaceSlot {
    usage: Arc<ClientUsage>,
    is_admitted: bool,
}

impl ClientUsage {
    /// Counts one more namespace of the client. `None` if it has joined `max` namespaces, or left them only recently.
    pub(super) fn join_namespace(self: &Arc<Self>, max: usize) -> Option<NamespaceSlot> {
        let mut joined = self.joined();
        joined.forget(Instant::now());
        if joined.now + joined.left.len() >= max {
            return None;
        }
        joined.now += 1;
        drop(joined);
        Some(NamespaceSlot { usage: self.clone(), is_admitted: false })
    }

    /// Counts a refusal of a client that may join `max_namespaces`.
    pub(super) fn refused(&self, max_namespaces: usize) -> Refusals {
        let before = self.refusals.fetch_add(1, Ordering::Relaxed);
        match before.cmp(&MIN_REFUSALS.max(max_namespaces)) {
            std::cmp::Ordering::Less => Refusals::Few,
            std::cmp::Ordering::Equal => Refusals::TooMany,
            std::cmp::Ordering::Greater => Refusals::More,
        }
    }

    /// Counts an event of `bytes` against the rate limits.
    pub(super) fn emitted(&self, limits: &RateLimits, bytes: usize) -> RateStatus {
        let now = Instant::now();
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        let events = emitted.events.add(now, 1.0, limits.events);
        events.max(emitted.bytes.add(now, bytes as f64, limits.bytes))
    }

    /// Counts additional bytes that an event needs on its way to other servers.
    pub(super) fn caused(&self, limits: &RateLimits, bytes: usize) -> RateStatus {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        emitted.bytes.add(Instant::now(), bytes as f64, limits.bytes)
    }

    fn joined(&self) -> MutexGuard<'_, Joined> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    fn forget(&mut self, now: Instant) {
        while self.left.front().is_some_and(|left| now.duration_since(*left) > LEFT_COUNTS_FOR) {
            self.left.pop_front();
        }
    }
}

impl NamespaceSlot {
    /// The client is admitted, so the namespace may exist for a while after it leaves.
    pub(super) fn admit(mut self) -> Self {
        self.is_admitted = true;
        self
    }
}

impl Drop for NamespaceSlot {
    fn drop(&mut self) {
        let mut joined = self.usage.joined();
        joined.now -= 1;
        if self.is_admitted {
            joined.left.push_back(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_was_left_counts_for_a_while_and_one_that_was_refused_does_not() {
        let usage = Arc::<ClientUsage>::default();
        let first = usage.join_namespace(2).unwrap().admit();
        drop(usage.join_namespace(2).unwrap());
        let second = usage.join_namespace(2).unwrap().admit();
        assert!(usage.join_namespace(2).is_none());
        drop((first, second));
        assert!(usage.join_namespace(2).is_none());
        usage.joined().forget(Instant::now() + LEFT_COUNTS_FOR + Duration::from_secs(1));
        assert!(usage.join_namespace(2).is_some());
    }

    #[test]
    fn refusals_are_counted() {
        let usage = ClientUsage::default();
        assert!((0..MIN_REFUSALS).all(|_| usage.refused(1) == Refusals::Few));
        assert_eq!(usage.refused(1), Refusals::TooMany);
        assert_eq!(usage.refused(1), Refusals::More);
        assert_eq!(usage.refused(MIN_REFUSALS * 2), Refusals::Few);
    }
}
