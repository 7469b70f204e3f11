//! Counts the bytes that are queued for each client (backpressure).
//!
//! socketioxide bounds the packets of a client's queue, not their bytes. So the size of each event and acknowledgement is
//! added here before the packet is queued, and subtracted when the packet is written to the client's connection
//! (`sent_packets`). The digits of attachment counts and acknowledgement ids are only subtracted: the sum is never too
//! high, and too low by a few bytes for each packet that is queued.
//!
//! Each packet counts [`PACKET_BYTES`] more than its content, and the queue has more places than the limit has such
//! packets. So a client reaches the limit before its queue is full, and a broadcast can be encoded once for all clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;

use super::options::Parser;
use super::sent_packets::{self, SentFrames};
use crate::adapter::Sid;

/// The bytes that a packet counts more than its content, since it takes memory besides.
pub(super) const PACKET_BYTES: usize = 256;

/// Places in a client's queue for packets that do not count: pings, responses to connect requests, and the events that
/// are queued until a client over its limit is disconnected.
const UNCOUNTED_PACKETS: usize = 1024;

/// The clients of a server.
pub(super) struct ClientBuffers {
    limit: usize,
    parser: Parser,
    /// The server chooses the ids at random, so a fast hash is safe.
    clients: Mutex<HashMap<Sid, Entry, RandomState>>,
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

/// The places in the queue of a client whose buffer has this limit.
pub(super) fn queue_places(limit: usize) -> usize {
    limit / PACKET_BYTES + UNCOUNTED_PACKETS
}

impl ClientBuffers {
    /// `limit` is in bytes, for each client.
    pub(super) fn new(limit: usize, parser: Parser) -> Arc<Self> {
        Arc::new(Self { limit, parser, clients: Mutex::default() })
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

    /// Adds a packet with this content to the buffers of clients. Returns the clients that were already over the limit.
    pub(super) fn queue(&self, sids: &[Sid], content_bytes: usize) -> Vec<Sid> {
        let bytes = content_bytes.saturating_add(PACKET_BYTES);
        let clients = self.clients();
        let is_over = |sid: &&Sid| {
            let entry = clients.get(*sid);
            entry.is_some_and(|entry| entry.waiting.fetch_add(bytes, Ordering::Relaxed) > self.limit)
        };
        sids.iter().filter(is_over).copied().collect()
    }

    /// Subtracts the packets in the response to a client's poll.
    pub(super) fn polled(&self, sid: Sid, response: &[u8]) {
        let freed = sent_packets::freed_by_poll(self.parser, response);
        if let Some(entry) = self.clients().get(&sid) {
            subtract(&entry.waiting, freed);
        }
    }

    /// The frames of a new websocket.
    pub(super) fn frames(&self) -> SentFrames {
        SentFrames::new(self.parser)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Sid, Entry, RandomState>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientBuffer {
    /// Adds a packet with this content. Returns true if the client was already over the limit.
    pub(super) fn queue(&self, content_bytes: usize) -> bool {
        let bytes = content_bytes.saturating_add(PACKET_BYTES);
        self.waiting.fetch_add(bytes, Ordering::Relaxed) > self.limit
    }

    /// Subtracts packets that were written to the client's websocket, as [`SentFrames`] counts them.
    pub(super) fn sent(&self, bytes: u64) {
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

fn subtract(waiting: &AtomicUsize, bytes: u64) {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let less = |before: usize| Some(before.saturating_sub(bytes));
    // Never fails, since `less` is never `None`.
    waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_over_its_limit_until_packets_are_sent() {
        let buffers = ClientBuffers::new(1000, Parser::Default);
        let (one, other) = (Sid::new(), Sid::new());
        let (first, _second) = (buffers.of(one), buffers.of(other));
        // A packet of any size may wait alone.
        assert_eq!(buffers.queue(&[one], 5000), []);
        assert_eq!(buffers.queue(&[one, other, Sid::new()], 10), [one]);
        first.sent(5000 + PACKET_BYTES as u64);
        assert_eq!(buffers.queue(&[one, other], 10), []);
        buffers.polled(one, &[b"42".as_slice(), &[b'x'; 10_000]].concat());
        assert_eq!(buffers.queue(&[one], 1000), []);
        assert_eq!(buffers.queue(&[one], 1), [one]);
        assert!(Arc::ptr_eq(&buffers.of(one), &first) && first.queue(1));
        drop(first);
        assert_eq!(buffers.queue(&[one], 1000), []);
        assert_eq!(buffers.clients().len(), 1);
    }

    #[test]
    fn a_client_reaches_its_limit_before_its_queue_is_full() {
        let limit = 1 << 16;
        let buffers = ClientBuffers::new(limit, Parser::Default);
        let buffer = buffers.of(Sid::new());
        let packets = (0..).position(|_| buffer.queue(1)).unwrap();
        assert!(packets + UNCOUNTED_PACKETS / 2 < queue_places(limit), "{packets}");
    }
}
