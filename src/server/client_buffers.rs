//! Counts the bytes that are queued for each client (backpressure).
//!
//! socketioxide bounds the packets of a client's queue, not their bytes. So the size of each event and acknowledgement is
//! added here before the packet is queued, and compared with the size of what was written to the client's connection
//! (`sent_packets`). The type of a packet and its acknowledgement id are only written, not added. So the count is too
//! low by a few bytes in 256 of each queued packet, and by one part in [`LOOKS`] of the limit. It is too high only by packets for
//! a room or namespace that the client leaves at that moment.
//!
//! Each packet counts [`PACKET_BYTES`] more than its content, and the queue has more places than the limit has such
//! packets. So a client reaches the limit before its queue is full, and a broadcast can be encoded once for all clients.
//!
//! A broadcast touches each client here, while other threads write to the clients. So the two sides count separately, and a
//! broadcast looks at what was written only after it has added enough.
//!
//! Packets are counted as well: if as many were written as were queued, none waits, and the next one can be written at once,
//! without the queue (`direct_write`). An event that is written directly is counted on neither side. So this count must be
//! exact. If it may be wrong for a client, the server gives it up ([`QueuedPackets::Unknown`]), and queues everything for that
//! client from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;

use super::direct_write::DirectWrite;
use super::options::Parser;
use super::queued_packets::QueuedPackets;
use super::sent_packets::{self, Sent, SentFrames};
use crate::adapter::Sid;

/// The bytes that a packet counts more than its content, since it takes memory besides.
pub(super) const PACKET_BYTES: usize = 256;

/// How often a broadcast looks at what was written: each time it has added this part of the limit.
const LOOKS: usize = 16;

/// A client for which more bytes wait gets no volatile events.
const BUSY_BYTES: u64 = 64 << 10;

/// Places in a client's queue for packets whose bytes do not count: pings, responses to connect requests, and the events that
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
    packets: QueuedPackets,
    written: Arc<Written>,
    /// The websocket of the client, once socketioxide has sent a packet on it.
    websocket: Option<Weak<dyn DirectWrite>>,
    buffer: Weak<ClientBuffer>,
}

/// The buffer of one client, which its sockets and its connection share.
pub(super) struct ClientBuffer {
    sid: Sid,
    written: Arc<Written>,
    all: Weak<ClientBuffers>,
}

