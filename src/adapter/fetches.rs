//! Requests of other servers for the sockets of this one.
//!
//! Owns the requests that wait and the answers that are on their way to Postgres. An answer holds the handshakes of all
//! sockets, so a short request costs megabytes, and Node has no limit on how many a server sends. Invariants: the
//! answers in progress are bounded in bytes, apart from a single one; what waits is bounded in number and in bytes;
//! requests for the same sockets share one description of them; the asker has given up what has waited for
//! [`STALE_AFTER`], and gets no answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::node::Node;
use crate::cluster::size_of_sockets;
use crate::protocol::{Body, BroadcastOptions, RemoteSocket, RequestId, Uid};

/// How many bytes of answers may be in progress before further requests wait.
const ANSWER_BYTES: usize = 16 << 20;

/// What an answer counts for at least.
const LEAST_BYTES: usize = 1 << 10;

/// How many requests may wait, of one server and of all.
const WAITING_OF_ONE: usize = 256;
const WAITING: usize = 4096;

/// How many bytes of names of rooms may wait.
const WAITING_BYTES: usize = 1 << 20;

/// How long a server waits for answers (`requestsTimeout` in Node).
const STALE_AFTER: Duration = Duration::from_secs(5);

/// A request that waits.
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
        self.since.elapsed() >= STALE_AFTER
    }
}

/// The requests of one namespace.
#[derive(Default)]
pub(super) struct Fetches {
    waiting: VecDeque<Fetch>,
    waiting_bytes: usize,
    /// Each ends with the size of its sockets.
    answering: FuturesUnordered<BoxFuture<'static, usize>>,
    answer_bytes: usize,
}

impl Fetches {
    /// Takes a request. False where too many wait.
    pub(super) fn push(&mut self, from: Uid, request_id: RequestId, opts: BroadcastOptions) -> bool {
        let fetch = Fetch { from, request_id, opts, since: Instant::now() };
        if self.waiting.iter().any(|other| other.request_id == fetch.request_id && other.from == fetch.from) {
            return true;
        }
        let of_one = self.waiting.iter().filter(|other| other.from == fetch.from).count();
        let bytes = fetch.bytes();
        let has_room = of_one < WAITING_OF_ONE
            && self.waiting.len() < WAITING
            && self.waiting_bytes + bytes <= WAITING_BYTES;
        if has_room {
            self.waiting_bytes += bytes;
            self.waiting.push_back(fetch);
        }
        has_room
    }

    /// Starts to answer, as far as the limit allows. Returns how many requests were given up.
    pub(super) fn start(
        &mut self,
        node: &Arc<Node>,
        describe: impl Fn(BroadcastOptions) -> Vec<RemoteSocket>,
    ) -> usize {
        let mut given_up = 0;
        while self.answer_bytes < ANSWER_BYTES
            && let Some(first) = self.waiting.pop_front()
        {
            self.waiting_bytes -= first.bytes();
            if first.is_stale() {
                given_up += 1;
                continue;
            }
            let sockets = describe(first.opts.clone());
            let bytes = size_of_sockets(&sockets).max(LEAST_BYTES);
            let mut equal = self.take_equal(&first.opts, (ANSWER_BYTES - self.answer_bytes) / bytes);
            equal.push(first.request_id);
            self.answer_bytes += bytes * equal.len();
            let copies = std::iter::repeat_n(sockets, equal.len());
            for (request_id, sockets) in equal.into_iter().zip(copies) {
                let node = node.clone();
                let answer = async move {
                    node.say(Body::FetchSocketsResponse { request_id, sockets }).await;
                    bytes
                };
                self.answering.push(answer.boxed());
            }
        }
        given_up
    }

    /// Takes other requests for the same sockets, at most so many.
    fn take_equal(&mut self, opts: &BroadcastOptions, max: usize) -> Vec<RequestId> {
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

    /// Whether something waits that could be answered.
    pub(super) fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.answer_bytes < ANSWER_BYTES
    }

    /// Whether answers are in progress.
    pub(super) fn is_answering(&self) -> bool {
        !self.answering.is_empty()
    }

    /// Waits until an answer is published, or not.
    pub(super) async fn answered(&mut self) {
        if let Some(bytes) = self.answering.next().await {
            self.answer_bytes -= bytes;
        }
    }
}
