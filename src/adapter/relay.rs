//! Relays events of clients, for a server that is built on the adapter.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::client_queues::ClientQueues;
use super::relayable::Relayable;
use super::{AdmissionGuard, DormantPermit, PostgresAdapter, PostgresAdapterCtr, Sid, convert, target};
use crate::protocol::{Body, EventArgs, Uid, Value};
use crate::{Error, Receipt, Result};

/// The future that queues an event for the other servers. Await these futures in the order of the events; the receipts in
/// any order.
pub(crate) type Enqueuing = BoxFuture<'static, Result<Receipt>>;

type ConnectDropped = Box<dyn Fn() + Send + Sync>;
type Creating = Box<dyn Fn(&str) -> Result<DormantPermit, Refused> + Send + Sync>;

/// A namespace may not be created for a client.
pub(crate) struct Refused;

/// The hooks of a server into its adapters.
#[derive(Default)]
pub(super) struct Hooks {
    creating: OnceLock<Creating>,
    connect_dropped: OnceLock<ConnectDropped>,
    client_queues: OnceLock<Box<dyn ClientQueues>>,
}

impl Hooks {
    /// Checks whether the current task may create a dynamic namespace for its client.
    pub(super) fn creating(&self, nsp: &str) -> Result<Option<DormantPermit>, Refused> {
        self.creating.get().map(|hook| hook(nsp)).transpose()
    }

    /// Reports a client whose connect request gets no answer, on the task that has read the request.
    pub(super) fn connect_dropped(&self) {
        if let Some(hook) = self.connect_dropped.get() {
            hook();
        }
    }

    /// The queues of the clients, if the server counts what it queues.
    pub(super) fn client_queues(&self) -> Option<&dyn ClientQueues> {
        self.client_queues.get().map(|queues| &**queues)
    }
}

impl<E: SocketEmitter> PostgresAdapter<E> {
    pub(super) fn relay_event(self: Arc<Self>, event: Relayable, opts: CoreOptions) -> Enqueuing {
        let Relayable { value, event } = event;
        let packet = Packet::event(self.local.path().clone(), value);
        let body = Body::Broadcast { opts: target::to_wire(&opts), event, request_id: None };
        self.send_to_local(packet, opts);
        let node = self.node.clone();
        async move { node.enqueue(body).await }.boxed()
    }
}

impl PostgresAdapterCtr {
    /// Relays an event of a client unchanged: to local clients at once, and to other servers by the returned future. It
    /// goes to the clients in the rooms, or without rooms to all clients in the namespace, and never to the sender.
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

    /// Calls the handler before a dynamic namespace is created for a client, with the name that the client has sent, in the
    /// task that has read it. If the handler refuses, nothing is created and the client gets no answer: the handler has to
    /// close the connection. The permit is dropped when the namespace starts or is deleted. Only the first call has an
    /// effect.
    pub(crate) fn on_creating(
        &self,
        handler: impl Fn(&str) -> Result<DormantPermit, Refused> + Send + Sync + 'static,
    ) {
        self.0.hooks.creating.get_or_init(|| Box::new(handler));
    }

    /// A client requests a namespace. Keep the guard until the client is admitted or refused.
    pub(crate) fn admission_guard(&self, nsp: &str) -> AdmissionGuard {
        AdmissionGuard::start(self.0.node(&nsp.into()).ok())
    }

    /// Calls the handler when the connect request of a client is dropped, because another client has created the namespace
    /// at the same time: on the task that has read the request from the client's connection. Only the first call has an
    /// effect.
    pub(crate) fn on_connect_dropped(&self, handler: impl Fn() + Send + Sync + 'static) {
        self.0.hooks.connect_dropped.get_or_init(|| Box::new(handler));
    }

    /// Sends packets to clients with these queues. Only the first call has an effect.
    pub(crate) fn set_client_queues(&self, queues: impl ClientQueues + 'static) {
        self.0.hooks.client_queues.get_or_init(|| Box::new(queues));
    }

    /// Answers every server-side event without a handler: with the result of `answer` for this server's uid in the
    /// namespace.
    pub(crate) fn set_default_answer(&self, answer: impl Fn(&Uid) -> Option<Value> + Send + Sync + 'static) {
        // Weak, since the handler is stored in the object that it refers to.
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
