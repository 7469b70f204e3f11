//! The target sockets of an operation, and the operations on them.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Acknowledgements;
#[cfg(feature = "cli")]
use super::prepared::PreparedBroadcast;
use crate::cluster::{Awaited, Cluster, Collected, client_ack, socket_list};
use crate::postgres::{GroupOutcome, MessageGroup};
#[cfg(feature = "cli")]
use crate::protocol::BroadcastTemplate;
use crate::protocol::{
    Body, BroadcastOptions, Channel, Encoded, EventArgs, Message, Namespace, RemoteSocket, Rooms, Uid, Value,
    check_client_event, client_event,
};
use crate::{Error, Receipt, Result};

/// The number of groups of events that [`BroadcastOperator::emit_all`] has in flight.
const GROUPS_IN_FLIGHT: usize = 16;

/// The target sockets of a namespace. [`Emitter::to`](super::Emitter::to) and similar methods create it, and the
/// methods of the same names here change the selection.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until something is emitted or done"]
pub struct BroadcastOperator {
    pub(super) cluster: Cluster,
    nsp: Namespace,
    opts: BroadcastOptions,
    timeout: Option<Duration>,
    is_durable: bool,
    awaited: Awaited,
}

impl BroadcastOperator {
    pub(super) fn new(cluster: Cluster, nsp: Namespace) -> Self {
        Self {
            cluster,
            nsp,
            opts: BroadcastOptions::default(),
            timeout: None,
            is_durable: false,
            awaited: Awaited::default(),
        }
    }

    /// Adds the sockets in these rooms. A room may be a socket's id.
    ///
    /// An empty list adds no room, and without any room all sockets of the namespace are selected, as in Node. So check a
    /// list that may be empty before [`disconnect`](Self::disconnect), [`join`](Self::join) or an event that is not for all.
    pub fn to(mut self, rooms: impl Rooms) -> Self {
        self.opts = self.opts.to(rooms);
        self
    }

    /// The same as [`to`](Self::to) (`in` in Node, a keyword here).
    #[doc(alias = "in")]
    pub fn within(self, rooms: impl Rooms) -> Self {
        self.to(rooms)
    }

    /// Excludes the sockets in any of these rooms.
    pub fn except(mut self, rooms: impl Rooms) -> Self {
        self.opts = self.opts.except(rooms);
        self
    }

    /// The event may be lost for clients that are not ready to receive.
    pub fn volatile(mut self) -> Self {
        self.opts.flags.volatile = Some(true);
        self
    }

    /// Makes the event durable: it goes through the attachment table. A pgio node, a tail or a
    /// [`Subscription`](crate::cluster::Subscription) that does not listen when the event is sent replays it later, as
    /// long as its row exists: at least for [`cleanup_interval`](crate::AdapterOptions::cleanup_interval). The clients
    /// that are connected at the replay receive it. Node servers receive it as any other event.
    ///
    /// Only events for clients are durable. With [`volatile`](Self::volatile), [`emit_with_ack`](Self::emit_with_ack),
    /// [`join`](Self::join) and the others, it is an error.
    pub fn durable(mut self) -> Self {
        self.is_durable = true;
        self
    }

    /// Whether the transport should compress the event.
    pub fn compress(mut self, compress: bool) -> Self {
        self.opts.flags.compress = Some(compress);
        self
    }

    /// The timeout for acknowledgements and answers. Default: [`request_timeout`](crate::AdapterOptions::request_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A request awaits only the servers that show themselves within half a second.
    #[cfg(feature = "cli")]
    pub(crate) fn await_discovered_only(mut self) -> Self {
        self.awaited = Awaited::Discovered;
        self
    }

    /// Sends an event to the clients. A tuple stands for several arguments, `()` for none. Structs become objects.
    /// [`Bytes`](crate::Bytes) and `serde_bytes::Bytes` become binary; a `Vec<u8>` becomes a list of numbers.
    /// Returns when Postgres has committed the event.
    ///
    /// # Errors
    /// [`Error::ReservedEvent`](crate::Error::ReservedEvent), [`Error::Encode`](crate::Error::Encode),
    /// [`Error::NotDurable`](crate::Error::NotDurable), and those of [`Cluster::publish`].
    pub async fn emit<T: Serialize>(&self, event: &str, args: T) -> Result<()> {
        self.enqueue(event, args).await?.await
    }

    /// Queues an event. Waits only while the queue is full (backpressure). The receipt resolves when Postgres has committed
    /// it. Events are published in the order of the queue, many in one transaction (group commit), so this is the fastest
    /// way.
    ///
    /// A queued event can be lost if the process ends, or drops the last handle of its [`Cluster`], before the receipt resolves.
    /// Await every receipt: an event can fail alone, so the receipt of a later event does not show that this one is
    /// committed. [`flush`](Cluster::flush) awaits all of them, without their errors.
    ///
    /// # Errors
    /// Those of [`emit`](Self::emit). The receipt returns the errors of the database.
    pub async fn enqueue<T: Serialize>(&self, event: &str, args: T) -> Result<Receipt> {
        let event = client_event(event, Value::args_from_rust(&args)?)?;
        let message = self.message(event);
        match self.is_durable {
            true => self.cluster.enqueue_durable(&message).await,
            false => self.cluster.enqueue(&message).await,
        }
    }

    /// Encodes an event, for its channel. The arguments may be JSON text.
    pub(crate) fn encode(&self, event: EventArgs) -> Result<(Channel, Encoded)> {
        check_client_event(&event.event()?)?;
        let message = self.message(event);
        match self.is_durable {
            true => self.cluster.encode_durable(&message),
            false => self.cluster.encode(&message),
        }
    }

