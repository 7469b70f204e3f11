//! Relays the events of clients to the other servers, in the order in which they arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socketioxide::extract::AckSender;
use tokio::sync::mpsc::{self, error::SendError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{acknowledge, refuse};
use super::{ClusterAdapter, ClusterSocket};
use crate::Receipt;
use crate::Result;
use crate::adapter::Enqueuing;

/// How many events may be on their way to Postgres.
const UNDER_WAY: usize = 4096;

/// An event of a client that the clients here have got already.
pub(super) struct RelayedEvent {
    pub(super) sender: ClusterSocket,
    /// The way to the other servers.
    pub(super) onward: Enqueuing,
    pub(super) ack: AckSender<ClusterAdapter>,
}

/// Takes events to be passed on to other servers.
#[derive(Clone)]
pub(super) struct RelayQueue {
    queue: mpsc::UnboundedSender<(RelayedEvent, Waiting)>,
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

impl RelayQueue {
    /// `limit` is for each client. Once closing, nothing is taken any more, and the task ends when all has been passed on.
    pub(super) fn start(limit: usize, closing: CancellationToken) -> (Self, JoinHandle<()>) {
        let (queue, events) = mpsc::unbounded_channel();
        (Self { queue, limit }, tokio::spawn(run(events, closing)))
    }

    /// Queues an event.
    pub(super) fn put(&self, relayed: RelayedEvent) -> Result<(), TooMany> {
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
            refuse(&relayed.sender, relayed.ack, "the server is shutting down");
        }
        Ok(())
    }
}

async fn run(mut events: mpsc::UnboundedReceiver<(RelayedEvent, Waiting)>, closing: CancellationToken) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = events.recv(), if under_way.len() < UNDER_WAY => match event {
                Some((RelayedEvent { sender, onward, ack }, waiting)) => {
                    // One after another, which is their order.
                    let queued = onward.await;
                    under_way.push(settle(sender, queued, ack, waiting));
                }
                None => break,
            },
            Some(()) = under_way.next() => {}
            () = closing.cancelled(), if !events.is_closed() => events.close(),
        }
    }
    while under_way.next().await.is_some() {}
}

async fn settle(
    sender: ClusterSocket,
    queued: Result<Receipt>,
    ack: AckSender<ClusterAdapter>,
    _waiting: Waiting,
) {
    let outcome = match queued {
        Ok(receipt) => receipt.await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => acknowledge(&sender, ack, &()),
        Err(error) => {
            metrics::counter!("pgio_relay_errors_total").increment(1);
            tracing::warn!(%error, sid = %sender.id, nsp = sender.ns(), "an event of a client reached no other server");
            refuse(&sender, ack, "it reached no other server");
        }
    }
}
