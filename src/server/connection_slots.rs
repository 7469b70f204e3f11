//! Reserved connections for requests of operators, such as health checks, independent of the number of clients.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::addresses::AddressKey;

/// The maximum number of concurrent connections. A health check takes a millisecond.
const MAX_CONNECTIONS: usize = 16;

/// A pool of connection slots. When all are in use, a new connection evicts the oldest one of all, so idle connections
/// cannot block a health check. If an address has more than its share, its own oldest connection is evicted, so a flood
/// from a few addresses leaves the checks of others alone.
///
/// A slot is acquired where the connection is accepted: the order in which tasks run says nothing about its age.
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
    /// From the oldest to the newest.
    taken: VecDeque<Taken>,
}

struct Taken {
    number: u64,
    address: AddressKey,
    evicted: CancellationToken,
}

/// The part of the slots that an address may have before its own connections are evicted first: a fourth.
const SHARE: usize = 4;

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

    /// Acquires a slot for a connection from this address, and evicts another connection if none is free.
    pub(super) fn acquire(&self, address: IpAddr) -> ConnectionSlot {
        let address = AddressKey::of(address);
        let evicted = CancellationToken::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next;
        state.next += 1;
        state.taken.push_back(Taken { number, address, evicted: evicted.clone() });
        let excess = if state.taken.len() > self.size { state.evict(self.size / SHARE) } else { None };
        drop(state);
        if let Some(excess) = excess {
            excess.cancel();
        }
        ConnectionSlot { slots: self.clone(), number, evicted }
    }
}

impl Slots {
    /// Removes the oldest connection of the address that has most, if that is more than its share, and the oldest one of
    /// all otherwise. Never the newest one.
    fn evict(&mut self, share: usize) -> Option<CancellationToken> {
        let mut counts: HashMap<AddressKey, usize> = HashMap::new();
        for taken in &self.taken {
            *counts.entry(taken.address).or_default() += 1;
        }
        let most = counts.values().copied().max().filter(|most| *most > share);
        let older = self.taken.len().saturating_sub(1);
        let index =
            self.taken.iter().take(older).position(|taken| most == counts.get(&taken.address).copied());
        self.taken.remove(index.unwrap_or_default()).map(|taken| taken.evicted)
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
        state.taken.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_newest_takes_the_place_of_the_oldest() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let slots = ConnectionSlots::default();
        let state: Vec<_> = (0..MAX_CONNECTIONS).map(|_| slots.acquire(address)).collect();
        assert!(!is_evicted(&state[0]));
        let newest = slots.acquire(address);
        assert!(is_evicted(&state[0]));
        assert!(!is_evicted(&state[1]) && !is_evicted(&newest));
        drop(state);
        assert_eq!(slots.state.lock().unwrap().taken.len(), 1);
    }

    #[test]
    fn the_connections_of_one_address_evict_each_other() {
        let slots = ConnectionSlots::new(4);
        let acquire = |last: u8| slots.acquire(IpAddr::from([10, 0, 0, last]));
        let check = acquire(1);
        let flood: Vec<_> = (0..100).map(|_| acquire(2)).collect();
        assert!(!is_evicted(&check));
        assert_eq!(flood.iter().filter(|slot| !is_evicted(slot)).count(), 3);
        // A new address finds room, and is not evicted at once.
        let others: Vec<_> = (3..6).map(acquire).collect();
        assert!(!others.iter().any(is_evicted));
        assert_eq!(slots.state.lock().unwrap().taken.len(), 4);
    }

    #[test]
    fn an_address_with_two_connections_is_not_the_first_to_lose_one() {
        let slots = ConnectionSlots::default();
        let acquire = |last: u8| slots.acquire(IpAddr::from([10, 0, 0, last]));
        let idle: Vec<_> = (2..16).map(acquire).collect();
        let checks = [acquire(1), acquire(1)];
        let newest = acquire(16);
        assert!(is_evicted(&idle[0]) && !is_evicted(&idle[1]));
        assert!(!checks.iter().any(is_evicted) && !is_evicted(&newest));
    }
}
