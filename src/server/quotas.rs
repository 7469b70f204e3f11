//! The limits for clients before and after they are admitted, for each address and for all addresses together.
//!
//! It owns the counts. The user of a resource holds a permit, and releases it on drop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::addresses::AddressKey;

/// The maximum number of handshakes in progress: connections without a complete request, and sessions that are not
/// connected to a namespace. Each takes up to 28 KiB. Further handshakes wait, and their bytes stay in the kernel.
pub(super) const MAX_HANDSHAKES_OF_ADDRESS: usize = 512;
const MAX_HANDSHAKES: usize = 1024;

/// The timeout of a waiting handshake.
const HANDSHAKE_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum bytes of incomplete request bodies.
const MAX_BODY_BYTES_OF_ADDRESS: usize = 8 << 20;
const MAX_BODY_BYTES: usize = 32 << 20;

/// The maximum bytes of incomplete websocket messages, and the timeout of a message that waits for quota.
const MAX_INCOMPLETE_BYTES_OF_ADDRESS: usize = 32 << 20;
const MAX_INCOMPLETE_BYTES: usize = 128 << 20;
const INCOMPLETE_TIMEOUT: Duration = Duration::from_secs(10);

/// The rate limit of handshakes of an address, per second. The burst is the maximum number of its clients.
const HANDSHAKES_PER_SECOND: f64 = 200.0;

/// The maximum connections of an address per client. A polling client has two.
const CONNECTIONS_PER_CLIENT: usize = 2;

/// The number of addresses above which idle ones are evicted.
const MAX_IDLE_ADDRESSES: usize = 1024;

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server has `max_clients`.
    Clients,
    /// The address has `max_clients_per_address`.
    ClientsOfAddress,
    /// The address exceeds the rate limit of handshakes.
    Rate,
    /// Too many handshakes were in progress for too long.
    Handshakes,
    /// The address has too many connections.
    Connections,
}

impl Refused {
    /// The label of the metric.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Clients => "max_clients",
            Self::ClientsOfAddress => "max_clients_per_address",
            Self::Rate => "handshake_rate",
            Self::Handshakes => "handshakes",
            Self::Connections => "connections",
        }
    }
}

/// The configured limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) clients: usize,
    pub(super) clients_of_address: usize,
}

/// All counts of a server.
pub(super) struct Quotas {
    limits: Limits,
    handshakes: Arc<Semaphore>,
    clients: Arc<AtomicUsize>,
    bodies: Arc<AtomicUsize>,
    incomplete: Arc<Semaphore>,
    addresses: Mutex<Addresses>,
}

struct Addresses {
    known: HashMap<AddressKey, Arc<Address>>,
    evict_at: usize,
}

/// The counts of one address.
pub(super) struct Address {
    handshakes: Arc<Semaphore>,
    clients: AtomicUsize,
    connections: AtomicUsize,
    bodies: AtomicUsize,
    incomplete: Arc<Semaphore>,
    rate: Mutex<Bucket>,
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    since: Instant,
}

/// The permit of a handshake in progress.
pub(super) struct Handshake {
    _of_all: OwnedSemaphorePermit,
    _of_address: OwnedSemaphorePermit,
}