/// All that was written to one client.
#[derive(Default)]
pub(super) struct Written {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Written {
    /// Adds what is now in the socket's buffer, where no other packet can overtake it.
    pub(super) fn add(&self, sent: Sent) {
        self.bytes.fetch_add(sent.freed, Ordering::Relaxed);
        self.packets.fetch_add(sent.packets, Ordering::Release);
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
        let written = Arc::<Written>::default();
        let buffer = Arc::new(ClientBuffer { sid, written: written.clone(), all: Arc::downgrade(self) });
        let packets = match self.parser {
            Parser::Default => QueuedPackets::NONE,
            // The packets that are written are not counted.
            Parser::Msgpack => QueuedPackets::Unknown,
        };
        let entry = Entry {
            queued: 0,
            seen: 0,
            is_full: false,
            packets,
            written,
            websocket: None,
            buffer: Arc::downgrade(&buffer),
        };
        clients.insert(sid, entry);
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

    /// The websocket of each client for which no packet waits.
    pub(super) fn idle_websockets(&self, sids: &[Sid]) -> Vec<Option<Arc<dyn DirectWrite>>> {
        let clients = self.clients();
        sids.iter().map(|sid| clients.get(sid).and_then(Entry::idle_websocket)).collect()
    }

    /// The clients that do not keep up, and get no volatile events.
    pub(super) fn busy(&self, sids: &[Sid]) -> Vec<Sid> {
        // The websockets are used and dropped without the lock: the end of a client takes it.
        let clients: Vec<(bool, Option<Arc<dyn DirectWrite>>)> = {
            let mut clients = self.clients();
            let mut client = |sid| clients.get_mut(sid).map(|entry| (entry.is_busy(), entry.websocket()));
            sids.iter().map(|sid| client(sid).unwrap_or_default()).collect()
        };
        let has_rest = |websocket: &Option<Arc<dyn DirectWrite>>| {
            websocket.as_ref().is_some_and(|websocket| websocket.has_rest())
        };
        let is_busy = |(is_busy, websocket): &(bool, _)| *is_busy || has_rest(websocket);
        sids.iter().zip(&clients).filter(|(_, client)| is_busy(client)).map(|(sid, _)| *sid).collect()
    }

    /// Gives up the count of packets for these clients.
    pub(super) fn lose_count(&self, sids: &[Sid]) {
        let mut clients = self.clients();
        for sid in sids {
            if let Some(entry) = clients.get_mut(sid) {
                entry.packets = QueuedPackets::Unknown;
            }
        }
    }

    /// Counts the packets in the response to a client's poll as written.
    pub(super) fn polled(&self, sid: Sid, response: &[u8]) {
        let sent = sent_packets::sent_by_poll(self.parser, response);
        if let Some(entry) = self.clients().get(&sid) {
            entry.written.add(sent);
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
            self.look();
        }
        self.is_full = self.queued - self.seen > limit as u64;
        self.queued += bytes;
        if self.is_full {
            self.packets = QueuedPackets::Unknown;
        } else {
            self.packets.add();
        }
        self.is_full
    }

    /// Looks at what was written.
    fn look(&mut self) {
        self.seen = self.written.bytes.load(Ordering::Relaxed);
        // More may be written than was added.
        self.queued = self.queued.max(self.seen);
    }

    /// The websocket, if no packet waits for the client.
    fn idle_websocket(&self) -> Option<Arc<dyn DirectWrite>> {
        let written = self.written.packets.load(Ordering::Acquire);
        if self.packets.are_written(written) { self.websocket() } else { None }
    }

    fn websocket(&self) -> Option<Arc<dyn DirectWrite>> {
        self.websocket.as_ref()?.upgrade()
    }

    /// Whether many bytes wait in the queue of the client.
    fn is_busy(&mut self) -> bool {
        self.look();
        self.queued - self.seen > BUSY_BYTES
    }
}

impl ClientBuffer {
    /// Adds a packet of a namespace with this content. Returns true if the client was already over the limit.
    pub(super) fn queue(&self, nsp: &str, content_bytes: usize) -> bool {
        self.all.upgrade().is_some_and(|all| !all.queue(nsp, &[self.sid], content_bytes).is_empty())
    }

    /// The client is admitted to a namespace, and will get a response to its connect request.
    pub(super) fn connecting(&self) {
        self.change(|entry| entry.packets.connecting());
    }

    /// The response to the connect request is queued.
    pub(super) fn connected(&self) {
        self.change(|entry| entry.packets.connected());
    }

    /// Gives up the count of packets.
    pub(super) fn lose_count(&self) {
        self.change(|entry| entry.packets = QueuedPackets::Unknown);
    }

    /// socketioxide has sent a packet on this websocket, so the next ones may be written to it directly.
    pub(super) fn use_websocket(&self, websocket: Weak<dyn DirectWrite>) {
        self.change(|entry| entry.websocket = Some(websocket));
    }

    /// The count of what was written to the client.
    pub(super) fn written(&self) -> Arc<Written> {
        self.written.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let Some(all) = self.all.upgrade() else { return };
        let mut clients = all.clients();
        if let Some(entry) = clients.get_mut(&self.sid).filter(|entry| self.is_of(entry)) {
            change(entry);
        }
    }

