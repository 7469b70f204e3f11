//! Relays the events of clients to the other servers, in the order in which they arrived.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ack::AckSender;
use super::client_buffers::PACKET_BYTES;
use super::client_events::{NO_ARGUMENTS, acknowledge, refuse};
use super::throttle::Throttle;
use super::{ClusterAdapter, ClusterSocket};
use crate::adapter::Enqueuing;
use crate::{Error, Receipt, Result};

/// The maximum number of events in flight to Postgres.
const MAX_IN_FLIGHT: usize = 4096;

/// The bound of the queue for all clients, in bytes.
const TOTAL_BYTES: usize = 256 << 20;

/// An event of a client that is already delivered to local clients.
pub(super) struct RelayedEvent {
    pub(super) sender: ClusterSocket,
    /// Publishes the event to the other servers.
    pub(super) onward: Enqueuing,
    pub(super) ack: AckSender<ClusterAdapter>,
    pub(super) permit: QueuePermit,
}

/// The share of an event in the queue quotas, until Postgres has committed the event.
pub(super) struct QueuePermit {
    _of_client: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The queue of events for other servers. It is bounded in bytes, for each client and for all together.
#[derive(Clone)]
pub(super) struct RelayQueue {
    events: mpsc::Sender<RelayedEvent>,
    client_bytes: usize,
    total: Arc<Semaphore>,
}

/// The queue quota of a client, in bytes; kept with its socket.
#[derive(Clone)]
struct ClientQuota(Arc<Semaphore>);

/// The relay queue is full for the event of a client (backpressure).
pub(super) struct QueueFull;

impl RelayQueue {
    /// Starts the task. `client_bytes` bounds the queue of each client. After `closing` is cancelled, the queue takes
    /// no more events, and the task ends when all queued events are published.
    pub(super) fn start(client_bytes: usize, closing: CancellationToken) -> (Self, JoinHandle<()>) {
        let (events, receiver) = mpsc::channel(TOTAL_BYTES / PACKET_BYTES);
        let total = Arc::new(Semaphore::new(TOTAL_BYTES));
        (Self { events, client_bytes, total }, tokio::spawn(run(receiver, closing)))
    }

    /// Reserves space in the relay queue for an event.
    pub(super) fn reserve(&self, sender: &ClusterSocket, bytes: usize) -> Result<QueuePermit, QueueFull> {
        let ClientQuota(client) = sender.extensions.get::<ClientQuota>().unwrap_or_else(|| {
            let quota = ClientQuota(Arc::new(Semaphore::new(self.client_bytes)));
            sender.extensions.insert(quota.clone());
            quota
        });
        // An event larger than the quota takes all of it.
        let reserve = |quota: &Arc<Semaphore>, limit: usize| {
            let bytes = u32::try_from(bytes.saturating_add(PACKET_BYTES).min(limit)).unwrap_or(u32::MAX);
            quota.clone().try_acquire_many_owned(bytes).map_err(|_| QueueFull)
        };
        Ok(QueuePermit {
            _of_client: reserve(&client, self.client_bytes)?,
            _of_all: reserve(&self.total, TOTAL_BYTES)?,
        })
    }

    /// Queues an event.
    pub(super) fn put(&self, event: RelayedEvent) {
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Closed(event)) => {
                refuse(&event.sender, event.ack, "the server is shutting down")
            }
            // Cannot happen: an event with a permit has space.
            Err(TrySendError::Full(event)) => refuse(&event.sender, event.ack, NOT_SENT),
        }
    }
}

async fn run(mut events: mpsc::Receiver<RelayedEvent>, closing: CancellationToken) {
    let throttle = Throttle::default();
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = events.recv(), if in_flight.len() < MAX_IN_FLIGHT => match event {
                Some(RelayedEvent { sender, onward, ack, permit }) => {
                    // Events are enqueued one after the other, which keeps their order.
                    let queued = onward.await;
                    in_flight.push(finish(sender, queued, ack, permit, &throttle));
                }
                None => break,
            },
            Some(()) = in_flight.next() => {}
            () = closing.cancelled(), if !events.is_closed() => events.close(),
        }
    }
    while in_flight.next().await.is_some() {}
}

const NOT_SENT: &str = "not published: no other server received the event";
const MAYBE_SENT: &str = "publish outcome unknown: other servers may not have received the event";

/// Whether it is certain that a message was not published.
fn is_certain(error: &Error) -> bool {
    !matches!(error, Error::ConnectionLost(_) | Error::Closed)
}

async fn finish(
    sender: ClusterSocket,
    queued: Result<Receipt>,
    ack: AckSender<ClusterAdapter>,
    _permit: QueuePermit,
    throttle: &Throttle,
) {
    let outcome = match queued {
        Ok(receipt) => receipt.await,
        Err(error) => Err(error),
    };
    let Err(error) = outcome else { return acknowledge(&sender, ack, &NO_ARGUMENTS) };
    metrics::counter!("pgio_relay_errors_total").increment(1);
    metrics::counter!("pgio_publish_errors_total").increment(1);
    if let Some(suppressed) = throttle.allow(&error.to_string()) {
        tracing::warn!(%error, suppressed, sid = %sender.id, nsp = sender.ns(), "cannot relay events of clients");
    }
    refuse(&sender, ack, if is_certain(&error) { NOT_SENT } else { MAYBE_SENT });
}