/// The quota of an incomplete message.
pub(super) struct Incomplete {
    _of_address: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// A client is counted until this is dropped.
pub(super) struct ClientCount {
    address: Arc<Address>,
    clients: Arc<AtomicUsize>,
}

/// A connection is counted until this is dropped.
pub(super) struct ConnectionCount(Arc<Address>);

/// The bytes of a body are counted until this is dropped.
pub(super) struct BodyCount {
    address: Arc<Address>,
    bodies: Arc<AtomicUsize>,
    bytes: usize,
}

impl Quotas {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            clients: Arc::default(),
            bodies: Arc::default(),
            incomplete: Arc::new(Semaphore::new(MAX_INCOMPLETE_BYTES)),
            addresses: Mutex::new(Addresses { known: HashMap::new(), evict_at: MAX_IDLE_ADDRESSES }),
        }
    }

    /// The counts of an address.
    pub(super) fn address(&self, key: AddressKey) -> Arc<Address> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = addresses.known.get(&key) {
            return address.clone();
        }
        if addresses.known.len() >= addresses.evict_at {
            let (now, burst) = (Instant::now(), self.limits.clients_of_address);
            addresses
                .known
                .retain(|_, address| Arc::strong_count(address) > 1 || !address.is_idle(now, burst));
            addresses.evict_at = (addresses.known.len() * 2).max(MAX_IDLE_ADDRESSES);
        }
        let address = Arc::new(Address::new(self.limits.clients_of_address));
        addresses.known.insert(key, address.clone());
        address
    }

    /// Counts a connection.
    pub(super) fn connection(&self, address: &Arc<Address>) -> Result<ConnectionCount, Refused> {
        let limit = self
            .limits
            .clients_of_address
            .saturating_mul(CONNECTIONS_PER_CLIENT)
            .saturating_add(MAX_HANDSHAKES_OF_ADDRESS);
        match try_add(&address.connections, 1, limit) {
            true => Ok(ConnectionCount(address.clone())),
            false => Err(Refused::Connections),
        }
    }

    /// Waits until a handshake may begin.
    pub(super) async fn handshake(&self, address: &Arc<Address>) -> Result<Handshake, Refused> {
        let both = async {
            let of_address = address.handshakes.clone().acquire_owned().await.ok()?;
            let of_all = self.handshakes.clone().acquire_owned().await.ok()?;
            Some(Handshake { _of_all: of_all, _of_address: of_address })
        };
        timeout(HANDSHAKE_QUEUE_TIMEOUT, both).await.ok().flatten().ok_or(Refused::Handshakes)
    }

    /// Counts a client that begins a handshake.
    pub(super) fn client(&self, address: &Arc<Address>) -> Result<ClientCount, Refused> {
        if !try_add(&address.clients, 1, self.limits.clients_of_address) {
            return Err(Refused::ClientsOfAddress);
        }
        // Its drop undoes the count, even if the client is refused.
        let count = ClientCount { address: address.clone(), clients: self.clients.clone() };
        if self.clients.fetch_add(1, Ordering::Relaxed) >= self.limits.clients {
            return Err(Refused::Clients);
        }
        if !address.take_token(Instant::now(), self.limits.clients_of_address) {
            return Err(Refused::Rate);
        }
        Ok(count)
    }

    /// The number of clients, including handshakes in progress.
    pub(super) fn clients_now(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Waits for quota for a message. `None` after a timeout. A message that is larger than the quota takes all of it.
    pub(super) async fn incomplete(&self, address: &Arc<Address>, bytes: u64) -> Option<Incomplete> {
        let bytes = u32::try_from(bytes.min(MAX_INCOMPLETE_BYTES_OF_ADDRESS as u64)).ok()?;
        let both = async {
            let of_address = address.incomplete.clone().acquire_many_owned(bytes).await.ok()?;
            let of_all = self.incomplete.clone().acquire_many_owned(bytes).await.ok()?;
            Some(Incomplete { _of_address: of_address, _of_all: of_all })
        };
        timeout(INCOMPLETE_TIMEOUT, both).await.ok().flatten()
    }

    /// Starts to count the bytes of a body.
    pub(super) fn body(&self, address: &Arc<Address>) -> BodyCount {
        BodyCount { address: address.clone(), bodies: self.bodies.clone(), bytes: 0 }
    }
}

impl Address {
    fn new(burst: usize) -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES_OF_ADDRESS)),
            clients: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            incomplete: Arc::new(Semaphore::new(MAX_INCOMPLETE_BYTES_OF_ADDRESS)),
            rate: Mutex::new(Bucket { tokens: burst as f64, since: Instant::now() }),
        }
    }

    fn take_token(&self, now: Instant, burst: usize) -> bool {
        let mut bucket = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(now, burst);
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }

    fn is_idle(&self, now: Instant, burst: usize) -> bool {
        let mut bucket = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(now, burst);
        bucket.tokens >= burst as f64
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant, burst: usize) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.tokens = (self.tokens + seconds * HANDSHAKES_PER_SECOND).min(burst as f64);
        self.since = now;
    }
}

