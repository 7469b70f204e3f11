//! The `fetchSockets` requests of other servers.
//!
//! Owns the queued requests and the answers in flight. An answer holds the handshakes of all sockets, so a short request
//! costs megabytes, and Node does not limit the requests of a server. Invariants: the answers in flight are bounded in
//! bytes, except a single larger one; the queue is bounded in number and in bytes; requests for the same sockets share one
//! description of them; a request gets no answer once its sender has stopped waiting ([`patience`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::node::Node;
use crate::cluster::size_of_sockets;
use crate::protocol::{Body, BroadcastOptions, RemoteSocket, RequestId, Uid};

/// The bound of the answers in flight, in bytes. Beyond it, requests wait.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The minimum size that an answer counts for, in bytes.
const MIN_ANSWER_BYTES: usize = 1 << 10;

/// The bound of the queue, for one server and for all.
const MAX_WAITING_OF_ONE: usize = 256;
const MAX_WAITING: usize = 4096;

/// The bound of the room names in the queue, in bytes.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// How long a server waits for answers, if it sets no other timeout (`requestsTimeout` and `DEFAULT_TIMEOUT` in Node).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum time that a request waits, whatever timeout its sender sets.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the sender of a request waits for answers: `io.timeout(…).fetchSockets()` sets its timeout. A shorter one does
/// not count, since adapter 0.3 does not know it.
fn patience(opts: &BroadcastOptions) -> Duration {
    let timeout = opts.flags.timeout.map_or(REQUEST_TIMEOUT, Duration::from_millis);
    timeout.clamp(REQUEST_TIMEOUT, MAX_REQUEST_TIMEOUT)
}

/// A queued request.
struct Fetch {
    from: Uid,
    request_id: RequestId,
    opts: BroadcastOptions,
    since: Instant,
}

impl Fetch {
    fn bytes(&self) -> usize {
        self.opts.rooms.iter().chain(&self.opts.except).map(|room| room.len() + size_of::<String>()).sum()
    }

    fn is_stale(&self) -> bool {
        self.since.elapsed() >= patience(&self.opts)
    }
}

/// The requests of one namespace.
#[derive(Default)]
pub(super) struct Fetches {
    waiting: VecDeque<Fetch>,
    waiting_bytes: usize,
    /// The answers in flight. Each returns its size.
    answering: FuturesUnordered<BoxFuture<'static, usize>>,
    answer_bytes: usize,
}

impl Fetches {
    /// Queues a request. Returns false if the queue is full.
    pub(super) fn push(&mut self, from: Uid, request_id: RequestId, opts: BroadcastOptions) -> bool {
        let fetch = Fetch { from, request_id, opts, since: Instant::now() };
        if self.waiting.iter().any(|other| other.request_id == fetch.request_id && other.from == fetch.from) {
            return true;
        }
        let from_same_server = self.waiting.iter().filter(|other| other.from == fetch.from).count();
        let bytes = fetch.bytes();
        let has_room = from_same_server < MAX_WAITING_OF_ONE
            && self.waiting.len() < MAX_WAITING
            && self.waiting_bytes + bytes <= MAX_WAITING_BYTES;
        if has_room {
            self.waiting_bytes += bytes;
            self.waiting.push_back(fetch);
        }
        has_room
    }

    /// Starts answers within the bound. Returns the number of requests that have expired.
    pub(super) fn start(
        &mut self,
        node: &Arc<Node>,
        describe: impl Fn(BroadcastOptions) -> Vec<RemoteSocket>,
    ) -> usize {
        let mut expired = 0;
        while self.answer_bytes < MAX_ANSWER_BYTES
            && let Some(first) = self.waiting.pop_front()
        {
            self.waiting_bytes -= first.bytes();
            if first.is_stale() {
                expired += 1;
                continue;
            }
            let sockets = describe(first.opts.clone());
            let bytes = size_of_sockets(&sockets).max(MIN_ANSWER_BYTES);
            let mut equal = self.take_identical(&first.opts, (MAX_ANSWER_BYTES - self.answer_bytes) / bytes);
            equal.push(first.request_id);
            self.answer_bytes += bytes * equal.len();
            let copies = std::iter::repeat_n(sockets, equal.len());
            for (request_id, sockets) in equal.into_iter().zip(copies) {
                let node = node.clone();
                let answer = async move {
                    node.publish_or_report(Body::FetchSocketsResponse { request_id, sockets }).await;
                    bytes
                };
                self.answering.push(answer.boxed());
            }
        }
        expired
    }

    /// Takes up to `max` other requests for the same sockets.
    fn take_identical(&mut self, opts: &BroadcastOptions, max: usize) -> Vec<RequestId> {
        let mut taken = Vec::new();
        let bytes = &mut self.waiting_bytes;
        self.waiting.retain(|fetch| {
            let is_taken = taken.len() < max && fetch.opts == *opts;
            if is_taken {
                *bytes -= fetch.bytes();
                taken.push(fetch.request_id.clone());
            }
            !is_taken
        });
        taken
    }

    /// Whether a queued request can be answered now.
    pub(super) fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.answer_bytes < MAX_ANSWER_BYTES
    }

    /// Whether answers are in progress.
    pub(super) fn is_answering(&self) -> bool {
        !self.answering.is_empty()
    }

    /// Waits until an answer is published, or has failed.
    pub(super) async fn answered(&mut self) {
        let mut next = self.answering.next().await;
        while let Some(bytes) = next {
            self.answer_bytes -= bytes;
            // Those that have ended too no longer count.
            next = self.answering.next().now_or_never().flatten();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Flags;

    #[test]
    fn a_request_waits_as_long_as_its_sender_within_bounds() {
        let patience_of =
            |timeout| patience(&BroadcastOptions::default().flags(Flags { timeout, ..Flags::default() }));
        for (timeout, seconds) in [
            (None, 5),
            (Some(0), 5),
            (Some(4_999), 5),
            (Some(20_000), 20),
            (Some(60_000), 60),
            (Some(u64::MAX), 60),
        ] {
            assert_eq!(patience_of(timeout), Duration::from_secs(seconds), "{timeout:?}");
        }
    }
}
