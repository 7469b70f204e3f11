//! What one client uses of the server: the namespaces that it has joined, how often it was refused, and what it emits a
//! second.
//!
//! A client is an Engine.IO session. The request that opens the session carries the account, so the account lives as long
//! as the session, whatever sockets come and go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::namespace_gc::EMPTY_FOR;
use super::rate::{Meter, Pace, RateLimits};

/// How long a namespace that a client has left counts for it: as long as it may still be there.
const LINGERS: Duration = EMPTY_FOR.saturating_mul(2);

/// How often a client may be refused, at least, before it is disconnected.
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
    /// When the client has left others, oldest first.
    left: VecDeque<Instant>,
}

#[derive(Default)]
struct Emitted {
    events: Meter,
    bytes: Meter,
}

/// How often a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusals {
    /// As often as it may be.
    Few,
    /// Once more than that, so it has to be disconnected.
    TooMany,
    /// Even more often.
    More,
}

/// A namespace that a client has joined, until it is dropped.
pub(super) struct NamespaceSlot {
    usage: Arc<ClientUsage>,
    is_admitted: bool,
}

impl ClientUsage {
    /// The client asks for one more namespace. `None` if it has joined `max` already, or has left them only just now.
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

    /// Counts a refusal of a client that may ask for `max_namespaces`.
    pub(super) fn refused(&self, max_namespaces: usize) -> Refusals {
        let before = self.refusals.fetch_add(1, Ordering::Relaxed);
        match before.cmp(&MIN_REFUSALS.max(max_namespaces)) {
            std::cmp::Ordering::Less => Refusals::Few,
            std::cmp::Ordering::Equal => Refusals::TooMany,
            std::cmp::Ordering::Greater => Refusals::More,
        }
    }

    /// The client has emitted an event of so many bytes.
    pub(super) fn emitted(&self, limits: &RateLimits, bytes: usize) -> Pace {
        let now = Instant::now();
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        let events = emitted.events.add(now, 1.0, limits.events);
        events.max(emitted.bytes.add(now, bytes as f64, limits.bytes))
    }

    /// An event of the client takes so many bytes besides its own on its way to the other servers.
    pub(super) fn caused(&self, limits: &RateLimits, bytes: usize) -> Pace {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        emitted.bytes.add(Instant::now(), bytes as f64, limits.bytes)
    }

    fn joined(&self) -> MutexGuard<'_, Joined> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    fn forget(&mut self, now: Instant) {
        while self.left.front().is_some_and(|left| now.duration_since(*left) > LINGERS) {
            self.left.pop_front();
        }
    }
}

impl NamespaceSlot {
    /// The client is admitted, so the namespace may outlive it for a while.
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
        usage.joined().forget(Instant::now() + LINGERS + Duration::from_secs(1));
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
