//! Passing on events of clients, for a server that is built on the adapter.

use std::sync::Arc;

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