    /// Prepares many broadcasts to these sockets: their common part is encoded once.
    #[cfg(feature = "cli")]
    pub(crate) fn prepare(self) -> Result<PreparedBroadcast> {
        let channel = self.nsp.channel(&self.cluster.options().channel_prefix)?;
        let message = self.message(EventArgs::new("", []));
        let template = (!self.is_durable).then(|| BroadcastTemplate::of(&message)).transpose()?;
        Ok(PreparedBroadcast { operator: self, channel, template })
    }

    /// Sends several events, in order, as a batch: as few transactions as possible. Returns when all are committed.
    ///
    /// # Errors
    /// Those of [`emit`](Self::emit), with the first error. The events before a malformed one are sent.
    pub async fn emit_all<E, T>(&self, events: impl IntoIterator<Item = (E, T)>) -> Result<()>
    where
        E: AsRef<str>,
        T: Serialize,
    {
        let mut receipts = VecDeque::new();
        let mut group = MessageGroup::default();
        let mut outcome = Ok(());
        for (event, args) in events {
            let encoded = Value::args_from_rust(&args).map(|args| EventArgs::new(event.as_ref(), args));
            match encoded.and_then(|event| self.encode(event)) {
                Ok((channel, encoded)) => group.push(channel, encoded),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if group.is_full() {
                receipts.push_back(self.cluster.enqueue_group(std::mem::take(&mut group)).await?);
            }
            if receipts.len() >= GROUPS_IN_FLIGHT
                && let Some(oldest) = receipts.pop_front()
            {
                all_committed(oldest.await)?;
            }
        }
        if !group.is_empty() {
            receipts.push_back(self.cluster.enqueue_group(group).await?);
        }
        for receipt in receipts {
            all_committed(receipt.await)?;
        }
        outcome
    }

    /// Sends an event with an acknowledgement request, and collects the acknowledgements. Returns when every client of
    /// every live node has acknowledged, or after the [`timeout`](Self::timeout) with the acknowledgements until then.
    ///
    /// A request takes half a second to find the live servers, unless a [`Subscription`](crate::cluster::Subscription) to the
    /// namespace knows them already.
    ///
    /// # Errors
    /// Those of [`emit`](Self::emit) and [`Cluster::subscribe`]; [`Error::Decode`](crate::Error::Decode) if an answer
    /// cannot be read as an `A`.
    #[doc(alias = "emitWithAck")]
    pub async fn emit_with_ack<A>(&self, event: &str, args: impl Serialize) -> Result<Acknowledgements<A>>
    where
        A: DeserializeOwned,
    {
        self.check_not_durable("an event that asks for acknowledgements")?;
        let event = client_event(event, Value::args_from_rust(&args)?)?;
        let (wait, mut opts) = (self.wait(), self.opts.clone());
        opts.flags.timeout = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let ask = |id| Body::Broadcast { opts, event, request_id: Some(id) };
        Acknowledgements::read(
            self.cluster.request_as_emitter(&self.nsp, wait, self.awaited, ask, client_ack).await?,
        )
    }

    /// Makes the sockets join rooms.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`].
    #[doc(alias = "socketsJoin")]
    pub async fn join(&self, rooms: impl Rooms) -> Result<()> {
        self.publish(Body::SocketsJoin { opts: self.opts.clone(), rooms: rooms.into_rooms() }).await
    }

    /// Makes the sockets leave rooms.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`].
    #[doc(alias = "socketsLeave")]
    pub async fn leave(&self, rooms: impl Rooms) -> Result<()> {
        self.publish(Body::SocketsLeave { opts: self.opts.clone(), rooms: rooms.into_rooms() }).await
    }

    /// Disconnects the sockets from the namespace. `close` also closes their connections, and so disconnects their
    /// other namespaces. Without a room it disconnects **all** sockets of the namespace, also after
    /// [`to`](Self::to) with an empty list.
    ///
    /// # Errors
    /// Those of [`Cluster::publish`].
    #[doc(alias = "disconnectSockets")]
    pub async fn disconnect(&self, close: bool) -> Result<()> {
        self.publish(Body::DisconnectSockets { opts: self.opts.clone(), close }).await
    }

    /// Requests the sockets of every node. It takes as long as [`emit_with_ack`](Self::emit_with_ack).
    ///
    /// # Errors
    /// Those of [`Cluster::publish`] and [`Cluster::subscribe`].
    #[doc(alias = "fetchSockets")]
    pub async fn fetch_sockets(&self) -> Result<Collected<RemoteSocket>> {
        self.check_not_durable("a request")?;
        let mut opts = self.opts.clone();
        opts.flags = opts.flags.timeout(self.wait());
        let ask = |request_id| Body::FetchSockets { opts, request_id };
        Ok(self
            .cluster
            .request_as_emitter(&self.nsp, self.wait(), self.awaited, ask, socket_list)
            .await?
            .flatten())
    }

    fn wait(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.cluster.request_timeout())
    }

    fn message(&self, event: EventArgs) -> Message {
        let body = Body::Broadcast { opts: self.opts.clone(), event, request_id: None };
        Message { uid: Uid::emitter(), nsp: self.nsp.clone(), body }
    }

    fn check_not_durable(&self, what: &'static str) -> Result<()> {
        match self.is_durable {
            true => Err(Error::NotDurable(what)),
            false => Ok(()),
        }
    }

    async fn publish(&self, body: Body) -> Result<()> {
        self.check_not_durable("a message that is not an event")?;
        self.cluster.publish_as_emitter(&self.nsp, body).await
    }
}

/// Fails with the first failure of a group.
fn all_committed(outcome: GroupOutcome) -> Result<()> {
    outcome.failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}
