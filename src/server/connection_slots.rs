//! Reserved connections for requests of operators, such as health checks, independent of the number of clients.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The maximum number of concurrent connections. A health check takes a millisecond.
const MAX_CONNECTIONS: usize = 16;

/// A pool of connection slots. When all are in use, a new connection evicts the oldest one, so idle connections cannot
/// block a health check.
#[derive(Clone)]
pub(super) struct ConnectionSlots {
    state: Arc<Mutex<Slots>>,
    size: usize,
}

impl Default for ConnectionSlots {
    fn default() -> Self {
        Self::new(MAX_CONNECTIONS)
    }
}

#[derive(Default)]
struct Slots {
    next: u64,
    taken: VecDeque<(u64, CancellationToken)>,
}

/// A slot of the pool, released on drop.
pub(super) struct ConnectionSlot {
    slots: ConnectionSlots,
    number: u64,
    evicted: CancellationToken,
}

impl ConnectionSlots {
    /// Makes a pool of `size` slots.
    pub(super) fn new(size: usize) -> Self {
        Self { state: Arc::default(), size }
    }

    /// Acquires a slot, and evicts the oldest connection if none is free.
    pub(super) fn acquire(&self) -> ConnectionSlot {
        let evicted = CancellationToken::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next;
        state.next += 1;
        let oldest = if state.taken.len() >= self.size { state.taken.pop_front() } else { None };
        state.taken.push_back((number, evicted.clone()));
        drop(state);
        if let Some((_, evicted)) = oldest {
            evicted.cancel();
        }
        ConnectionSlot { slots: self.clone(), number, evicted }
    }
}

impl ConnectionSlot {
    /// Resolves when a newer connection has evicted this one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_newest_takes_the_place_of_the_oldest() {
        let slots = ConnectionSlots::default();
        let state: Vec<_> = (0..MAX_CONNECTIONS).map(|_| slots.acquire()).collect();
        assert!(state[0].evicted().now_or_never().is_none());
        let newest = slots.acquire();
        assert!(state[0].evicted().now_or_never().is_some());
        assert!(state[1].evicted().now_or_never().is_none() && newest.evicted().now_or_never().is_none());
        drop(state);
        assert_eq!(slots.state.lock().unwrap().taken.len(), 1);
    }
}
