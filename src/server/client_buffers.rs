//! Counts the bytes that are queued for each client (backpressure).
//!
//! socketioxide bounds the packets of a client's queue, not their bytes. So the bytes of each event and acknowledgement
//! are added here before the packet is queued, and subtracted when they are written to the client's connection. The
//! other bytes of the connection (frame headers, pings, responses to connect requests) are subtracted as well. So the
//! sum is never too high, but a few per cent too low while packets are queued.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::adapter::Sid;

/// The clients of a server.
pub(super) struct ClientBuffers {
    limit: usize,
    clients: Mutex<HashMap<Sid, Entry>>,
}

struct Entry {
    waiting: Arc<AtomicUsize>,
    buffer: Weak<ClientBuffer>,
}

/// The queued bytes of one client, which its sockets and its connection share.
pub(super) struct ClientBuffer {
    sid: Sid,
    limit: usize,
    waiting: Arc<AtomicUsize>,
    all: Weak<ClientBuffers>,
}

impl ClientBuffers {
    /// `limit` is in bytes, for each client.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, clients: Mutex::default() })
    }

    /// The buffer of a client, created if it does not exist.
    pub(super) fn of(self: &Arc<Self>, sid: Sid) -> Arc<ClientBuffer> {
        let mut clients = self.clients();
        if let Some(buffer) = clients.get(&sid).and_then(|entry| entry.buffer.upgrade()) {
            return buffer;
        }
        let waiting = Arc::new(AtomicUsize::new(0));
        let buffer = Arc::new(ClientBuffer {
            sid,
            limit: self.limit,
            waiting: waiting.clone(),
            all: Arc::downgrade(self),
        });
        clients.insert(sid, Entry { waiting, buffer: Arc::downgrade(&buffer) });
        buffer
    }

    /// Adds a packet to the buffers of clients. Returns the clients that were already over the limit.
    pub(super) fn queue(&self, sids: &[Sid], bytes: usize) -> Vec<Sid> {
        let clients = self.clients();
        let is_over = |sid: &&Sid| {
            let entry = clients.get(*sid);
            entry.is_some_and(|entry| entry.waiting.fetch_add(bytes, Ordering::Relaxed) > self.limit)
        };
        sids.iter().filter(is_over).copied().collect()
    }

    /// Subtracts bytes that a client's poll has taken.
    pub(super) fn sent(&self, sid: Sid, bytes: usize) {
        if let Some(entry) = self.clients().get(&sid) {
            subtract(&entry.waiting, bytes);
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Sid, Entry>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientBuffer {
    /// Adds a packet. Returns true if the client was already over the limit.
    pub(super) fn queue(&self, bytes: usize) -> bool {
        self.waiting.fetch_add(bytes, Ordering::Relaxed) > self.limit
    }

    /// Subtracts bytes that were written to the client's connection.
    pub(super) fn sent(&self, bytes: usize) {
        subtract(&self.waiting, bytes);
    }
}

impl Drop for ClientBuffer {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else { return };
        let mut clients = all.clients();
        // The client may already have a new buffer.
        if clients.get(&self.sid).is_some_and(|entry| Arc::ptr_eq(&entry.waiting, &self.waiting)) {
            clients.remove(&self.sid);
        }
    }
}

fn subtract(waiting: &AtomicUsize, bytes: usize) {
    let less = |before: usize| Some(before.saturating_sub(bytes));
    // Never fails, since `less` is never `None`.
    waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_over_its_limit_until_bytes_are_sent() {
        let buffers = ClientBuffers::new(100);
        let (one, other) = (Sid::new(), Sid::new());
        let (first, _second) = (buffers.of(one), buffers.of(other));
        // A packet of any size may wait alone.
        assert_eq!(buffers.queue(&[one], 500), []);
        assert_eq!(buffers.queue(&[one, other, Sid::new()], 10), [one]);
        first.sent(410);
        assert_eq!(buffers.queue(&[one, other], 10), []);
        buffers.sent(one, 10_000);
        assert_eq!(buffers.queue(&[one], 100), []);
        assert_eq!(buffers.queue(&[one], 1), []);
        assert_eq!(buffers.queue(&[one], 1), [one]);
        assert!(Arc::ptr_eq(&buffers.of(one), &first) && first.queue(1));
        drop(first);
        assert_eq!(buffers.queue(&[one], 1000), []);
        assert_eq!(buffers.clients().len(), 1);
    }
}
