//! Passing on events of clients, for a server that is built on the adapter.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::{PostgresAdapter, PostgresAdapterCtr, Sid, convert, target};
use crate::protocol::{Body, EventArgs, Uid, Value, client_event};
use crate::{Error, Receipt, Result};

/// An event on its way to the other servers: to be awaited in the order of the events, unlike the receipt.
pub(crate) type Enqueuing = BoxFuture<'static, Result<Receipt>>;

type ConnectDropped = Box<dyn Fn() + Send + Sync>;
type Queued = Box<dyn Fn(&str, &[Sid], usize) + Send + Sync>;

/// What a server does for its adapters.
#[derive(Default)]
pub(super) struct Hooks {
    connect_dropped: OnceLock<ConnectDropped>,
    queued: OnceLock<Queued>,
}

impl Hooks {
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
    pub(super) fn relay_event(self: Arc<Self>, value: CoreValue, opts: CoreOptions) -> Result<Enqueuing> {
        let packet = Packet::event(self.local.path().clone(), value);
        let event = convert::event_of(&packet).map_err(|error| Error::Decode(error.to_string()))?;
        check(&event)?;
        let body = Body::Broadcast { opts: target::to_wire(&opts), event, request_id: None };
        self.send_here(packet, opts);
        let node = self.node.clone();
        Ok(async move { node.enqueue(body).await }.boxed())
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
        value: CoreValue,
    ) -> Result<Enqueuing> {
        let mut opts = CoreOptions::new(sender);
        opts.add_flag(BroadcastFlags::Broadcast);
        opts.rooms = rooms.into_iter().collect();
        self.0.adapters.get(&nsp.into())?.relay(value, opts)
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

/// Refuses what would make the libraries of other clients hang up: a name that they keep for themselves, a placeholder
/// for binary that is not there, nesting without end.
fn check(event: &EventArgs) -> Result<()> {
    let (name, args) = event.clone().into_parts()?;
    if args.iter().any(Value::has_binary) && args.iter().any(has_placeholder) {
        return Err(Error::Decode("a placeholder without its binary".into()));
    }
    client_event(&name, args).map(drop)
}

fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_placeholder),
        Value::Object(entries) => {
            entries.get("_placeholder").and_then(Value::as_bool) == Some(true)
                || entries.values().any(has_placeholder)
        }
        _ => false,
    }
}

/// The arguments of an event that a client has sent.
pub(crate) fn args_of_client(value: CoreValue) -> Result<Vec<Value>> {
    let event: EventArgs =
        convert::event_of(&Packet::event("/", value)).map_err(|error| Error::Decode(error.to_string()))?;
    Ok(event.into_parts()?.1)
}