    /// Whether an entry is that of this buffer: the client may already have a new one.
    fn is_of(&self, entry: &Entry) -> bool {
        Arc::ptr_eq(&entry.written, &self.written)
    }
}

impl Drop for ClientBuffer {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else { return };
        let mut clients = all.clients();
        if clients.get(&self.sid).is_some_and(|entry| self.is_of(entry)) {
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
        first.written().add(Sent { freed: 50_000, packets: 0 });
        assert_eq!(buffers.queue("/", &[one, other], 10), [one]);
        assert!(Arc::ptr_eq(&buffers.of(one), &first) && first.queue("/", 1));
        drop(first);
        assert_eq!(buffers.queue("/", &[one], 1000), []);
        assert_eq!(buffers.clients().len(), 1);
    }

    struct Websocket;

    impl DirectWrite for Websocket {
        fn write(&self, _: &bytes::Bytes) -> bool {
            true
        }

        fn has_rest(&self) -> bool {
            false
        }
    }

    fn sent(packets: u64) -> Sent {
        Sent { freed: 0, packets }
    }

    #[test]
    fn a_client_is_idle_when_all_its_packets_are_written() {
        let buffers = ClientBuffers::new(1 << 20, Parser::Default);
        let sid = Sid::new();
        let is_idle = || buffers.idle_websockets(&[sid])[0].is_some();
        let buffer = buffers.of(sid);
        buffer.connecting();
        buffer.connected();
        assert!(!is_idle());
        let websocket: Arc<dyn DirectWrite> = Arc::new(Websocket);
        buffer.use_websocket(Arc::downgrade(&websocket));
        assert!(!is_idle());
        buffer.written().add(sent(1));
        assert!(is_idle());
        assert!(!buffer.queue("/", 10) && buffers.queue("/", &[sid], 10).is_empty());
        assert!(!is_idle());
        buffer.written().add(sent(1));
        assert!(!is_idle());
        buffer.written().add(sent(1));
        assert!(is_idle());
        drop(websocket);
        assert!(!is_idle());
    }

    #[test]
    fn a_client_is_busy_while_many_bytes_wait() {
        let buffers = ClientBuffers::new(1 << 20, Parser::Default);
        let sid = Sid::new();
        let buffer = buffers.of(sid);
        let is_busy = || buffers.busy(&[sid, Sid::new()]) == [sid];
        buffers.queue("/", &[sid], 65_000);
        assert!(!is_busy());
        buffers.queue("/", &[sid], 1000);
        assert!(is_busy());
        buffer.written().add(Sent { freed: 1000, packets: 1 });
        assert!(!is_busy());
    }

    /// socketioxide drops an event for a namespace to which the client is not connected yet.
    #[test]
    fn a_client_is_not_idle_after_a_packet_that_may_have_been_dropped() {
        let buffers = ClientBuffers::new(1 << 20, Parser::Default);
        let sid = Sid::new();
        let buffer = buffers.of(sid);
        let websocket: Arc<dyn DirectWrite> = Arc::new(Websocket);
        buffer.use_websocket(Arc::downgrade(&websocket));
        buffer.connecting();
        buffers.queue("/", &[sid], 10);
        buffer.connected();
        for _ in 0..3 {
            assert!(buffers.idle_websockets(&[sid])[0].is_none());
            buffer.written().add(sent(1));
        }
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
        buffer.written().add(Sent { freed: 100 << 20, packets: 0 });
        let bytes = (0..).position(|_| buffer.queue("/", 744)).unwrap() * (744 + PACKET_BYTES);
        assert!((LIMIT..LIMIT + LIMIT / LOOKS + 2000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_client_reaches_its_limit_before_its_queue_is_full() {
        let limit = 1 << 16;
        let buffers = ClientBuffers::new(limit, Parser::Default);
        let buffer = buffers.of(Sid::new());
        buffer.written().add(Sent { freed: 100 << 20, packets: 0 });
        let packets = (0..).position(|_| buffer.queue("/", 1)).unwrap();
        assert!(packets + UNCOUNTED_PACKETS / 2 < queue_places(limit), "{packets}");
    }
}
