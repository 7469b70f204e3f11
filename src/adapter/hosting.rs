//! What a server that is built on the adapter needs beyond the public handle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use socketioxide_core::Value as CoreValue;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions as CoreOptions, Room, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::{PostgresAdapter, PostgresAdapterCtr, Sid, convert, target};
use crate::emitter::client_event;
use crate::protocol::{Body, EventArgs, Namespace, Uid, Value};
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

/// The adapters of a server's namespaces, by what they can pass on.
#[derive(Default)]
pub(super) struct Relays(Mutex<HashMap<Namespace, Weak<dyn Relay>>>);

trait Relay: Send + Sync {
    fn relay(self: Arc<Self>, value: CoreValue, opts: CoreOptions) -> Result<Enqueuing>;
}

impl Relays {
    pub(super) fn insert<E: SocketEmitter>(&self, adapter: &Arc<PostgresAdapter<E>>) {
        let relay: Weak<PostgresAdapter<E>> = Arc::downgrade(adapter);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(adapter.node.nsp.clone(), relay);
    }

    pub(super) fn remove<E: SocketEmitter>(&self, adapter: &PostgresAdapter<E>) {
        let mut relays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |relay: &Weak<dyn Relay>| std::ptr::addr_eq(relay.as_ptr(), std::ptr::from_ref(adapter));
        if relays.get(&adapter.node.nsp).is_some_and(is_own) {
            relays.remove(&adapter.node.nsp);
        }
    }

    fn get(&self, nsp: &str) -> Result<Arc<dyn Relay>> {
        let nsp = Namespace::new(nsp);
        let relays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        relays.get(&nsp).and_then(Weak::upgrade).ok_or_else(|| Error::Namespace {
            namespace: nsp.to_string(),
            reason: "this server does not serve it".into(),
        })
    }
}

impl<E: SocketEmitter> Relay for PostgresAdapter<E> {
    fn relay(self: Arc<Self>, value: CoreValue, opts: CoreOptions) -> Result<Enqueuing> {
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
    /// Passes an event of a client on as it came: to the clients here at once, to those elsewhere by what is returned. It
    /// goes to those in the rooms, without rooms to everyone in the namespace, and never to the sender.
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
        self.0.relays.get(nsp)?.relay(value, opts)
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

    /// Answers every event of other servers for which there is no handler: with what `answer` makes of this server's uid
    /// in the namespace.
    pub(crate) fn answer_with(&self, answer: impl Fn(&Uid) -> Option<Value> + Send + Sync + 'static) {
        // The handler lives in what it refers to.
        let shared = Arc::downgrade(&self.0);
        self.on_any_server_side(move |nsp, _, _| {
            let node = Self(shared.upgrade()?).node(nsp.as_str()).ok()?;
            answer(&node.uid)
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
