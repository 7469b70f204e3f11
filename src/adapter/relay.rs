//! Relays events of clients, for a server that is built on the adapter.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::relayable::Relayable;
use super::{DormantPermit, PostgresAdapter, PostgresAdapterCtr, Sid, Visit, convert, target};
use crate::protocol::{Body, EventArgs, Uid, Value};
use crate::{Error, Receipt, Result};

/// An event on its way to the other servers: to be awaited in the order of the events, unlike the receipt.
pub(crate) type Enqueuing = BoxFuture<'static, Result<Receipt>>;

type ConnectDropped = Box<dyn Fn() + Send + Sync>;
type Creating = Box<dyn Fn(&str) -> Result<DormantPermit, Refused> + Send + Sync>;
type Queued = Box<dyn Fn(&str, &[Sid], usize) + Send + Sync>;

/// A namespace may not be created for a client.
pub(crate) struct Refused;

/// What a server does for its adapters.
#[derive(Default)]
pub(super) struct Hooks {
    creating: OnceLock<Creating>,
    connect_dropped: OnceLock<ConnectDropped>,
    queued: OnceLock<Queued>,
}

impl Hooks {
    /// Asks whether the current task may create a dynamic namespace for its client.
    pub(super) fn creating(&self, nsp: &str) -> Result<Option<DormantPermit>, Refused> {
        self.creating.get().map(|hook| hook(nsp)).transpose()
    }

    /// Tells of a client whose connect request is not answered, in the task that has read the request.
    pub(super) fn connect_dropped(&self) {
        if let Some(hook) = self.connect_dropped.get() {
            hook();
        }
    }

    /// Tells, before a packet is queued for each of these clients, how many bytes it has at least on the wire.
    pub(super) fn queued<S: AsRef<[Sid]>>(&self, nsp: &str, sids: impl FnOnce() -> S, bytes: usize) {
        if let Some(hook) = self.queued.get() {
            hook(nsp, sids().as_ref(), bytes);
        }
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    pub(super) fn relay_event(self: Arc<Self>, event: Relayable, opts: CoreOptions) -> Enqueuing {
        let Relayable { value, event } = event;
        let packet = Packet::event(self.local.path().clone(), value);
        let body = Body::Broadcast { opts: target::to_wire(&opts), event, request_id: None };
        self.send_here(packet, opts);
        let node = self.node.clone();
        async move { node.enqueue(body).await }.boxed()
    }
}

impl PostgresAdapterCtr {
    /// Passes an event of a client on as it came: to the clients here at once, to those elsewhere by what is
    /// returned. It goes to those in the rooms, without rooms to everyone in the namespace, and never to the sender.
    pub(crate) fn relay(
        &self,
        nsp: &str,
        sender: Sid,
        rooms: Vec<Room>,
        event: Relayable,
    ) -> Result<Enqueuing> {
        let mut opts = CoreOptions::new(sender);
        opts.add_flag(BroadcastFlags::Broadcast);
        opts.rooms = rooms.into_iter().collect();
        Ok(self.0.adapters.get(&nsp.into())?.relay(event, opts))
    }

    /// Calls the handler before a dynamic namespace is created for a client, with the name that the client has sent, in
    /// the task that has read it. If the handler refuses, nothing is created and the client gets no answer: the handler
    /// has to close the connection. The permit is dropped when the namespace starts or is deleted. The first call
    /// counts.
    pub(crate) fn on_creating(
        &self,
        handler: impl Fn(&str) -> Result<DormantPermit, Refused> + Send + Sync + 'static,
    ) {
        self.0.hooks.creating.get_or_init(|| Box::new(handler));
    }

    /// A client asks for a namespace. Hold what is returned until the client is admitted or refused.
    pub(crate) fn visit(&self, nsp: &str) -> Visit {
        Visit::start(self.0.node(&nsp.into()).ok())
    }

    /// Calls the handler when the connect request of a client is dropped, because another client has created the namespace
    /// at the same time: in the task that has read the request from the client's connection. The first call counts.
    pub(crate) fn on_connect_dropped(&self, handler: impl Fn() + Send + Sync + 'static) {
        self.0.hooks.connect_dropped.get_or_init(|| Box::new(handler));
    }

    /// Calls the handler before a packet is queued for clients: with the namespace, the clients, and how many bytes the
    /// packet has at least on the wire. The first call counts.
    pub(crate) fn on_queued(&self, handler: impl Fn(&str, &[Sid], usize) + Send + Sync + 'static) {
        self.0.hooks.queued.get_or_init(|| Box::new(handler));
    }

    /// Answers every event of other servers for which there is no handler: with what `answer` makes of this server's
    /// uid in the namespace.
    pub(crate) fn answer_with(&self, answer: impl Fn(&Uid) -> Option<Value> + Send + Sync + 'static) {
        // The handler lives in what it refers to.
        let shared = Arc::downgrade(&self.0);
        self.on_any_server_side(move |event| {
            let node = shared.upgrade().and_then(|shared| shared.node(&event.namespace).ok());
            std::future::ready(node.and_then(|node| answer(&node.uid)))
        });
    }
}

/// The arguments of an event that a client has sent.
pub(crate) fn args_of_client(value: CoreValue) -> Result<Vec<Value>> {
    let event: EventArgs =
        convert::event_of(&Packet::event("/", value)).map_err(|error| Error::Decode(error.to_string()))?;
    Ok(event.into_parts()?.1)
}