impl BodyCount {
    /// Adds bytes. Returns false if that exceeds a limit.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        if !try_add(&self.address.bodies, bytes, MAX_BODY_BYTES_OF_ADDRESS) {
            return false;
        }
        if !try_add(&self.bodies, bytes, MAX_BODY_BYTES) {
            self.address.bodies.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for BodyCount {
    fn drop(&mut self) {
        self.address.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for ClientCount {
    fn drop(&mut self) {
        self.address.clients.fetch_sub(1, Ordering::Relaxed);
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds to a count, unless the sum exceeds the limit.
fn try_add(count: &AtomicUsize, more: usize, limit: usize) -> bool {
    let add = |before: usize| before.checked_add(more).filter(|after| *after <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AddressKey {
        AddressKey::of(text.parse().unwrap())
    }

    fn quotas(clients: usize, clients_of_address: usize) -> Quotas {
        Quotas::new(Limits { clients, clients_of_address })
    }

    #[test]
    fn clients_are_counted_for_each_address_and_together() {
        let quotas = quotas(3, 2);
        let (one, other) = (quotas.address(key("10.0.0.1")), quotas.address(key("10.0.0.2")));
        let first = quotas.client(&one).unwrap();
        let _second = quotas.client(&one).unwrap();
        assert_eq!(quotas.client(&one).err(), Some(Refused::ClientsOfAddress));
        let _third = quotas.client(&other).unwrap();
        assert_eq!(quotas.client(&other).err(), Some(Refused::Clients));
        drop(first);
        let third_address = quotas.address(key("10.0.0.3"));
        let _fourth = quotas.client(&third_address).unwrap();
        assert_eq!(quotas.clients.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_rate_of_an_address_is_bounded_after_its_burst() {
        let (address, start) = (Address::new(10), Instant::now());
        assert_eq!((0..20).filter(|_| address.take_token(start, 10)).count(), 10);
        let later = start + Duration::from_millis(25);
        assert_eq!((0..20).filter(|_| address.take_token(later, 10)).count(), 5);
        assert!(!address.is_idle(later, 10) && address.is_idle(later + Duration::from_secs(1), 10));
    }

    #[test]
    fn bytes_of_bodies_are_counted_until_they_are_dropped() {
        let quotas = quotas(1, 1);
        let address = quotas.address(key("10.0.0.1"));
        let (mut one, mut other) = (quotas.body(&address), quotas.body(&address));
        assert!(one.add(MAX_BODY_BYTES_OF_ADDRESS - 1) && !other.add(2) && other.add(1));
        drop(one);
        assert!(other.add(2));
        drop(other);
        assert_eq!(quotas.bodies.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn addresses_that_use_nothing_are_forgotten() {
        let quotas = quotas(10, 10);
        let used = quotas.address(key("10.9.9.9"));
        let _client = quotas.client(&used).unwrap();
        for n in 0..3 * MAX_IDLE_ADDRESSES {
            quotas.address(AddressKey::of(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).into()));
        }
        let known = quotas.addresses.lock().unwrap();
        assert!(known.known.len() <= 2 * MAX_IDLE_ADDRESSES && known.known.contains_key(&key("10.9.9.9")));
    }

    #[tokio::test]
    async fn handshakes_wait_for_their_turn() {
        const SHORT: Duration = Duration::from_millis(50);
        let quotas = quotas(1, 1);
        let (one, other) = (quotas.address(key("10.0.0.1")), quotas.address(key("10.0.0.2")));
        let mut held = Vec::new();
        for _ in 0..MAX_HANDSHAKES_OF_ADDRESS {
            held.push(quotas.handshake(&one).await.unwrap());
        }
        assert!(timeout(SHORT, quotas.handshake(&one)).await.is_err());
        quotas.handshake(&other).await.unwrap();
        held.pop();
        quotas.handshake(&one).await.unwrap();
    }
}
