//! Counts the bytes that are queued for each client (backpressure).
//!
//! socketioxide bounds the packets of a client's queue, not their bytes. So the size of each event and acknowledgement is
//! added here before the packet is queued, and compared with the size of what was written to the client's connection
//! (`sent_packets`). The type of a packet, its acknowledgement id and volatile events are only written, not added. So the
//! count is never too high. It is too low by a few bytes in 256 of each queued packet, and by one part in [`LOOKS`] of the
//! limit.
//!
//! Each packet counts [`PACKET_BYTES`] more than its content, and the queue has more places than the limit has such
//! packets. So a client reaches the limit before its queue is full, and a broadcast can be encoded once for all clients.
//!
//! A broadcast touches each client here, while other threads write to the clients. So the two sides count separately, and a
//! broadcast looks at what was written only after it has added enough.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;

use super::options::Parser;
use super::sent_packets::{self, SentFrames};
use crate::adapter::Sid;

/// The bytes that a packet counts more than its content, since it takes memory besides.
pub(super) const PACKET_BYTES: usize = 256;

/// How often a broadcast looks at what was written: each time it has added this part of the limit.
const LOOKS: usize = 16;

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
    /// All bytes that were added.
    queued: u64,
    /// What was written at the last look.
    seen: u64,
    /// The client was over its limit once, and is being disconnected. It gets nothing more.
    is_full: bool,
    written: Arc<AtomicU64>,
    buffer: Weak<ClientBuffer>,
}

/// The buffer of one client, which its sockets and its connection share.
pub(super) struct ClientBuffer {
    sid: Sid,
    /// All bytes that were written.
    written: Arc<AtomicU64>,
    all: Weak<ClientBuffers>,
}

/// Counts what is written to one client.
pub(super) struct Written(Arc<AtomicU64>);

impl Written {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The places in the queue of a client whose buffer has this limit.
pub(super) fn queue_places(limit: usize) -> usize {
    (limit + limit / LOOKS) / PACKET_BYTES + UNCOUNTED_PACKETS
}

/// The minimum size of a packet's head beside its type, in bytes.
fn head_bytes(parser: Parser, nsp: &str) -> usize {
    match parser {
        Parser::Default if nsp == "/" => 0,
        // `/nsp,`
        Parser::Default => nsp.len() + 1,
        // A map with `type`, `nsp` and `data`.
        Parser::Msgpack => nsp.len() + 17,
    }
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
        let written = Arc::new(AtomicU64::new(0));
        let buffer = Arc::new(ClientBuffer { sid, written: written.clone(), all: Arc::downgrade(self) });
        clients.insert(
            sid,
            Entry { queued: 0, seen: 0, is_full: false, written, buffer: Arc::downgrade(&buffer) },
        );
        buffer
    }

    /// Adds a packet with this content to the buffers of clients of a namespace. Returns the clients that were already
    /// over the limit, now or before. They must not get the packet, and have to be disconnected.
    pub(super) fn queue(&self, nsp: &str, sids: &[Sid], content_bytes: usize) -> Vec<Sid> {
        let bytes = (head_bytes(self.parser, nsp) + content_bytes + PACKET_BYTES) as u64;
        let mut clients = self.clients();
        let mut is_over =
            |sid: &&Sid| clients.get_mut(*sid).is_some_and(|entry| entry.queue(bytes, self.limit));
        sids.iter().filter(|sid| is_over(sid)).copied().collect()
    }

    /// Counts the packets in the response to a client's poll as written.
    pub(super) fn polled(&self, sid: Sid, response: &[u8]) {
        let written = sent_packets::freed_by_poll(self.parser, response);
        if let Some(entry) = self.clients().get(&sid) {
            entry.written.fetch_add(written, Ordering::Relaxed);
        }
    }

    pub(super) fn parser(&self) -> Parser {
        self.parser
    }

    /// The frames of a new websocket.
    pub(super) fn frames(&self) -> SentFrames {
        SentFrames::new(self.parser)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Sid, Entry, RandomState>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Adds a packet. Returns true if the client was already over the limit.
    fn queue(&mut self, bytes: u64, limit: usize) -> bool {
        if self.is_full {
            return true;
        }
        if self.queued - self.seen > (limit / LOOKS) as u64 {
            self.seen = self.written.load(Ordering::Relaxed);
            // More may be written than was added.
            self.queued = self.queued.max(self.seen);
        }
        self.is_full = self.queued - self.seen > limit as u64;
        self.queued += bytes;
        self.is_full
    }
}

impl ClientBuffer {
    /// Adds a packet of a namespace with this content. Returns true if the client was already over the limit.
    pub(super) fn queue(&self, nsp: &str, content_bytes: usize) -> bool {
        self.all.upgrade().is_some_and(|all| !all.queue(nsp, &[self.sid], content_bytes).is_empty())
    }

    /// The count of what was written to the client's websocket, with the sizes that [`SentFrames`] returns.
    pub(super) fn written(&self) -> Written {
        Written(self.written.clone())
    }
}

impl Drop for ClientBuffer {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else { return };
        let mut clients = all.clients();
        // The client may already have a new buffer.
        if clients.get(&self.sid).is_some_and(|entry| Arc::ptr_eq(&entry.written, &self.written)) {
            clients.remove(&self.sid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_over_its_limit_stays_over_it() {
        let buffers = ClientBuffers::new(1000, Parser::Default);
        let (one, other) = (Sid::new(), Sid::new());
        let (first, _second) = (buffers.of(one), buffers.of(other));
        // A packet of any size may wait alone.
        assert_eq!(buffers.queue("/", &[one, other, Sid::new()], 5000), []);
        buffers.polled(other, &[b"42".as_slice(), &[b'x'; 5000]].concat());
        assert_eq!(buffers.queue("/", &[one, other], 10), [one]);
        first.written().add(50_000);
        assert_eq!(buffers.queue("/", &[one, other], 10), [one]);
        assert!(Arc::ptr_eq(&buffers.of(one), &first) && first.queue("/", 1));
        drop(first);
        assert_eq!(buffers.queue("/", &[one], 1000), []);
        assert_eq!(buffers.clients().len(), 1);
    }

    #[test]
    fn a_namespace_is_a_part_of_the_size() {
        for (parser, nsp, head) in [
            (Parser::Default, "/", "42"),
            (Parser::Default, "/chat", "42/chat,"),
            (Parser::Msgpack, "/chat", "\u{83}\u{a4}type\u{2}\u{a3}nsp\u{a5}/chat\u{a4}data"),
        ] {
            let of_packet = head.chars().count();
            let types = if parser == Parser::Default { 2 } else { 0 };
            assert_eq!(head_bytes(parser, nsp), of_packet - types, "{nsp}");
        }
    }

    #[test]
    fn packets_that_were_not_added_give_little_credit() {
        const LIMIT: usize = 1 << 20;
        let buffers = ClientBuffers::new(LIMIT, Parser::Default);
        let buffer = buffers.of(Sid::new());
        buffer.written().add(100 << 20);
        let bytes = (0..).position(|_| buffer.queue("/", 744)).unwrap() * (744 + PACKET_BYTES);
        assert!((LIMIT..LIMIT + LIMIT / LOOKS + 2000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_client_reaches_its_limit_before_its_queue_is_full() {
        let limit = 1 << 16;
        let buffers = ClientBuffers::new(limit, Parser::Default);
        let buffer = buffers.of(Sid::new());
        buffer.written().add(100 << 20);
        let packets = (0..).position(|_| buffer.queue("/", 1)).unwrap();
        assert!(packets + UNCOUNTED_PACKETS / 2 < queue_places(limit), "{packets}");
    }
}
