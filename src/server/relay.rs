//! Passing on what clients emit, in the order in which it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use socketioxide::extract::AckSender;
use socketioxide_core::adapter::Room;
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::acknowledge;
use super::{ClusterAdapter, ClusterSocket};
use crate::protocol::Value;

/// How many events may be on their way to Postgres.
const UNDER_WAY: usize = 4096;

/// To whom an event goes.
pub(super) enum Audience {
    /// To all in these rooms but the sender.
    Rooms(Vec<Room>),
    /// To everyone but the sender.
    Namespace,
}

/// An event of a client, to be passed on.
pub(super) struct Relayed {
    pub(super) sender: ClusterSocket,
    pub(super) audience: Audience,
    pub(super) event: String,
    pub(super) args: Vec<Value>,
    pub(super) ack: AckSender<ClusterAdapter>,
}

/// Takes events to be passed on.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<(Relayed, Waiting)>,
    /// How many events of one client may wait.
    limit: usize,
}

/// How many events of a client wait; kept with its socket.
#[derive(Clone, Default)]
struct Backlog(Arc<AtomicUsize>);

/// One of them.
struct Waiting(Backlog);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client has more events waiting than it may have.
pub(super) struct TooMany;

impl Outbox {
    /// `limit` is for each client. Once closing, nothing is taken any more, and the task ends when all has been passed on.
    pub(super) fn start(limit: usize, closing: CancellationToken) -> (Self, JoinHandle<()>) {
        let (queue, events) = mpsc::unbounded_channel();
        (Self { queue, limit }, tokio::spawn(run(events, closing)))
    }

    /// Queues an event.
    pub(super) fn put(&self, relayed: Relayed) -> Result<(), TooMany> {
        let backlog = relayed.sender.extensions.get::<Backlog>().unwrap_or_else(|| {
            let backlog = Backlog::default();
            relayed.sender.extensions.insert(backlog.clone());
            backlog
        });
        if backlog.0.fetch_add(1, Ordering::Relaxed) >= self.limit {
            backlog.0.fetch_sub(1, Ordering::Relaxed);
            return Err(TooMany);
        }
        if let Err(SendError((relayed, _))) = self.queue.send((relayed, Waiting(backlog))) {
            super::client::refuse(&relayed.sender, relayed.ack, "the server is shutting down");
        }
        Ok(())
    }
}

async fn run(mut events: mpsc::UnboundedReceiver<(Relayed, Waiting)>, closing: CancellationToken) {
    // Polled for the first time in the order in which they are pushed, which is when they are delivered here and queued
    // for Postgres.
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = events.recv(), if under_way.len() < UNDER_WAY => match event {
                Some((relayed, waiting)) => under_way.push(pass_on(relayed, waiting)),
                None => break,
            },
            Some(()) = under_way.next() => {}
            () = closing.cancelled(), if !events.is_closed() => events.close(),
        }
    }
    while under_way.next().await.is_some() {}
}

async fn pass_on(relayed: Relayed, _waiting: Waiting) {
    let Relayed { sender, audience, event, args, ack } = relayed;
    let to = match audience {
        Audience::Rooms(rooms) => sender.to(rooms),
        Audience::Namespace => sender.broadcast(),
    };
    match to.emit(&event, &Args(&args)).await {
        Ok(()) => acknowledge(&sender, ack, &Args(&[])),
        Err(error) => {
            metrics::counter!("pgio_relay_errors_total").increment(1);
            tracing::debug!(%error, sid = %sender.id, nsp = sender.ns(), event, "not passed on to other servers");
            super::client::refuse(&sender, ack, "not passed on to other servers");
        }
    }
}

/// The arguments of an event: a tuple, which socketioxide spreads, where a vector would be one argument.
pub(super) struct Args<'a>(pub(super) &'a [Value]);

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in self.0 {
            tuple.serialize_element(arg)?;
        }
        tuple.end()
    }
}
